/* cpuid.h — what CPUID answers, and what follows from it.
 *
 * A model is computed once per VM from the host's CPUID and never changes; vCPUs share it, from any
 * thread.  Vendor, family, model and brand are the host's; features are those this engine carries
 * out, and hidden where the host lacks them.  Only x2APIC ids, the OSXSAVE bit and the size of the
 * XSAVE area depend on the vCPU that asks.
 */
#pragma once

#include "hv/soft/cpu/vcpu.h"
#include "x86/feature.h"

struct cpuid_model;

/* Frequency of the local APIC's timer before its divider. */
#define CPUID_APIC_KHZ 1000000u

/* tsc_khz: what platform->tsc() counts per millisecond.  NULL when out of memory. */
struct cpuid_model *cpuid_model_new(unsigned vcpu_count, uint32_t tsc_khz);
void cpuid_model_free(struct cpuid_model *model);

/* eax, ebx, ecx, edx */
void cpuid_query(const struct vcpu *v, uint32_t leaf, uint32_t subleaf, uint32_t ret_regs[4]);

/* Extensions that the guest is shown, as CPU_HAS() of x86/feature.h; without a model, all that the
 * host can carry out. */
uint64_t cpuid_features(const struct cpuid_model *model);
/* Does the guest see an AMD (or Hygon) CPU?  Decides vendor-specific behaviour. */
bool cpuid_is_amd(const struct cpuid_model *model);
/* Register bits that the guest may set. */
uint64_t cpuid_cr4_allowed(const struct cpuid_model *model);
uint64_t cpuid_efer_allowed(const struct cpuid_model *model);
uint64_t cpuid_xcr0_allowed(const struct cpuid_model *model);
/* Where guests have the parts of an XSAVE area. */
struct xstate_layout;
const struct xstate_layout *cpuid_xstate(const struct cpuid_model *model);
