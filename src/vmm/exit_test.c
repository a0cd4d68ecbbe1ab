/* exit_test.c — signals end the process with their code, a record and a line of metrics. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"
#include "metrics/metrics.h"
#include "tests/lib/test.h"
#include "vmm/exit.h"

static char g_log[] = "/tmp/ec1-exit-log-XXXXXX";
static char g_metrics_path[] = "/tmp/ec1-exit-met-XXXXXX";

/* A child that does `act` with the handlers installed; its wait status. */
static int run(void (*act)(int arg), int arg)
{
    struct metrics_options options = {.path = g_metrics_path};
    int status = -1;
    pid_t pid;

    strcpy(g_log + sizeof(g_log) - 7, "XXXXXX");
    strcpy(g_metrics_path + sizeof(g_metrics_path) - 7, "XXXXXX");
    (void)close(mkstemp(g_log));
    (void)close(mkstemp(g_metrics_path));
    (void)fflush(NULL);
    pid = fork();
    if (pid == 0) {
        log_use_records("x");
        (void)log_open(g_log);
        (void)metrics_open(&options, NULL);
        exit_install_handlers();
        act(arg);
        _exit(exit_say(EXIT_CODE_OK));
    }
    CHECK_INT(waitpid(pid, &status, 0), pid);
    return status;
}

static void check_file(const char *path, const char *part)
{
    struct buf text = {0};

    CHECK_INT(buf_read_file(&text, path, 1 << 20), 0);
    CHECK_HAS(buf_str(&text), part);
    buf_fini(&text);
}

static void clean(void)
{
    (void)unlink(g_log);
    (void)unlink(g_metrics_path);
}

static void kill_self(int number)
{
    (void)kill(getpid(), number);
}

TEST(vmm, fatal_signals_have_exit_codes)
{
    static const struct {
        int number;
        int code;
        const char *log;
        const char *metric;
    } vectors[] = {
        {SIGBUS, 149, "signal 7, code 0.", "\"sigbus\":1"},
        {SIGSEGV, 150, "signal 11, code 0.", "\"sigsegv\":1"},
        {SIGXFSZ, 151, "signal 25, code 0.", "\"sigxfsz\":1"},
        {SIGXCPU, 154, "signal 24, code 0.", "\"sigxcpu\":1"},
        {SIGHUP, 156, "signal 1, code 0.", "\"sighup\":1"},
        {SIGILL, 157, "signal 4, code 0.", "\"sigill\":1"},
    };

    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        int status = run(kill_self, vectors[i].number);

        CHECK(WIFEXITED(status));
        CHECK_INT(WEXITSTATUS(status), vectors[i].code);
        check_file(g_log, "Shutting down VM after intercepting ");
        check_file(g_log, vectors[i].log);
        check_file(g_metrics_path, vectors[i].metric);
        clean();
    }
}

TEST(vmm, a_signal_like_a_bad_syscall_is_unexpected)
{
    int status = run(kill_self, SIGSYS);

    CHECK_INT(WEXITSTATUS(status), 2);
    check_file(g_log, "signal 31, code 0.");
    clean();
}

TEST(vmm, harmless_signals_go_on)
{
    static const int harmless[] = {SIGPIPE, 34, 35};

    for (size_t i = 0; i < sizeof(harmless) / sizeof(harmless[0]); i++) {
        int status = run(kill_self, harmless[i]);

        CHECK(WIFEXITED(status));
        CHECK_INT(WEXITSTATUS(status), 0);
        check_file(g_log, "Firecracker exiting successfully. exit_code=0\n");
        if (harmless[i] == SIGPIPE) {
            check_file(g_log, "Received signal 13, code 0.");
            check_file(g_metrics_path, "\"sigpipe\":1");
        }
        clean();
    }
}

TEST(vmm, other_signals_keep_their_default)
{
    int status = run(kill_self, SIGTERM);

    CHECK(WIFSIGNALED(status));
    CHECK_INT(WTERMSIG(status), SIGTERM);
    clean();
}

static void panic(int arg)
{
    exit_panic("number %d", arg);
}

TEST(vmm, a_panic_is_told_and_aborts)
{
    int status = run(panic, 7);

    CHECK(WIFSIGNALED(status));
    CHECK_INT(WTERMSIG(status), SIGABRT);
    check_file(g_log, "Firecracker panicked at src/vmm/exit_test.c:");
    check_file(g_log, ": number 7\n");
    check_file(g_metrics_path, "\"panic_count\":1");
    clean();
}
