/* run.c — the loop of a vCPU thread.
 *
 * Theory of operation.  code_run() executes guest code until somebody sets a poll bit, the vCPU
 * halts, or interrupts become enabled; then the loop serves the bits and delivers at most one event
 * per turn.  A guest exception, also one raised while an event is being delivered, arrives at the
 * _setjmp of turn(), which is the only one: whatever raises lands there, delivers v->exc under the
 * same buffer, and ref/ turns a fault on top of a fault into double and triple faults.
 *
 * Every poll bit is cleared before what it announces is looked at, so that an announcement made
 * meanwhile starts another turn.
 *
 * No cleanup attributes here: frames are left by _longjmp.
 */
#include "hv/soft/cache/code.h"
#include "hv/soft/cpu/regs.h"
#include "hv/soft/mmu/mmu.h"
#include "hv/soft/ref/ref.h"
#include "hv/soft/soft_int.h"

/* Outcome of a turn. */
enum turn { TURN_AGAIN, TURN_KICKED, TURN_DEBUG, TURN_TRIPLE_FAULT, TURN_BROKEN };

static uint32_t take_bits(struct vcpu *v, uint32_t bits)
{
    if (!(vcpu_poll(v) & bits)) { /* the usual case, without a locked instruction */
        return 0;
    }
    return atomic_fetch_and_explicit(&v->poll, ~bits, memory_order_acq_rel) & bits;
}

/* INIT: SDM volume 3, 10.4.2.  The boot processor would restart at the reset vector, where this
 * machine has no firmware: for it, INIT is a reset of the machine. */
static void serve_init(struct soft_vcpu *s)
{
    if (s->cpu.index == 0) {
        s->cpu.triple_fault = true;
        return;
    }
    vcpu_reset(&s->cpu, true);
    lapic_reset(&s->lapic);
    /* POLL_SIPI stays: one that is set by now came after this INIT */
    (void)take_bits(&s->cpu, POLL_NMI | POLL_IRQ);
    s->nmi_pending = false;
    s->cpu.wait_for_sipi = true;
    mmu_mode_changed(&s->cpu);
}

static void serve_poll(struct soft_vcpu *s)
{
    struct vcpu *v = &s->cpu;
    uint32_t bits =
        take_bits(v, POLL_SMC | POLL_INIT | POLL_SIPI | POLL_NMI | POLL_STOP | POLL_UNHALT);

    if (bits & POLL_SMC) {
        smc_serve(s);
    }
    if (bits & POLL_INIT) {
        serve_init(s);
    }
    if (bits & POLL_SIPI && v->wait_for_sipi) {
        vcpu_start_at(v, atomic_load(&s->lapic.sipi_vector));
    }
    if (bits & POLL_NMI) {
        s->nmi_pending = true;
    }
    if (bits & POLL_UNHALT) {
        s->unhalted = true;
    }
}

/* Deliver the most urgent event that may be delivered now: SDM volume 3, table 6-2. */
static void deliver_event(struct soft_vcpu *s)
{
    struct vcpu *v = &s->cpu;
    int vector;

    if (s->nmi_pending && !v->nmi_blocked) {
        s->nmi_pending = false;
        v->halted = 0;
        ref_deliver_nmi(v);
        return;
    }
    if (!(take_bits(v, POLL_IRQ) | (uint32_t)v->irq_held)) {
        return; /* whatever makes an interrupt deliverable sets POLL_IRQ */
    }
    v->irq_held = !vcpu_has_flag(v, FLAG_IF);
    if (v->irq_held) {
        lapic_sync(&s->lapic); /* code_run() comes back when IF is set */
        return;
    }
    vector = lapic_take(&s->lapic);
    if (vector >= 0) {
        v->halted = 0;
        v->stats.interrupts++;
        ref_deliver_interrupt(v, (uint8_t)vector);
    }
}

static void wait_or_run(struct soft_vcpu *s)
{
    struct vcpu *v = &s->cpu;

    if (v->halted && s->unhalted) {
        s->unhalted = false;
        v->halted = 0;
    }
    if (v->wait_for_sipi) {
        (void)take_bits(v, POLL_IRQ);
        soft_platform.wait(v);
    } else if (v->halted) {
        v->stats.halts++;
        soft_platform.wait(v);
    } else if (!s->is_stepping) {
        v->may_rerun = true;
        code_run(v);
        v->may_rerun = false;
    }
}

static void turn(struct soft_vcpu *s)
{
    struct vcpu *v = &s->cpu;

    if (_setjmp(v->unwind) || s->inject) {
        v->may_rerun = false;
        if (!s->inject && soft_debug_caught(s)) {
            return;
        }
        s->inject = false;
        ref_deliver_exception(v);
        soft_debug_delivered(s);
        return;
    }
    if (s->is_stepping && soft_debug_step(s)) {
        return;
    }
    /* A shadow that vcpu_set() brought: code_run() ends it first. */
    if (!v->shadow && !v->wait_for_sipi) {
        deliver_event(s);
    }
    if (v->has_watched) {
        soft_debug_delivered(s);
    } else if (!v->triple_fault) {
        wait_or_run(s);
    }
}

static enum turn outcome(struct vcpu *v)
{
    if (v->broken) {
        return TURN_BROKEN;
    }
    if (v->triple_fault) {
        return TURN_TRIPLE_FAULT;
    }
    if (soft_vcpu_of(v)->stop.why != HV_STOP_NONE) {
        return TURN_DEBUG;
    }
    return take_bits(v, POLL_KICK) ? TURN_KICKED : TURN_AGAIN;
}

int soft_vcpu_run(struct hv_vcpu *hv, enum hv_exit *ret_exit)
{
    struct soft_vcpu *s = soft_of(hv);

    s->stop.why = HV_STOP_NONE;
    for (;;) {
        serve_poll(s);
        switch (outcome(&s->cpu)) {
        case TURN_AGAIN: turn(s); break;
        case TURN_KICKED: *ret_exit = HV_EXIT_KICKED; return 0;
        case TURN_DEBUG: *ret_exit = HV_EXIT_DEBUG; return 0;
        case TURN_TRIPLE_FAULT: *ret_exit = HV_EXIT_TRIPLE_FAULT; return 0;
        case TURN_BROKEN: *ret_exit = HV_EXIT_BROKEN; return 0;
        }
    }
}

void soft_vcpu_kick(struct hv_vcpu *hv)
{
    lapic_wake(&soft_of(hv)->lapic, POLL_KICK);
}
