/* ready.h — hear from the init: ready, failed, alive.
 *
 * Listen before the VM starts.  exec_ready_fd() is one descriptor to watch (EPOLLIN, for example
 * with loop_add_fd()); each time it is readable call exec_ready_step() and look at the state.  Or
 * call exec_ready_wait().  One thread at a time.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "proto/exec.pb-c.h"

struct exec_ready;

enum exec_ready_state {
    EXEC_READY_WAITING, /* for the boot */
    EXEC_READY_UP,      /* serving; heartbeats come */
    EXEC_READY_FAILED,  /* the init says why in exec_ready_message()->error */
    EXEC_READY_GONE,    /* was up, and the connection ended; a new one brings it back to UP */
};

/* Listens on "<uds_path>_1024", replacing a socket left over from before. */
int exec_ready_open(const char *uds_path, struct exec_ready **ret_ready, struct err *err);
/* Removes the socket. */
void exec_ready_close(struct exec_ready *ready);
int exec_ready_fd(const struct exec_ready *ready);
/* Take what has come, without blocking. */
enum exec_ready_state exec_ready_step(struct exec_ready *ready);
/* Until it is not WAITING any more.  0 when up; -EHOSTDOWN and the init's sentence when it failed;
 * -ETIMEDOUT after `timeout_ns` (0: none); -ECANCELED when `cancel_fd` (or -1) is readable, such as
 * when the VM has ended. */
int exec_ready_wait(struct exec_ready *ready, int64_t timeout_ns, int cancel_fd, struct err *err);
/* What it said, NULL while WAITING.  Valid until the next step. */
const Ec1__V1__Ready *exec_ready_message(const struct exec_ready *ready);
/* Since the last sign of life; it sends one each second. */
int64_t exec_ready_silence_ns(const struct exec_ready *ready);
