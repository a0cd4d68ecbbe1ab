/* intc.h — the interrupt controllers and clocks of one VM: local APICs, I/O APIC, MSIs, timers.
 *
 * Messages between the parts are struct apic_message; intc_send() finds the local APICs meant.
 *
 * Threads: intc_line, intc_pulse, intc_msi, intc_send and intc_eoi from any thread.  The lock
 * guards the I/O APIC; local APICs take interrupts by atomic bits, so nothing is held while a vCPU
 * runs.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "hv/hv.h"
#include "hv/soft/intc/deadline.h"
#include "hv/soft/intc/ioapic.h"
#include "hv/soft/intc/pvclock.h"
#include "hv/soft/intc/tsc.h"
#include "x86/apic.h"

struct lapic;

struct apic_message {
    uint32_t dest;
    bool is_logical;
    bool is_wide; /* dest has 32 bits (x2APIC ICR); else 8, and 0xff means all */
    bool is_level;
    uint8_t delivery; /* enum apic_delivery, or a reserved value: ignored */
    uint8_t vector;
};

/* Do the clocks stand? */
enum intc_hold {
    INTC_RUNS,
    INTC_READ, /* while they are read: they have run on when they are let go */
    INTC_SET,  /* since they were set: they go on from there */
};

struct intc {
    pthread_mutex_t lock;  /* ioapic */
    enum intc_hold hold;   /* changes while no vCPU runs */
    uint64_t held_ticks;   /* host ticks while the clocks stand */
    int64_t held_ns;       /* host's monotonic clock at the same moment */
    int64_t held_clock_ns; /* INTC_SET: kvm-clock's system time */
    struct ioapic ioapic;
    struct deadline deadline;
    struct tsc tsc;
    uint64_t tsc_start;           /* host ticks at guest TSC 0 */
    _Atomic unsigned next_lowest; /* where lowest-priority delivery starts to look */
    unsigned count;               /* lapic[0] to lapic[count - 1] are set before any vCPU runs */
    struct lapic *lapic[HV_VCPU_MAX];
    pvclock_write_fn write_guest;
    void *owner;
};

/* `write_guest(owner, ...)` is called on vCPU threads.  The timer's thread enters by
 * client->enter_thread; `client` may be NULL. */
int intc_init(struct intc *intc, pvclock_write_fn write_guest, void *owner,
              const struct hv_client *client, struct err *err);
void intc_fini(struct intc *intc);

/* Let the clocks stand while no vCPU runs: INTC_READ to read them; INTC_SET to set them, with
 * kvm-clock's time.  And let them go. */
void intc_hold(struct intc *intc, enum intc_hold hold, int64_t clock_ns);
void intc_go(struct intc *intc);
/* Host ticks, that guest TSCs count from. */
static inline uint64_t intc_ticks(const struct intc *intc)
{
    return intc->hold ? intc->held_ticks : tsc_ticks(&intc->tsc);
}

void intc_send(struct intc *intc, const struct apic_message *message);
void intc_line(struct intc *intc, unsigned pin, bool level);
void intc_pulse(struct intc *intc, unsigned pin);
/* -EINVAL if the address is not one of an MSI (SDM volume 3, 11.11.1). */
int intc_msi(struct intc *intc, uint64_t address, uint32_t data);
/* A local APIC ended a level-triggered interrupt. */
void intc_eoi(struct intc *intc, uint8_t vector);

/* Guest accesses to the I/O APIC's page. */
void intc_ioapic_read(struct intc *intc, uint64_t offset, void *data, unsigned len);
void intc_ioapic_write(struct intc *intc, uint64_t offset, const void *data, unsigned len);
