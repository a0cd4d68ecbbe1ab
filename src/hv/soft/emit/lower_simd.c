/* lower_simd.c — SSE to SSE4.2, AES, SHA and the like: encoded anew, on the host's vector
 * registers, which hold the guest's by the same numbers (vector.c).
 *
 * A memory operand becomes the checked host address; one that the guest's CPU wants aligned misses
 * the check if it is not (access.c).  General registers are renamed.  MMX shares its registers with
 * the x87 stack and stays in the interpreter, and so do masked stores. */
#include "hv/soft/emit/emit_int.h"

#define MXCSR_VALID 0xffffu
#define MXCSR_MASKS 0x1f80u

static const struct insn_operand *find(const struct insn *insn, enum insn_operand_kind kind)
{
    for (unsigned i = 0; i < insn->operand_count; i++) {
        if (insn->operand[i].kind == kind) {
            return &insn->operand[i];
        }
    }
    return NULL;
}

/* SDM volume 2, appendix A: of those with a general register CVT(T)S?2SI, MOVMSKP?, PEXTRW and
 * PMOVMSKB have it in ModRM.reg. */
static bool is_gpr_in_reg(const struct insn *insn)
{
    return insn->map == 1 && (insn->opcode == 0x2c || insn->opcode == 0x2d ||
                              insn->opcode == 0x50 || insn->opcode == 0xc5 || insn->opcode == 0xd7);
}

static bool is_mxcsr(const struct insn *insn)
{
    return insn->op == INSN_LDMXCSR || insn->op == INSN_STMXCSR || insn->op == INSN_VLDMXCSR ||
           insn->op == INSN_VSTMXCSR;
}

static bool can_lower(const struct insn *insn, const struct insn_operand *mem)
{
    if (insn->klass == INSN_CLASS_SIMD) {
        if (insn->op == INSN_EMMS || insn->op == INSN_MASKMOVDQU || find(insn, INSN_MMX)) {
            return false;
        }
    } else if (!is_mxcsr(insn)) {
        return false;
    }
    return !mem || (emit_can_address(insn) && mem->size > 0 && mem->size <= 64);
}

static uint32_t opcode_of(const struct insn *insn)
{
    static const uint32_t map[] = {0, ASM_0F, ASM_0F38, ASM_0F3A};
    uint32_t prefix = insn->rep ? insn->rep : insn->has_66 ? 0x66 : 0;

    return ASM_PREFIX(prefix) | map[insn->map] | insn->opcode;
}

/* Vector registers in the places that the general one does not take. */
static unsigned vec_reg(const struct insn *insn)
{
    return (insn->modrm >> 3 & 7u) | (insn->rex & 4u) << 1;
}

static unsigned vec_rm(const struct insn *insn)
{
    return (insn->modrm & 7u) | (insn->rex & 1u) << 3;
}

static void lower_any(struct translation *t, const struct insn *insn,
                      const struct insn_operand *mem)
{
    const struct insn_operand *gpr = find(insn, INSN_GPR);
    unsigned size = insn->rex & 8 ? 8 : 4, reg = vec_reg(insn), rm = vec_rm(insn), host = 0;
    struct flags_use use = emit_flags_of(t, insn);
    bool is_written = gpr && gpr == &insn->operand[0];

    if (mem) {
        emit_access(t, insn, insn->mem_access & INSN_MEM_WRITE ? TLB_WRITE : TLB_READ, mem->size,
                    !gpr);
    }
    if (gpr) {
        host = is_written ? emit_target(gpr->reg, HOST_T2) : emit_use(t, gpr->reg, HOST_T2);
        reg = is_gpr_in_reg(insn) ? host : reg;
        rm = is_gpr_in_reg(insn) ? rm : host;
    }
    if (mem) {
        emit_mem(t, size, opcode_of(insn), reg);
    } else {
        asm_rr(t->a, size, opcode_of(insn), reg, rm);
    }
    if (insn->imm_len) {
        asm_imm(t->a, (uint64_t)insn->imm, 1);
    }
    if (is_written) {
        emit_put(t, gpr->reg, host);
    }
    t->flags = use.writes ? FLAGS_HOST : t->flags;
    t->keeps_t1 = true;
}

/* --- MXCSR --- */

/* Only a value without reserved bits and with all exceptions masked may go to the host.  It was
 * read once: another vCPU may change it in memory. */
static void load_mxcsr(struct translation *t)
{
    struct asm_buf *a = t->a;

    emit_flags_give_up(t, (struct flags_use){READS_NONE, false});
    emit_mem(t, 4, 0x8b, HOST_T2);
    asm_rr(a, 4, 0x89, HOST_T2, HOST_T1);
    asm_rr(a, 4, 0x81, 4, HOST_T1); /* and */
    asm_imm(a, ~MXCSR_VALID | MXCSR_MASKS, 4);
    asm_rr(a, 4, 0x81, 7, HOST_T1); /* cmp */
    asm_imm(a, MXCSR_MASKS, 4);
    emit_miss(t, asm_jump(a, 0x85));
    asm_rm(a, 4, 0x89, HOST_T2, HOST_VCPU, OP_EA);
    asm_rm(a, 4, ASM_0F | 0xae, 2, HOST_VCPU, OP_EA);
}

static void lower_mxcsr(struct translation *t, const struct insn *insn)
{
    if (insn->op == INSN_STMXCSR || insn->op == INSN_VSTMXCSR) {
        emit_access(t, insn, TLB_WRITE, 4, true);
        emit_mem(t, 4, ASM_0F | 0xae, 3);
    } else {
        emit_access(t, insn, TLB_READ, 4, false);
        load_mxcsr(t);
    }
}

bool emit_lower_simd(struct translation *t, const struct insn *insn)
{
    const struct insn_operand *mem = find(insn, INSN_MEM);

    if (!can_lower(insn, mem)) {
        return false;
    }
    emit_vec_need(t, emit_flags_of(t, insn), insn->encoding == INSN_LEGACY ? VEC_SSE : VEC_AVX);
    if (is_mxcsr(insn)) {
        lower_mxcsr(t, insn);
    } else {
        lower_any(t, insn, mem);
    }
    return true;
}
