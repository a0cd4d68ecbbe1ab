/* run_cancel.h — what cuts a run short: signals while no command has them, a timeout, the end of
 * the process that wanted the run, the end of the machine.
 */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

struct run_cancel {
    sigset_t blocked; /* INT, TERM, HUP, QUIT */
    int signals;      /* signalfd */
    int timer;        /* timerfd, -1: no timeout */
    int parent;       /* pidfd, -1: none */
    int boot;         /* readable when the boot is to be given up: signals, parent */
    int command;      /* ... a command: timer, parent, machine */
};

/* Blocks the signals, for the threads that are started from here on, too.  `timeout_ns` and
 * `parent` may be 0.  run_cancel_fini() is right also after a failure. */
int run_cancel_init(struct run_cancel *cancel, int64_t timeout_ns, pid_t parent, struct err *err);
void run_cancel_fini(struct run_cancel *cancel);
/* The machine, once it has booted. */
int run_cancel_watch_end(struct run_cancel *cancel, int end_fd, struct err *err);

/* A signal that came while no command ran: its exit status; 0 if there was none. */
int run_cancel_signal(const struct run_cancel *cancel);
bool run_cancel_timed_out(const struct run_cancel *cancel);
bool run_cancel_is_orphan(const struct run_cancel *cancel);
