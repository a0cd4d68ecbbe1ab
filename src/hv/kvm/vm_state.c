/* vm_state.c — what a VM has beside its vCPUs: kvm-clock and the in-kernel I/O APIC.
 *
 * The 8259s are not kept: no line reaches them (route_lines() in vm.c).
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/clock.h"
#include "hv/kvm/kvm_int.h"

static int get_ioapic(struct kvm_vm *vm, struct ioapic_state *ret_ioapic)
{
    struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};
    int r = kvm_ioctl_ptr(vm->fd, KVM_GET_IRQCHIP, &chip);

    _Static_assert(KVM_IOAPIC_NUM_PINS == HV_IRQ_LINES, "one I/O APIC");
    if (r < 0) {
        return r;
    }
    ret_ioapic->select = chip.chip.ioapic.ioregsel;
    ret_ioapic->id = chip.chip.ioapic.id;
    ret_ioapic->lines = chip.chip.ioapic.irr;
    for (unsigned i = 0; i < HV_IRQ_LINES; i++) {
        ret_ioapic->redir[i] = chip.chip.ioapic.redirtbl[i].bits;
    }
    return 0;
}

static int set_ioapic(struct kvm_vm *vm, const struct ioapic_state *ioapic)
{
    struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};
    int r = kvm_ioctl_ptr(vm->fd, KVM_GET_IRQCHIP, &chip);

    if (r < 0) {
        return r;
    }
    chip.chip.ioapic.ioregsel = ioapic->select & 0xff;
    chip.chip.ioapic.id = ioapic->id;
    chip.chip.ioapic.irr = ioapic->lines;
    for (unsigned i = 0; i < HV_IRQ_LINES; i++) {
        chip.chip.ioapic.redirtbl[i].bits = ioapic->redir[i];
    }
    return kvm_ioctl_ptr(vm->fd, KVM_SET_IRQCHIP, &chip);
}

/* kHz of a vCPU that nobody changed; 0 if KVM does not say. */
static uint32_t host_tsc_khz(const struct kvm_vm *vm)
{
    int khz = kvm_ioctl(vm->first_vcpu_fd, KVM_GET_TSC_KHZ, 0);

    return khz > 0 ? (uint32_t)khz : 0;
}

int kvm_vm_get(struct hv_vm *hv, struct vm_state *ret_state)
{
    struct kvm_vm *vm = kvm_vm_of(hv);
    struct kvm_clock_data clock = {0};
    struct vm_state s = {.tsc_khz = host_tsc_khz(vm), .wall_ns = clock_wall_ns()};
    int r = kvm_ioctl_ptr(vm->fd, KVM_GET_CLOCK, &clock);

    s.clock_ns = (int64_t)clock.clock;
    if (r == 0) {
        r = get_ioapic(vm, &s.ioapic);
    }
    if (r == 0) {
        *ret_state = s;
    }
    return r;
}

/* The same frequency, or one that KVM can make for the guest. */
static int set_tsc_khz(struct kvm_vm *vm, uint64_t khz, struct err *err)
{
    uint32_t host = host_tsc_khz(vm);
    uint64_t gap = khz > host ? khz - host : host - khz;

    if (!khz || !host || gap <= host / (1000000 / HV_TSC_TOLERANCE_PPM)) {
        return 0;
    }
    if (khz > UINT32_MAX || kvm_ioctl(vm->dev_fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_CONTROL) <= 0) {
        return err_set(err, -ENOTSUP,
                       "the guest's TSC counts %llu kHz, this host's %u kHz, and its CPU cannot "
                       "scale it",
                       (unsigned long long)khz, host);
    }
    vm->tsc_khz = (uint32_t)khz;
    return 0;
}

int kvm_vm_set(struct hv_vm *hv, const struct vm_state *state, struct err *err)
{
    struct kvm_vm *vm = kvm_vm_of(hv);
    struct kvm_clock_data clock = {.clock = (uint64_t)state->clock_ns};
    int r = set_tsc_khz(vm, state->tsc_khz, err);

    if (r < 0) {
        return r;
    }
    r = kvm_ioctl_ptr(vm->fd, KVM_SET_CLOCK, &clock);
    if (r == 0) {
        r = set_ioapic(vm, &state->ioapic);
    }
    return r < 0 ? err_set(err, r, "KVM: set the clock and the I/O APIC: %s", strerror(-r)) : 0;
}

/* KVM's clocks run while the VM is loaded; of vCPUs whose TSCs are set one after the other it makes
 * the offsets equal (kvm_synchronize_tsc). */
void kvm_vm_go(struct hv_vm *hv)
{
    (void)hv;
}
