/* debug.h — a machine under a debugger: vCPUs that stand still, one by one or all, while devices go
 * on.
 *
 * machine_debug_begin() before machine_start(): then no vCPU runs an instruction until
 * machine_debug_resume().  One that stops by itself (a breakpoint, watched memory, the end of a
 * step) has all others stop.
 *
 * Threads: machine_debug_begin() and machine_debug_stopped_ns() as the rest of machine.h; all
 * others from one thread, the debugger's.  None of them after machine_free() began.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "hv/hv_debug.h"

struct cpu_state;
struct machine;
struct mem_map;

enum machine_debug_action { MACHINE_DEBUG_HOLD, MACHINE_DEBUG_RUN, MACHINE_DEBUG_STEP };

int machine_debug_begin(struct machine *machine, struct err *err);
unsigned machine_debug_vcpu_count(const struct machine *machine);
struct mem_map *machine_debug_mem(const struct machine *machine);
/* How long its vCPUs have stood still for the debugger, up to now. */
int64_t machine_debug_stopped_ns(struct machine *machine);

/* Readable when a vCPU has stopped by itself; machine_debug_stop() ends that. */
int machine_debug_fd(const struct machine *machine);
/* Have all vCPUs stand still, and guest memory hold nothing of the debugger's.  false: the machine
 * has ended, and nothing of this may be called any more.  One that ends later, while they stand
 * still, has them stay where they are. */
bool machine_debug_stop(struct machine *machine);
/* Which vCPU stopped by itself, and why; false: none did, or it was told before. */
bool machine_debug_take(struct machine *machine, unsigned *ret_vcpu, struct hv_stop *ret_stop);
/* One action for each vCPU.  Where one has watched memory to report, nothing runs, and
 * machine_debug_fd() is readable at once. */
int machine_debug_resume(struct machine *machine, const enum machine_debug_action *actions);

/* While all stand still. */
int machine_debug_set(struct machine *machine, const struct hv_debug *debug);
int machine_debug_get_regs(struct machine *machine, unsigned vcpu, struct cpu_state *ret_state);
int machine_debug_set_regs(struct machine *machine, unsigned vcpu, const struct cpu_state *state);
