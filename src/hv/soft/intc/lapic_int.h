/* lapic_int.h — what the files of the local APIC share. */
#pragma once

#include "hv/soft/intc/lapic.h"

enum lapic_lvt { LVT_TIMER, LVT_THERMAL, LVT_PMC, LVT_LINT0, LVT_LINT1, LVT_ERROR };

static inline bool lapic_is_x2apic(const struct lapic *l)
{
    return atomic_load_explicit(&l->base, memory_order_relaxed) & APIC_BASE_X2APIC;
}

/* lapic_reg.c: the value as a 32-bit register at its xAPIC offset; false if there is none. */
bool lapic_reg_read(struct lapic *l, uint32_t offset, uint32_t *ret_value);
/* x2APIC MSRs; false if the access raises #GP. */
bool lapic_x2apic_read(struct lapic *l, uint32_t index, uint64_t *ret_value);
bool lapic_x2apic_write(struct lapic *l, uint32_t index, uint64_t value);

/* lapic.c */
void lapic_eoi(struct lapic *l);
void lapic_set_tpr(struct lapic *l, uint32_t value);
uint32_t lapic_ppr(const struct lapic *l);
/* Note an error: a bit of ESR. */
void lapic_error(struct lapic *l, uint32_t bit);
/* A local interrupt source fires: deliver what its LVT entry says. */
void lapic_fire_lvt(struct lapic *l, enum lapic_lvt which);

/* lapic_timer.c */
void lapic_timer_stop(struct lapic *l);
void lapic_timer_set_lvt(struct lapic *l, uint32_t value);
void lapic_timer_set_initial(struct lapic *l, uint32_t value);
void lapic_timer_set_divide(struct lapic *l, uint32_t value);
uint32_t lapic_timer_current(const struct lapic *l);
void lapic_timer_set_deadline(struct lapic *l, uint64_t value);
/* Fire if due. */
void lapic_timer_sync(struct lapic *l);
/* Work out due_ns anew after the TSC changed. */
void lapic_timer_tsc_changed(struct lapic *l);
/* `ns` of the host's clock did not pass for the guest. */
void lapic_timer_skip_time(struct lapic *l, int64_t ns);
/* Continue a counter that has `current` ticks left. */
void lapic_timer_resume(struct lapic *l, uint32_t current);
