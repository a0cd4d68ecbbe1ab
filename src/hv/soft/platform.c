/* platform.c — what a vCPU asks of the world around it: ports, device memory, MSRs, interrupts. */
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "hv/soft/soft_int.h"
#include "x86/apic.h"

/* A halted vCPU spins this long before it sleeps: about what a futex wake-up costs. */
#define HALT_SPIN_NS (10 * NS_PER_US)

/* Where PCs have their 8259 pair and 8254.  This machine has neither, and says so in ACPI; a kernel
 * that probes reads all ones, as from an empty bus. */
static bool is_absent_port(uint16_t port)
{
    return (port & 0xff7e) == 0x20 || (port >= 0x40 && port <= 0x43) || (port & 0xfffe) == 0x4d0;
}

static void platform_pio(struct vcpu *v, uint16_t port, void *data, unsigned len, bool is_write)
{
    const struct hv_client *client = soft_vcpu_of(v)->vm->client;

    if (is_absent_port(port)) {
        if (!is_write) {
            memset(data, 0xff, len);
        }
        return;
    }
    client->pio(client->owner, port, data, len, is_write);
    v->host_mxcsr_flags = HOST_MXCSR_UNKNOWN;
}

static void platform_mmio(struct vcpu *v, gpa_t gpa, void *data, unsigned len, bool is_write)
{
    struct soft_vcpu *s = soft_vcpu_of(v);
    struct soft_vm *vm = s->vm;

    if (lapic_owns(&s->lapic, gpa.v)) {
        if (is_write) {
            lapic_mmio_write(&s->lapic, gpa.v & 0xfff, data, len);
        } else {
            lapic_mmio_read(&s->lapic, gpa.v & 0xfff, data, len);
        }
    } else if (gpa.v - IOAPIC_BASE < IOAPIC_MMIO_BYTES) {
        if (is_write) {
            intc_ioapic_write(&vm->intc, gpa.v - IOAPIC_BASE, data, len);
        } else {
            intc_ioapic_read(&vm->intc, gpa.v - IOAPIC_BASE, data, len);
        }
    } else if (!is_write || !soft_doorbells_ring(&vm->doorbells, gpa, data, len)) {
        vm->client->mmio(vm->client->owner, gpa, data, len, is_write);
        v->host_mxcsr_flags = HOST_MXCSR_UNKNOWN;
    }
}

static bool platform_rdmsr(struct vcpu *v, uint32_t index, uint64_t *ret_value, bool *fault)
{
    return lapic_rdmsr(v->lapic, index, ret_value, fault);
}

static bool platform_wrmsr(struct vcpu *v, uint32_t index, uint64_t value, bool *fault)
{
    return lapic_wrmsr(v->lapic, index, value, fault);
}

static uint64_t platform_cr8_get(struct vcpu *v)
{
    return lapic_cr8(v->lapic);
}

static void platform_cr8_set(struct vcpu *v, uint64_t value)
{
    lapic_set_cr8(v->lapic, value);
}

static int platform_irq_take(struct vcpu *v)
{
    return lapic_take(v->lapic);
}

static bool platform_irq_pending(struct vcpu *v)
{
    return lapic_pending(v->lapic) >= 0;
}

static void platform_code_event(struct vcpu *v, gpa_t gpa, uint64_t len)
{
    smc_tell_others(soft_vcpu_of(v), gpa, len);
}

static void platform_unhalt(struct vcpu *v, uint32_t apic_id)
{
    struct soft_vm *vm = soft_vcpu_of(v)->vm;

    if (apic_id < vm->vcpu_count && vm->vcpu[apic_id]) {
        lapic_wake(&vm->vcpu[apic_id]->lapic, POLL_UNHALT);
    }
}

static uint64_t platform_tsc(struct vcpu *v)
{
    return lapic_tsc(v->lapic);
}

static void platform_wait(struct vcpu *v)
{
    struct lapic *l = v->lapic;
    int64_t due;

    lapic_sync(l);
    if (vcpu_poll(v) || park_spin(&l->park, HALT_SPIN_NS)) {
        return;
    }
    due = lapic_due_ns(l);
    park_wait(&l->park, due);
    if (due != DEADLINE_NEVER && clock_mono_ns() >= due) {
        atomic_fetch_or(&v->poll, POLL_IRQ);
    }
}

const struct vcpu_platform soft_platform = {
    .pio = platform_pio,
    .mmio = platform_mmio,
    .rdmsr = platform_rdmsr,
    .wrmsr = platform_wrmsr,
    .cr8_get = platform_cr8_get,
    .cr8_set = platform_cr8_set,
    .irq_take = platform_irq_take,
    .irq_pending = platform_irq_pending,
    .code_event = platform_code_event,
    .unhalt = platform_unhalt,
    .tsc = platform_tsc,
    .wait = platform_wait,
};
