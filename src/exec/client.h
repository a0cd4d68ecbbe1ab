/* client.h — run one command in a VM, from the caller's thread.
 *
 * The call blocks and has an event loop of its own.  Local descriptors keep their flags: nothing is
 * set O_NONBLOCK.  A terminal that is made raw is restored on every way out.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/* What to run as; all zero: root. */
struct exec_user {
    const char
        *name; /* "user", "user:group", numbers; looked up in the VM.  Replaces the numbers. */
    uint32_t uid;
    uint32_t gid;
    const uint32_t *groups; /* supplementary */
    size_t group_count;
};

struct exec_limit {
    unsigned resource; /* RLIMIT_* */
    uint64_t soft;
    uint64_t hard;
};

/* Zero-initialise with EXEC_REQUEST_INIT.  All pointers stay the caller's. */
struct exec_request {
    const char *const *argv; /* NULL at the end; taken verbatim, looked up in PATH of `env` */
    const char *const *env;  /* NULL at the end, or NULL for none; nothing is added */
    const char *cwd;         /* NULL: "/" */
    struct exec_user user;
    bool has_umask; /* else 022 */
    mode_t umask;
    const struct exec_limit *limits;
    size_t limit_count;

    bool tty;       /* a terminal in the VM; if `in` is one too it becomes raw */
    bool split_err; /* with tty: stderr does not go to the terminal but to `err` */
    int in;         /* -1: /dev/null in the VM */
    int out;        /* -1: dropped */
    int err;

    bool forward_signals; /* INT TERM HUP QUIT USR1 USR2 and the window size */
    int cancel_fd;        /* -1, or: once readable, give up with -ECANCELED */
    int64_t timeout_ns;   /* to reach the init; 0: none */

    void (*on_started)(void *arg); /* NULL, or called once the command runs in the VM */
    void *started_arg;
};

#define EXEC_REQUEST_INIT ((struct exec_request){.in = -1, .out = -1, .err = -1, .cancel_fd = -1})

struct exec_result {
    /* As a shell shows it: the command's own; 128+n killed by signal n, or 141 (SIGPIPE) when
     * nobody reads `out` any more; 127 not found; 126 not executable; 125 any other failure to
     * start. */
    int status;
    int signal; /* that killed it, or 0 */
    bool core_dumped;
    char message[ERR_TEXT_MAX]; /* "" or why it did not start */
};

/* 0 with a result; else a negative errno with a sentence: the VM or the way to it failed.
 * -ECANCELED: cancel_fd.  -EINTR: Ctrl-C twice, and the VM did not answer. */
int exec_run(const char *uds_path, const struct exec_request *request,
             struct exec_result *ret_result, struct err *err);
/* The same over a connected socket, which stays the caller's. */
int exec_run_on(int fd, const struct exec_request *request, struct exec_result *ret_result,
                struct err *err);
