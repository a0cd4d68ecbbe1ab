/* lapic.h — one local APIC: registers, acceptance and priority of interrupts, timer.
 *
 * Threads: lapic_accept, lapic_matches and lapic_wake from any thread; all else on the vCPU's own
 * thread.  What others touch is atomic: IRR and TMR bits, and the registers that say whom a message
 * means.  Whoever makes an interrupt pending sets POLL_IRQ; the owner clears POLL_IRQ first and
 * looks at IRR then.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "hv/cpu_state.h"
#include "hv/soft/cpu/vcpu.h"
#include "hv/soft/intc/intc.h"
#include "hv/soft/intc/park.h"
#include "hv/soft/intc/pvclock.h"

#define LAPIC_LVT_COUNT 6 /* timer, thermal, PMC, LINT0, LINT1, error */

struct lapic {
    struct intc *intc;
    struct park park; /* of the vCPU's poll word */
    unsigned index;   /* also the initial APIC ID */

    /* Shared. */
    _Atomic uint64_t base; /* IA32_APIC_BASE */
    _Atomic uint32_t svr, ldr, dfr;
    _Atomic uint32_t irr[8], tmr[8];
    _Atomic uint32_t esr_pending; /* errors since the last write to ESR */
    _Atomic bool error_due;       /* an error was noted and the LVT entry has not fired */
    _Atomic uint8_t sipi_vector;

    /* The owner's. */
    uint32_t isr[8];
    uint32_t tpr, esr, icr_low, icr_high;
    uint32_t lvt[LAPIC_LVT_COUNT];

    /* Timer.  In count modes due_ns is exact; in deadline mode it is when to look at the TSC. */
    uint32_t timer_initial, timer_divide;
    int64_t due_ns; /* DEADLINE_NEVER while disarmed */
    uint64_t tsc_deadline;

    /* Clocks of this vCPU: guest TSC = host ticks + tsc_offset. */
    uint64_t tsc_offset;
    uint64_t *tsc_mirror; /* where else it is kept, or NULL */
    uint64_t tsc_adjust;
    struct pvclock pvclock;
};

/* Power-on state; registers itself as intc->lapic[index].  poll is the vCPU's. */
void lapic_init(struct lapic *l, struct intc *intc, unsigned index, _Atomic uint32_t *poll);
/* INIT: all but the base MSR (SDM volume 3, 11.4.7.3). */
void lapic_reset(struct lapic *l);

/* --- any thread --- */
bool lapic_matches(const struct lapic *l, const struct apic_message *message);
void lapic_accept(struct lapic *l, const struct apic_message *message);
void lapic_wake(struct lapic *l, uint32_t poll_bits);

/* --- interrupts, owner --- */
/* Fire what is due: timer, error. */
void lapic_sync(struct lapic *l);
/* Highest interrupt above the processor priority, -1 if none. */
int lapic_pending(struct lapic *l);
/* The same, and move it from IRR to ISR. */
int lapic_take(struct lapic *l);
uint64_t lapic_cr8(const struct lapic *l);
void lapic_set_cr8(struct lapic *l, uint64_t value);
/* For the run loop: when to wake from HLT; DEADLINE_NEVER if no timer runs. */
int64_t lapic_due_ns(const struct lapic *l);

/* --- registers, owner --- */
/* xAPIC page; `offset` < 4096. */
void lapic_mmio_read(struct lapic *l, uint64_t offset, void *data, unsigned len);
void lapic_mmio_write(struct lapic *l, uint64_t offset, const void *data, unsigned len);
/* Is `gpa` on the xAPIC page as the guest placed and enabled it? */
bool lapic_owns(const struct lapic *l, uint64_t gpa);
/* MSRs of APIC and clocks: true if it is one of them; *fault set if the access raises #GP(0). */
bool lapic_rdmsr(struct lapic *l, uint32_t index, uint64_t *ret_value, bool *fault);
bool lapic_wrmsr(struct lapic *l, uint32_t index, uint64_t value, bool *fault);

/* --- clocks --- */
uint64_t lapic_tsc(const struct lapic *l);
void lapic_set_tsc(struct lapic *l, uint64_t value);
/* This much time of the host did not pass for the vCPU, which does not run. */
void lapic_skip_time(struct lapic *l, uint64_t ticks, int64_t ns);
/* kvm-clock's system time; and tell the guest through it that it was stopped. */
int64_t lapic_system_ns(const struct lapic *l);
void lapic_note_stopped(struct lapic *l);
/* Keep tsc_offset there, too.  False if guests do not see the host's TSC. */
bool lapic_mirror_tsc(struct lapic *l, uint64_t *ret_offset);

/* --- state of struct cpu_state: base MSR, cr8, the register page, clocks in msr[] (those that are
 * there are not added again) --- */
void lapic_save(struct lapic *l, struct cpu_state *state);
void lapic_load(struct lapic *l, const struct cpu_state *state);
