/* cpuid.h — what CPUID answers, and what follows from it.
 *
 * A model is computed once per VM from the host's CPUID and never changes; vCPUs share it, from any
 * thread.  Vendor, family and model are the host's; features are those this engine carries out, and
 * hidden where the host lacks them; then hv/cpuid.h shapes them.  Only APIC ids, the OSXSAVE bit
 * and the size of the XSAVE area depend on the vCPU that asks.
 */
#pragma once

#include "hv/soft/cpu/vcpu.h"
#include "x86/feature.h"

struct cpuid_model;
struct err;
struct hv_cpuid;
struct hv_cpuid_vm;

/* Frequency of the local APIC's timer before its divider. */
#define CPUID_APIC_KHZ 1000000u

/* tsc_khz: what platform->tsc() counts per millisecond.  -ENOTSUP: the template of `vm` changes
 * what is not there.  The template outlives the model. */
int cpuid_model_new(const struct hv_cpuid_vm *vm, uint32_t tsc_khz, struct cpuid_model **ret_model,
                    struct err *err);
void cpuid_model_free(struct cpuid_model *model);

/* All that it answers, but for what depends on the vCPU. */
const struct hv_cpuid *cpuid_table(const struct cpuid_model *model);

/* eax, ebx, ecx, edx */
void cpuid_query(const struct vcpu *v, uint32_t leaf, uint32_t subleaf, uint32_t ret_regs[4]);

/* Extensions that the guest is shown, as CPU_HAS() of x86/feature.h; without a model, all that the
 * host can carry out. */
uint64_t cpuid_features(const struct cpuid_model *model);
/* What the template makes of an MSR's value. */
uint64_t cpuid_template_msr(const struct cpuid_model *model, uint32_t index, uint64_t value);
/* Does the guest see an AMD (or Hygon) CPU?  Decides vendor-specific behaviour. */
bool cpuid_is_amd(const struct cpuid_model *model);
/* Register bits that the guest may set. */
uint64_t cpuid_cr4_allowed(const struct cpuid_model *model);
uint64_t cpuid_efer_allowed(const struct cpuid_model *model);
uint64_t cpuid_xcr0_allowed(const struct cpuid_model *model);
/* Where guests have the parts of an XSAVE area. */
struct xstate_layout;
const struct xstate_layout *cpuid_xstate(const struct cpuid_model *model);
