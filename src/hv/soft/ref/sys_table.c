/* sys_table.c — which function carries out which system instruction, and their common helpers. */
#include "hv/soft/mmu/mmu.h"
#include "hv/soft/ref/sys.h"

static const sys_fn g_system[INSN_OP_COUNT] = {
    [INSN_RETF] = sys_retf,
    [INSN_JMP_FAR] = sys_jmp_far,
    [INSN_CALL_FAR] = sys_call_far,
    [INSN_IRET] = sys_iret,
    [INSN_INT] = sys_int,
    [INSN_INT3] = sys_int,
    [INSN_INT1] = sys_int,
    [INSN_INTO] = sys_int,
    [INSN_PUSHF] = sys_pushf,
    [INSN_POPF] = sys_popf,
    [INSN_CLI] = sys_cli,
    [INSN_STI] = sys_sti,
    [INSN_IN] = sys_in,
    [INSN_OUT] = sys_out,
    [INSN_HLT] = sys_hlt,
    [INSN_PUSH_SREG] = sys_push_sreg,
    [INSN_POP_SREG] = sys_pop_sreg,
    [INSN_MOV_TO_SREG] = sys_mov_to_sreg,
    [INSN_MOV_FROM_SREG] = sys_mov_from_sreg,
    [INSN_LDS] = sys_load_far_pointer,
    [INSN_LES] = sys_load_far_pointer,
    [INSN_LSS] = sys_load_far_pointer,
    [INSN_LFS] = sys_load_far_pointer,
    [INSN_LGS] = sys_load_far_pointer,
    [INSN_MOV_TO_CR] = sys_mov_to_cr,
    [INSN_MOV_FROM_CR] = sys_mov_from_cr,
    [INSN_MOV_TO_DR] = sys_mov_to_dr,
    [INSN_MOV_FROM_DR] = sys_mov_from_dr,
    [INSN_CLTS] = sys_clts,
    [INSN_LMSW] = sys_lmsw,
    [INSN_SMSW] = sys_smsw,
    [INSN_LGDT] = sys_load_table,
    [INSN_LIDT] = sys_load_table,
    [INSN_SGDT] = sys_store_table,
    [INSN_SIDT] = sys_store_table,
    [INSN_LLDT] = sys_lldt,
    [INSN_LTR] = sys_ltr,
    [INSN_SLDT] = sys_store_selector,
    [INSN_STR] = sys_store_selector,
    [INSN_LAR] = sys_lar_lsl,
    [INSN_LSL] = sys_lar_lsl,
    [INSN_VERR] = sys_verr_verw,
    [INSN_VERW] = sys_verr_verw,
    [INSN_ARPL] = sys_arpl,
    [INSN_INVLPG] = sys_invlpg,
    [INSN_INVD] = sys_cache_flush,
    [INSN_WBINVD] = sys_cache_flush,
    [INSN_RDMSR] = sys_rdmsr,
    [INSN_WRMSR] = sys_wrmsr,
    [INSN_RDTSC] = sys_rdtsc,
    [INSN_RDTSCP] = sys_rdtsc,
    [INSN_RDPMC] = sys_rdpmc,
    [INSN_CPUID] = sys_cpuid,
    [INSN_SYSCALL] = sys_syscall,
    [INSN_SYSRET] = sys_sysret,
    [INSN_SYSENTER] = sys_sysenter,
    [INSN_SYSEXIT] = sys_sysexit,
    [INSN_SWAPGS] = sys_swapgs,
    [INSN_STAC] = sys_ac,
    [INSN_CLAC] = sys_ac,
    [INSN_XGETBV] = sys_xgetbv,
    [INSN_XSETBV] = sys_xsetbv,
    [INSN_VMCALL] = sys_vmcall,
    [INSN_VMMCALL] = sys_vmcall,
    [INSN_RDFSBASE] = sys_fsgsbase,
    [INSN_RDGSBASE] = sys_fsgsbase,
    [INSN_WRFSBASE] = sys_fsgsbase,
    [INSN_WRGSBASE] = sys_fsgsbase,
    [INSN_RDPID] = sys_rdpid,
    /* hidden by CPUID, hence #UD: INVPCID MONITOR MWAIT */
};

enum ref_result ref_system(struct vcpu *v, const struct insn *insn)
{
    sys_fn fn = insn->op < INSN_OP_COUNT ? g_system[insn->op] : NULL;

    if (!fn) {
        vcpu_raise(v, EXC_UD);
    }
    /* cppcheck-suppress nullPointerRedundantCheck ; vcpu_raise() does not return */
    return fn(v, insn);
}

uint64_t sys_operand_read(struct vcpu *v, const struct insn *insn, unsigned index)
{
    const struct insn_operand *o = &insn->operand[index];
    uint64_t value = 0;

    if (o->kind == INSN_MEM) {
        mmu_read(v, ref_ea(v, insn, o->size, false), &value, o->size);
    } else if (o->kind == INSN_IMM) {
        value = (uint64_t)insn->imm;
    } else {
        __builtin_memcpy(&value, &v->gpr[o->reg & 15], o->size <= 8 ? o->size : 8);
    }
    return value;
}

void sys_operand_write(struct vcpu *v, const struct insn *insn, unsigned index, uint64_t value)
{
    const struct insn_operand *o = &insn->operand[index];

    if (o->kind == INSN_MEM) {
        mmu_write(v, ref_ea(v, insn, o->size, true), &value, o->size);
    } else if (o->size == 2) {
        v->gpr[o->reg & 15] = (v->gpr[o->reg & 15] & ~UINT64_C(0xffff)) | (uint16_t)value;
    } else {
        v->gpr[o->reg & 15] = o->size == 8 ? value : (uint32_t)value;
    }
}

/* --- the stack --- */

static uint64_t stack_mask(const struct vcpu *v)
{
    if (v->mode == MODE_LONG64) {
        return UINT64_MAX;
    }
    return v->seg[SEG_SS].attr & SEG_ATTR_DB ? UINT32_MAX : UINT16_MAX;
}

uint64_t sys_stack_peek(struct vcpu *v, uint64_t offset, unsigned size)
{
    uint64_t at = (v->gpr[GPR_RSP] + offset) & stack_mask(v);
    uint64_t value = 0;

    mmu_read(v, ref_linear(v, SEG_SS, at, size, false), &value, size);
    return value;
}

void sys_stack_room(struct vcpu *v, unsigned bytes)
{
    uint64_t at = (v->gpr[GPR_RSP] - bytes) & stack_mask(v);

    mmu_check_write(v, ref_linear(v, SEG_SS, at, bytes, true), bytes);
}

void sys_stack_drop(struct vcpu *v, uint64_t bytes)
{
    uint64_t mask = stack_mask(v);
    uint64_t rsp = (v->gpr[GPR_RSP] + bytes) & mask;

    v->gpr[GPR_RSP] = mask == UINT16_MAX ? (v->gpr[GPR_RSP] & ~mask) | rsp : rsp;
}

void sys_apply(struct vcpu *v, unsigned effects)
{
    if (effects & REGS_FLUSH_ALL) {
        mmu_mode_changed(v);
    } else if (effects & REGS_FLUSH_LOCAL) {
        mmu_flush_non_global(v);
    }
}
