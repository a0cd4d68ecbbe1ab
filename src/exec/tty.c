/* tty.c — raw mode and back. */
#include "exec/tty.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

/* The terminal that is raw, or -1.  Written by the thread that runs the command; read by handlers.
 */
static _Atomic int g_raw_fd = -1;
static struct termios g_saved;
static struct termios g_raw;

static void on_abort(int sig)
{
    exec_tty_restore();
    (void)signal(sig, SIG_DFL);
    (void)raise(sig);
}

int exec_tty_raw(int fd)
{
    static bool has_hooks;

    if (tcgetattr(fd, &g_saved) < 0) {
        return -errno;
    }
    if (!has_hooks) {
        has_hooks = true;
        (void)atexit(exec_tty_restore);
        (void)signal(SIGABRT, on_abort);
    }
    g_raw = g_saved;
    cfmakeraw(&g_raw);
    /* Before the change: a signal in between restores what is still there. */
    atomic_store(&g_raw_fd, fd);
    if (tcsetattr(fd, TCSADRAIN, &g_raw) < 0) {
        int code = errno;

        atomic_store(&g_raw_fd, -1);
        return -code;
    }
    return 0;
}

void exec_tty_again(void)
{
    int fd = atomic_load(&g_raw_fd);

    if (fd >= 0) {
        (void)tcsetattr(fd, TCSADRAIN, &g_raw);
    }
}

void exec_tty_restore(void)
{
    int fd = atomic_exchange(&g_raw_fd, -1);

    if (fd >= 0) {
        (void)tcsetattr(fd, TCSANOW, &g_saved);
    }
}
