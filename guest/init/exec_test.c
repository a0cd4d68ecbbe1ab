/* exec_test.c — both ends of exec together: the host's client against the init's service. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/bits.h"
#include "base/clock.h"
#include "base/err.h"
#include "exec/client.h"
#include "exec/control.h"
#include "guest/init/pty.h"
#include "guest/init/serve_test.h"
#include "proto/exec_msg.h"
#include "tests/lib/test.h"

static const char *const g_env[] = {"PATH=/usr/bin:/bin", "EMPTY=", NULL};

struct run {
    struct exec_request request;
    struct exec_result result;
    struct err err;
    char out[4096];
    char text[4096]; /* stderr */
    int code;
};

static void read_back(int fd, char *to, size_t size)
{
    ssize_t got = pread(fd, to, size - 1, 0);

    to[got < 0 ? 0 : got] = 0;
    (void)close(fd);
}

/* Run with files as outputs. */
static void run_to_files(const struct serve *serve, struct run *run)
{
    int fd = serve_connect(serve);
    int out = memfd_create("out", MFD_CLOEXEC);
    int err = memfd_create("err", MFD_CLOEXEC);

    run->request.env = run->request.env ? run->request.env : g_env;
    run->request.out = out;
    run->request.err = err;
    run->code = exec_run_on(fd, &run->request, &run->result, &run->err);
    read_back(out, run->out, sizeof(run->out));
    read_back(err, run->text, sizeof(run->text));
    (void)close(fd);
}

static void run_shell(const struct serve *serve, struct run *run, const char *script)
{
    const char *const argv[] = {"sh", "-c", script, NULL};

    run->request.argv = argv;
    run_to_files(serve, run);
    run->request.argv = NULL;
}

#define RUN_INIT ((struct run){.request = EXEC_REQUEST_INIT})

TEST(exec, exit_status_is_the_commands_own)
{
    static const struct {
        const char *script;
        int status;
        int signal;
    } cases[] = {
        {"exit 0", 0, 0},           {"exit 1", 1, 0},       {"exit 255", 255, 0},
        {"exit 137", 137, 0},       {"kill -9 $$", 137, 9}, {"kill -TERM $$", 143, 15},
        {"kill -SEGV $$", 139, 11},
    };
    struct serve serve;

    serve_start(&serve);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct run run = RUN_INIT;

        run_shell(&serve, &run, cases[i].script);
        CHECK_OK(run.code, &run.err);
        CHECK_INT(run.result.status, cases[i].status);
        CHECK_INT(run.result.signal, cases[i].signal);
    }
    serve_stop(&serve);
}

TEST(exec, what_cannot_start_says_why)
{
    static const struct {
        const char *name;
        const char *cwd;
        int status;
        const char *text;
    } cases[] = {
        {"no-such-command", NULL, 127, "not found in the VM's PATH"},
        {"/no/such/command", NULL, 127, "no such file"},
        {"", NULL, 127, "not found"},
        {"/etc/passwd", NULL, 126, "Permission denied"},
        {"/etc", NULL, 126, "directory"},
        {"/etc/passwd/x", NULL, 127, "no such file"},
        {"true", "/no/such/folder", 125, "working directory '/no/such/folder'"},
    };
    struct serve serve;

    serve_start(&serve);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *const argv[] = {cases[i].name, NULL};
        struct run run = RUN_INIT;

        run.request.argv = argv;
        run.request.cwd = cases[i].cwd;
        run_to_files(&serve, &run);
        CHECK_OK(run.code, &run.err);
        CHECK_INT(run.result.status, cases[i].status);
        CHECK_HAS(run.result.message, cases[i].text);
    }
    serve_stop(&serve);
}

TEST(exec, a_folder_of_path_that_is_closed_to_the_user_is_passed_over)
{
    static const char *const env[] = {"PATH=/tmp/ec1-exec-closed:/usr/bin", NULL};
    static const char *const argv[] = {"no-such-command", NULL};
    struct run run = RUN_INIT;
    struct serve serve;

    if (geteuid() != 0) {
        SKIP("only root can start a command as another user");
    }
    (void)mkdir("/tmp/ec1-exec-closed", 0700);
    serve_start(&serve);
    run.request.argv = argv;
    run.request.env = env;
    run.request.user = (struct exec_user){.uid = 65534, .gid = 65534};
    run_to_files(&serve, &run);
    CHECK_INT(run.result.status, 127);
    CHECK_HAS(run.result.message, "not found in the VM's PATH");
    serve_stop(&serve);
    (void)rmdir("/tmp/ec1-exec-closed");
}

