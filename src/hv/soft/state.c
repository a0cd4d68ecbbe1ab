/* state.c — a vCPU's state in and out: the CPU's half is cpu/state.c, the local APIC's and the
 * clocks' half intc/lapic_msr.c; here they are put together with what the run loop keeps. */
#include "hv/soft/cpu/state.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "hv/soft/cache/code.h"
#include "hv/soft/mmu/mmu.h"
#include "hv/soft/soft_int.h"

static void get_events(struct soft_vcpu *s, struct cpu_events *events)
{
    const struct vcpu *v = &s->cpu;

    events->nmi_pending |= s->nmi_pending;
    events->exception_pending = s->inject;
    if (s->inject) {
        events->exception_vector = v->exc.vector;
        events->exception_has_error = v->exc.has_error;
        events->exception_error = v->exc.error;
    }
}

int soft_vcpu_get(struct hv_vcpu *hv, struct cpu_state *ret_state)
{
    struct soft_vcpu *s = soft_of(hv);

    memset(ret_state, 0, sizeof(*ret_state));
    vcpu_state_get(&s->cpu, ret_state);
    lapic_save(&s->lapic, ret_state);
    get_events(s, &ret_state->events);
    return 0;
}

static void set_events(struct soft_vcpu *s, const struct cpu_events *events)
{
    struct vcpu *v = &s->cpu;

    s->nmi_pending = false; /* cpu/state.c has set the poll bit if there is one */
    s->inject = events->exception_pending;
    v->exc.vector = events->exception_vector & 31;
    v->exc.has_error = events->exception_has_error;
    v->exc.is_soft = false;
    v->exc.error = events->exception_error;
    v->exc.cr2 = v->cr2;
    v->triple_fault = v->broken = false;
    v->why[0] = '\0';
}

void soft_vcpu_paused(struct hv_vcpu *hv)
{
    lapic_note_stopped(&soft_of(hv)->lapic);
}

/* --- of the VM --- */

int soft_vm_get(struct hv_vm *hv, struct vm_state *ret_state)
{
    struct intc *intc = &soft_vm_of(hv)->intc;
    const struct ioapic *io = &intc->ioapic;

    intc_hold(intc, INTC_READ, 0);
    *ret_state = (struct vm_state){
        .tsc_khz = intc->tsc.hz / 1000,
        .clock_ns = intc->count ? lapic_system_ns(intc->lapic[0]) : 0,
        .wall_ns = clock_wall_ns(),
        .ioapic = {.select = io->select, .id = io->id, .lines = io->lines},
    };
    memcpy(ret_state->ioapic.redir, io->redir, sizeof(io->redir));
    return 0;
}

int soft_vm_set(struct hv_vm *hv, const struct vm_state *state, struct err *err)
{
    struct intc *intc = &soft_vm_of(hv)->intc;
    struct ioapic *io = &intc->ioapic;
    uint64_t khz = intc->tsc.hz / 1000;
    uint64_t gap = khz > state->tsc_khz ? khz - state->tsc_khz : state->tsc_khz - khz;

    if (gap > khz / (1000000 / HV_TSC_TOLERANCE_PPM) &&
        (state->tsc_khz > TSC_HZ_MAX / 1000 || !tsc_adopt_hz(&intc->tsc, state->tsc_khz * 1000))) {
        return err_set(err, -ENOTSUP,
                       "the guest's TSC counts %llu kHz, this host's %llu kHz, and the software "
                       "engine cannot scale it",
                       (unsigned long long)state->tsc_khz, (unsigned long long)khz);
    }
    intc_hold(intc, INTC_SET, state->clock_ns);
    io->select = state->ioapic.select & 0xff;
    io->id = state->ioapic.id;
    io->lines = state->ioapic.lines;
    memcpy(io->redir, state->ioapic.redir, sizeof(io->redir));
    return 0;
}

void soft_vm_go(struct hv_vm *hv)
{
    intc_go(&soft_vm_of(hv)->intc);
}

int soft_vcpu_set(struct hv_vcpu *hv, const struct cpu_state *state)
{
    struct soft_vcpu *s = soft_of(hv);
    struct vcpu *v = &s->cpu;
    int r = vcpu_state_set(v, state);

    if (r < 0) {
        return r;
    }
    lapic_load(&s->lapic, state);
    set_events(s, &state->events);
    mmu_mode_changed(v);
    mmu_flush_all(v);
    code_cache_clear(v);
    return 0;
}

int soft_vcpu_set_regs(struct hv_vcpu *hv, const struct cpu_state *state)
{
    struct vcpu *v = &soft_of(hv)->cpu;
    int r = vcpu_regs_set(v, state);

    if (r == 0) {
        mmu_mode_changed(v);
    }
    return r;
}
