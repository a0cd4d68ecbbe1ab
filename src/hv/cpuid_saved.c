/* cpuid_saved.c — the CPUID that a guest from a snapshot was shown, on this engine and host.
 *
 * A guest asks once, at boot, and acts on the answer for ever.  So it goes on seeing what it saw;
 * what it was promised must be there, and the parts of its XSAVE areas must lie where they lay.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "hv/cpuid.h"

#define HYPERVISOR_FEATURES 0x40000001u
#define LEAF_XSAVE          0xdu

/* Registers that are sets of features (SDM volume 2, CPUID; for the hypervisor's leaf,
 * Documentation/virt/kvm/x86/cpuid.rst). */
static const struct {
    uint32_t leaf, subleaf;
    enum cpuid_reg reg;
    const char *name;
    uint32_t ignored; /* bits that follow from state, or promise nothing to be carried out */
} g_sets[] = {
    {0x1, 0, CPUID_ECX, "ecx", 1u << 27 /* OSXSAVE */},
    {0x1, 0, CPUID_EDX, "edx", 1u << 28 /* HTT */ | 1u << 27 /* self snoop: of caches */},
    {0x7, 0, CPUID_EBX, "ebx", 0},
    {0x7, 0, CPUID_ECX, "ecx", 1u << 4 /* OSPKE */},
    {0x7, 0, CPUID_EDX, "edx", 0},
    {0x7, 1, CPUID_EAX, "eax", 0},
    {LEAF_XSAVE, 0, CPUID_EAX, "eax", 0},
    {LEAF_XSAVE, 1, CPUID_EAX, "eax", 0},
    {HYPERVISOR_FEATURES, 0, CPUID_EAX, "eax", 0},
    {0x80000001, 0, CPUID_ECX, "ecx", 1u << 22 /* TOPOEXT: leaves, which are restored */},
    {0x80000001, 0, CPUID_EDX, "edx", 0},
    {0x80000008, 0, CPUID_EBX, "ebx", 0},
};

static uint32_t value_of(const struct hv_cpuid *table, uint32_t leaf, uint32_t subleaf,
                         enum cpuid_reg reg)
{
    const struct hv_cpuid_entry *e = hv_cpuid_find_const(table, leaf, subleaf);

    return e ? e->regs[reg] : 0;
}

static int check_sets(const struct hv_cpuid *mine, const struct hv_cpuid *saved, struct err *err)
{
    for (unsigned i = 0; i < ARRAY_LEN(g_sets); i++) {
        uint32_t want = value_of(saved, g_sets[i].leaf, g_sets[i].subleaf, g_sets[i].reg);
        uint32_t have = value_of(mine, g_sets[i].leaf, g_sets[i].subleaf, g_sets[i].reg);
        uint32_t missing = want & ~have & ~g_sets[i].ignored;

        if (missing) {
            return err_set(err, -ENOTSUP,
                           "the guest was shown CPU features that are not here: CPUID leaf 0x%x.%u "
                           "%s, bits 0x%x",
                           g_sets[i].leaf, g_sets[i].subleaf, g_sets[i].name, missing);
        }
    }
    return 0;
}

/* Parts beyond x87 and SSE have their place in CPUID. */
static int check_layout(const struct hv_cpuid *mine, const struct hv_cpuid *saved, struct err *err)
{
    uint32_t parts = value_of(saved, LEAF_XSAVE, 0, CPUID_EAX);

    for (uint32_t i = 2; i < 32; i++) {
        if ((parts >> i & 1) && (value_of(mine, LEAF_XSAVE, i, CPUID_EAX) !=
                                     value_of(saved, LEAF_XSAVE, i, CPUID_EAX) ||
                                 value_of(mine, LEAF_XSAVE, i, CPUID_EBX) !=
                                     value_of(saved, LEAF_XSAVE, i, CPUID_EBX))) {
            return err_set(err, -ENOTSUP,
                           "the guest's XSAVE areas have part %u elsewhere than this CPU", i);
        }
    }
    return 0;
}

bool hv_cpuid_same_vendor(const struct hv_cpuid *a, const struct hv_cpuid *b)
{
    return value_of(a, 0, 0, CPUID_EBX) == value_of(b, 0, 0, CPUID_EBX);
}

int hv_cpuid_adopt(struct hv_cpuid *table, const struct hv_cpuid *saved, struct err *err)
{
    int r = check_sets(table, saved, err);

    if (r == 0) {
        r = check_layout(table, saved, err);
    }
    if (r == 0) {
        *table = *saved;
    }
    return r;
}
