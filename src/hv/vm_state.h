/* vm_state.h — what of a VM is not part of one vCPU, in a form that belongs to no backend: clocks
 * and the I/O APIC.
 *
 * A state read from one backend can be set on another.  Plain data.
 */
#pragma once

#include <stdint.h>

#define HV_IRQ_LINES 24 /* of the I/O APIC */

/* 82093AA data sheet, section 3; `lines`: level of each input. */
struct ioapic_state {
    uint32_t select, id, lines;
    uint64_t redir[HV_IRQ_LINES];
};

struct vm_state {
    uint64_t tsc_khz; /* what the guest's TSC counts per millisecond */
    int64_t clock_ns; /* kvm-clock's system time ... */
    int64_t wall_ns;  /* ... when the host's wall clock was this */
    struct ioapic_state ioapic;
};

/* Of two such frequencies: near enough that nobody notices, as KVM has it (250 ppm)? */
#define HV_TSC_TOLERANCE_PPM 250u
