/* signals.h — signals of this process as bytes of a pipe, while one command runs.
 *
 * Handlers and not a signalfd: other threads (of a monitor in the same process) need not block
 * anything, whichever thread a signal hits.  One user at a time.
 */
#pragma once

#include <signal.h>
#include <stdbool.h>

enum { EXEC_SIGNAL_COUNT = 8 };

struct exec_signals {
    int fd; /* readable: one byte per signal, its number; -1 when not open */
    int write_fd;
    struct sigaction old[EXEC_SIGNAL_COUNT];
    bool is_replaced[EXEC_SIGNAL_COUNT];
    sigset_t old_mask;
};

/* INT, TERM, HUP, QUIT, USR1, USR2, WINCH, CONT, except those that are ignored, as under nohup.
 * Until exec_signals_close() the calling thread does not block them, even if it did: none is lost
 * between two commands of a caller that blocks them.  -EBUSY if another command of this process has
 * them. */
int exec_signals_open(struct exec_signals *signals);
void exec_signals_close(struct exec_signals *signals);
