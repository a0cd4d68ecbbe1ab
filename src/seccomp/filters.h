/* filters.h — the system call filters of a microVM process: one for each kind of thread.
 *
 * A filter is for the calling thread and those that it makes from then on; it is never taken off
 * again.  So each thread installs its own, first of all, and a thread that has one makes no others:
 * the lists in allow.c have no clone().
 *
 * Threads: filters are read-only once they are there.
 */
#pragma once

#include "base/err.h"
#include "seccomp/compile.h"

/* Kinds of threads, and their names in files of filters. */
#define SECCOMP_THREAD_LIST(X) X(VMM, "vmm") X(API, "api") X(VCPU, "vcpu")

enum seccomp_thread {
#define X(name, text) SECCOMP_##name,
    SECCOMP_THREAD_LIST(X)
#undef X
        SECCOMP_THREAD_COUNT
};

/* Zeroed: there are none, and installing does nothing. */
struct seccomp_filters {
    struct seccomp_program programs[SECCOMP_THREAD_COUNT];
};

/* Our own lists (allow.h): what is not on them raises SIGSYS. */
int seccomp_filters_default(struct seccomp_filters *ret_filters, struct err *err);
/* A file that the compiler wrote (container.h), with just these threads; upper and lower case are
 * the same.  -EINVAL with a complete sentence of the interface, or the error of the file. */
int seccomp_filters_load(const char *path, struct seccomp_filters *ret_filters, struct err *err);
void seccomp_filters_fini(struct seccomp_filters *filters);

/* Before threads get filters: what the C library would do later by calls that are on no list. */
void seccomp_filters_prepare(void);

/* For this thread.  Fails where the kernel refuses the program: -EINVAL; or has no filters. */
int seccomp_filters_install(const struct seccomp_filters *filters, enum seccomp_thread thread,
                            struct err *err);
