/* cpu_template.h — changes to what a guest sees of its CPU: bits of CPUID leaves and of MSRs.
 *
 * A template makes different hosts look alike.  It is plain data: tables that are constant or
 * belong to whoever made them, and that outlive every VM they are given to.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum cpuid_reg { CPUID_EAX, CPUID_EBX, CPUID_ECX, CPUID_EDX, CPUID_REGS };

/* New value: (old & ~mask) | value. */
struct cpu_template_reg {
    uint32_t leaf;
    uint32_t subleaf;
    uint32_t flags; /* 1: the subleaf matters (KVM_CPUID_FLAG_SIGNIFCANT_INDEX) */
    enum cpuid_reg reg;
    uint32_t mask;
    uint32_t value;
};

struct cpu_template_msr {
    uint32_t index;
    uint64_t mask;
    uint64_t value;
};

/* A capability of KVM, to be required or not to be. */
struct cpu_template_cap {
    uint32_t number;
    bool is_removed;
};

struct cpu_template {
    const struct cpu_template_reg *regs;
    size_t reg_count;
    const struct cpu_template_msr *msrs;
    size_t msr_count;
    const struct cpu_template_cap *caps;
    size_t cap_count;
};

/* What a backend says that cannot apply a template; the second with an MSR's address.  The words
 * are part of the interface. */
#define CPU_TEMPLATE_FAILED "Failed to create guest config: "
#define CPU_TEMPLATE_NO_MSR \
    CPU_TEMPLATE_FAILED "Template changes an MSR entry not supported by KVM: Register Address: %x"

/* The built-in ones. */
#define CPU_TEMPLATE_LIST(X) X(C3) X(T2) X(T2S) X(T2CL) X(T2A)

enum cpu_template_kind {
#define X(name) CPU_TEMPLATE_##name,
    CPU_TEMPLATE_LIST(X)
#undef X
        CPU_TEMPLATE_COUNT
};

const struct cpu_template *cpu_template_get(enum cpu_template_kind kind);

/* The host's CPU, as CPUID leaves 0 and 1 tell. */
struct cpu_identity {
    char vendor[13];
    uint32_t signature; /* leaf 1, EAX */
};

struct cpu_identity cpu_identity_host(void);
/* Is the template made for such a CPU?  0, or -ENOTSUP with the interface's text. */
int cpu_template_check(enum cpu_template_kind kind, const struct cpu_identity *cpu,
                       struct err *err);
