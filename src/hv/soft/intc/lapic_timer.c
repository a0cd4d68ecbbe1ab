/* lapic_timer.c — the local APIC timer: one-shot, periodic, TSC deadline (SDM volume 3, 11.5.4).
 *
 * The counting modes run at 1 GHz before the divider, the rate that kvm-clock guests are told in
 * CPUID 40000010H.  due_ns is a time of the host's monotonic clock; the timer thread or the sleep
 * of a halted vCPU only bring the owner here, and lapic_timer_sync() decides.
 */
#include "base/clock.h"
#include "hv/soft/intc/lapic_int.h"

/* A guest may ask for a tick every nanosecond; it gets them no closer than this. */
#define PERIOD_MIN_NS    (50 * NS_PER_US)
#define DEADLINE_LATE_NS (NS_PER_S * 3600) /* look again at least once an hour */

static void arm(struct lapic *l, int64_t due_ns)
{
    l->due_ns = due_ns;
    deadline_arm(&l->intc->deadline, l->index, due_ns);
}

void lapic_timer_stop(struct lapic *l)
{
    l->tsc_deadline = 0;
    arm(l, DEADLINE_NEVER);
}

static uint32_t mode(const struct lapic *l)
{
    return l->lvt[LVT_TIMER] & APIC_LVT_TIMER_MODE;
}

/* Figure 11-10: bits 0, 1 and 3; 111 means 1. */
static unsigned divide_shift(const struct lapic *l)
{
    return (((l->timer_divide & 3) | (l->timer_divide & 8) >> 1) + 1) & 7;
}

void lapic_timer_set_lvt(struct lapic *l, uint32_t value)
{
    uint32_t old = mode(l);

    l->lvt[LVT_TIMER] = value;
    if (old != mode(l) && (old == APIC_TIMER_DEADLINE || mode(l) == APIC_TIMER_DEADLINE)) {
        l->timer_initial = 0;
        lapic_timer_stop(l);
    }
}

static int64_t period_ns(const struct lapic *l)
{
    int64_t period = (int64_t)l->timer_initial << divide_shift(l);

    return period < PERIOD_MIN_NS ? PERIOD_MIN_NS : period;
}

static void start_count(struct lapic *l, uint32_t count)
{
    arm(l, clock_mono_ns() + ((int64_t)count << divide_shift(l)));
}

void lapic_timer_set_initial(struct lapic *l, uint32_t value)
{
    if (mode(l) == APIC_TIMER_DEADLINE) {
        return;
    }
    l->timer_initial = value;
    if (value) {
        start_count(l, value);
    } else {
        lapic_timer_stop(l);
    }
}

void lapic_timer_resume(struct lapic *l, uint32_t current)
{
    if (current && mode(l) != APIC_TIMER_DEADLINE) {
        start_count(l, current);
    }
}

uint32_t lapic_timer_current(const struct lapic *l)
{
    int64_t left;

    if (mode(l) == APIC_TIMER_DEADLINE || l->due_ns == DEADLINE_NEVER) {
        return 0;
    }
    left = l->due_ns - clock_mono_ns();
    return left <= 0 ? 0 : (uint32_t)(left >> divide_shift(l));
}

void lapic_timer_set_divide(struct lapic *l, uint32_t value)
{
    uint32_t current = lapic_timer_current(l);

    l->timer_divide = value & 0xb;
    lapic_timer_resume(l, current);
}

/* When to look at the TSC: never earlier than the deadline, unless it is far away. */
static void arm_deadline(struct lapic *l, uint64_t guest_tsc)
{
    int64_t wait_ns = tsc_to_ns(&l->intc->tsc, l->tsc_deadline - guest_tsc);

    if (wait_ns >= DEADLINE_LATE_NS) {
        wait_ns = DEADLINE_LATE_NS;
    }
    arm(l, clock_mono_ns() + wait_ns + 1);
}

static void expire_deadline(struct lapic *l)
{
    uint64_t now = lapic_tsc(l);

    if (now < l->tsc_deadline) {
        arm_deadline(l, now);
        return;
    }
    lapic_timer_stop(l);
    lapic_fire_lvt(l, LVT_TIMER);
}

void lapic_timer_set_deadline(struct lapic *l, uint64_t value)
{
    if (mode(l) != APIC_TIMER_DEADLINE) {
        return;
    }
    l->tsc_deadline = value;
    if (value) {
        expire_deadline(l);
    } else {
        lapic_timer_stop(l);
    }
}

void lapic_timer_tsc_changed(struct lapic *l)
{
    if (l->tsc_deadline) {
        expire_deadline(l);
    }
}

void lapic_timer_skip_time(struct lapic *l, int64_t ns)
{
    if (l->tsc_deadline) {
        expire_deadline(l);
    } else if (l->due_ns != DEADLINE_NEVER) {
        arm(l, l->due_ns + ns);
    }
}

static void expire_count(struct lapic *l, int64_t now)
{
    if (mode(l) == APIC_TIMER_PERIODIC) {
        int64_t next = l->due_ns + period_ns(l);

        /* Ticks that were slept over are not made up for. */
        arm(l, next > now ? next : now + period_ns(l));
    } else {
        arm(l, DEADLINE_NEVER);
    }
    lapic_fire_lvt(l, LVT_TIMER);
}

void lapic_timer_sync(struct lapic *l)
{
    int64_t now;

    if (l->due_ns == DEADLINE_NEVER) {
        return;
    }
    if (l->tsc_deadline) {
        /* Ask the TSC first: cheaper than the clock, and the only thing that counts. */
        if (lapic_tsc(l) >= l->tsc_deadline) {
            expire_deadline(l);
            return;
        }
    }
    now = clock_mono_ns();
    if (now < l->due_ns) {
        return;
    }
    if (l->tsc_deadline) {
        expire_deadline(l);
    } else {
        expire_count(l, now);
    }
}

int64_t lapic_due_ns(const struct lapic *l)
{
    return l->due_ns;
}
