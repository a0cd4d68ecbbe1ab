/* lower_avx.c — VEX and EVEX instructions on vector and mask registers: encoded anew, like those of
 * lower_simd.c.
 *
 * Masked memory operands run here where all of the operand may be accessed: what is masked off is
 * not touched then either.  Where it may not, the interpreter goes by element (ref/native_avx.c),
 * as it always does for gathers and scatters. */
#include "hv/soft/emit/emit_int.h"
#include "x86/feature.h"

static const struct insn_operand *find(const struct insn *insn, enum insn_operand_kind kind)
{
    for (unsigned i = 0; i < insn->operand_count; i++) {
        if (insn->operand[i].kind == kind) {
            return &insn->operand[i];
        }
    }
    return NULL;
}

static enum vec_level level_of(const struct insn *insn)
{
    return insn->encoding == INSN_EVEX || insn->features & CPU_NEEDS_AVX512 ? VEC_AVX512 : VEC_AVX;
}

static bool can_lower(const struct insn *insn, const struct insn_operand *mem)
{
    if (insn->klass != INSN_CLASS_AVX || insn->has_vsib || insn->op == INSN_VMASKMOVDQU) {
        return false;
    }
    return !mem || (emit_can_address(insn) && mem->size > 0 && mem->size <= 64);
}

/* Numbers of the registers in ModRM and vvvv. */
struct fields {
    unsigned reg, rm;
};

static void set_fields(const struct insn *insn, struct asm_vex *p, struct fields *f, unsigned gpr)
{
    f->reg = insn->modrm >> 3 & 7;
    for (unsigned i = 0; i < insn->operand_count; i++) {
        const struct insn_operand *o = &insn->operand[i];
        unsigned reg = o->kind == INSN_GPR ? gpr : o->reg;

        switch ((enum insn_field)o->field) {
        case INSN_AT_REG: f->reg = reg; break;
        case INSN_AT_RM: f->rm = reg; break;
        case INSN_AT_VVVV: p->vvvv = (uint8_t)reg; break;
        case INSN_AT_IS4:
        case INSN_AT_NONE: break;
        }
    }
}

static void put_immediate(struct translation *t, const struct insn *insn)
{
    uint8_t imm = (uint8_t)insn->imm;

    for (unsigned i = 0; i < insn->operand_count; i++) {
        if (insn->operand[i].field == INSN_AT_IS4) {
            imm = (uint8_t)(insn->operand[i].reg << 4 | (imm & 15));
        }
    }
    if (insn->imm_len) {
        ASM(t->a, imm);
    }
}

/* A general register in memory is T2 here, which the check of a memory operand leaves alone then.
 */
static void lower_any(struct translation *t, const struct insn *insn,
                      const struct insn_operand *mem)
{
    const struct insn_operand *gpr = find(insn, INSN_GPR);
    bool is_written = gpr && gpr == &insn->operand[0];
    struct flags_use use = emit_flags_of(t, insn);
    struct fields f = {0};
    unsigned host = 0;
    struct asm_vex p = {.is_evex = insn->encoding == INSN_EVEX,
                        .map = insn->map,
                        .pp = insn->pp,
                        .w = insn->rex >> 3 & 1,
                        .ll = insn->ll,
                        .opcode = insn->opcode,
                        .opmask = insn->opmask,
                        .has_zeroing = insn->has_zeroing,
                        .has_b = insn->has_b};

    if (mem) {
        emit_access(t, insn, insn->mem_access & INSN_MEM_WRITE ? TLB_WRITE : TLB_READ, mem->size,
                    !gpr);
    }
    if (gpr) {
        host = is_written ? emit_target(gpr->reg, HOST_T2) : emit_use(t, gpr->reg, HOST_T2);
    }
    set_fields(insn, &p, &f, host);
    if (!insn->has_modrm) {
        asm_vex_alone(t->a, &p);
    } else if (mem) {
        emit_mem_vex(t, &p, f.reg);
    } else {
        asm_vex_rr(t->a, &p, f.reg, f.rm);
    }
    put_immediate(t, insn);
    if (is_written) {
        emit_put(t, gpr->reg, host);
    }
    t->flags = use.writes ? FLAGS_HOST : t->flags;
    t->keeps_t1 = true;
}

bool emit_lower_avx(struct translation *t, const struct insn *insn)
{
    const struct insn_operand *mem = find(insn, INSN_MEM);

    if (!can_lower(insn, mem)) {
        return false;
    }
    emit_vec_need(t, emit_flags_of(t, insn), level_of(insn));
    lower_any(t, insn, mem);
    return true;
}
