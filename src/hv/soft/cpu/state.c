/* state.c — struct vcpu to struct cpu_state and back. */
#include "hv/soft/cpu/state.h"

#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "hv/soft/cpu/cpuid.h"
#include "hv/soft/cpu/fpu.h"
#include "hv/soft/cpu/msrs.h"
#include "hv/soft/cpu/regs.h"
#include "hv/soft/cpu/segments.h"
#include "hv/soft/cpu/xstate.h"
#include "x86/cr.h"
#include "x86/msr.h"

_Static_assert(sizeof(((struct vcpu *)0)->xsave) == sizeof(((struct cpu_state *)0)->xsave),
               "one image");

static bool has_part(const struct xstate_layout *x, unsigned part)
{
    return x->mask >> part & 1 && x->offset[part] + xstate_parts[part].size <= CPU_XSAVE_BYTES;
}

static void get_msrs(struct vcpu *v, struct cpu_state *state)
{
    const uint32_t *list;
    unsigned count = msr_state_list(&list);

    state->msr_count = 0;
    for (unsigned i = 0; i < count; i++) {
        struct cpu_msr *msr = &state->msr[state->msr_count];

        msr->index = list[i];
        if (msr_read(v, list[i], &msr->value)) {
            state->msr_count++;
        }
    }
}

/* struct cpu_state has the offsets of CPUID, as KVM does. */
static void get_fpu(const struct vcpu *v, struct cpu_state *s)
{
    const struct xstate_layout *x = cpuid_xstate(v->cpuid);

    memset(s->xsave, 0, sizeof(s->xsave));
    memcpy(s->xsave, v->xsave, FPU_LEGACY_LEN);
    store_le64(s->xsave + FPU_XSTATE_BV, x->mask);
    for (unsigned i = XSTATE_FIRST; i < XSTATE_COUNT; i++) {
        if (has_part(x, i)) {
            memcpy(s->xsave + x->offset[i], v->xsave + xstate_parts[i].at, xstate_parts[i].size);
        }
    }
}

static enum cpu_run_state run_state_of(const struct vcpu *v)
{
    if (v->wait_for_sipi) {
        return CPU_WAIT_FOR_SIPI;
    }
    return v->halted ? CPU_HALTED : CPU_RUNNABLE;
}

void vcpu_state_get(struct vcpu *v, struct cpu_state *ret_state)
{
    struct cpu_state *s = ret_state;

    memcpy(s->gpr, v->gpr, sizeof(s->gpr));
    s->rip = v->rip;
    s->rflags = vcpu_rflags(v);
    memcpy(s->seg, v->seg, sizeof(s->seg));
    s->gdt = v->gdt;
    s->idt = v->idt;
    s->cr0 = v->cr0;
    s->cr2 = v->cr2;
    s->cr3 = v->cr3;
    s->cr4 = v->cr4;
    s->cr8 = v->platform->cr8_get(v);
    s->efer = v->efer;
    s->xcr0 = v->xcr0;
    memcpy(s->dr, v->dr, sizeof(s->dr));
    get_fpu(v, s);
    if (!msr_read(v, MSR_APIC_BASE, &s->apic_base)) {
        s->apic_base = 0;
    }
    s->run_state = run_state_of(v);
    s->events = (struct cpu_events){
        .interrupt_shadow = v->shadow,
        .nmi_blocked = v->nmi_blocked,
        .nmi_pending = (vcpu_poll(v) & POLL_NMI) != 0,
    };
    get_msrs(v, s);
}

/* Combinations that the writes of control registers refuse. */
static bool is_possible(const struct vcpu *v, const struct cpu_state *s)
{
    bool is_long = (s->efer & EFER_LME) && (s->cr0 & CR0_PG);

    return !(s->cr0 >> 32) && !((s->cr0 & CR0_PG) && !(s->cr0 & CR0_PE)) &&
           !(s->cr4 & ~cpuid_cr4_allowed(v->cpuid)) && !(s->efer & ~cpuid_efer_allowed(v->cpuid)) &&
           !(is_long && !(s->cr4 & CR4_PAE)) && is_long == ((s->efer & EFER_LMA) != 0) &&
           !((s->xcr0 | load_le64(s->xsave + FPU_XSTATE_BV)) & ~cpuid_xcr0_allowed(v->cpuid));
}

