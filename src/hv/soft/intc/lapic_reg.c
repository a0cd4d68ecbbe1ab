/* lapic_reg.c — the registers of a local APIC, as xAPIC page and as x2APIC MSRs. */
#include <string.h>

#include "hv/soft/intc/lapic_int.h"
#include "x86/msr.h"

#define VERSION_VALUE ((LAPIC_LVT_COUNT - 1) << 16 | 0x14u)

/* Bits a guest can set, and those that may be set in an x2APIC write besides (read-only ones). */
#define ICR_LOW_MASK                                                           \
    (APIC_VECTOR_MASK | APIC_DELIVERY_MASK | APIC_DEST_LOGICAL | APIC_ASSERT | \
     APIC_LEVEL_TRIGGERED | APIC_SHORTHAND_MASK)

static const uint32_t lvt_mask[LAPIC_LVT_COUNT] = {
    [LVT_TIMER] = APIC_VECTOR_MASK | APIC_LVT_MASKED | APIC_LVT_TIMER_MODE,
    [LVT_THERMAL] = APIC_VECTOR_MASK | APIC_DELIVERY_MASK | APIC_LVT_MASKED,
    [LVT_PMC] = APIC_VECTOR_MASK | APIC_DELIVERY_MASK | APIC_LVT_MASKED,
    [LVT_LINT0] = APIC_VECTOR_MASK | APIC_DELIVERY_MASK | APIC_LVT_MASKED | 0xa000u,
    [LVT_LINT1] = APIC_VECTOR_MASK | APIC_DELIVERY_MASK | APIC_LVT_MASKED | 0xa000u,
    [LVT_ERROR] = APIC_VECTOR_MASK | APIC_LVT_MASKED,
};

static int lvt_index(uint32_t offset)
{
    if (offset >= APIC_LVT_TIMER && offset <= APIC_LVT_ERROR) {
        return (int)(offset - APIC_LVT_TIMER) / 16;
    }
    return -1;
}

static bool read_bitmap(const struct lapic *l, uint32_t offset, uint32_t *ret_value)
{
    unsigned word = offset >> 4 & 7;

    if (offset < APIC_TMR) {
        *ret_value = l->isr[word];
    } else if (offset < APIC_IRR) {
        *ret_value = atomic_load(&l->tmr[word]);
    } else {
        *ret_value = atomic_load(&l->irr[word]);
    }
    return true;
}

bool lapic_reg_read(struct lapic *l, uint32_t offset, uint32_t *ret_value)
{
    int lvt = lvt_index(offset);

    if (offset >= APIC_ISR && offset < APIC_ESR) {
        return read_bitmap(l, offset, ret_value);
    }
    if (lvt >= 0) {
        *ret_value = l->lvt[lvt];
        return true;
    }
    /* clang-format off */
    switch (offset) {
    case APIC_ID:            *ret_value = lapic_is_x2apic(l) ? l->index : l->index << 24; break;
    case APIC_VERSION:       *ret_value = VERSION_VALUE; break;
    case APIC_TPR:           *ret_value = l->tpr; break;
    case APIC_PPR:           *ret_value = lapic_ppr(l); break;
    case APIC_LDR:           *ret_value = atomic_load(&l->ldr); break;
    case APIC_DFR:           *ret_value = atomic_load(&l->dfr); break;
    case APIC_SVR:           *ret_value = atomic_load(&l->svr); break;
    case APIC_ESR:           *ret_value = l->esr; break;
    case APIC_ICR_LOW:       *ret_value = l->icr_low; break;
    case APIC_ICR_HIGH:      *ret_value = l->icr_high; break;
    case APIC_TIMER_INITIAL: *ret_value = l->timer_initial; break;
    case APIC_TIMER_CURRENT: *ret_value = lapic_timer_current(l); break;
    case APIC_TIMER_DIVIDE:  *ret_value = l->timer_divide; break;
    default:                 return false;
    }
    /* clang-format on */
    return true;
}

