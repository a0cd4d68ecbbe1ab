/* state.h — a vCPU's architectural state, out of and into struct vcpu.
 *
 * The owner of the vCPU calls; it is not running.  The `lapic` page of struct cpu_state is not
 * touched: it belongs to intc/.  After vcpu_state_set() the caller flushes the MMU (mmu_flush_all).
 */
#pragma once

#include "hv/soft/cpu/vcpu.h"

void vcpu_state_get(struct vcpu *v, struct cpu_state *ret_state);
/* -EINVAL if no CPU could be in this state; nothing has changed then, save MSRs of the platform. */
int vcpu_state_set(struct vcpu *v, const struct cpu_state *state);
/* The registers alone, as hv_vcpu_set_regs(); the caller calls mmu_mode_changed(). */
int vcpu_regs_set(struct vcpu *v, const struct cpu_state *state);