static void set_fpu(struct vcpu *v, const struct cpu_state *s)
{
    const struct xstate_layout *x = cpuid_xstate(v->cpuid);
    uint64_t in_use = load_le64(s->xsave + FPU_XSTATE_BV);
    uint32_t mxcsr = load_le32(s->xsave + FPU_MXCSR);

    fpu_reset(v);
    fpu_fninit(v);
    if (in_use & XCR0_X87) {
        memcpy(v->xsave, s->xsave, FPU_MXCSR);
        memcpy(v->xsave + FPU_ST0, s->xsave + FPU_ST0, FPU_XMM0 - FPU_ST0);
    }
    if (in_use & XCR0_SSE) {
        memcpy(v->xsave + FPU_XMM0, s->xsave + FPU_XMM0, 16 * 16);
    }
    if (mxcsr && !(mxcsr & ~FPU_MXCSR_VALID)) {
        store_le32(v->xsave + FPU_MXCSR, mxcsr);
    }
    for (unsigned i = XSTATE_FIRST; i < XSTATE_COUNT; i++) {
        if (in_use >> i & 1 && has_part(x, i)) {
            memcpy(v->xsave + xstate_parts[i].at, s->xsave + x->offset[i], xstate_parts[i].size);
        }
    }
}

static int set_msrs(struct vcpu *v, const struct cpu_state *s)
{
    unsigned effects;

    if (s->msr_count > CPU_MSR_MAX) {
        return -EINVAL;
    }
    for (unsigned i = 0; i < s->msr_count; i++) {
        if (!msr_write(v, s->msr[i].index, s->msr[i].value, &effects)) {
            return -EINVAL;
        }
    }
    return 0;
}

static int set_apic(struct vcpu *v, const struct cpu_state *s)
{
    bool fault = false;

    if (s->apic_base && v->platform->wrmsr(v, MSR_APIC_BASE, s->apic_base, &fault) && fault) {
        return -EINVAL;
    }
    v->platform->cr8_set(v, s->cr8 & 15);
    return 0;
}

static void set_registers(struct vcpu *v, const struct cpu_state *s)
{
    memcpy(v->gpr, s->gpr, sizeof(v->gpr));
    v->rip = s->rip;
    vcpu_set_rflags(v, (s->rflags & 0x3f7fd5) | FLAG_1);
    memcpy(v->seg, s->seg, sizeof(v->seg));
    v->gdt = s->gdt;
    v->idt = s->idt;
    v->cr0 = s->cr0 | CR0_ET;
    v->cr2 = s->cr2;
    v->cr3 = s->cr3;
    v->cr4 = s->cr4;
    v->efer = s->efer;
    v->xcr0 = s->xcr0 ? s->xcr0 : XCR0_X87;
    memcpy(v->dr, s->dr, sizeof(v->dr));
    v->dr[6] = (v->dr[6] & 0xe00f) | 0xffff0ff0;
    v->dr[7] = (v->dr[7] & 0xffff2fff) | 0x400;
}

static void set_events(struct vcpu *v, const struct cpu_state *s)
{
    v->shadow = s->events.interrupt_shadow & 3;
    v->nmi_blocked = s->events.nmi_blocked;
    if (s->events.nmi_pending) {
        atomic_fetch_or_explicit(&v->poll, POLL_NMI, memory_order_relaxed);
    }
    v->halted = s->run_state == CPU_HALTED;
    v->wait_for_sipi = s->run_state == CPU_WAIT_FOR_SIPI;
}

int vcpu_regs_set(struct vcpu *v, const struct cpu_state *state)
{
    unsigned effects;

    if (!is_possible(v, state)) {
        return -EINVAL;
    }
    for (unsigned i = 0; i < state->msr_count && i < CPU_MSR_MAX; i++) {
        const struct cpu_msr *msr = &state->msr[i];

        if (msr->index == MSR_KERNEL_GS_BASE && !msr_write(v, msr->index, msr->value, &effects)) {
            return -EINVAL;
        }
    }
    v->halted &= v->rip == state->rip;
    v->platform->cr8_set(v, state->cr8 & 15);
    set_registers(v, state);
    set_fpu(v, state);
    v->cpl = (uint8_t)segment_dpl(state->seg[SEG_SS].attr);
    vcpu_update_mode(v);
    return 0;
}

int vcpu_state_set(struct vcpu *v, const struct cpu_state *state)
{
    int r;

    if (!is_possible(v, state)) {
        return -EINVAL;
    }
    r = set_apic(v, state);
    if (r == 0) {
        r = set_msrs(v, state);
    }
    if (r < 0) {
        return r;
    }
    set_registers(v, state);
    set_fpu(v, state);
    set_events(v, state);
    v->cpl = (uint8_t)segment_dpl(state->seg[SEG_SS].attr);
    vcpu_update_mode(v);
    return 0;
}
