/* cpuid.c — the CPUID leaves of each vCPU: what KVM supports, with identity and topology of our
 * own.
 *
 * Topology: one package, one thread per core, vCPU index = core = APIC id.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "hv/kvm/kvm_int.h"

#define CPUID_MAX 256

int kvm_cpuid_supported(int dev_fd, struct kvm_cpuid2 **ret_cpuid, struct err *err)
{
    struct kvm_cpuid2 *cpuid =
        calloc(1, sizeof(*cpuid) + CPUID_MAX * sizeof(struct kvm_cpuid_entry2));
    int r;

    if (!cpuid) {
        return err_set(err, -ENOMEM, "KVM: out of memory");
    }
    cpuid->nent = CPUID_MAX;
    r = kvm_ioctl_ptr(dev_fd, KVM_GET_SUPPORTED_CPUID, cpuid);
    if (r < 0) {
        free(cpuid);
        return err_set(err, r, "KVM: read the supported CPUID: %s", strerror(-r));
    }
    *ret_cpuid = cpuid;
    return 0;
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

/* Leaves 0BH and 1FH: level 0 threads, level 1 cores. */
static void fix_topology(struct kvm_cpuid_entry2 *e, unsigned index, unsigned count)
{
    e->edx = index;
    e->ecx = e->index;
    if (e->index == 0) {
        e->eax = 0;
        e->ebx = 1;
        e->ecx |= 1u << 8; /* SMT */
    } else if (e->index == 1) {
        e->eax = id_bits(count);
        e->ebx = count;
        e->ecx |= 2u << 8; /* core */
    } else {
        e->eax = 0;
        e->ebx = 0;
    }
}

static void fix_entry(struct kvm_cpuid_entry2 *e, unsigned index, unsigned count)
{
    switch (e->function) {
    case 0x1: fix_features(e, index, count); break;
    case 0x4: /* caches: shared by one thread, cores in the package */
        if (e->eax & 0x1f) {
            unsigned level = (e->eax >> 5) & 7;

            e->eax &= ~0xffffc000u;
            e->eax |= (count - 1) << 26;
            e->eax |= (level >= 3 ? count - 1 : 0) << 14;
        }
        break;
    case 0xb:
    case 0x1f: fix_topology(e, index, count); break;
    case 0x80000008: /* AMD: number of threads, size of the APIC id */
        e->ecx = (e->ecx & ~0xf0ffu) | (id_bits(count) << 12) | (count - 1);
        break;
    case 0x8000001d: /* AMD caches */
        if (e->eax & 0x1f) {
            e->eax &= ~0x03ffc000u;
            e->eax |= (((e->eax >> 5) & 7) >= 3 ? count - 1 : 0) << 14;
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
    size_t size = sizeof(*from) + CPUID_MAX * sizeof(from->entries[0]);
    struct kvm_cpuid2 *cpuid = malloc(size);
    int r;

    if (!cpuid) {
        return err_set(err, -ENOMEM, "KVM: out of memory");
    }
    memcpy(cpuid, from, size);
    for (uint32_t i = 0; i < cpuid->nent; i++) {
        fix_entry(&cpuid->entries[i], vcpu->index, vcpu->vm->config.vcpu_count);
    }
    r = kvm_ioctl_ptr(vcpu->fd, KVM_SET_CPUID2, cpuid);
    free(cpuid);
    return r < 0 ? err_set(err, r, "KVM: set CPUID: %s", strerror(-r)) : 0;
}