TEST(exec, a_script_without_its_interpreter_is_not_found)
{
    char path[] = "/tmp/ec1-script-XXXXXX";
    const char *const argv[] = {path, NULL};
    struct run run = RUN_INIT;
    struct serve serve;
    int fd = mkstemp(path);

    CHECK_INT(write(fd, "#!/no/interpreter\n", 18), 18);
    CHECK_INT(fchmod(fd, 0755), 0);
    (void)close(fd);
    serve_start(&serve);
    run.request.argv = argv;
    run_to_files(&serve, &run);
    CHECK_INT(run.result.status, 127);
    CHECK_HAS(run.result.message, "its interpreter");
    serve_stop(&serve);
    (void)unlink(path);
}

TEST(exec, streams_are_separate_and_complete)
{
    struct run run = RUN_INIT;
    struct serve serve;

    serve_start(&serve);
    run_shell(&serve, &run, "printf 'a\\000b'; printf err >&2; printf c");
    CHECK_MEM(run.out, "a\0bc", 4);
    CHECK_STR(run.text, "err");
    serve_stop(&serve);
}

TEST(exec, argv_and_environment_are_verbatim)
{
    static const char *const argv[] = {"/bin/sh", "-c",    "printf '[%s]' \"$@\"; env | sort",
                                       "sh",      "",      "a b",
                                       "\xff\n",  "$HOME", NULL};
    static const char *const env[] = {"A=", "B=\xfe x", "PATH=/usr/bin:/bin", NULL};
    struct run run = RUN_INIT;
    struct serve serve;

    serve_start(&serve);
    run.request.argv = argv;
    run.request.env = env;
    run_to_files(&serve, &run);
    CHECK_HAS(run.out, "[][a b][\xff\n][$HOME]");
    CHECK_HAS(run.out, "A=\nB=\xfe x\nPATH=/usr/bin:/bin\n");
    serve_stop(&serve);
}

TEST(exec, directory_umask_and_limits_are_per_command)
{
    static const struct exec_limit limits[] = {{RLIMIT_NOFILE, 77, 88}};
    struct run run = RUN_INIT;
    struct serve serve;

    serve_start(&serve);
    run.request.cwd = "/usr";
    run.request.has_umask = true;
    run.request.umask = 027;
    run.request.limits = limits;
    run.request.limit_count = 1;
    run_shell(&serve, &run, "pwd; umask; ulimit -Sn; ulimit -Hn");
    CHECK_STR(run.out, "/usr\n0027\n77\n88\n");
    run = RUN_INIT;
    run_shell(&serve, &run, "pwd; umask");
    CHECK_STR(run.out, "/\n0022\n");
    serve_stop(&serve);
}

TEST(exec, without_a_terminal_a_command_leads_a_group_but_no_session)
{
    struct run run = RUN_INIT;
    struct serve serve;

    /* Else the next terminal it opens were its own, and closing that one SIGHUP. */
    serve_start(&serve);
    run_shell(&serve, &run, "read stat < /proc/$$/stat; set -- $stat; [ $5 = $$ ] && [ $6 != $$ ]");
    CHECK_INT(run.result.status, 0);
    serve_stop(&serve);
}

TEST(exec, users_by_number_and_by_name)
{
    static const uint32_t groups[] = {7, 8};
    struct run run = RUN_INIT;
    struct serve serve;

    if (geteuid() != 0) {
        SKIP("needs root");
        return;
    }
    serve_start(&serve);
    run.request.user = (struct exec_user){.uid = 12, .gid = 34, .groups = groups, .group_count = 2};
    run_shell(&serve, &run, "id -u; id -g; id -G");
    CHECK_STR(run.out, "12\n34\n34 7 8\n");
    run = RUN_INIT;
    run.request.user.name = "daemon:root";
    run_shell(&serve, &run, "id -u; id -g");
    CHECK_STR(run.out, "1\n0\n");
    run = RUN_INIT;
    run.request.user.name = "no-such-user";
    run_shell(&serve, &run, "true");
    CHECK_INT(run.result.status, 125);
    CHECK_HAS(run.result.message, "no user 'no-such-user'");
    serve_stop(&serve);
}

