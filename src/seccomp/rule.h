/* rule.h — what a thread may ask of the kernel, as data: rules before they are a program.
 *
 * A rule names a system call and conditions on its arguments, all of which must hold.  A call that
 * matches any rule gets the filter's `match` action, every other one `otherwise`.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Arguments are 64-bit registers; a dword is what the kernel sees of an int. */
enum seccomp_width { SECCOMP_DWORD, SECCOMP_QWORD };

#define SECCOMP_OP_LIST(X) X(EQ, "eq") X(NE, "ne") X(GE, "ge") X(GT, "gt") X(LE, "le") X(LT, "lt")

enum seccomp_op {
#define X(name, text) SECCOMP_##name,
    SECCOMP_OP_LIST(X)
#undef X
        SECCOMP_MASKED_EQ, /* (argument & mask) == (value & mask) */
};

struct seccomp_arg {
    uint8_t index; /* 0 to 5 */
    enum seccomp_width width;
    enum seccomp_op op;
    uint64_t value; /* of a dword only the lower half counts */
    uint64_t mask;  /* SECCOMP_MASKED_EQ */
};

struct seccomp_rule {
    uint32_t syscall; /* its number */
    unsigned arg_count;
    const struct seccomp_arg *args;
};

struct seccomp_spec {
    uint32_t match, otherwise; /* SECCOMP_RET_ALLOW ..., with their data */
    uint32_t arch;             /* AUDIT_ARCH_X86_64 ... */
    const struct seccomp_rule *rules;
    size_t rule_count;
};
