/* run_cancel.c — what cuts a run short. */
#include "cli/run_cancel.h"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/clock.h"

static int watch(int set, int fd)
{
    struct epoll_event ev = {.events = EPOLLIN};

    return fd < 0 ? 0 : epoll_ctl(set, EPOLL_CTL_ADD, fd, &ev);
}

static int set_timer(struct run_cancel *cancel, int64_t timeout_ns, struct err *err)
{
    struct itimerspec when = {
        .it_value = {.tv_sec = timeout_ns / NS_PER_S, .tv_nsec = timeout_ns % NS_PER_S}};

    cancel->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (cancel->timer < 0 || timerfd_settime(cancel->timer, 0, &when, NULL) < 0) {
        return err_sys(err, "set the timeout");
    }
    return 0;
}

static int block_signals(struct run_cancel *cancel, struct err *err)
{
    static const int caught[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

    (void)sigemptyset(&cancel->blocked);
    for (size_t i = 0; i < ARRAY_LEN(caught); i++) {
        (void)sigaddset(&cancel->blocked, caught[i]);
    }
    if (pthread_sigmask(SIG_BLOCK, &cancel->blocked, NULL) != 0) {
        return err_set(err, -EINVAL, "block signals");
    }
    cancel->signals = signalfd(-1, &cancel->blocked, SFD_CLOEXEC | SFD_NONBLOCK);
    return cancel->signals < 0 ? err_sys(err, "watch for signals") : 0;
}

int run_cancel_init(struct run_cancel *cancel, int64_t timeout_ns, pid_t parent, struct err *err)
{
    int r;

    *cancel =
        (struct run_cancel){.signals = -1, .timer = -1, .parent = -1, .boot = -1, .command = -1};
    r = block_signals(cancel, err);
    if (r == 0 && timeout_ns > 0) {
        r = set_timer(cancel, timeout_ns, err);
    }
    if (r < 0) {
        return r;
    }
    if (parent > 0) {
        cancel->parent = (int)syscall(SYS_pidfd_open, parent, 0); /* -1: nobody is watched */
    }
    cancel->boot = epoll_create1(EPOLL_CLOEXEC);
    cancel->command = epoll_create1(EPOLL_CLOEXEC);
    if (cancel->boot < 0 || cancel->command < 0 || watch(cancel->boot, cancel->signals) < 0 ||
        watch(cancel->boot, cancel->parent) < 0 || watch(cancel->command, cancel->timer) < 0 ||
        watch(cancel->command, cancel->parent) < 0) {
        return err_sys(err, "watch for what cuts the run short");
    }
    return 0;
}

void run_cancel_fini(struct run_cancel *cancel)
{
    const int fds[] = {cancel->signals, cancel->timer, cancel->parent, cancel->boot,
                       cancel->command};

    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        if (fds[i] >= 0) {
            (void)close(fds[i]);
        }
    }
}

int run_cancel_watch_end(struct run_cancel *cancel, int end_fd, struct err *err)
{
    return watch(cancel->command, end_fd) < 0 ? err_sys(err, "watch the machine") : 0;
}

static bool is_readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return fd >= 0 && poll(&p, 1, 0) == 1;
}

int run_cancel_signal(const struct run_cancel *cancel)
{
    struct signalfd_siginfo info;
    ssize_t got = read(cancel->signals, &info, sizeof(info));

    return got == (ssize_t)sizeof(info) ? 128 + (int)info.ssi_signo : 0;
}

bool run_cancel_timed_out(const struct run_cancel *cancel)
{
    return is_readable(cancel->timer);
}

bool run_cancel_is_orphan(const struct run_cancel *cancel)
{
    return is_readable(cancel->parent);
}
