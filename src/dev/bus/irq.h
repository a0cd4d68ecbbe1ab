/* irq.h — an interrupt line as a thing one hands to a device.
 *
 * A value type: copy it freely.  Any thread may drive it.  The owner outlives every holder.
 */
#pragma once

#include <stdbool.h>

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
