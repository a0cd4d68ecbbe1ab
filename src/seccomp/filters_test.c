/* filters_test.c — filters at work, in processes of their own; files of filters with what is wrong
 * in them. */
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include "base/bits.h"
#include "base/buf.h"
#include "seccomp/container.h"
#include "seccomp/filters.h"
#include "tests/lib/test.h"

/* --- our own lists --- */

static struct seccomp_filters g_filters;

static void enter(enum seccomp_thread thread)
{
    struct err err = {0};

    if (seccomp_filters_install(&g_filters, thread, &err) < 0) {
        _exit(99);
    }
}

/* The wait status of a process that does it behind a filter and then leaves with 0. */
static int status_of(enum seccomp_thread thread, void (*fn)(void))
{
    struct err err = {0};
    pid_t pid;
    int status = -1;

    seccomp_filters_prepare();
    CHECK_OK(seccomp_filters_default(&g_filters, &err), &err);
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        (void)signal(SIGSYS, SIG_DFL); /* cmocka has handlers */
        enter(thread);
        fn();
        (void)syscall(SYS_exit_group, 0); /* without what sanitizers and coverage do at the end */
    }
    CHECK_INT(waitpid(pid, &status, 0), pid);
    seccomp_filters_fini(&g_filters);
    return status;
}

static void do_nothing(void) {}

static void do_fork(void)
{
    (void)syscall(SYS_fork);
}

static void do_exec(void)
{
    (void)execl("/bin/true", "true", (char *)NULL);
}

static void do_kill(void)
{
    (void)kill(getppid(), 0);
}

static void do_inet(void)
{
    (void)socket(AF_INET, SOCK_STREAM, 0);
}

static void do_packet(void)
{
    (void)socket(AF_UNIX, SOCK_SEQPACKET, 0);
}

