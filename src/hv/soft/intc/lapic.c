/* lapic.c — acceptance, priority and end of interrupts in a local APIC (SDM volume 3, 11.8).
 *
 * Theory of operation.  A message sets a bit of IRR (and of TMR first, if level-triggered) and
 * POLL_IRQ.  The run loop calls lapic_take() when the guest can be interrupted: the highest IRR bit
 * whose class is above that of PPR moves to ISR.  When TPR falls or an interrupt ends, another one
 * may have become deliverable: the owner then sets POLL_IRQ for itself.
 */
#include <string.h>

#include "base/bits.h"
#include "hv/soft/intc/lapic_int.h"

#define PRIORITY_CLASS(vector) ((vector)&0xf0u)

void lapic_reset(struct lapic *l)
{
    lapic_timer_stop(l);
    for (unsigned i = 0; i < 8; i++) {
        atomic_store(&l->irr[i], 0);
        atomic_store(&l->tmr[i], 0);
        l->isr[i] = 0;
    }
    for (unsigned i = 0; i < LAPIC_LVT_COUNT; i++) {
        l->lvt[i] = APIC_LVT_MASKED;
    }
    atomic_store(&l->svr, 0xff);
    atomic_store(&l->dfr, 0xffffffffu);
    /* x2APIC: cluster and bit follow from the ID (11.12.10.2) */
    atomic_store(&l->ldr, lapic_is_x2apic(l) ? (l->index >> 4) << 16 | 1u << (l->index & 15) : 0);
    atomic_store(&l->esr_pending, 0);
    atomic_store(&l->error_due, false);
    l->tpr = l->esr = l->icr_low = l->icr_high = 0;
    l->timer_initial = l->timer_divide = 0;
}

void lapic_init(struct lapic *l, struct intc *intc, unsigned index, _Atomic uint32_t *poll)
{
    memset(l, 0, sizeof(*l));
    l->intc = intc;
    l->index = index;
    park_init(&l->park, poll);
    atomic_store(&l->base, APIC_DEFAULT_BASE | APIC_BASE_ENABLE | (index == 0 ? APIC_BASE_BSP : 0));
    l->tsc_offset = -intc->tsc_start;
    pvclock_init(&l->pvclock, intc->write_guest, intc->owner);
    lapic_reset(l);
    intc->lapic[index] = l;
    if (index >= intc->count) {
        intc->count = index + 1;
    }
}

void lapic_wake(struct lapic *l, uint32_t poll_bits)
{
    park_wake(&l->park, poll_bits);
}

/* --- whom a message means: 11.6.2 --- */

static bool matches_logical_xapic(const struct lapic *l, uint32_t dest)
{
    uint32_t mine = atomic_load_explicit(&l->ldr, memory_order_relaxed) >> 24;

    if (atomic_load_explicit(&l->dfr, memory_order_relaxed) >> 28 == 0xf) { /* flat */
        return mine & dest;
    }
    return mine >> 4 == dest >> 4 && mine & dest & 0xf;
}

bool lapic_matches(const struct lapic *l, const struct apic_message *message)
{
    uint32_t everyone = message->is_wide ? 0xffffffffu : 0xffu;
    uint32_t mine;

    if (!(atomic_load_explicit(&l->base, memory_order_relaxed) & APIC_BASE_ENABLE)) {
        return message->dest == l->index && !message->is_logical;
    }
    if (message->dest == everyone) {
        return true;
    }
    if (!message->is_logical) {
        return message->dest == l->index;
    }
    if (!lapic_is_x2apic(l)) {
        return matches_logical_xapic(l, message->dest);
    }
    mine = atomic_load_explicit(&l->ldr, memory_order_relaxed);
    return mine >> 16 == message->dest >> 16 && mine & message->dest & 0xffff;
}

/* --- acceptance, any thread --- */

void lapic_error(struct lapic *l, uint32_t bit)
{
    atomic_fetch_or(&l->esr_pending, bit);
    atomic_store(&l->error_due, true);
    lapic_wake(l, POLL_IRQ);
}

static void accept_fixed(struct lapic *l, uint8_t vector, bool is_level)
{
    uint32_t bit = 1u << (vector & 31);

    if (!(atomic_load_explicit(&l->base, memory_order_relaxed) & APIC_BASE_ENABLE) ||
        !(atomic_load_explicit(&l->svr, memory_order_relaxed) & APIC_SVR_ENABLE)) {
        return;
    }
    if (vector < 16) {
        lapic_error(l, APIC_ESR_RECV_VECTOR);
        return;
    }
    if (is_level) {
        atomic_fetch_or_explicit(&l->tmr[vector / 32], bit, memory_order_relaxed);
    } else {
        atomic_fetch_and_explicit(&l->tmr[vector / 32], ~bit, memory_order_relaxed);
    }
    /* pairs with the acquire in highest_irr() */
    atomic_fetch_or_explicit(&l->irr[vector / 32], bit, memory_order_release);
    lapic_wake(l, POLL_IRQ);
}

