/* ioapic.h — the I/O APIC: 24 inputs that become interrupt messages.
 *
 * Pure state machine: struct intc holds the lock around it and sends what it asks for through
 * `send`.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "hv/hv.h"

struct apic_message;

struct ioapic {
    uint32_t select; /* register chosen through IOREGSEL */
    uint32_t id;
    uint32_t lines; /* level of each input */
    uint64_t redir[HV_IRQ_LINES];
    void (*send)(void *owner, const struct apic_message *message);
    void *owner;
};

void ioapic_init(struct ioapic *io, void (*send)(void *owner, const struct apic_message *message),
                 void *owner);
void ioapic_line(struct ioapic *io, unsigned pin, bool level);
void ioapic_eoi(struct ioapic *io, uint8_t vector);
uint32_t ioapic_read(const struct ioapic *io, uint64_t offset);
void ioapic_write(struct ioapic *io, uint64_t offset, uint32_t value);
