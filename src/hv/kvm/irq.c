/* irq.c — interrupts into the in-kernel chips, doorbells out of them. */
#include <errno.h>

#include "hv/kvm/kvm_int.h"

int kvm_irq_set(struct hv_vm *hv, unsigned line, bool level)
{
    struct kvm_irq_level irq = {.irq = line, .level = level};

    if (line >= HV_IRQ_LINES) {
        return -EINVAL;
    }
    return kvm_ioctl_ptr(kvm_vm_of(hv)->fd, KVM_IRQ_LINE, &irq);
}

/* Up and down again by two calls: they act at once, where an irqfd would go by way of a kernel
 * worker.  Under a lock: of two threads that pulse the same line, one must not raise it while the
 * other has it up, for then there is no second edge. */
int kvm_irq_pulse(struct hv_vm *hv, unsigned line)
{
    struct kvm_vm *vm = kvm_vm_of(hv);
    int r;

    (void)pthread_mutex_lock(&vm->pulse_lock);
    r = kvm_irq_set(hv, line, true);
    if (r == 0) {
        r = kvm_irq_set(hv, line, false);
    }
    (void)pthread_mutex_unlock(&vm->pulse_lock);
    return r;
}

int kvm_msi(struct hv_vm *hv, uint64_t address, uint32_t data)
{
    struct kvm_msi msi = {
        .address_lo = (uint32_t)address, .address_hi = (uint32_t)(address >> 32), .data = data};
    int r = kvm_ioctl_ptr(kvm_vm_of(hv)->fd, KVM_SIGNAL_MSI, &msi);

    return r < 0 ? r : 0;
}

static int ioeventfd(struct hv_vm *hv, const struct hv_doorbell *bell, uint32_t flags)
{
    struct kvm_ioeventfd arg = {.datamatch = bell->match,
                                .addr = bell->gpa.v,
                                .len = bell->len,
                                .fd = bell->eventfd,
                                .flags = KVM_IOEVENTFD_FLAG_DATAMATCH | flags};

    return kvm_ioctl_ptr(kvm_vm_of(hv)->fd, KVM_IOEVENTFD, &arg);
}

int kvm_doorbell_add(struct hv_vm *hv, const struct hv_doorbell *bell)
{
    return ioeventfd(hv, bell, 0);
}

int kvm_doorbell_remove(struct hv_vm *hv, const struct hv_doorbell *bell)
{
    return ioeventfd(hv, bell, KVM_IOEVENTFD_FLAG_DEASSIGN);
}
