/* lapic_msr.c — the MSRs of interrupt controller and clocks, and their place in struct cpu_state.
 */
#include <string.h>

#include "base/bits.h"
#include "base/clock.h"
#include "hv/soft/intc/lapic_int.h"
#include "x86/msr.h"

/* --- IA32_APIC_BASE: 11.4.4, 11.12.5 --- */

#define BASE_RESERVED (~(BIT(52) - 1) | 0x2ffu)

static bool base_is_legal(uint64_t old, uint64_t value)
{
    bool is_enabled = value & APIC_BASE_ENABLE;
    bool is_x2 = value & APIC_BASE_X2APIC;

    if (value & BASE_RESERVED || (is_x2 && !is_enabled)) {
        return false;
    }
    if (old & APIC_BASE_X2APIC) { /* only on, or off altogether */
        return is_x2 || !is_enabled;
    }
    return old & APIC_BASE_ENABLE || !is_x2; /* off -> x2APIC goes by way of xAPIC */
}

static bool write_base(struct lapic *l, uint64_t value)
{
    uint64_t old = atomic_load(&l->base);
    uint64_t changed = old ^ value;

    if (!base_is_legal(old, value)) {
        return false;
    }
    atomic_store(&l->base, value);
    if (changed & APIC_BASE_ENABLE) {
        lapic_reset(l);
    } else if (changed & APIC_BASE_X2APIC) {
        atomic_store(&l->ldr, (l->index >> 4) << 16 | 1u << (l->index & 15));
        l->icr_high = 0;
    }
    return true;
}

/* --- clocks --- */

uint64_t lapic_tsc(const struct lapic *l)
{
    return intc_ticks(l->intc) + l->tsc_offset;
}

static void set_offset(struct lapic *l, uint64_t offset)
{
    l->tsc_offset = offset;
    if (l->tsc_mirror) {
        *l->tsc_mirror = offset;
    }
}

bool lapic_mirror_tsc(struct lapic *l, uint64_t *ret_offset)
{
    l->tsc_mirror = ret_offset;
    set_offset(l, l->tsc_offset);
    return l->intc->tsc.is_host_tsc;
}

void lapic_set_tsc(struct lapic *l, uint64_t value)
{
    set_offset(l, value - intc_ticks(l->intc));
    lapic_timer_tsc_changed(l);
}

void lapic_skip_time(struct lapic *l, uint64_t ticks, int64_t ns)
{
    set_offset(l, l->tsc_offset - ticks);
    lapic_timer_skip_time(l, ns);
}

void lapic_note_stopped(struct lapic *l)
{
    pvclock_note_stopped(&l->pvclock, &l->intc->tsc);
}

/* The guest moves its own TSC: kvm-clock must not move with it. */
static void shift_tsc(struct lapic *l, uint64_t by)
{
    set_offset(l, l->tsc_offset + by);
    l->tsc_adjust += by; /* SDM volume 3, 18.17.3 */
    l->pvclock.tsc_origin += by;
    pvclock_update(&l->pvclock, &l->intc->tsc);
    lapic_timer_tsc_changed(l);
}

int64_t lapic_system_ns(const struct lapic *l)
{
    return tsc_to_ns(&l->intc->tsc, lapic_tsc(l) - l->pvclock.tsc_origin);
}

bool lapic_rdmsr(struct lapic *l, uint32_t index, uint64_t *ret_value, bool *fault)
{
    if (index >= MSR_X2APIC_FIRST && index <= MSR_X2APIC_LAST) {
        *fault = !lapic_x2apic_read(l, index, ret_value);
        return true;
    }
    /* clang-format off */
    switch (index) {
    case MSR_APIC_BASE:           *ret_value = atomic_load(&l->base); break;
    case MSR_TSC:                 *ret_value = lapic_tsc(l); break;
    case MSR_TSC_ADJUST:          *ret_value = l->tsc_adjust; break;
    case MSR_TSC_DEADLINE:        *ret_value = l->tsc_deadline; break;
    case MSR_KVM_SYSTEM_TIME:
    case MSR_KVM_SYSTEM_TIME_NEW: *ret_value = l->pvclock.system_msr; break;
    case MSR_KVM_WALL_CLOCK:
    case MSR_KVM_WALL_CLOCK_NEW:  *ret_value = l->pvclock.wall_msr; break;
    default:                      return false;
    }
    /* clang-format on */
    return true;
}