void lapic_accept(struct lapic *l, const struct apic_message *message)
{
    switch (message->delivery) {
    case APIC_FIXED:
    case APIC_LOWEST: accept_fixed(l, message->vector, message->is_level); break;
    case APIC_NMI: lapic_wake(l, POLL_NMI); break;
    case APIC_INIT: lapic_wake(l, POLL_INIT); break;
    case APIC_SIPI:
        atomic_store(&l->sipi_vector, message->vector);
        lapic_wake(l, POLL_SIPI);
        break;
    default: /* SMI and ExtINT: this machine has neither; the rest is reserved */ break;
    }
}

/* --- priority, owner --- */

static int highest(const uint32_t word[8])
{
    for (int i = 7; i >= 0; i--) {
        if (word[i]) {
            return i * 32 + 31 - __builtin_clz(word[i]);
        }
    }
    return -1;
}

static int highest_irr(const struct lapic *l)
{
    for (int i = 7; i >= 0; i--) {
        uint32_t word = atomic_load_explicit(&l->irr[i], memory_order_acquire);

        if (word) {
            return i * 32 + 31 - __builtin_clz(word);
        }
    }
    return -1;
}

/* 11.8.3.1 */
uint32_t lapic_ppr(const struct lapic *l)
{
    int serving = highest(l->isr);
    uint32_t isrv = serving < 0 ? 0 : PRIORITY_CLASS((uint32_t)serving);

    return PRIORITY_CLASS(l->tpr) >= isrv ? l->tpr : isrv;
}

static int deliverable(const struct lapic *l)
{
    int vector = highest_irr(l);

    if (vector < 0 || !(atomic_load_explicit(&l->base, memory_order_relaxed) & APIC_BASE_ENABLE)) {
        return -1;
    }
    return PRIORITY_CLASS((uint32_t)vector) > PRIORITY_CLASS(lapic_ppr(l)) ? vector : -1;
}

void lapic_fire_lvt(struct lapic *l, enum lapic_lvt which)
{
    struct apic_message message = {
        .delivery = (l->lvt[which] & APIC_DELIVERY_MASK) >> APIC_DELIVERY_SHIFT,
        .vector = l->lvt[which] & APIC_VECTOR_MASK,
    };

    if (which == LVT_TIMER || which == LVT_ERROR) {
        message.delivery = APIC_FIXED; /* these have no delivery mode field */
    }
    if (!(l->lvt[which] & APIC_LVT_MASKED)) {
        lapic_accept(l, &message);
    }
}

void lapic_sync(struct lapic *l)
{
    lapic_timer_sync(l);
    if (atomic_exchange(&l->error_due, false)) {
        /* An illegal vector in the error entry itself must not come back here for ever. */
        if ((l->lvt[LVT_ERROR] & APIC_VECTOR_MASK) >= 16) {
            lapic_fire_lvt(l, LVT_ERROR);
        }
    }
}

int lapic_pending(struct lapic *l)
{
    lapic_sync(l);
    return deliverable(l);
}

int lapic_take(struct lapic *l)
{
    int vector = lapic_pending(l);
    uint32_t bit;

    if (vector < 0) {
        return -1;
    }
    bit = 1u << (vector & 31);
    atomic_fetch_and_explicit(&l->irr[vector / 32], ~bit, memory_order_acq_rel);
    l->isr[vector / 32] |= bit;
    return vector;
}

static void look_again(struct lapic *l)
{
    if (deliverable(l) >= 0) {
        atomic_fetch_or_explicit(l->park.word, POLL_IRQ, memory_order_relaxed);
    }
}

void lapic_eoi(struct lapic *l)
{
    int vector = highest(l->isr);
    uint32_t bit;

    if (vector < 0) {
        return;
    }
    bit = 1u << (vector & 31);
    l->isr[vector / 32] &= ~bit;
    if (atomic_load_explicit(&l->tmr[vector / 32], memory_order_relaxed) & bit) {
        intc_eoi(l->intc, (uint8_t)vector);
    }
    look_again(l);
}

void lapic_set_tpr(struct lapic *l, uint32_t value)
{
    l->tpr = value & 0xff;
    look_again(l);
}

uint64_t lapic_cr8(const struct lapic *l)
{
    return l->tpr >> 4;
}

void lapic_set_cr8(struct lapic *l, uint64_t value)
{
    lapic_set_tpr(l, (uint32_t)(value & 0xf) << 4);
}
