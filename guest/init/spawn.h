/* spawn.h — start one command in a process group of its own; with a terminal, a session. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "guest/init/user.h"

enum spawn_fault {
    SPAWN_INTERNAL,       /* our side: out of memory, no processes left */
    SPAWN_NOT_FOUND,      /* exit status 127 */
    SPAWN_NOT_EXECUTABLE, /* exit status 126 */
    SPAWN_BAD_REQUEST,    /* such as a working directory that is missing */
};

struct spawn_limit {
    int resource;
    struct rlimit limit;
};

/* All pointers are the caller's. */
struct spawn {
    char *const *argv; /* at least one */
    char *const *env;
    const char *cwd;
    struct user user;
    mode_t umask;
    const struct spawn_limit *limits;
    size_t limit_count;
    int in, out, err; /* become 0, 1, 2; close-on-exec, all above 2 */
    bool tty;         /* `in` becomes the controlling terminal */
};

/* Runs argv[0] as execvpe(3) would with the PATH in `env`, but never through a shell.  Returns the
 * pid once the program runs; else a negative errno, `ret_fault` and a sentence in `err`. */
int spawn_start(const struct spawn *spawn, enum spawn_fault *ret_fault, struct err *err);