bool lapic_wrmsr(struct lapic *l, uint32_t index, uint64_t value, bool *fault)
{
    if (index >= MSR_X2APIC_FIRST && index <= MSR_X2APIC_LAST) {
        *fault = !lapic_x2apic_write(l, index, value);
        return true;
    }
    switch (index) {
    case MSR_APIC_BASE: *fault = !write_base(l, value); break;
    case MSR_TSC: shift_tsc(l, value - lapic_tsc(l)); break;
    case MSR_TSC_ADJUST: shift_tsc(l, value - l->tsc_adjust); break;
    case MSR_TSC_DEADLINE: lapic_timer_set_deadline(l, value); break;
    case MSR_KVM_SYSTEM_TIME:
    case MSR_KVM_SYSTEM_TIME_NEW: pvclock_set_system(&l->pvclock, &l->intc->tsc, value); break;
    case MSR_KVM_WALL_CLOCK:
    case MSR_KVM_WALL_CLOCK_NEW:
        pvclock_set_wall(&l->pvclock, value, lapic_system_ns(l), clock_wall_ns());
        break;
    default: return false;
    }
    return true;
}

/* --- struct cpu_state --- */

static const uint16_t saved_registers[] = {
    APIC_ID,        APIC_VERSION,       APIC_TPR,           APIC_PPR,          APIC_LDR,
    APIC_DFR,       APIC_SVR,           APIC_ESR,           APIC_ICR_LOW,      APIC_ICR_HIGH,
    APIC_LVT_TIMER, APIC_LVT_THERMAL,   APIC_LVT_PMC,       APIC_LVT_LINT0,    APIC_LVT_LINT1,
    APIC_LVT_ERROR, APIC_TIMER_INITIAL, APIC_TIMER_CURRENT, APIC_TIMER_DIVIDE,
};

static const uint32_t saved_msrs[] = {MSR_TSC, MSR_TSC_ADJUST, MSR_TSC_DEADLINE,
                                      MSR_KVM_SYSTEM_TIME_NEW, MSR_KVM_WALL_CLOCK_NEW};

static const uint64_t *find_msr(const struct cpu_state *state, uint32_t index)
{
    for (unsigned i = 0; i < state->msr_count && i < CPU_MSR_MAX; i++) {
        if (state->msr[i].index == index) {
            return &state->msr[i].value;
        }
    }
    return NULL;
}

/* Add one, unless the CPU's half of the state has asked for it already. */
static void put_msr(struct lapic *l, struct cpu_state *state, uint32_t index)
{
    uint64_t value;
    bool fault = false;

    if (!find_msr(state, index) && state->msr_count < CPU_MSR_MAX &&
        lapic_rdmsr(l, index, &value, &fault)) {
        state->msr[state->msr_count++] = (struct cpu_msr){.index = index, .value = value};
    }
}

void lapic_save(struct lapic *l, struct cpu_state *state)
{
    uint32_t value;

    lapic_sync(l);
    memset(state->lapic, 0, sizeof(state->lapic));
    state->apic_base = atomic_load(&l->base);
    state->cr8 = lapic_cr8(l);
    for (unsigned i = 0; i < ARRAY_LEN(saved_registers); i++) {
        if (lapic_reg_read(l, saved_registers[i], &value)) {
            store_le32(state->lapic + saved_registers[i], value);
        }
    }
    for (unsigned i = 0; i < 8; i++) {
        store_le32(state->lapic + APIC_ISR + 16 * i, l->isr[i]);
        store_le32(state->lapic + APIC_TMR + 16 * i, atomic_load(&l->tmr[i]));
        store_le32(state->lapic + APIC_IRR + 16 * i, atomic_load(&l->irr[i]));
    }
    for (unsigned i = 0; i < ARRAY_LEN(saved_msrs); i++) {
        put_msr(l, state, saved_msrs[i]);
    }
}

