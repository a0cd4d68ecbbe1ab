/* target.h — what the gdb server needs of a machine: CPUs that can be stopped, asked and let go.
 *
 * All calls come from one thread.  While CPUs run, only stop() is called, and stop_fd watched.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "hv/hv_debug.h"

struct cpu_state;
struct mem_map;

enum gdb_action { GDB_HOLD, GDB_RUN, GDB_STEP };

struct gdb_target_ops {
    /* All CPUs stand still.  false: the guest has ended, nothing else may be called. */
    bool (*stop)(void *owner);
    /* Which CPU stopped by itself, and why; each is told once. */
    bool (*take_stop)(void *owner, unsigned *ret_cpu, struct hv_stop *ret_stop);
    /* One action per CPU. */
    int (*resume)(void *owner, const enum gdb_action *actions);
    /* From the next resume on; -ENOSPC. */
    int (*set_breaks)(void *owner, const struct hv_debug *debug);
    int (*get_regs)(void *owner, unsigned cpu, struct cpu_state *ret_state);
    /* -EINVAL: no CPU could be in this state. */
    int (*set_regs)(void *owner, unsigned cpu, const struct cpu_state *state);
    /* End the guest. */
    void (*kill)(void *owner);
};

struct gdb_target {
    const struct gdb_target_ops *ops;
    void *owner;
    struct mem_map *mem;
    unsigned cpu_count; /* at most HV_VCPU_MAX */
    int stop_fd;        /* readable when a CPU has stopped by itself, until stop() */
};
