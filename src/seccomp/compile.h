/* compile.h — rules into a program of the kernel's packet filter, which decides about each call.
 *
 * The programs use few instructions, none of which can fail: that of another architecture ends the
 * process, numbers of the x32 form match nothing.  Calls are looked for in the order in which rules
 * first name them, so that frequent ones belong to the front.
 */
#pragma once

#include <linux/filter.h>
#include <stddef.h>

#include "base/err.h"
#include "seccomp/rule.h"

/* A program of the kernel's size (BPF_MAXINSNS). */
struct seccomp_program {
    struct sock_filter *code; /* owned */
    size_t len;
};

/* 0, -E2BIG or -ENOMEM. */
int seccomp_compile(const struct seccomp_spec *spec, struct seccomp_program *ret_program,
                    struct err *err);
/* Is it a program as seccomp_compile() makes them: just its instructions, all jumps forward and
 * inside, no way past the end?  0 or -EINVAL. */
int seccomp_check(const struct seccomp_program *program, struct err *err);
void seccomp_program_fini(struct seccomp_program *program);
