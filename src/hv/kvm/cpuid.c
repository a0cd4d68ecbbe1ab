/* cpuid.c — the CPUID leaves of each vCPU: what KVM supports, shaped into this VM's (hv/cpuid.h).
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

static int read_supported(int dev_fd, struct kvm_cpuid2 **ret_cpuid)
{
    int r = -E2BIG;

    for (uint32_t count = CPUID_FIRST; r == -E2BIG && count <= CPUID_LIMIT; count *= 2) {
        struct kvm_cpuid2 *cpuid = cpuid_alloc(count);

        if (!cpuid) {
            return -ENOMEM;
        }
        r = kvm_ioctl_ptr(dev_fd, KVM_GET_SUPPORTED_CPUID, cpuid);
        if (r == 0) {
            *ret_cpuid = cpuid;
            return 0;
        }
        free(cpuid);
    }
    return r;
}

static struct hv_cpuid_vm describe(const struct kvm_vm *vm)
{
    return (struct hv_cpuid_vm){.vcpu_count = vm->config.vcpu_count,
                                .has_smt = vm->config.has_smt,
                                .template = vm->config.cpu_template,
                                .saved = vm->config.saved_cpuid};
}

int kvm_cpuid_init(struct kvm_vm *vm, struct err *err)
{
    struct hv_cpuid_vm shape = describe(vm);
    struct kvm_cpuid2 *cpuid = NULL;
    int r = read_supported(vm->dev_fd, &cpuid);

    if (r == 0 && cpuid->nent > HV_CPUID_MAX) {
        r = -E2BIG;
    }
    for (uint32_t i = 0; r == 0 && i < cpuid->nent; i++) {
        const struct kvm_cpuid_entry2 *e = &cpuid->entries[i];
        bool matters = e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
        const uint32_t regs[CPUID_REGS] = {e->eax, e->ebx, e->ecx, e->edx};

        r = hv_cpuid_add(&vm->cpuid, e->function, matters ? (int)e->index : -1, regs);
    }
    free(cpuid);
    if (r < 0) {
        return err_set(err, r, "KVM: read the supported CPUID: %s", strerror(-r));
    }
    return hv_cpuid_shape(&vm->cpuid, &shape, err);
}

int kvm_cpuid_set(struct kvm_vcpu *vcpu, struct err *err)
{
    struct hv_cpuid_vm shape = describe(vcpu->vm);
    const struct hv_cpuid *table = &vcpu->vm->cpuid;
    struct kvm_cpuid2 *cpuid = cpuid_alloc(table->count);
    int r;

    if (!cpuid) {
        return err_set(err, -ENOMEM, "KVM: out of memory");
    }
    for (unsigned i = 0; i < table->count; i++) {
        const struct hv_cpuid_entry *from = &table->entries[i];
        uint32_t regs[CPUID_REGS];

        memcpy(regs, from->regs, sizeof(regs));
        hv_cpuid_patch_id(&shape, vcpu->index, from->leaf, regs);
        cpuid->entries[i] = (struct kvm_cpuid_entry2){
            .function = from->leaf,
            .index = from->subleaf,
            .flags = from->flags & HV_CPUID_SUBLEAF_MATTERS ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
            .eax = regs[CPUID_EAX],
            .ebx = regs[CPUID_EBX],
            .ecx = regs[CPUID_ECX],
            .edx = regs[CPUID_EDX],
        };
    }
    r = kvm_ioctl_ptr(vcpu->fd, KVM_SET_CPUID2, cpuid);
    free(cpuid);
    return r < 0 ? err_set(err, r, "KVM: set CPUID: %s", strerror(-r)) : 0;
}

const struct hv_cpuid *kvm_vm_cpuid(const struct hv_vm *hv)
{
    return &((const struct kvm_vm *)hv)->cpuid;
}
