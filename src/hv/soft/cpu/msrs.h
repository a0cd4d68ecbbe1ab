/* msrs.h — RDMSR and WRMSR.
 *
 * The MSRs of the local APIC, the TSC and the paravirtual clock belong to platform->rdmsr and
 * platform->wrmsr; they are asked first.  Everything else is here.  False means #GP(0).
 */
#pragma once

#include "hv/soft/cpu/vcpu.h"

bool msr_read(struct vcpu *v, uint32_t index, uint64_t *ret_value);
/* *ret_effects as in regs.h. */
bool msr_write(struct vcpu *v, uint32_t index, uint64_t value, unsigned *ret_effects);

/* Every MSR that belongs to the state of a vCPU (struct cpu_state's msr[]); ends with 0 entries
 * left: returns how many. */
unsigned msr_state_list(const uint32_t **ret_list);
