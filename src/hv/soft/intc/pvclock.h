/* pvclock.h — kvm-clock: guest time without exits.
 *
 * The guest names a page by MSR; we write there how its TSC maps to nanoseconds (Linux,
 * arch/x86/include/asm/pvclock-abi.h and Documentation/virt/kvm/x86/msr.rst).  System time counts
 * from guest TSC 0, so that a restored TSC restores the clock with it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "hv/soft/intc/tsc.h"

/* System time page: version u32, pad u32, tsc_timestamp u64, system_time u64, mul u32, shift s8,
 * flags u8, pad 2. */
#define PVCLOCK_BYTES         32
#define PVCLOCK_TSC_STABLE    0x01u
#define PVCLOCK_GUEST_STOPPED 0x02u /* the guest takes it back */
#define PVCLOCK_ENABLE        0x01u /* of the system time MSR */
#define PVCLOCK_WALL_BYTES    12    /* version, seconds, nanoseconds: u32 each */

/* Write guest memory: 0 or negative errno. */
typedef int (*pvclock_write_fn)(void *owner, uint64_t gpa, const void *data, unsigned len);

struct pvclock {
    uint64_t system_msr; /* as the guest wrote it: address and enable bit */
    uint64_t wall_msr;
    uint64_t tsc_origin; /* guest TSC at system time 0: the sum of the guest's own TSC writes */
    uint32_t version;
    pvclock_write_fn write;
    void *owner;
};

void pvclock_init(struct pvclock *clock, pvclock_write_fn write, void *owner);
/* The guest wrote the MSR.  An address outside RAM is ignored, as hypervisors do. */
void pvclock_set_system(struct pvclock *clock, const struct tsc *tsc, uint64_t value);
/* `system_ns`: system time now. */
void pvclock_set_wall(struct pvclock *clock, uint64_t value, int64_t system_ns, int64_t wall_ns);
/* Write the page again after tsc_origin changed. */
void pvclock_update(struct pvclock *clock, const struct tsc *tsc);

/* The guest's CPUs stood still. */
void pvclock_note_stopped(struct pvclock *clock, const struct tsc *tsc);

/* ns = ((ticks << shift, or >> -shift) * mul) >> 32.  hz is not 0. */
void pvclock_scale(uint64_t hz, uint32_t *ret_mul, int8_t *ret_shift);