/* --- ICR: 11.6.1 --- */

static void send_shorthand(struct lapic *l, const struct apic_message *message, uint32_t shorthand)
{
    for (unsigned i = 0; i < l->intc->count; i++) {
        struct lapic *to = l->intc->lapic[i];

        if (shorthand == APIC_SHORTHAND_ALL || (to == l) == (shorthand == APIC_SHORTHAND_SELF)) {
            lapic_accept(to, message);
        }
    }
}

static void send_ipi(struct lapic *l)
{
    struct apic_message message = {
        .is_wide = lapic_is_x2apic(l),
        .dest = lapic_is_x2apic(l) ? l->icr_high : l->icr_high >> 24,
        .is_logical = l->icr_low & APIC_DEST_LOGICAL,
        .delivery = (l->icr_low & APIC_DELIVERY_MASK) >> APIC_DELIVERY_SHIFT,
        .vector = l->icr_low & APIC_VECTOR_MASK,
    };

    if (message.delivery == APIC_INIT && l->icr_low & APIC_LEVEL_TRIGGERED &&
        !(l->icr_low & APIC_ASSERT)) {
        return; /* INIT level de-assert: nothing to do since the Pentium 4 */
    }
    if (message.delivery <= APIC_LOWEST && message.vector < 16) {
        lapic_error(l, APIC_ESR_SEND_VECTOR);
        return;
    }
    if ((l->icr_low & APIC_SHORTHAND_MASK) == APIC_SHORTHAND_NONE) {
        intc_send(l->intc, &message);
    } else {
        send_shorthand(l, &message, l->icr_low & APIC_SHORTHAND_MASK);
    }
}

static void write_svr(struct lapic *l, uint32_t value)
{
    atomic_store(&l->svr, value & 0x1ff);
    if (!(value & APIC_SVR_ENABLE)) { /* 11.4.7.2: software disabled */
        for (unsigned i = 0; i < LAPIC_LVT_COUNT; i++) {
            l->lvt[i] |= APIC_LVT_MASKED;
        }
    }
}

static void write_lvt(struct lapic *l, unsigned which, uint32_t value)
{
    value &= lvt_mask[which];
    if (!(atomic_load(&l->svr) & APIC_SVR_ENABLE)) {
        value |= APIC_LVT_MASKED;
    }
    if (which == LVT_TIMER) {
        lapic_timer_set_lvt(l, value);
    } else {
        l->lvt[which] = value;
    }
}

/* Writes that xAPIC and x2APIC share; false if there is no such writable register. */
static bool reg_write(struct lapic *l, uint32_t offset, uint32_t value)
{
    int lvt = lvt_index(offset);

    if (lvt >= 0) {
        write_lvt(l, (unsigned)lvt, value);
        return true;
    }
    /* clang-format off */
    switch (offset) {
    case APIC_TPR:           lapic_set_tpr(l, value); break;
    case APIC_EOI:           lapic_eoi(l); break;
    case APIC_SVR:           write_svr(l, value); break;
    case APIC_ESR:           l->esr = atomic_exchange(&l->esr_pending, 0); break;
    case APIC_ICR_HIGH:      l->icr_high = value; break;
    case APIC_ICR_LOW:       l->icr_low = value & ICR_LOW_MASK; send_ipi(l); break;
    case APIC_TIMER_INITIAL: lapic_timer_set_initial(l, value); break;
    case APIC_TIMER_DIVIDE:  lapic_timer_set_divide(l, value); break;
    default:                 return false;
    }
    /* clang-format on */
    return true;
}

/* --- xAPIC page: 32-bit registers, 16 bytes apart (11.4.1) --- */

