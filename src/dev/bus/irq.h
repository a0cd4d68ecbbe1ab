/* irq.h — an interrupt line as a thing one hands to a device.
 *
 * A value type: copy it freely.  Any thread may drive it.  The owner outlives every holder.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct irq_line {
    void (*set)(void *owner, unsigned line, bool level);
    void (*pulse)(void *owner, unsigned line); /* one rising edge */
    void *owner;
    unsigned line;
};

static inline void irq_set(const struct irq_line *irq, bool level)
{
    irq->set(irq->owner, irq->line, level);
}

static inline void irq_pulse(const struct irq_line *irq)
{
    irq->pulse(irq->owner, irq->line);
}

/* Where message-signalled interrupts go.  Any thread may send; what the guest wrote as address may
 * be nonsense, and then nothing happens. */
struct msi_port {
    void (*send)(void *owner, uint64_t address, uint32_t data);
    void *owner;
};
