/* process.h — start the process that `run` and `exec` were asked for, as the caller would have. */
#pragma once

#include "base/err.h"
#include "cli/process_args.h"
#include "exec/client.h"

struct process_io {
    int in; /* -1: none */
    int out;
    int err;
    int cancel_fd;                 /* -1: none */
    void (*on_started)(void *arg); /* NULL, or called once it runs */
    void *started_arg;
};

/* Runs argv in the VM behind `socket` with the caller's user, groups, directory, environment and
 * umask, changed as `args` says.  Errors as exec_run(). */
int process_run(const char *socket, const struct process_args *args, char **argv,
                const struct process_io *io, struct exec_result *ret_result, struct err *err);
