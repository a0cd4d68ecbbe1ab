/* exec_test.c — the parts of the host end by themselves; both ends together:
 * guest/init/exec_test.c. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/bits.h"
#include "base/clock.h"
#include "exec/client.h"
#include "exec/connect.h"
#include "exec/control.h"
#include "exec/ready.h"
#include "exec/signals.h"
#include "exec/sink.h"
#include "exec/start.h"
#include "exec/tty.h"
#include "proto/exec_msg.h"
#include "tests/lib/test.h"

/* ---- a fake monitor ---- */

struct monitor {
    char dir[32];
    char path[64];
    int listener;
    pthread_t thread;
    const char *answer;
    char asked[64];
};

static int listen_at(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
    CHECK(bind(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0 && listen(fd, 4) == 0);
    return fd;
}

static void *monitor_main(void *arg)
{
    struct monitor *monitor = arg;
    int fd = accept(monitor->listener, NULL, NULL);
    ssize_t got = recv(fd, monitor->asked, sizeof(monitor->asked) - 1, 0);

    monitor->asked[got < 0 ? 0 : got] = 0;
    if (monitor->answer) {
        (void)send(fd, monitor->answer, strlen(monitor->answer), MSG_NOSIGNAL);
    } else {
        (void)usleep(500 * 1000);
    }
    (void)close(fd);
    return NULL;
}

static void monitor_start(struct monitor *monitor, const char *answer)
{
    *monitor = (struct monitor){.dir = "/tmp/ec1-exec-XXXXXX", .answer = answer};
    CHECK(mkdtemp(monitor->dir) != NULL);
    (void)snprintf(monitor->path, sizeof(monitor->path), "%s/v", monitor->dir);
    monitor->listener = listen_at(monitor->path);
    CHECK(pthread_create(&monitor->thread, NULL, monitor_main, monitor) == 0);
}

static void monitor_stop(struct monitor *monitor)
{
    (void)pthread_join(monitor->thread, NULL);
    (void)close(monitor->listener);
    (void)unlink(monitor->path);
    (void)rmdir(monitor->dir);
}

TEST(connect, asks_for_the_port_and_reads_no_byte_too_many)
{
    struct monitor monitor;
    struct err err = {0};
    char rest[8] = {0};
    int fd;

    monitor_start(&monitor, "OK 1073741824\nrest");
    fd = exec_connect(monitor.path, EXEC_PORT, 10 * NS_PER_S, -1, &err);
    CHECK_OK(fd, &err);
    CHECK_INT(recv(fd, rest, sizeof(rest), MSG_WAITALL), 4);
    CHECK_STR(rest, "rest");
    (void)close(fd);
    monitor_stop(&monitor);
    CHECK_STR(monitor.asked, "CONNECT 1025\n");
}

TEST(connect, says_what_went_wrong)
{
    static const struct {
        const char *answer;
        int code;
        const char *text;
    } cases[] = {
        {"", -ECONNRESET, "nothing in the VM listens on port 1025"},
        {"NO\n", -EPROTO, "answer 'NO'"},
        {"0123456789012345678901234567890123456789012345678901234567890123456789", -EPROTO, "port"},
        {NULL, -ETIMEDOUT, "timed out"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct monitor monitor;
        struct err err = {0};

        monitor_start(&monitor, cases[i].answer);
        CHECK_INT(exec_connect(monitor.path, EXEC_PORT, 100 * NS_PER_MS, -1, &err), cases[i].code);
        CHECK_HAS(err.text, cases[i].text);
        monitor_stop(&monitor);
    }
}

TEST(connect, a_missing_vm_and_a_long_path)
{
    char path[200];
    struct err err = {0};
    Ec1__V1__InfoResponse *info;

    CHECK_INT(exec_connect("/nonexistent/v", 1, 0, -1, &err), -ENOENT);
    CHECK_HAS(err.text, "/nonexistent/v");
    CHECK_INT(exec_info("/nonexistent/v", 0, &info, &err), -ENOENT);
    CHECK_INT(exec_shutdown("/nonexistent/v", false, 0, &err), -ENOENT);
    memset(path, 'x', sizeof(path) - 1);
    path[sizeof(path) - 1] = 0;
    CHECK_INT(exec_connect(path, 1, 0, -1, &err), -ENAMETOOLONG);
}

TEST(connect, can_be_cancelled)
{
    struct exec_request request = EXEC_REQUEST_INIT;
    struct exec_result result;
    struct monitor monitor;
    struct err err = {0};
    int cancel[2];

    CHECK(pipe2(cancel, O_CLOEXEC) == 0);
    CHECK_INT(write(cancel[1], "x", 1), 1);
    monitor_start(&monitor, NULL);
    request.cancel_fd = cancel[0];
    CHECK_INT(exec_run(monitor.path, &request, &result, &err), -ECANCELED);
    monitor_stop(&monitor);
    (void)close(cancel[0]);
    (void)close(cancel[1]);
}

/* ---- sinks ---- */

static void fill_and_drain(struct exec_sink *sink, int reader)
{
    static uint8_t block[300000];
    static uint8_t back[300000];
    size_t got = 0;
    size_t credit;

    for (size_t i = 0; i < sizeof(block); i++) {
        block[i] = (uint8_t)(i * 13 + i / 251);
    }
    credit = exec_sink_put(sink, block, sizeof(block), sizeof(block) + 11);
    CHECK(!exec_sink_is_empty(sink) && credit < sizeof(block));
    while (got < sizeof(block)) {
        ssize_t n = recv(reader, back + got, sizeof(back) - got, MSG_DONTWAIT);

        if (n < 0 && errno == ENOTSOCK) {
            n = read(reader, back + got, sizeof(back) - got < 4096 ? sizeof(back) - got : 4096);
        }
        got += n > 0 ? (size_t)n : 0;
        credit += exec_sink_push(sink);
    }
    CHECK(exec_sink_is_empty(sink));
    CHECK_INT(credit, sizeof(block) + 11); /* all of it, exactly */
    CHECK_MEM(back, block, sizeof(block));
}

TEST(sink, never_blocks_on_a_full_pipe_and_leaves_its_flags)
{
    static const enum exec_sink_kind kinds[] = {EXEC_SINK_REOPENED, EXEC_SINK_CAREFUL};

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct exec_sink sink;
        int fds[2];

        CHECK(pipe2(fds, O_CLOEXEC) == 0);
        exec_sink_init(&sink, fds[1]);
        CHECK_INT(sink.kind, EXEC_SINK_REOPENED);
        sink.kind = kinds[i];
        CHECK(exec_sink_poll_fd(&sink) >= 0);
        fill_and_drain(&sink, fds[0]);
        CHECK_INT(fcntl(fds[1], F_GETFL) & O_NONBLOCK, 0);
        exec_sink_fini(&sink);
        (void)close(fds[0]);
        (void)close(fds[1]);
    }
}

TEST(sink, never_blocks_on_a_full_socket)
{
    struct exec_sink sink;
    int fds[2];

    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    exec_sink_init(&sink, fds[1]);
    CHECK_INT(sink.kind, EXEC_SINK_SOCKET);
    fill_and_drain(&sink, fds[0]);
    (void)close(fds[0]);
    CHECK_INT(exec_sink_put(&sink, "x", 1, 6), 6);
    CHECK_INT(sink.code, -EPIPE);
    exec_sink_fini(&sink);
    (void)close(fds[1]);
}

TEST(sink, drops_without_a_descriptor)
{
    struct exec_sink sink;

    exec_sink_init(&sink, -1);
    CHECK_INT(exec_sink_put(&sink, "abc", 3, 8), 8);
    exec_sink_fini(&sink);
    exec_sink_init(&sink, 999); /* closed */
    CHECK_INT(exec_sink_put(&sink, "abc", 3, 8), 8);
    CHECK_INT(sink.code, 0);
    exec_sink_fini(&sink);
}

/* ---- terminal, signals, start ---- */

TEST(tty, raw_mode_is_undone)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    struct termios before;
    struct termios now;
    int fd;

    CHECK(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
    fd = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
    CHECK(fd >= 0 && tcgetattr(fd, &before) == 0);
    CHECK_INT(exec_tty_raw(fd), 0);
    CHECK(tcgetattr(fd, &now) == 0 && !(now.c_lflag & ICANON));
    CHECK(tcsetattr(fd, TCSANOW, &before) == 0); /* as a shell does while we are stopped */
    exec_tty_again();
    CHECK(tcgetattr(fd, &now) == 0 && !(now.c_lflag & ICANON));
    exec_tty_restore();
    exec_tty_restore();
    exec_tty_again(); /* harmless now */
    CHECK(tcgetattr(fd, &now) == 0 && now.c_lflag == before.c_lflag);
    (void)close(fd);
    (void)close(master);
    fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    CHECK_INT(exec_tty_raw(fd), -ENOTTY);
    (void)close(fd);
}

TEST(tty, abort_restores_too)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    struct termios now;
    pid_t pid;
    int status;
    int fd;

    CHECK(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
    fd = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
    pid = fork();
    if (pid == 0) {
        const struct rlimit none = {0};

        (void)setrlimit(RLIMIT_CORE, &none);
        (void)exec_tty_raw(fd);
        abort();
    }
    CHECK_INT(waitpid(pid, &status, 0), pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    CHECK(tcgetattr(fd, &now) == 0 && (now.c_lflag & ICANON));
    (void)close(fd);
    (void)close(master);
}

TEST(signals, become_bytes_and_are_given_back)
{
    struct exec_signals signals;
    struct exec_signals second;
    struct sigaction action;
    uint8_t byte;

    (void)signal(SIGHUP, SIG_IGN);
    CHECK_INT(exec_signals_open(&signals), 0);
    CHECK_INT(exec_signals_open(&second), -EBUSY);
    exec_signals_close(&second);
    (void)raise(SIGUSR1);
    CHECK_INT(read(signals.fd, &byte, 1), 1);
    CHECK_INT(byte, SIGUSR1);
    (void)raise(SIGHUP); /* stays ignored */
    CHECK_INT(read(signals.fd, &byte, 1), -1);
    exec_signals_close(&signals);
    exec_signals_close(&signals);
    CHECK(sigaction(SIGUSR1, NULL, &action) == 0 && action.sa_handler == SIG_DFL);
    (void)signal(SIGHUP, SIG_DFL);
}

TEST(signals, that_the_caller_blocks_wait_for_the_command)
{
    struct exec_signals signals;
    sigset_t set;
    sigset_t old;
    uint8_t byte = 0;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    CHECK_INT(pthread_sigmask(SIG_BLOCK, &set, &old), 0);
    CHECK_INT(pthread_kill(pthread_self(), SIGTERM), 0);
    CHECK_INT(exec_signals_open(&signals), 0);
    CHECK_INT(read(signals.fd, &byte, 1), 1);
    CHECK_INT(byte, SIGTERM);
    exec_signals_close(&signals);
    CHECK_INT(pthread_sigmask(SIG_SETMASK, &old, &set), 0);
    CHECK(sigismember(&set, SIGTERM));
}

TEST(start, carries_everything)
{
    static const char *const argv[] = {"a", "", "\xff", NULL};
    static const char *const env[] = {"X=1", NULL};
    static const uint32_t groups[] = {5};
    static const struct exec_limit limits[] = {{7, 1, 2}};
    AUTO_CALL(buf_fini) struct buf packed = {0};
    struct exec_request request = EXEC_REQUEST_INIT;
    Ec1__V1__ExecRequest *message;

    CHECK_INT(exec_start_pack(&request, &packed), -EINVAL);
    request.argv = argv;
    request.env = env;
    request.cwd = "/c";
    request.user = (struct exec_user){.uid = 3, .gid = 4, .groups = groups, .group_count = 1};
    request.has_umask = true;
    request.umask = 077;
    request.limits = limits;
    request.limit_count = 1;
    CHECK_INT(exec_start_pack(&request, &packed), 0);
    message = ec1__v1__exec_request__unpack(NULL, packed.len, packed.data);
    CHECK(message && message->what_case == EC1__V1__EXEC_REQUEST__WHAT_START);
    CHECK_INT(message->start->n_argv, 3);
    CHECK_INT(message->start->argv[1].len, 0);
    CHECK_INT(message->start->argv[2].data[0], 0xff);
    CHECK_INT(message->start->n_env, 1);
    CHECK_INT(message->start->cwd.len, 2);
    CHECK_INT(message->start->user->gid, 4);
    CHECK_INT(message->start->user->groups[0], 5);
    CHECK_INT(message->start->umask, 077);
    CHECK_INT(message->start->rlimits[0]->hard, 2);
    CHECK(!message->start->stdin);
    ec1__v1__exec_request__free_unpacked(message, NULL);
}

/* ---- readiness ---- */

struct beacon {
    char dir[32];
    char uds[64];
    struct exec_ready *ready;
};

static void beacon_open(struct beacon *beacon)
{
    struct err err = {0};

    (void)snprintf(beacon->dir, sizeof(beacon->dir), "/tmp/ec1-ready-XXXXXX");
    CHECK(mkdtemp(beacon->dir) != NULL);
    (void)snprintf(beacon->uds, sizeof(beacon->uds), "%s/v", beacon->dir);
    CHECK_OK(exec_ready_open(beacon->uds, &beacon->ready, &err), &err);
    CHECK(exec_ready_fd(beacon->ready) >= 0 && !exec_ready_message(beacon->ready));
}

static void beacon_close(struct beacon *beacon)
{
    exec_ready_close(beacon->ready);
    CHECK_INT(rmdir(beacon->dir), 0); /* the socket is gone */
}

static int dial(const struct beacon *beacon)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s_1024", beacon->uds);
    CHECK(connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0);
    return fd;
}

static void say(int fd, const char *error)
{
    Ec1__V1__Ready ready = EC1__V1__READY__INIT;
    uint8_t frame[512];
    size_t len;

    ready.version = (char[]){"7"};
    if (error) {
        ready.error = (char *)(uintptr_t)error;
    }
    len = ec1__v1__ready__pack(&ready, frame + 4);
    store_le32(frame, (uint32_t)len);
    /* In two parts, as a stream may arrive. */
    CHECK_INT(send(fd, frame, 3, MSG_NOSIGNAL), 3);
    CHECK_INT(send(fd, frame + 3, len + 1, MSG_NOSIGNAL), (ssize_t)len + 1);
}

TEST(ready, comes_up_beats_goes_and_comes_again)
{
    static const uint8_t beat[4];
    struct beacon beacon;
    struct err err = {0};
    int fd;

    beacon_open(&beacon);
    CHECK_INT(exec_ready_step(beacon.ready), EXEC_READY_WAITING);
    CHECK_INT(exec_ready_wait(beacon.ready, 50 * NS_PER_MS, -1, &err), -ETIMEDOUT);
    fd = dial(&beacon);
    say(fd, NULL);
    CHECK_OK(exec_ready_wait(beacon.ready, 10 * NS_PER_S, -1, &err), &err);
    CHECK_STR(exec_ready_message(beacon.ready)->version, "7");
    (void)usleep(20 * 1000);
    CHECK(exec_ready_silence_ns(beacon.ready) >= 20 * NS_PER_MS);
    CHECK_INT(send(fd, beat, 4, MSG_NOSIGNAL), 4);
    CHECK_INT(exec_ready_step(beacon.ready), EXEC_READY_UP);
    CHECK(exec_ready_silence_ns(beacon.ready) < 20 * NS_PER_MS);
    (void)close(fd);
    CHECK_INT(exec_ready_step(beacon.ready), EXEC_READY_GONE);
    fd = dial(&beacon);
    say(fd, NULL);
    CHECK_INT(exec_ready_step(beacon.ready), EXEC_READY_UP);
    (void)close(fd);
    beacon_close(&beacon);
}

TEST(ready, a_failed_boot_is_told)
{
    struct beacon beacon;
    struct err err = {0};
    int fd;

    beacon_open(&beacon);
    fd = dial(&beacon);
    say(fd, "the kernel needs CONFIG_OVERLAY_FS");
    CHECK_INT(exec_ready_wait(beacon.ready, 10 * NS_PER_S, -1, &err), -EHOSTDOWN);
    CHECK_HAS(err.text, "CONFIG_OVERLAY_FS");
    (void)close(fd);
    beacon_close(&beacon);
}

TEST(ready, nonsense_and_a_vm_that_ends)
{
    static const uint8_t nonsense[] = {0xff, 0xff, 0xff, 0x7f, 1, 2};
    static const uint8_t broken[] = {2, 0, 0, 0, 0xff, 0xff};
    struct beacon beacon;
    struct err err = {0};
    int fds[2];
    int fd;

    beacon_open(&beacon);
    fd = dial(&beacon);
    CHECK_INT(send(fd, nonsense, sizeof(nonsense), MSG_NOSIGNAL), sizeof(nonsense));
    CHECK_INT(exec_ready_step(beacon.ready), EXEC_READY_WAITING);
    (void)close(fd);
    fd = dial(&beacon);
    CHECK_INT(send(fd, broken, sizeof(broken), MSG_NOSIGNAL), sizeof(broken));
    CHECK_INT(exec_ready_step(beacon.ready), EXEC_READY_WAITING);
    (void)close(fd);
    CHECK(pipe2(fds, O_CLOEXEC) == 0);
    (void)close(fds[1]);
    CHECK_INT(exec_ready_wait(beacon.ready, 0, fds[0], &err), -ECANCELED);
    (void)close(fds[0]);
    beacon_close(&beacon);
}

TEST(ready, a_path_that_cannot_be_is_an_error)
{
    struct exec_ready *ready;
    char path[200];
    struct err err = {0};

    CHECK_INT(exec_ready_open("/nonexistent/v", &ready, &err), -ENOENT);
    memset(path, 'x', sizeof(path) - 1);
    path[sizeof(path) - 1] = 0;
    CHECK_INT(exec_ready_open(path, &ready, &err), -ENAMETOOLONG);
}

/* ---- a VM that says strange things ---- */

TEST(client, a_peer_that_does_not_speak_grpc_is_an_error)
{
    static const char *const argv[] = {"true", NULL};
    struct exec_request request = EXEC_REQUEST_INIT;
    struct exec_result result;
    struct err err = {0};
    int fds[2];

    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    CHECK_INT(send(fds[1], "SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", 32, 0), 32);
    request.argv = argv;
    CHECK(exec_run_on(fds[0], &request, &result, &err) < 0);
    CHECK_HAS(err.text, "the VM");
    (void)close(fds[0]);
    (void)close(fds[1]);
}

static void *press_ctrl_c(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < 2; i++) {
        (void)usleep(300 * 1000);
        (void)kill(getpid(), SIGINT);
    }
    return NULL;
}

TEST(client, ctrl_c_twice_ends_a_vm_that_does_not_answer)
{
    static const char *const argv[] = {"true", NULL};
    struct exec_request request = EXEC_REQUEST_INIT;
    struct exec_result result;
    struct err err = {0};
    pthread_t thread;
    int fds[2];

    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    request.argv = argv;
    request.forward_signals = true;
    CHECK(pthread_create(&thread, NULL, press_ctrl_c, NULL) == 0);
    CHECK_INT(exec_run_on(fds[0], &request, &result, &err), -EINTR);
    CHECK_HAS(err.text, "does not answer");
    (void)pthread_join(thread, NULL);
    (void)close(fds[0]);
    (void)close(fds[1]);
}
