/* sys_flags.c — PUSHF, POPF, CLI, STI, STAC, CLAC, HLT. */
#include "hv/soft/cpu/cpuid.h"
#include "hv/soft/mmu/mmu.h"
#include "hv/soft/ref/sys.h"

static bool has_iopl(const struct vcpu *v)
{
    return v->cpl <= (vcpu_rflags(v) & FLAG_IOPL) >> 12;
}

enum ref_result sys_pushf(struct vcpu *v, const struct insn *insn)
{
    ref_push(v, vcpu_rflags(v) & ~(uint64_t)(FLAG_RF | FLAG_VM), insn->opsize);
    return REF_NEXT;
}

enum ref_result sys_popf(struct vcpu *v, const struct insn *insn)
{
    uint64_t mask = sys_flags_mask(v, insn->opsize) & ~(uint64_t)(FLAG_VIF | FLAG_VIP);
    uint64_t old = vcpu_rflags(v);
    uint64_t value = (old & ~mask) | (ref_pop(v, insn->opsize) & mask);

    vcpu_set_rflags(v, (value & ~(uint64_t)FLAG_RF) | FLAG_1);
    if ((old ^ value) & FLAG_AC) {
        mmu_ac_changed(v);
    }
    return (old ^ value) & (FLAG_IF | FLAG_TF) ? REF_END : REF_NEXT;
}

enum ref_result sys_cli(struct vcpu *v, const struct insn *insn)
{
    (void)insn;
    if (!has_iopl(v)) {
        sys_gp(v, 0);
    }
    vcpu_set_rflags(v, vcpu_rflags(v) & ~(uint64_t)FLAG_IF);
    return REF_NEXT;
}

enum ref_result sys_sti(struct vcpu *v, const struct insn *insn)
{
    (void)insn;
    if (!has_iopl(v)) {
        sys_gp(v, 0);
    }
    if (!(vcpu_rflags(v) & FLAG_IF)) {
        vcpu_set_rflags(v, vcpu_rflags(v) | FLAG_IF);
        v->shadow |= 1; /* until the end of the next instruction */
    }
    return REF_END;
}

/* STAC and CLAC: #UD where SMAP does not exist or outside CPL 0. */
enum ref_result sys_ac(struct vcpu *v, const struct insn *insn)
{
    uint64_t flags = vcpu_rflags(v) & ~(uint64_t)FLAG_AC;

    if (!(cpuid_cr4_allowed(v->cpuid) & CR4_SMAP) || v->cpl != 0) {
        vcpu_raise(v, EXC_UD);
    }
    vcpu_set_rflags(v, insn->op == INSN_STAC ? flags | FLAG_AC : flags);
    mmu_ac_changed(v);
    return REF_NEXT;
}

enum ref_result sys_hlt(struct vcpu *v, const struct insn *insn)
{
    (void)insn;
    sys_need_cpl0(v);
    v->halted = 1;
    return REF_END;
}
