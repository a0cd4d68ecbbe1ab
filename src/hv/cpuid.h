/* cpuid.h — CPUID as a table: what a backend can offer, changed by a template, made to say what
 * this VM is.
 *
 * Both backends go the same way: fill a table with what they support, hv_cpuid_shape(), hand it to
 * the guest.  What the VM is (topology, identity, a hypervisor below) wins over the template.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "x86/cpu_template.h"

#define HV_CPUID_MAX             256
#define HV_CPUID_SUBLEAF_MATTERS 1u

struct hv_cpuid_entry {
    uint32_t leaf;
    uint32_t subleaf;
    uint32_t flags;
    uint32_t regs[CPUID_REGS];
};

struct hv_cpuid {
    unsigned count;
    struct hv_cpuid_entry entries[HV_CPUID_MAX];
};

/* The VM around a CPU. */
struct hv_cpuid_vm {
    unsigned vcpu_count;
    bool has_smt;                        /* two threads per core, unless there is one vCPU */
    const struct cpu_template *template; /* NULL: none */
    const struct hv_cpuid *saved;        /* what the guest was shown before; NULL: it is new */
};

/* -ENOSPC when the table is full. */
int hv_cpuid_add(struct hv_cpuid *table, uint32_t leaf, int subleaf,
                 const uint32_t regs[CPUID_REGS]);
/* An entry without significant subleaf answers for all.  NULL: none. */
struct hv_cpuid_entry *hv_cpuid_find(struct hv_cpuid *table, uint32_t leaf, uint32_t subleaf);
const struct hv_cpuid_entry *hv_cpuid_find_const(const struct hv_cpuid *table, uint32_t leaf,
                                                 uint32_t subleaf);

/* Template, then the VM's own, then what the guest was shown before.  -ENOTSUP: the template
 * changes a leaf that is not there, or the guest was shown more than there is. */
int hv_cpuid_shape(struct hv_cpuid *table, const struct hv_cpuid_vm *vm, struct err *err);
/* In the answer of a leaf, what tells the CPUs of a VM apart. */
void hv_cpuid_patch_id(const struct hv_cpuid_vm *vm, unsigned index, uint32_t leaf,
                       uint32_t regs[CPUID_REGS]);
/* "AuthenticAMD" or "HygonGenuine" in leaf 0. */
bool hv_cpuid_is_amd(const struct hv_cpuid *table);

/* cpuid_saved.c: `table` becomes `saved`, if it has all features of that. */
int hv_cpuid_adopt(struct hv_cpuid *table, const struct hv_cpuid *saved, struct err *err);
bool hv_cpuid_same_vendor(const struct hv_cpuid *a, const struct hv_cpuid *b);
