/* irq.c — interrupts into the in-kernel chips, doorbells out of them. */
#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "hv/kvm/kvm_int.h"

int kvm_irq_set(struct hv_vm *hv, unsigned line, bool level)
{
    struct kvm_irq_level irq = {.irq = line, .level = level};

    if (line >= HV_IRQ_LINES) {
        return -EINVAL;
    }
    return kvm_ioctl_ptr(kvm_vm_of(hv)->fd, KVM_IRQ_LINE, &irq);
}

/* An eventfd whose signal is one edge on `line`; made at its first use. */
static int irqfd_of(struct kvm_vm *vm, unsigned line)
{
    int fd = atomic_load_explicit(&vm->irqfds[line], memory_order_acquire) - 1;

    if (fd >= 0) {
        return fd;
    }
    (void)pthread_mutex_lock(&vm->lock);
    fd = atomic_load_explicit(&vm->irqfds[line], memory_order_relaxed) - 1;
    if (fd < 0) {
        fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (fd < 0) {
            fd = -errno;
        } else {
            struct kvm_irqfd irqfd = {.fd = (uint32_t)fd, .gsi = line};
            int r = kvm_ioctl_ptr(vm->fd, KVM_IRQFD, &irqfd);

            if (r < 0) {
                (void)close(fd);
                fd = r;
            } else {
                /* pairs with the acquire above */
                atomic_store_explicit(&vm->irqfds[line], fd + 1, memory_order_release);
            }
        }
    }
    (void)pthread_mutex_unlock(&vm->lock);
    return fd;
}

int kvm_irq_pulse(struct hv_vm *hv, unsigned line)
{
    uint64_t one = 1;
    int fd;

    if (line >= HV_IRQ_LINES) {
        return -EINVAL;
    }
    fd = irqfd_of(kvm_vm_of(hv), line);
    if (fd < 0) {
        return fd;
    }
    return write(fd, &one, sizeof(one)) < 0 && errno != EAGAIN ? -errno : 0;
}

int kvm_msi(struct hv_vm *hv, uint64_t address, uint32_t data)
{
    struct kvm_msi msi = {
        .address_lo = (uint32_t)address, .address_hi = (uint32_t)(address >> 32), .data = data};
    int r = kvm_ioctl_ptr(kvm_vm_of(hv)->fd, KVM_SIGNAL_MSI, &msi);

    return r < 0 ? r : 0;
}

int kvm_doorbell(struct hv_vm *hv, gpa_t gpa, uint32_t match, int eventfd)
{
    struct kvm_ioeventfd bell = {.datamatch = match,
                                 .addr = gpa.v,
                                 .len = 4,
                                 .fd = eventfd,
                                 .flags = KVM_IOEVENTFD_FLAG_DATAMATCH};

    return kvm_ioctl_ptr(kvm_vm_of(hv)->fd, KVM_IOEVENTFD, &bell);
}
