/* libraries.h — the shared libraries of a program, which it must find in its jail.
 *
 * Opened while the host's files are in sight, written when only the jail's are: a link that an
 * earlier inmate left there leads nowhere else.
 */
#pragma once

#include <limits.h>

#include "base/err.h"

#define JAILER_LIBRARY_MAX 64

struct jailer_libraries {
    struct {
        char path[PATH_MAX]; /* in the jail */
        int fd;
    } items[JAILER_LIBRARY_MAX];
    unsigned count;
};

/* The loader that the program names, and all libraries that it and they need.  A program without a
 * loader needs none.  0 or a negative errno; jailer_libraries_fini() in any case. */
int jailer_libraries_open(const char *program, struct jailer_libraries *libraries, struct err *err);
/* Into the root directory as it now is; what is there already stays. */
int jailer_libraries_write(const struct jailer_libraries *libraries, struct err *err);
void jailer_libraries_fini(struct jailer_libraries *libraries);