static void do_unix(void)
{
    (void)socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

static void do_open(void)
{
    (void)syscall(SYS_openat, AT_FDCWD, "/", O_RDONLY);
}

static void do_executable(void)
{
    (void)mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void do_make_executable(void)
{
    (void)mprotect(NULL, 4096, PROT_READ | PROT_EXEC);
}

static void do_ioctl(void)
{
    (void)syscall(SYS_ioctl, 0, 0x5412, ""); /* TIOCSTI: types into a terminal */
}

static void do_heap(void)
{
    for (size_t bytes = 1; bytes < 64 * MIB; bytes *= 3) {
        void *p = malloc(bytes), *larger = realloc(p, 2 * bytes);

        if (larger) {
            memset(larger, 1, bytes);
        }
        free(larger);
    }
}

static void do_local_time(void)
{
    time_t now = 1;
    struct tm tm;

    (void)localtime_r(&now, &tm);
}

static bool is_trapped(int status)
{
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
}

TEST(seccomp_filters, no_thread_gets_more_than_it_needs)
{
    static void (*const never[])(void) = {do_fork,   do_exec,  do_kill,       do_inet,
                                          do_packet, do_ioctl, do_executable, do_make_executable};

#ifdef EC1_INSTRUMENTED
    SKIP("sanitizers and coverage make such calls themselves");
#endif
    for (unsigned thread = 0; thread < SECCOMP_THREAD_COUNT; thread++) {
        CHECK_INT(status_of(thread, do_nothing), 0);
        CHECK_INT(status_of(thread, do_heap), 0);
        CHECK_INT(status_of(thread, do_local_time), 0);
        for (unsigned i = 0; i < ARRAY_LEN(never); i++) {
            CHECK(is_trapped(status_of(thread, never[i])));
        }
    }
    CHECK_INT(status_of(SECCOMP_VMM, do_unix), 0);
    CHECK_INT(status_of(SECCOMP_VMM, do_open), 0);
    CHECK(is_trapped(status_of(SECCOMP_API, do_unix)));
    CHECK(is_trapped(status_of(SECCOMP_API, do_open)));
    CHECK(is_trapped(status_of(SECCOMP_VCPU, do_unix)));
    CHECK(is_trapped(status_of(SECCOMP_VCPU, do_open)));
}

/* Each needs a heap of its own, for which the C library would look how many CPUs there are. */
#define THREADS 24

static pthread_barrier_t g_barrier;

static void *filtered_thread(void *arg)
{
    enter(SECCOMP_VCPU);
    (void)pthread_barrier_wait(&g_barrier);
    free(malloc(100));
    (void)pthread_barrier_wait(&g_barrier);
    return arg;
}

static void run_threads(void)
{
    pthread_t threads[THREADS];
    struct err err = {0};

    seccomp_filters_prepare();
    if (seccomp_filters_default(&g_filters, &err) < 0) {
        _exit(98);
    }
    (void)pthread_barrier_init(&g_barrier, NULL, THREADS);
    for (unsigned i = 0; i < THREADS; i++) {
        if (pthread_create(&threads[i], NULL, filtered_thread, NULL) != 0) {
            _exit(97);
        }
    }
    enter(SECCOMP_VMM);
    for (unsigned i = 0; i < THREADS; i++) {
        (void)pthread_join(threads[i], NULL);
    }
}

TEST(seccomp_filters, many_threads_allocate_and_end)
{
    int status = -1;
    pid_t pid = fork();

    CHECK(pid >= 0);
    if (pid == 0) {
        (void)signal(SIGSYS, SIG_DFL);
        run_threads();
        (void)syscall(SYS_exit_group, 0);
    }
    CHECK_INT(waitpid(pid, &status, 0), pid);
    CHECK_INT(status, 0);
}

/* --- files --- */

static char g_path[] = "/tmp/ec1-filters-XXXXXX";

static void write_file(const void *data, size_t len)
{
    int fd;

    memcpy(g_path + sizeof(g_path) - 7, "XXXXXX", 6);
    fd = mkstemp(g_path);
    CHECK(fd >= 0);
    CHECK_INT(write(fd, data, len), len);
    (void)close(fd);
}

/* A file of filters with these names, each of which allows everything. */
static void write_names(const char *const *names)
{
    static struct seccomp_container c;
    struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct buf file = {0};

    for (c.count = 0; names[c.count]; c.count++) {
        (void)snprintf(c.filters[c.count].name, SECCOMP_NAME_MAX, "%s", names[c.count]);
        c.filters[c.count].program = (struct seccomp_program){.code = &allow, .len = 1};
    }
    seccomp_container_write(&c, &file);
    write_file(file.data, file.len);
    buf_fini(&file);
}

TEST(seccomp_filters, a_file_has_just_the_threads_there_are)
{
    static const struct {
        const char *names[5], *error;
    } rows[] = {
        {{"vmm", "api", "vcpu"}, NULL},
        {{"VCPU", "Api", "vmm"}, NULL},
        {{"vmm", "vcpu"}, "Missing thread category: api"},
        {{NULL}, "Missing thread category: vmm"},
        {{"vmm", "api", "vcpu", "thread1"}, "Invalid thread categories: thread1"},
        {{"one", "vmm", "two"}, "Invalid thread categories: one,two"},
        {{"vmm", "api", "vcpu", "VMM"}, "Filter deserialization failed: thread category vmm is"},
    };

    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        struct seccomp_filters filters = {0};
        struct err err = {0};

        write_names(rows[i].names);
        if (rows[i].error) {
            CHECK_INT(seccomp_filters_load(g_path, &filters, &err), -EINVAL);
            CHECK_HAS(err_text(&err), rows[i].error);
        } else {
            CHECK_OK(seccomp_filters_load(g_path, &filters, &err), &err);
            CHECK_INT(filters.programs[SECCOMP_VCPU].len, 1);
        }
        seccomp_filters_fini(&filters);
        (void)unlink(g_path);
    }
}

TEST(seccomp_filters, other_files_are_refused)
{
    static uint8_t big[100001];
    struct seccomp_filters filters = {0};
    struct err err = {0};

    CHECK_INT(seccomp_filters_load("/nonexistent", &filters, &err), -ENOENT);
    CHECK_STR(err_text(&err), "Filter file open error: No such file or directory (os error 2)");
    write_file("adadadadad", 10);
    CHECK_INT(seccomp_filters_load(g_path, &filters, &err), -EINVAL);
    CHECK_HAS(err_text(&err), "Filter deserialization failed: ");
    (void)unlink(g_path);
    write_file(big, sizeof(big));
    CHECK_INT(seccomp_filters_load(g_path, &filters, &err), -EFBIG);
    CHECK_HAS(err_text(&err), "Filter deserialization failed: more than 100000 bytes");
    (void)unlink(g_path);
}

/* Somebody who can write a checksum can write anything before it. */
TEST(seccomp_container, nothing_is_taken_on_trust)
{
    struct seccomp_container *c = calloc(1, sizeof(*c));
    struct sock_filter code[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 4),
                                 BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct buf file = {0};
    struct err err = {0};

    CHECK(c);
    c->filters[0] = (struct seccomp_filter){.name = "vmm", .program = {.code = code, .len = 2}};
    c->count = 1;
    seccomp_container_write(c, &file);
    CHECK_INT(buf_status(&file), 0);
    for (size_t at = 0; at < file.len - 4; at++) {
        for (unsigned value = 0; value < 256; value++) {
            uint8_t before = file.data[at];

            file.data[at] = (uint8_t)value;
            store_le32(file.data + file.len - 4, (uint32_t)crc32_z(0, file.data, file.len - 4));
            c->count = 0;
            if (seccomp_container_read(file.data, file.len, c, &err) == 0) {
                CHECK_INT(c->count, 1);
                CHECK_OK(seccomp_check(&c->filters[0].program, &err), &err);
            }
            seccomp_container_fini(c);
            file.data[at] = before;
        }
    }
    buf_fini(&file);
    free(c);
}
