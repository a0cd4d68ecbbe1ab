/* build.c — a parallel compile: the C compiler proper and the assembler, one process for each file.
 *
 * The harness puts both programs, their libraries and preprocessed sources NAME.i into the folder
 * `bench_build`, and says how many processes run at a time in `bench_jobs`.  The checksum covers
 * all assembly and object files.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/soft/row.h"

#define FILE_COUNT 12
#define JOBS_MAX   32

static const char *g_folder;
static unsigned g_jobs;

static void build_setup(void)
{
    const char *jobs = getenv("bench_jobs");

    g_folder = getenv("bench_build");
    g_jobs = jobs ? (unsigned)strtoul(jobs, NULL, 10) : 1;
    if (!g_folder || g_jobs < 1 || g_jobs > JOBS_MAX) {
        die("bench_build, bench_jobs");
    }
}

static void path_of(char *path, size_t len, const char *place, unsigned file, const char *kind)
{
    (void)snprintf(path, len, "%s/%02u.%s", place, file, kind);
}

static void run_program(char *const argv[])
{
    pid_t pid = vfork(); /* as make does */
    int status = -1;

    if (pid == 0) {
        (void)execv(argv[0], argv);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0) {
        (void)fprintf(stderr, "@failed build: %s ended with %d\n", argv[0], status);
        _exit(1);
    }
}

/* In a process of its own. */
static void compile(unsigned file)
{
    char cc1[256];
    char as[256];
    char source[256];
    char assembly[256];
    char object[256];
    char quiet[] = "-quiet";
    char kind[] = "-fpreprocessed";
    char level[] = "-O1";
    char out[] = "-o";

    (void)snprintf(cc1, sizeof(cc1), "%s/cc1", g_folder);
    (void)snprintf(as, sizeof(as), "%s/as", g_folder);
    path_of(source, sizeof(source), g_folder, file, "i");
    path_of(assembly, sizeof(assembly), ".", file, "s");
    path_of(object, sizeof(object), ".", file, "o");
    run_program((char *[]){cc1, quiet, kind, level, source, out, assembly, NULL});
    run_program((char *[]){as, out, object, assembly, NULL});
    _exit(0);
}

static uint64_t sum_file(uint64_t sum, unsigned file, const char *kind)
{
    static uint8_t buf[65536];
    char path[256];
    ssize_t len;
    int fd;

    path_of(path, sizeof(path), ".", file, kind);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        die(path);
    }
    while ((len = read(fd, buf, sizeof(buf))) > 0) {
        for (ssize_t i = 0; i < len; i++) {
            sum = mix(sum, buf[i]);
        }
    }
    (void)close(fd);
    (void)unlink(path);
    return sum;
}

static void await_one(void)
{
    int status;

    while (wait(&status) < 0) {
        if (errno != EINTR) {
            die("wait");
        }
    }
    if (status != 0) {
        errno = EIO;
        die("compiler");
    }
}

static uint64_t build_run(uint64_t ops)
{
    char folder[] = "/tmp/ec1-bench-build-XXXXXX";
    unsigned running = 0;
    uint64_t sum = 0;

    if (!mkdtemp(folder) || chdir(folder) < 0) {
        die(folder);
    }
    for (unsigned file = 0; file < ops; file++) {
        pid_t pid;

        if (running == g_jobs) {
            await_one();
            running--;
        }
        pid = fork();
        if (pid == 0) {
            compile(file);
        }
        if (pid < 0) {
            die("fork");
        }
        running++;
    }
    while (running-- > 0) {
        await_one();
    }
    for (unsigned file = 0; file < ops; file++) {
        sum = sum_file(sum_file(sum, file, "s"), file, "o");
    }
    (void)chdir("/");
    (void)rmdir(folder);
    return sum;
}

const struct row rows_build[] = {
    {.name = "build",
     .ops = FILE_COUNT,
     .setup = build_setup,
     .run = build_run,
     .samples = 1,
     .on_demand = "bench_build"},
    {0},
};