static uint32_t reg(const struct cpu_state *state, uint32_t offset)
{
    return load_le32(state->lapic + offset);
}

/* A state nobody filled (power-on): the register page is empty, and a real one never is. */
static bool has_registers(const struct cpu_state *state)
{
    return reg(state, APIC_VERSION) != 0;
}

/* The TSC as it was; only what the guest itself moved shifts kvm-clock.  The deadline comes last:
 * it may fire at once. */
static void load_clocks(struct lapic *l, const struct cpu_state *state)
{
    const uint64_t *tsc = find_msr(state, MSR_TSC);
    const uint64_t *adjust = find_msr(state, MSR_TSC_ADJUST);
    const uint64_t *system = find_msr(state, MSR_KVM_SYSTEM_TIME_NEW);
    const uint64_t *wall = find_msr(state, MSR_KVM_WALL_CLOCK_NEW);
    const uint64_t *deadline = find_msr(state, MSR_TSC_DEADLINE);

    if (tsc) {
        l->tsc_adjust = adjust ? *adjust : 0;
        l->pvclock.tsc_origin = l->tsc_adjust;
        if (l->intc->hold == INTC_SET) {
            l->pvclock.tsc_origin = *tsc - tsc_from_ns(&l->intc->tsc, l->intc->held_clock_ns);
        }
        lapic_set_tsc(l, *tsc);
    }
    if (wall) {
        l->pvclock.wall_msr = *wall;
    }
    if (system) {
        l->pvclock.system_msr = *system;
    }
    if (l->intc->hold == INTC_SET) { /* from a snapshot: its watchdogs are told */
        pvclock_note_stopped(&l->pvclock, &l->intc->tsc);
    } else {
        pvclock_update(&l->pvclock, &l->intc->tsc);
    }
    if (deadline) {
        lapic_timer_set_deadline(l, *deadline);
    }
}

void lapic_load(struct lapic *l, const struct cpu_state *state)
{
    atomic_store(&l->base,
                 (state->apic_base & ~BASE_RESERVED) | (l->index == 0 ? APIC_BASE_BSP : 0));
    lapic_reset(l);
    if (has_registers(state)) {
        for (unsigned i = 0; i < 8; i++) {
            l->isr[i] = reg(state, APIC_ISR + 16 * i);
            atomic_store(&l->tmr[i], reg(state, APIC_TMR + 16 * i));
            atomic_store(&l->irr[i], reg(state, APIC_IRR + 16 * i));
        }
        for (unsigned i = 0; i < LAPIC_LVT_COUNT; i++) {
            l->lvt[i] = reg(state, APIC_LVT_TIMER + 16 * i);
        }
        atomic_store(&l->svr, reg(state, APIC_SVR));
        if (!lapic_is_x2apic(l)) {
            atomic_store(&l->ldr, reg(state, APIC_LDR));
            atomic_store(&l->dfr, reg(state, APIC_DFR));
        }
        l->tpr = reg(state, APIC_TPR) & 0xff;
        l->esr = reg(state, APIC_ESR);
        l->icr_low = reg(state, APIC_ICR_LOW);
        l->icr_high = reg(state, APIC_ICR_HIGH);
        l->timer_divide = reg(state, APIC_TIMER_DIVIDE) & 0xb;
        l->timer_initial = reg(state, APIC_TIMER_INITIAL);
        lapic_timer_resume(l, reg(state, APIC_TIMER_CURRENT));
    }
    l->tpr = (uint32_t)(state->cr8 & 0xf) << 4 | (l->tpr & 0xf);
    load_clocks(l, state);
    atomic_fetch_or(l->park.word, POLL_IRQ);
}
