/* allow.h — which system calls our threads make, each list with the reasons.
 *
 * The lists hold for glibc of Debian 12 with gcc and clang, on both engines.  A call that is
 * missing here ends the process with SIGSYS: whoever adds a call to the code adds it to its list.
 */
#pragma once

#include "seccomp/filters.h"
#include "seccomp/rule.h"

struct seccomp_allow_list {
    const struct seccomp_rule *rules;
    size_t count;
};

/* A thread's own, those of all threads, and of builds with sanitizers or coverage. */
#define SECCOMP_LISTS_MAX 3

/* Fill in the lists of a kind of thread; returns how many. */
unsigned seccomp_allow_lists(enum seccomp_thread thread,
                             struct seccomp_allow_list ret_lists[static SECCOMP_LISTS_MAX]);