TEST(exec, stdin_from_a_file_ends)
{
    struct run run = RUN_INIT;
    struct serve serve;
    int in = memfd_create("in", MFD_CLOEXEC);

    CHECK_INT(write(in, "line\n", 5), 5);
    CHECK_INT(lseek(in, 0, SEEK_SET), 0);
    serve_start(&serve);
    run.request.in = in;
    run_shell(&serve, &run, "cat; echo end");
    CHECK_STR(run.out, "line\nend\n");
    run = RUN_INIT; /* no stdin at all */
    run_shell(&serve, &run, "cat; echo end");
    CHECK_STR(run.out, "end\n");
    run = RUN_INIT;
    run.request.in = 999; /* a closed descriptor */
    run_shell(&serve, &run, "cat; echo end");
    CHECK_STR(run.out, "end\n");
    (void)close(in);
    serve_stop(&serve);
}

struct pump {
    int fd;
    size_t bytes;
    uint64_t sum;
};

static void *pump_in(void *arg)
{
    struct pump *pump = arg;
    static uint8_t block[65536];

    for (size_t done = 0; done < pump->bytes;) {
        size_t want = pump->bytes - done < sizeof(block) ? pump->bytes - done : sizeof(block);
        ssize_t put;

        memset(block, (int)(done >> 16), sizeof(block));
        put = write(pump->fd, block, want);
        CHECK(put > 0);
        done += (size_t)put;
    }
    (void)close(pump->fd);
    return NULL;
}

static void *pump_out(void *arg)
{
    struct pump *pump = arg;
    static uint8_t block[65536];
    ssize_t got;

    while ((got = read(pump->fd, block, sizeof(block))) > 0) {
        pump->bytes += (size_t)got;
    }
    (void)close(pump->fd);
    return NULL;
}

/* Through cat and back, with pipes on both sides. */
TEST(exec, much_data_streams_in_little_memory)
{
    enum { SIZE = 256 * 1024 * 1024 };
    static const char *const argv[] = {"cat", NULL};
    struct run run = RUN_INIT;
    struct rusage before;
    struct rusage after;
    struct serve serve;
    pthread_t threads[2];
    int in[2];
    int out[2];
    struct pump feed = {.bytes = SIZE};
    struct pump drain = {0};
    int fd;

    serve_start(&serve);
    CHECK(pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0);
    feed.fd = in[1];
    drain.fd = out[0];
    fd = serve_connect(&serve);
    run.request.argv = argv;
    run.request.env = g_env;
    run.request.in = in[0];
    run.request.out = out[1];
    (void)getrusage(RUSAGE_SELF, &before);
    CHECK(pthread_create(&threads[0], NULL, pump_in, &feed) == 0);
    CHECK(pthread_create(&threads[1], NULL, pump_out, &drain) == 0);
    CHECK_OK(exec_run_on(fd, &run.request, &run.result, &run.err), &run.err);
    (void)close(out[1]);
    (void)pthread_join(threads[0], NULL);
    (void)pthread_join(threads[1], NULL);
    (void)getrusage(RUSAGE_SELF, &after);
    CHECK_INT(drain.bytes, SIZE);
    CHECK_INT(run.result.status, 0);
#ifndef __SANITIZE_ADDRESS__ /* which keeps what was freed */
    CHECK(after.ru_maxrss - before.ru_maxrss < 32 * 1024);
#endif
    CHECK_INT(fcntl(in[0], F_GETFL) & O_NONBLOCK, 0); /* shared with others */
    (void)close(in[0]);
    (void)close(fd);
    serve_stop(&serve);
}

TEST(exec, a_closed_stdout_ends_the_command)
{
    static const char *const argv[] = {"yes", NULL};
    struct run run = RUN_INIT;
    struct serve serve;
    int out[2];
    int fd;

    serve_start(&serve);
    CHECK(pipe2(out, O_CLOEXEC) == 0);
    (void)close(out[0]);
    fd = serve_connect(&serve);
    run.request.argv = argv;
    run.request.env = g_env;
    run.request.out = out[1];
    CHECK_OK(exec_run_on(fd, &run.request, &run.result, &run.err), &run.err);
    CHECK_INT(run.result.status, 128 + SIGPIPE);
    (void)close(out[1]);
    (void)close(fd);
    serve_stop(&serve);
}

