/* main.c — the program of `make bench-soft`: PID 1 of a guest, or a plain program on this host.
 *
 * In a guest it mounts what it needs, measures the rows named by `bench_rows` in its environment
 * (which is the kernel's command line), writes to the console and resets the machine.  On a host it
 * takes the rows as its arguments.  Time is the TSC; the harness holds it against its own clock,
 * with the lines
 * `@begin` and `@end` that it sees come in.
 *
 * Lines: @init, @clock TSC NS, @begin ROW TSC, @row ROW OPS CHECKSUM CPU_NS TICKS..., @end ROW TSC,
 * @done.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include "bench/soft/row.h"

const char *g_self;

/* Those of processes first, while this one is small. */
static const struct row *const g_rows[] = {rows_system, rows_process, rows_sort,   rows_data,
                                           rows_number, rows_float,   rows_memory, rows_build};

static uint64_t ticks(void)
{
    unsigned aux;
    uint64_t t = __rdtscp(&aux);

    _mm_lfence();
    return t;
}

/* A whole line that has left the machine before this returns. */
__attribute__((format(printf, 1, 2))) static void say(const char *form, ...)
{
    char line[512];
    va_list args;
    int len;

    va_start(args, form);
    len = vsnprintf(line, sizeof(line), form, args);
    va_end(args);
    if (len > 0 && write(STDOUT_FILENO, line, (size_t)len) == len) {
        (void)tcdrain(STDOUT_FILENO); /* fails on a pipe, which needs none */
    }
}

_Noreturn void die(const char *what)
{
    say("@failed %s: %s\n", what, strerror(errno));
    if (getpid() == 1) {
        (void)reboot(RB_AUTOBOOT);
    }
    _exit(1);
}

void *pages_new(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED) {
        die("mmap");
    }
    (void)madvise(p, bytes, MADV_NOHUGEPAGE);
    return p;
}

/* CPU time of this process and its children that ended. */
static uint64_t cpu_ns(void)
{
    uint64_t ns = 0;

    for (int i = 0; i < 2; i++) {
        struct rusage u;

        (void)getrusage(i ? RUSAGE_CHILDREN : RUSAGE_SELF, &u);
        ns += (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000000u;
        ns += (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000u;
    }
    return ns;
}

/* TSC and clock at the same moment: of a few tries the one that was interrupted least. */
static void say_clock(void)
{
    uint64_t at = 0;
    uint64_t ns = 0;
    uint64_t best = UINT64_MAX;

    for (int i = 0; i < 20; i++) {
        struct timespec now;
        uint64_t before = ticks();
        uint64_t took;

        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        took = ticks() - before;
        if (took < best) {
            best = took;
            at = before + took / 2;
            ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
        }
    }
    say("@clock %" PRIu64 " %" PRIu64 "\n", at, ns);
}

static void measure(const struct row *row)
{
    const char *often = getenv("bench_times"); /* for profiles */
    uint64_t repeat = often ? strtoull(often, NULL, 10) : 1;
    unsigned samples = row->samples ? row->samples : SAMPLES;
    uint64_t took[SAMPLES] = {0};
    uint64_t check = 0;
    uint64_t cpu;
    char times[32 * SAMPLES] = "";

    if (row->setup) {
        row->setup();
    }
    if (!row->samples) {
        check = row->run(row->ops); /* code and memory get warm */
    }
    say("@begin %s %" PRIu64 "\n", row->name, ticks());
    cpu = cpu_ns();
    for (unsigned i = 0; i < samples; i++) {
        uint64_t start = ticks();
        uint64_t sum = row->run(row->ops);

        for (uint64_t n = 1; n < repeat; n++) {
            sum = row->run(row->ops);
        }
        took[i] = ticks() - start;
        if (sum != check && (i > 0 || !row->samples)) {
            say("@failed %s: sample %u has checksum %" PRIx64 ", before it was %" PRIx64 "\n",
                row->name, i, sum, check);
        }
        check = sum;
    }
    cpu = cpu_ns() - cpu;
    say("@end %s %" PRIu64 "\n", row->name, ticks());
    for (unsigned i = 0; i < samples; i++) {
        (void)snprintf(times + strlen(times), sizeof(times) - strlen(times), " %" PRIu64, took[i]);
    }
    say("@row %s %" PRIu64 " %016" PRIx64 " %" PRIu64 "%s\n", row->name, row->ops, check,
        cpu / samples, times);
}

static bool is_wanted(const struct row *row, const char *wanted)
{
    size_t len = strlen(row->name);

    if (!wanted) {
        return !row->on_demand || getenv(row->on_demand);
    }
    for (const char *p = wanted; *p; p += strcspn(p, ","), p += *p == ',') {
        if (strcspn(p, ",") == len && strncmp(p, row->name, len) == 0) {
            return true;
        }
    }
    return false;
}

static void measure_all(const char *wanted)
{
    say_clock();
    for (size_t i = 0; i < sizeof(g_rows) / sizeof(g_rows[0]); i++) {
        for (const struct row *row = g_rows[i]; row->name; row++) {
            if (is_wanted(row, wanted)) {
                measure(row);
            }
        }
    }
    say_clock();
    say("@done\n");
}

static void be_init(void)
{
    struct termios tty;
    int fd;

    (void)mkdir("/dev", 0755);
    (void)mkdir("/tmp", 0777);
    (void)mount("dev", "/dev", "devtmpfs", 0, NULL);
    (void)mount("tmp", "/tmp", "tmpfs", 0, NULL);
    fd = open("/dev/ttyS0", O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (fd >= 0) {
        for (int i = 0; i < 3; i++) {
            (void)dup2(fd, i);
        }
        if (tcgetattr(0, &tty) == 0) {
            tty.c_oflag &= ~(tcflag_t)OPOST;
            (void)tcsetattr(0, TCSANOW, &tty);
        }
    }
    say("\n@init\n"); /* ends what the kernel may have begun */
}

int main(int argc, char **argv)
{
    size_t len = argc > 0 ? strlen(argv[0]) : 0;

    if (len >= 4 && strcmp(argv[0] + len - 4, "true") == 0) {
        return 0; /* what the row `exec` executes */
    }
    g_self = getpid() == 1 ? "/init" : "/proc/self/exe";
    if (getpid() == 1) {
        be_init();
        measure_all(getenv("bench_rows"));
        (void)reboot(RB_AUTOBOOT);
        return 1;
    }
    measure_all(argc > 1 ? argv[1] : NULL);
    return 0;
}
