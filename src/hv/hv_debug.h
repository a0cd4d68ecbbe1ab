/* hv_debug.h — what a debugger asks of a VM's CPUs, and why one of them stopped for it.
 *
 * Addresses are linear, in whatever address space; all CPUs of a VM stop at the same ones.  A CPU
 * stops before an instruction at a breakpoint, and after one that accesses watched memory.  One
 * that is let run where it has stopped stops there again at once: who wants to go on takes the
 * breakpoint away, steps, and puts it back.
 *
 * The guest's own INT3 and debug registers stay the guest's; docs/gdb.md says where that is less
 * than true on KVM.
 */
#pragma once

#include <stdint.h>

enum hv_break_kind {
    HV_BREAK_SOFT,   /* as many as there is room for */
    HV_BREAK_HARD,   /* never a change to guest memory; KVM has four of these and the next */
    HV_WATCH_WRITE,  /* [la, la + len) */
    HV_WATCH_READ,   /* KVM stops at writes, too: the CPU has no such thing */
    HV_WATCH_ACCESS, /* either */
};

struct hv_break {
    enum hv_break_kind kind;
    uint64_t la;
    uint64_t len; /* of watched memory */
};

#define HV_BREAK_MAX 256
struct hv_debug {
    unsigned count;
    struct hv_break list[HV_BREAK_MAX];
};

enum hv_stop_why {
    HV_STOP_NONE,
    HV_STOP_STEP,
    HV_STOP_BREAK, /* at `at` */
    HV_STOP_WATCH, /* `at` was accessed */
};

struct hv_stop {
    enum hv_stop_why why;
    struct hv_break at;
};