TEST(exec, a_grandchild_that_holds_stdout_does_not_hang)
{
    struct run run = RUN_INIT;
    struct serve serve;
    int64_t start = clock_mono_ns();

    serve_start(&serve);
    run_shell(&serve, &run, "sleep 3 & echo early; exit 5");
    CHECK_STR(run.out, "early\n");
    CHECK_INT(run.result.status, 5);
    CHECK(clock_mono_ns() - start < 2 * NS_PER_S);
    serve_stop(&serve);
}

static void *cancel_later(void *arg)
{
    const int *fd = arg;

    (void)usleep(300 * 1000);
    CHECK_INT(write(*fd, "x", 1), 1);
    return NULL;
}

TEST(exec, cancelling_ends_the_wait)
{
    struct run run = RUN_INIT;
    struct serve serve;
    pthread_t thread;
    int cancel[2];

    serve_start(&serve);
    CHECK(pipe2(cancel, O_CLOEXEC) == 0);
    CHECK(pthread_create(&thread, NULL, cancel_later, &cancel[1]) == 0);
    run.request.cancel_fd = cancel[0];
    run_shell(&serve, &run, "sleep 60");
    CHECK_INT(run.code, -ECANCELED);
    (void)pthread_join(thread, NULL);
    (void)close(cancel[0]);
    (void)close(cancel[1]);
    serve_stop(&serve);
}

static void *signal_later(void *arg)
{
    (void)usleep(500 * 1000);
    (void)kill(getpid(), *(const int *)arg);
    return NULL;
}

TEST(exec, signals_are_forwarded)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};
    struct serve serve;

    serve_start(&serve);
    for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
        struct run run = RUN_INIT;
        int sig = signals[i];
        pthread_t thread;

        run.request.forward_signals = true;
        CHECK(pthread_create(&thread, NULL, signal_later, &sig) == 0);
        run_shell(&serve, &run, "ulimit -c 0; sleep 60");
        (void)pthread_join(thread, NULL);
        CHECK_OK(run.code, &run.err);
        CHECK_INT(run.result.status, 128 + sig);
    }
    serve_stop(&serve);
}

/* The client runs in a child whose terminal we are. */
struct terminal {
    int master;
    pid_t pid;
    char seen[8192];
    size_t len;
};

static void terminal_start(struct terminal *terminal, const struct serve *serve, const char *script)
{
    int slave;

    CHECK_INT(pty_open(getuid(), &terminal->master, &slave), 0);
    pty_resize(terminal->master, 40, 100);
    terminal->len = 0;
    terminal->pid = fork();
    if (terminal->pid == 0) {
        const char *const argv[] = {"sh", "-c", script, NULL};
        struct exec_request request = EXEC_REQUEST_INIT;
        struct exec_result result = {.status = 99};
        struct termios before;
        struct termios after;
        int fd = serve_connect(serve);

        (void)setsid();
        (void)ioctl(slave, TIOCSCTTY, 0);
        (void)tcgetattr(slave, &before);
        request.argv = argv;
        request.env = g_env;
        request.tty = true;
        request.forward_signals = true;
        request.in = slave;
        request.out = slave;
        request.err = slave;
        (void)exec_run_on(fd, &request, &result, NULL);
        (void)tcgetattr(slave, &after);
        if (before.c_lflag != after.c_lflag || before.c_oflag != after.c_oflag) {
            result.status = 98;
        }
        _exit(result.status);
    }
    (void)close(slave);
}

static void terminal_expect(struct terminal *terminal, const char *text)
{
    int64_t deadline = clock_mono_ns() + 20 * NS_PER_S;

    while (!strstr(terminal->seen, text)) {
        struct pollfd poll_fd = {.fd = terminal->master, .events = POLLIN};
        ssize_t got;

        if (clock_mono_ns() > deadline) {
            print_error("saw '%s'\n", terminal->seen);
            fail();
        }
        (void)poll(&poll_fd, 1, 100);
        got = read(terminal->master, terminal->seen + terminal->len,
                   sizeof(terminal->seen) - 1 - terminal->len);
        CHECK(got > 0 || errno == EAGAIN); /* EIO: the client is gone */
        if (got > 0) {
            terminal->len += (size_t)got;
        }
        terminal->seen[terminal->len] = 0;
    }
}

