/* guest.h — a small VM of either backend, for tests of the contract in hv/hv.h.
 *
 * guest_init() makes RAM, VM, vCPUs; a state_*() fills g_state; guest_run() sets it and runs the
 * boot processor until the guest writes to EXIT_PORT or something else ends it, and reads g_state
 * back.
 */
#pragma once

#include "base/bits.h"
#include "hv/hv.h"
#include "mem/map.h"
#include "tests/lib/test.h"

#define CODE_AT    0x1000u
#define HANDLER_AT 0x2000u
#define AP_AT      0x3000u
#define STACK_AT   0x8000u
#define IDT_AT     0x9000u
#define GDT_AT     0xa000u
#define TABLES_AT  0x10000u
#define DATA_AT    0x30000u
#define EXIT_PORT  0xf4
#define TICK_PORT  0x80 /* written by handlers: not logged */
#define READY_PORT 0x81 /* written when a guest is ready for an interrupt: not logged */
#define LOG_MAX    64

struct guest_access {
    bool is_pio, is_write;
    uint64_t at;
    unsigned len;
    uint64_t value;
};

struct guest {
    struct mem_map *mem;
    struct hv_vm *vm;
    struct hv_vcpu *cpu[HV_VCPU_MAX];
    unsigned cpu_count;
    struct hv_client client;
    struct guest_access log[LOG_MAX];
    unsigned count; /* accesses, also beyond LOG_MAX */
    uint8_t exit_code;
    bool has_exited;
    unsigned ticks;
    int ready_fd; /* eventfd */
    void (*on_tick)(struct guest *g);
};

/* The backend under test. */
extern const struct hv_ops *g_ops;
extern struct cpu_state g_state; /* too large for a frame */

void guest_init(struct guest *g, unsigned cpu_count);
void guest_fini(struct guest *g);
void guest_put(struct guest *g, uint64_t gpa, const void *bytes, size_t len);
enum hv_exit guest_run(struct guest *g);
enum hv_exit guest_resume(struct guest *g);
/* Run while `fn` runs on another thread. */
enum hv_exit guest_run_with(struct guest *g, void *(*fn)(void *));
/* Wait, on the other thread, for the guest's write to READY_PORT. */
void guest_wait_ready(struct guest *g);

/* The guests of guests.S. */
#define GUEST_LIST(X)  \
    X(real)            \
    X(prot32)          \
    X(long64)          \
    X(port_widths)     \
    X(port_strings)    \
    X(mmio_widths)     \
    X(doorbell)        \
    X(handler_count)   \
    X(handler_exit)    \
    X(wait_msi)        \
    X(wait_pin4_edge)  \
    X(wait_pin5_level) \
    X(spin_for_pin4)   \
    X(one_shot_timer)  \
    X(periodic_timer)  \
    X(deadline_timer)  \
    X(halt)            \
    X(spin)            \
    X(invalid)         \
    X(cpuid)           \
    X(msr)             \
    X(clock)           \
    X(counter)         \
    X(few)             \
    X(armed_timer)     \
    X(masked)          \
    X(smp_boot)        \
    X(smp_ap)          \
    X(debugged)        \
    X(debugged_trap)

#define X(name) extern const uint8_t guest_##name[], guest_##name##_end[];
GUEST_LIST(X)
#undef X

/* Put a guest at gpa. */
#define GUEST_PUT(g, gpa, name) \
    guest_put(g, gpa, guest_##name, (size_t)(guest_##name##_end - guest_##name))

/* Begin at CODE_AT in this mode. */
void state_real(void);
void state_prot32(struct guest *g);
void state_long64(struct guest *g);
/* 64-bit interrupt gate. */
void guest_gate(struct guest *g, unsigned vector, uint64_t handler);

const struct cpu_msr *state_msr(const struct cpu_state *state, uint32_t index);
