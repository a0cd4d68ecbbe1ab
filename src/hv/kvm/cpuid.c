/* cpuid.c — the CPUID leaves of each vCPU: what KVM supports, with identity and topology of our
 * own.
 *
 * Topology: one package, one thread per core, vCPU index = core = APIC id.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hv/kvm/kvm_int.h"

#define CPUID_FIRST 128  /* entries to ask for at first: about 50 to 100 are there */
#define CPUID_LIMIT 4096 /* and when to stop asking */

static struct kvm_cpuid2 *cpuid_alloc(uint32_t count)
{
    struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + count * sizeof(struct kvm_cpuid_entry2));

    if (cpuid) {
        cpuid->nent = count;
    }
    return cpuid;
}

int kvm_cpuid_supported(int dev_fd, struct kvm_cpuid2 **ret_cpuid, struct err *err)
{
    int r = -E2BIG;

    for (uint32_t count = CPUID_FIRST; r == -E2BIG && count <= CPUID_LIMIT; count *= 2) {
        struct kvm_cpuid2 *cpuid = cpuid_alloc(count);

        if (!cpuid) {
            return err_set(err, -ENOMEM, "KVM: out of memory");
        }
        r = kvm_ioctl_ptr(dev_fd, KVM_GET_SUPPORTED_CPUID, cpuid);
        if (r == 0) {
            *ret_cpuid = cpuid;
            return 0;
        }
        free(cpuid);
    }
    return err_set(err, r, "KVM: read the supported CPUID: %s", strerror(-r));
}

/* Bits to hold `count` ids. */
static unsigned id_bits(unsigned count)
{
    unsigned bits = 0;

    while ((1u << bits) < count) {
        bits++;
    }
    return bits;
}

/* Leaf 1 (SDM volume 2, CPUID, figure 3-6 and table 3-10). */
static void fix_features(struct kvm_cpuid_entry2 *e, unsigned index, unsigned count)
{
    e->ebx = (e->ebx & 0x0000ffff) | (count << 16) | (index << 24);
    e->ecx |= 1u << 31; /* a hypervisor is present */
    e->ecx |= 1u << 24; /* TSC deadline: emulated by KVM whatever the CPU */
    if (count > 1) {
        e->edx |= 1u << 28; /* more than one logical processor in the package */
    } else {
        e->edx &= ~(1u << 28);
    }
}

/* Leaf 0BH: level 0 threads, level 1 cores, then the end.  Made, not mended: newer KVMs offer one
 * empty subleaf, older ones the host's. */
#define TOPOLOGY_LEVELS 3

static void topology(struct kvm_cpuid_entry2 *e, uint32_t level, unsigned index, unsigned count)
{
    *e = (struct kvm_cpuid_entry2){
        .function = 0xb,
        .index = level,
        .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        .ecx = level,
        .edx = index,
    };
    if (level == 0) {
        e->ebx = 1;
        e->ecx |= 1u << 8; /* SMT */
    } else if (level == 1) {
        e->eax = id_bits(count);
        e->ebx = count;
        e->ecx |= 2u << 8; /* core */
    }
}

static bool is_amd(const struct kvm_cpuid2 *cpuid)
{
    for (uint32_t i = 0; i < cpuid->nent; i++) {
        if (cpuid->entries[i].function == 0) {
            /* "Auth"enticAMD, "Hygo"nGenuine */
            return cpuid->entries[i].ebx == 0x68747541 || cpuid->entries[i].ebx == 0x6f677948;
        }
    }
    return false;
}

static void fix_entry(struct kvm_cpuid_entry2 *e, unsigned index, unsigned count, bool amd)
{
    unsigned last_id = (1u << id_bits(count)) - 1; /* the highest id that the field could hold */

    switch (e->function) {
    case 0x1: fix_features(e, index, count); break;
    case 0x4: /* caches: shared by one thread, cores in the package */
        if (e->eax & 0x1f) {
            unsigned level = (e->eax >> 5) & 7;

            e->eax &= ~0xffffc000u;
            e->eax |= last_id << 26;
            e->eax |= (level >= 3 ? last_id : 0) << 14;
        }
        break;
    case 0x80000008: /* AMD: number of threads, size of the APIC id; reserved on Intel's */
        e->ecx &= ~0xf0ffu;
        if (amd) {
            e->ecx |= (id_bits(count) << 12) | (count - 1);
        }
        break;
    case 0x8000001d: /* AMD caches */
        if (e->eax & 0x1f) {
            e->eax &= ~0x03ffc000u;
            e->eax |= (((e->eax >> 5) & 7) >= 3 ? last_id : 0) << 14;
        }
        break;
    case 0x8000001e: /* AMD: APIC id, core, node */
        e->eax = index;
        e->ebx = index;
        e->ecx = 0;
        break;
    default: break;
    }
}

int kvm_cpuid_set(struct kvm_vcpu *vcpu, struct err *err)
{
    const struct kvm_cpuid2 *from = vcpu->vm->cpuid;
    struct kvm_cpuid2 *cpuid = cpuid_alloc(from->nent + TOPOLOGY_LEVELS);
    unsigned count = vcpu->vm->config.vcpu_count;
    bool amd = is_amd(from);
    bool has_topology = false;
    uint32_t n = 0;
    int r;

    if (!cpuid) {
        return err_set(err, -ENOMEM, "KVM: out of memory");
    }
    for (uint32_t i = 0; i < from->nent; i++) {
        uint32_t function = from->entries[i].function;

        has_topology |= function == 0xb;
        if (function != 0xb && function != 0x1f) { /* without 1FH guests look at 0BH */
            cpuid->entries[n] = from->entries[i];
            fix_entry(&cpuid->entries[n++], vcpu->index, count, amd);
        }
    }
    for (uint32_t level = 0; has_topology && level < TOPOLOGY_LEVELS; level++) {
        topology(&cpuid->entries[n++], level, vcpu->index, count);
    }
    cpuid->nent = n;
    r = kvm_ioctl_ptr(vcpu->fd, KVM_SET_CPUID2, cpuid);
    free(cpuid);
    return r < 0 ? err_set(err, r, "KVM: set CPUID: %s", strerror(-r)) : 0;
}
