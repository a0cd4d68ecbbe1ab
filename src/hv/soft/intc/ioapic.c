/* ioapic.c — inputs, redirection entries, remote IRR (82093AA data sheet, section 3). */
#include "hv/soft/intc/ioapic.h"

#include "base/bits.h"
#include "hv/soft/intc/intc.h"
#include "x86/apic.h"

#define VERSION_VALUE ((HV_IRQ_LINES - 1) << 16 | 0x11u) /* version 11H: no EOI register */

void ioapic_init(struct ioapic *io, void (*send)(void *owner, const struct apic_message *message),
                 void *owner)
{
    *io = (struct ioapic){.send = send, .owner = owner};
    for (unsigned i = 0; i < HV_IRQ_LINES; i++) {
        io->redir[i] = IOAPIC_MASKED;
    }
}

static void send_pin(struct ioapic *io, unsigned pin)
{
    uint64_t entry = io->redir[pin];
    struct apic_message message = {
        .dest = (uint32_t)(entry >> 56),
        .is_logical = entry & APIC_DEST_LOGICAL,
        .is_level = entry & IOAPIC_LEVEL,
        .delivery = (entry & APIC_DELIVERY_MASK) >> APIC_DELIVERY_SHIFT,
        .vector = entry & APIC_VECTOR_MASK,
    };

    if (message.is_level) {
        io->redir[pin] |= IOAPIC_REMOTE_IRR;
    }
    io->send(io->owner, &message);
}

/* A level input that is high, unmasked and not in service sends. */
static void send_if_level_due(struct ioapic *io, unsigned pin)
{
    uint64_t entry = io->redir[pin];

    if (entry & IOAPIC_LEVEL && !(entry & (IOAPIC_MASKED | IOAPIC_REMOTE_IRR)) &&
        io->lines & BIT(pin)) {
        send_pin(io, pin);
    }
}

void ioapic_line(struct ioapic *io, unsigned pin, bool level)
{
    bool was_high = io->lines & BIT(pin);

    if (!level) {
        io->lines &= ~(uint32_t)BIT(pin);
        return;
    }
    io->lines |= (uint32_t)BIT(pin);
    if (io->redir[pin] & IOAPIC_LEVEL) {
        send_if_level_due(io, pin);
    } else if (!was_high && !(io->redir[pin] & IOAPIC_MASKED)) {
        send_pin(io, pin);
    }
}

void ioapic_eoi(struct ioapic *io, uint8_t vector)
{
    for (unsigned i = 0; i < HV_IRQ_LINES; i++) {
        if ((io->redir[i] & APIC_VECTOR_MASK) == vector && io->redir[i] & IOAPIC_LEVEL) {
            io->redir[i] &= ~(uint64_t)IOAPIC_REMOTE_IRR;
            send_if_level_due(io, i);
        }
    }
}

static uint32_t read_register(const struct ioapic *io, uint32_t reg)
{
    if (reg >= IOAPIC_REDIR && reg < IOAPIC_REDIR + 2 * HV_IRQ_LINES) {
        uint64_t entry = io->redir[(reg - IOAPIC_REDIR) / 2];

        return (uint32_t)(reg & 1 ? entry >> 32 : entry);
    }
    switch (reg) {
    case IOAPIC_ID:
    case IOAPIC_ARBITRATION: return io->id;
    case IOAPIC_VERSION: return VERSION_VALUE;
    default: return 0;
    }
}

static void write_entry(struct ioapic *io, unsigned pin, bool is_high, uint32_t value)
{
    const uint32_t read_only = IOAPIC_BUSY | IOAPIC_REMOTE_IRR;
    uint64_t *entry = &io->redir[pin];

    if (is_high) {
        *entry = (*entry & 0xffffffffu) | (uint64_t)(value & 0xff000000u) << 32;
        return;
    }
    value = (value & 0x1ffffu & ~read_only) | (uint32_t)(*entry & read_only);
    if (!(value & IOAPIC_LEVEL)) {
        value &= ~IOAPIC_REMOTE_IRR; /* how Linux ends an interrupt without EOI register */
    }
    *entry = (*entry & ~UINT64_C(0xffffffff)) | value;
    send_if_level_due(io, pin);
}

uint32_t ioapic_read(const struct ioapic *io, uint64_t offset)
{
    switch (offset) {
    case IOAPIC_REG_SELECT: return io->select;
    case IOAPIC_REG_WINDOW: return read_register(io, io->select);
    default: return 0;
    }
}

void ioapic_write(struct ioapic *io, uint64_t offset, uint32_t value)
{
    uint32_t reg = io->select;

    if (offset == IOAPIC_REG_SELECT) {
        io->select = value & 0xff;
    } else if (offset == IOAPIC_REG_WINDOW && reg == IOAPIC_ID) {
        io->id = value & 0x0f000000;
    } else if (offset == IOAPIC_REG_WINDOW && reg >= IOAPIC_REDIR &&
               reg < IOAPIC_REDIR + 2 * HV_IRQ_LINES) {
        write_entry(io, (reg - IOAPIC_REDIR) / 2, reg & 1, value);
    }
}
