/* sys_msr.c — RDMSR, WRMSR, RDTSC, RDTSCP, RDPMC, CPUID, and the FSGSBASE instructions. */
#include "hv/soft/cpu/cpuid.h"
#include "hv/soft/cpu/msrs.h"
#include "hv/soft/ref/sys.h"

static void set_edx_eax(struct vcpu *v, uint64_t value)
{
    v->gpr[GPR_RAX] = (uint32_t)value;
    v->gpr[GPR_RDX] = value >> 32;
}

enum ref_result sys_rdmsr(struct vcpu *v, const struct insn *insn)
{
    uint64_t value;

    (void)insn;
    sys_need_cpl0(v);
    if (!msr_read(v, (uint32_t)v->gpr[GPR_RCX], &value)) {
        sys_gp(v, 0);
    }
    set_edx_eax(v, value);
    return REF_NEXT;
}

enum ref_result sys_wrmsr(struct vcpu *v, const struct insn *insn)
{
    uint64_t value = (v->gpr[GPR_RDX] << 32) | (uint32_t)v->gpr[GPR_RAX];
    unsigned effects;

    (void)insn;
    sys_need_cpl0(v);
    if (!msr_write(v, (uint32_t)v->gpr[GPR_RCX], value, &effects)) {
        sys_gp(v, 0);
    }
    sys_apply(v, effects);
    return effects ? REF_END : REF_NEXT;
}

/* RDTSC, RDTSCP */
enum ref_result sys_rdtsc(struct vcpu *v, const struct insn *insn)
{
    if ((v->cr4 & CR4_TSD) && v->cpl != 0) {
        sys_gp(v, 0);
    }
    set_edx_eax(v, v->platform->tsc(v));
    if (insn->op == INSN_RDTSCP) {
        v->gpr[GPR_RCX] = (uint32_t)v->tsc_aux;
    }
    return REF_NEXT;
}

/* There are no performance counters, so no index is valid. */
enum ref_result sys_rdpmc(struct vcpu *v, const struct insn *insn)
{
    (void)insn;
    sys_gp(v, 0);
}

enum ref_result sys_cpuid(struct vcpu *v, const struct insn *insn)
{
    uint32_t r[4];

    (void)insn;
    cpuid_query(v, (uint32_t)v->gpr[GPR_RAX], (uint32_t)v->gpr[GPR_RCX], r);
    v->gpr[GPR_RAX] = r[0];
    v->gpr[GPR_RBX] = r[1];
    v->gpr[GPR_RCX] = r[2];
    v->gpr[GPR_RDX] = r[3];
    return REF_NEXT;
}

/* RDFSBASE, RDGSBASE, WRFSBASE, WRGSBASE */
enum ref_result sys_fsgsbase(struct vcpu *v, const struct insn *insn)
{
    bool is_fs = insn->op == INSN_RDFSBASE || insn->op == INSN_WRFSBASE;
    bool is_write = insn->op == INSN_WRFSBASE || insn->op == INSN_WRGSBASE;
    uint64_t *base = &v->seg[is_fs ? SEG_FS : SEG_GS].base;

    if (v->mode != MODE_LONG64 || !(v->cr4 & CR4_FSGSBASE)) {
        vcpu_raise(v, EXC_UD);
    }
    if (is_write) {
        uint64_t value = sys_operand_read(v, insn, 0);

        if (!vcpu_is_canonical(value)) {
            sys_gp(v, 0);
        }
        *base = value;
    } else {
        sys_operand_write(v, insn, 0, *base);
    }
    return REF_NEXT;
}

enum ref_result sys_rdpid(struct vcpu *v, const struct insn *insn)
{
    sys_operand_write(v, insn, 0, v->tsc_aux);
    return REF_NEXT;
}