bool lapic_owns(const struct lapic *l, uint64_t gpa)
{
    uint64_t base = atomic_load_explicit(&l->base, memory_order_relaxed);

    return (base & (APIC_BASE_ENABLE | APIC_BASE_X2APIC)) == APIC_BASE_ENABLE &&
           gpa >> 12 == (base & ((UINT64_C(1) << 52) - 1)) >> 12;
}

void lapic_mmio_read(struct lapic *l, uint64_t offset, void *data, unsigned len)
{
    uint32_t value = 0;

    memset(data, 0, len);
    if ((offset & 15) + len > sizeof(value)) {
        return;
    }
    if (!lapic_reg_read(l, (uint32_t)offset & ~15u, &value)) {
        lapic_error(l, APIC_ESR_REGISTER);
        return;
    }
    memcpy(data, (const uint8_t *)&value + (offset & 15), len);
}

void lapic_mmio_write(struct lapic *l, uint64_t offset, const void *data, unsigned len)
{
    uint32_t value;

    if (len != sizeof(value) || offset & 15) {
        return;
    }
    memcpy(&value, data, sizeof(value));
    switch (offset) {
    case APIC_LDR: atomic_store(&l->ldr, value & 0xff000000u); break;
    case APIC_DFR: atomic_store(&l->dfr, value | 0x0fffffffu); break;
    case APIC_ID: /* fixed in this machine, as in every processor since the Xeon */
    case APIC_VERSION: break;
    default:
        if (!reg_write(l, (uint32_t)offset, value)) {
            lapic_error(l, APIC_ESR_REGISTER);
        }
        break;
    }
}

/* --- x2APIC MSRs: table 11-6; whatever is not there raises #GP --- */

bool lapic_x2apic_read(struct lapic *l, uint32_t index, uint64_t *ret_value)
{
    uint32_t offset = (index - MSR_X2APIC_FIRST) << 4;
    uint32_t value;

    if (!lapic_is_x2apic(l) || offset == APIC_DFR || offset == APIC_ICR_HIGH ||
        !lapic_reg_read(l, offset, &value)) {
        return false;
    }
    *ret_value = offset == APIC_ICR_LOW ? (uint64_t)l->icr_high << 32 | value : value;
    return true;
}

/* Bits that an x2APIC write may have set. */
static bool x2apic_value_is_legal(uint32_t offset, uint64_t value)
{
    int lvt = lvt_index(offset);

    if (offset == APIC_ICR_LOW) {
        return !(value & 0xffffffffu & ~(uint64_t)(ICR_LOW_MASK | APIC_ICR_BUSY));
    }
    if (lvt >= 0) {
        return !(value & ~(uint64_t)(lvt_mask[lvt] | 0x5000u)); /* status bits are read-only */
    }
    /* clang-format off */
    switch (offset) {
    case APIC_TPR:           return value <= 0xff;
    case APIC_EOI:
    case APIC_ESR:           return value == 0;
    case APIC_SVR:           return value <= 0x1ff;
    case APIC_TIMER_INITIAL: return value <= 0xffffffffu;
    case APIC_TIMER_DIVIDE:  return !(value & ~UINT64_C(0xb));
    case APIC_SELF_IPI:      return value <= 0xff;
    default:                 return false;
    }
    /* clang-format on */
}

bool lapic_x2apic_write(struct lapic *l, uint32_t index, uint64_t value)
{
    uint32_t offset = (index - MSR_X2APIC_FIRST) << 4;

    if (!lapic_is_x2apic(l) || !x2apic_value_is_legal(offset, value)) {
        return false;
    }
    if (offset == APIC_SELF_IPI) {
        struct apic_message self = {.delivery = APIC_FIXED, .vector = (uint8_t)value};

        if (value < 16) {
            lapic_error(l, APIC_ESR_SEND_VECTOR);
        } else {
            lapic_accept(l, &self);
        }
        return true;
    }
    if (offset == APIC_ICR_LOW) {
        l->icr_high = (uint32_t)(value >> 32);
    }
    return reg_write(l, offset, (uint32_t)value);
}
