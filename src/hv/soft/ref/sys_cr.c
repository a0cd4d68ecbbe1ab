/* sys_cr.c — MOV to and from control and debug registers, CLTS, LMSW, SMSW, XGETBV, XSETBV. */
#include "hv/soft/mmu/mmu.h"
#include "hv/soft/ref/sys.h"

/* DR6 and DR7: bits that are always 1, and those that may be set (SDM volume 3, 18.2). */
#define DR6_FIXED UINT64_C(0xffff0ff0)
#define DR6_VALID UINT64_C(0xe00f)
#define DR6_BD    UINT64_C(0x2000)
#define DR7_FIXED UINT64_C(0x400)
#define DR7_VALID UINT64_C(0xffff2bff)
#define DR7_GD    UINT64_C(0x2000)

static uint64_t read_gpr(const struct vcpu *v, uint8_t reg)
{
    return v->mode == MODE_LONG64 ? v->gpr[reg & 15] : (uint32_t)v->gpr[reg & 15];
}

static void write_gpr(struct vcpu *v, uint8_t reg, uint64_t value)
{
    v->gpr[reg & 15] = v->mode == MODE_LONG64 ? value : (uint32_t)value;
}

enum ref_result sys_mov_to_cr(struct vcpu *v, const struct insn *insn)
{
    uint64_t value = read_gpr(v, insn->operand[1].reg);

    sys_need_cpl0(v);
    switch (insn->operand[0].reg) {
    case 0: sys_apply(v, vcpu_write_cr0(v, value)); return REF_END;
    case 2: v->cr2 = value; return REF_NEXT;
    case 3: sys_apply(v, vcpu_write_cr3(v, value)); return REF_NEXT;
    case 4: sys_apply(v, vcpu_write_cr4(v, value)); return REF_END;
    case 8:
        if (value >> 4) {
            sys_gp(v, 0);
        }
        v->platform->cr8_set(v, value);
        return REF_NEXT;
    default: vcpu_raise(v, EXC_UD);
    }
}

enum ref_result sys_mov_from_cr(struct vcpu *v, const struct insn *insn)
{
    uint64_t value;

    sys_need_cpl0(v);
    switch (insn->operand[1].reg) {
    case 0: value = v->cr0; break;
    case 2: value = v->cr2; break;
    case 3: value = v->cr3; break;
    case 4: value = v->cr4; break;
    case 8: value = v->platform->cr8_get(v); break;
    default: vcpu_raise(v, EXC_UD);
    }
    write_gpr(v, insn->operand[0].reg, value);
    return REF_NEXT;
}

/* The debug register meant; DR4 and DR5 are DR6 and DR7 unless CR4.DE. */
static unsigned debug_register(struct vcpu *v, unsigned reg)
{
    if (reg == 4 || reg == 5) {
        if (v->cr4 & CR4_DE) {
            vcpu_raise(v, EXC_UD);
        }
        reg += 2;
    }
    if (reg > 7) {
        vcpu_raise(v, EXC_UD);
    }
    sys_need_cpl0(v);
    if (v->dr[7] & DR7_GD) {
        v->dr[6] |= DR6_BD;
        v->dr[7] &= ~DR7_GD;
        vcpu_raise(v, EXC_DB);
    }
    return reg;
}

enum ref_result sys_mov_to_dr(struct vcpu *v, const struct insn *insn)
{
    unsigned reg = debug_register(v, insn->operand[0].reg);
    uint64_t value = read_gpr(v, insn->operand[1].reg);

    if (reg >= 6 && value >> 32) {
        sys_gp(v, 0);
    }
    if (reg == 6) {
        value = (value & DR6_VALID) | DR6_FIXED;
    } else if (reg == 7) {
        value = (value & DR7_VALID) | DR7_FIXED;
    }
    v->dr[reg] = value;
    return REF_NEXT;
}

enum ref_result sys_mov_from_dr(struct vcpu *v, const struct insn *insn)
{
    unsigned reg = debug_register(v, insn->operand[1].reg);

    write_gpr(v, insn->operand[0].reg, v->dr[reg]);
    return REF_NEXT;
}

enum ref_result sys_clts(struct vcpu *v, const struct insn *insn)
{
    (void)insn;
    sys_need_cpl0(v);
    v->cr0 &= ~CR0_TS;
    return REF_NEXT;
}

/* LMSW sets the low four bits of CR0, but never clears PE. */
enum ref_result sys_lmsw(struct vcpu *v, const struct insn *insn)
{
    uint64_t value = sys_operand_read(v, insn, 0) & 0xf;

    sys_need_cpl0(v);
    sys_apply(v, vcpu_write_cr0(v, (v->cr0 & ~UINT64_C(0xe)) | value));
    return REF_END;
}

enum ref_result sys_smsw(struct vcpu *v, const struct insn *insn)
{
    sys_operand_write(v, insn, 0, v->cr0);
    return REF_NEXT;
}

enum ref_result sys_xgetbv(struct vcpu *v, const struct insn *insn)
{
    uint32_t index = (uint32_t)v->gpr[GPR_RCX];
    uint64_t value;

    (void)insn;
    if (!(v->cr4 & CR4_OSXSAVE)) {
        vcpu_raise(v, EXC_UD);
    }
    if (index > 1 || (index == 1 && !(v->features & CPU_HAS(XGETBV1)))) {
        sys_gp(v, 0);
    }
    value = index == 1 ? v->xcr0 & sys_xstate_in_use(v) : v->xcr0;
    v->gpr[GPR_RAX] = (uint32_t)value;
    v->gpr[GPR_RDX] = value >> 32;
    return REF_NEXT;
}

enum ref_result sys_xsetbv(struct vcpu *v, const struct insn *insn)
{
    uint64_t value = (v->gpr[GPR_RDX] << 32) | (uint32_t)v->gpr[GPR_RAX];

    (void)insn;
    if (!(v->cr4 & CR4_OSXSAVE)) {
        vcpu_raise(v, EXC_UD);
    }
    sys_need_cpl0(v);
    if ((uint32_t)v->gpr[GPR_RCX] != 0 || !vcpu_write_xcr0(v, value)) {
        sys_gp(v, 0);
    }
    return REF_END;
}
