/* intc.c — route interrupt messages to local APICs. */
#include "hv/soft/intc/intc.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "hv/soft/intc/lapic.h"

static void send_from_ioapic(void *owner, const struct apic_message *message)
{
    intc_send(owner, message);
}

static void timer_due(void *owner, unsigned slot)
{
    struct intc *intc = owner;

    lapic_wake(intc->lapic[slot], POLL_IRQ);
}

int intc_init(struct intc *intc, pvclock_write_fn write_guest, void *owner,
              const struct hv_client *client, struct err *err)
{
    memset(intc, 0, sizeof(*intc));
    intc->write_guest = write_guest;
    intc->owner = owner;
    (void)pthread_mutex_init(&intc->lock, NULL);
    ioapic_init(&intc->ioapic, send_from_ioapic, intc);
    deadline_init(&intc->deadline, timer_due, intc);
    tsc_init(&intc->tsc);
    intc->tsc_start = tsc_ticks(&intc->tsc);
    return deadline_start(&intc->deadline, client, err);
}

void intc_fini(struct intc *intc)
{
    deadline_stop(&intc->deadline);
    (void)pthread_mutex_destroy(&intc->lock);
}

void intc_hold(struct intc *intc, enum intc_hold hold, int64_t clock_ns)
{
    if (!intc->hold) {
        intc->held_ticks = tsc_ticks(&intc->tsc);
        intc->held_ns = clock_mono_ns();
    }
    if (hold == INTC_SET) {
        intc->held_clock_ns = clock_ns;
    }
    intc->hold = hold > intc->hold ? hold : intc->hold;
}

void intc_go(struct intc *intc)
{
    enum intc_hold hold = intc->hold;
    uint64_t ticks = tsc_ticks(&intc->tsc) - intc->held_ticks;
    int64_t ns = clock_mono_ns() - intc->held_ns;

    intc->hold = INTC_RUNS;
    if (hold == INTC_SET) {
        for (unsigned i = 0; i < intc->count; i++) {
            lapic_skip_time(intc->lapic[i], ticks, ns);
        }
    }
}

static struct lapic *pick_lowest(struct intc *intc, const struct apic_message *message)
{
    unsigned start = atomic_fetch_add_explicit(&intc->next_lowest, 1, memory_order_relaxed);

    for (unsigned i = 0; i < intc->count; i++) {
        struct lapic *l = intc->lapic[(start + i) % intc->count];

        if (lapic_matches(l, message)) {
            return l;
        }
    }
    return NULL;
}

void intc_send(struct intc *intc, const struct apic_message *message)
{
    if (message->delivery == APIC_LOWEST) {
        struct lapic *l = pick_lowest(intc, message);

        if (l) {
            lapic_accept(l, message);
        }
        return;
    }
    for (unsigned i = 0; i < intc->count; i++) {
        if (lapic_matches(intc->lapic[i], message)) {
            lapic_accept(intc->lapic[i], message);
        }
    }
}

void intc_line(struct intc *intc, unsigned pin, bool level)
{
    (void)pthread_mutex_lock(&intc->lock);
    ioapic_line(&intc->ioapic, pin, level);
    (void)pthread_mutex_unlock(&intc->lock);
}

void intc_pulse(struct intc *intc, unsigned pin)
{
    (void)pthread_mutex_lock(&intc->lock);
    ioapic_line(&intc->ioapic, pin, true);
    ioapic_line(&intc->ioapic, pin, false);
    (void)pthread_mutex_unlock(&intc->lock);
}

void intc_eoi(struct intc *intc, uint8_t vector)
{
    (void)pthread_mutex_lock(&intc->lock);
    ioapic_eoi(&intc->ioapic, vector);
    (void)pthread_mutex_unlock(&intc->lock);
}

int intc_msi(struct intc *intc, uint64_t address, uint32_t data)
{
    /* SDM volume 3, figures 11-14 and 11-15. */
    struct apic_message message = {
        .dest = (uint32_t)(address >> 12) & 0xff,
        .is_logical = address & 0x4,
        .is_level = data & APIC_LEVEL_TRIGGERED,
        .delivery = (data & APIC_DELIVERY_MASK) >> APIC_DELIVERY_SHIFT,
        .vector = data & APIC_VECTOR_MASK,
    };

    if (address >> 20 != APIC_DEFAULT_BASE >> 20) {
        return -EINVAL;
    }
    intc_send(intc, &message);
    return 0;
}

void intc_ioapic_read(struct intc *intc, uint64_t offset, void *data, unsigned len)
{
    uint32_t value;

    memset(data, 0, len);
    (void)pthread_mutex_lock(&intc->lock);
    value = ioapic_read(&intc->ioapic, offset);
    (void)pthread_mutex_unlock(&intc->lock);
    memcpy(data, &value, len < sizeof(value) ? len : sizeof(value));
}

void intc_ioapic_write(struct intc *intc, uint64_t offset, const void *data, unsigned len)
{
    uint32_t value = 0;

    memcpy(&value, data, len < sizeof(value) ? len : sizeof(value));
    (void)pthread_mutex_lock(&intc->lock);
    ioapic_write(&intc->ioapic, offset, value);
    (void)pthread_mutex_unlock(&intc->lock);
}
