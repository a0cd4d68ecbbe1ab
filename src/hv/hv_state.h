/* hv_state.h — CPUs and clocks as sections of a state file. */
#pragma once

#include "hv/cpu_state.h"
#include "hv/vm_state.h"

struct hv_cpuid;
struct state;

/* Both ways; what a register may hold is the backend's to check. */
void cpu_state_fields(struct cpu_state *cpu, struct state *s);
void vm_state_fields(struct vm_state *vm, struct state *s);
void cpuid_fields(struct hv_cpuid *table, struct state *s);