static int terminal_end(struct terminal *terminal)
{
    int status;

    CHECK_INT(waitpid(terminal->pid, &status, 0), terminal->pid);
    (void)close(terminal->master);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(exec, a_terminal_has_size_signals_and_is_restored)
{
    struct terminal terminal = {0};
    struct serve serve;

    serve_start(&serve);
    terminal_start(&terminal, &serve,
                   "trap 'stty size; echo resized' WINCH; trap 'echo interrupted' INT; stty size; "
                   "n=0; until read line || [ $n = 20 ]; do n=$((n + 1)); done; "
                   "echo got $line; exit 9"); /* not for ever, should the terminal go away */
    terminal_expect(&terminal, "40 100\r\n");
    pty_resize(terminal.master, 50, 120);
    terminal_expect(&terminal, "50 120\r\nresized");
    CHECK_INT(write(terminal.master, "\003", 1), 1);
    terminal_expect(&terminal, "interrupted");
    CHECK_INT(write(terminal.master, "hello\r", 6), 6);
    terminal_expect(&terminal, "got hello");
    CHECK_INT(terminal_end(&terminal), 9);
    serve_stop(&serve);
}

TEST(exec, a_terminal_keeps_the_last_bytes)
{
    struct serve serve;

    serve_start(&serve);
    for (unsigned i = 0; i < 20; i++) {
        const char *const argv[] = {"sh", "-c", "printf last-bytes", NULL};
        struct run run = RUN_INIT;

        run.request.argv = argv;
        run.request.tty = true;
        run_to_files(&serve, &run);
        CHECK_OK(run.code, &run.err);
        CHECK_STR(run.out, "last-bytes");
    }
    serve_stop(&serve);
}

TEST(exec, end_of_input_reaches_a_terminal)
{
    static const char *const argv[] = {"cat", NULL};
    struct run run = RUN_INIT;
    struct serve serve;
    int in[2];

    serve_start(&serve);
    CHECK(pipe2(in, O_CLOEXEC) == 0);
    CHECK_INT(write(in[1], "half", 4), 4);
    (void)close(in[1]);
    run.request.argv = argv;
    run.request.tty = true;
    run.request.in = in[0];
    run_to_files(&serve, &run);
    CHECK_INT(run.result.status, 0);
    CHECK_HAS(run.out, "halfhalf"); /* the echo, and cat */
    (void)close(in[0]);
    serve_stop(&serve);
}

TEST(exec, a_vm_that_goes_away_is_an_error)
{
    const char *const argv[] = {"sleep", "60", NULL};
    struct run run = RUN_INIT;
    int pair[2];

    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    (void)close(pair[1]);
    run.request.argv = argv;
    CHECK(exec_run_on(pair[0], &run.request, &run.result, &run.err) < 0);
    CHECK_HAS(run.err.text, "the connection to the VM is gone");
    (void)close(pair[0]);
}

TEST(exec, info_and_shutdown)
{
    AUTO_FREE uint8_t *data = NULL;
    Ec1__V1__InfoResponse *info;
    struct serve serve;
    struct err err = {0};
    size_t len;
    int fd;
    siginfo_t ended;

    serve_start(&serve);
    fd = serve_connect(&serve);
    CHECK_OK(exec_unary_on(fd, EXEC_PATH_INFO, NULL, 0, 10 * NS_PER_S, &data, &len, &err), &err);
    info = ec1__v1__info_response__unpack(NULL, len, data);
    CHECK(info && info->n_warnings == 1);
    CHECK_STR(info->warnings[0], "warning 1");
    CHECK_STR(info->version, EXEC_VERSION);
    ec1__v1__info_response__free_unpacked(info, NULL);
    free(TAKE_PTR(data));
    (void)close(fd);
    fd = serve_connect(&serve);
    CHECK(exec_unary_on(fd, "/ec1.v1.Init/Nothing", NULL, 0, 10 * NS_PER_S, &data, &len, &err) < 0);
    CHECK_HAS(err.text, "no such method");
    (void)close(fd);
    fd = serve_connect(&serve);
    CHECK_OK(exec_unary_on(fd, EXEC_PATH_SHUTDOWN, NULL, 0, 10 * NS_PER_S, &data, &len, &err),
             &err);
    CHECK_INT(waitid(P_PID, (id_t)serve.pid, &ended, WEXITED | WNOWAIT), 0);
    (void)close(fd);
    serve_stop(&serve);
}
