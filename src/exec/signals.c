/* signals.c — signals of this process as bytes of a pipe. */
#include "exec/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

static _Atomic bool g_is_used;
static _Atomic int g_write_fd = -1;

static void on_signal(int sig)
{
    int code = errno;
    int fd = atomic_load(&g_write_fd);
    uint8_t byte = (uint8_t)sig;

    if (fd >= 0) {
        (void)!write(fd, &byte, 1);
    }
    errno = code;
}

static const int g_list[EXEC_SIGNAL_COUNT] = {SIGINT,  SIGTERM, SIGHUP,   SIGQUIT,
                                              SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT};

/* What the caller had blocked comes now, and is blocked again behind the command. */
static void unblock(struct exec_signals *signals)
{
    sigset_t set;

    (void)sigemptyset(&set);
    for (size_t i = 0; i < EXEC_SIGNAL_COUNT; i++) {
        (void)sigaddset(&set, g_list[i]);
    }
    (void)pthread_sigmask(SIG_UNBLOCK, &set, &signals->old_mask);
}

int exec_signals_open(struct exec_signals *signals)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    int pair[2];

    *signals = (struct exec_signals){.fd = -1, .write_fd = -1};
    if (atomic_exchange(&g_is_used, true)) {
        return -EBUSY;
    }
    if (pipe2(pair, O_CLOEXEC | O_NONBLOCK) < 0) {
        atomic_store(&g_is_used, false);
        return -errno;
    }
    signals->fd = pair[0];
    signals->write_fd = pair[1];
    atomic_store(&g_write_fd, pair[1]);
    for (size_t i = 0; i < EXEC_SIGNAL_COUNT; i++) {
        struct sigaction *old = &signals->old[i];

        signals->is_replaced[i] = sigaction(g_list[i], NULL, old) == 0 &&
                                  old->sa_handler != SIG_IGN &&
                                  sigaction(g_list[i], &action, NULL) == 0;
    }
    unblock(signals);
    return 0;
}

void exec_signals_close(struct exec_signals *signals)
{
    if (signals->fd < 0) {
        return;
    }
    (void)pthread_sigmask(SIG_SETMASK, &signals->old_mask, NULL);
    for (size_t i = 0; i < EXEC_SIGNAL_COUNT; i++) {
        if (signals->is_replaced[i]) {
            (void)sigaction(g_list[i], &signals->old[i], NULL);
        }
    }
    atomic_store(&g_write_fd, -1);
    (void)close(signals->fd);
    (void)close(signals->write_fd);
    signals->fd = -1;
    atomic_store(&g_is_used, false);
}
