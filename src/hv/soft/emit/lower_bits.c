/* lower_bits.c — bit strings in memory, and BMI.
 *
 * A bit test of memory with its index in a register reaches the word that holds the bit: the index,
 * as a signed number, over the bits of a word. */
#include "hv/soft/emit/emit_int.h"

/* --- BT, BTS, BTR, BTC --- */

/* T1 = address of the word. */
static void word_address(struct translation *t, const struct insn *insn, unsigned size)
{
    unsigned shift = size == 2 ? 1 : size == 4 ? 2 : 3, index;
    struct asm_buf *a = t->a;

    emit_address(t, insn, 8, HOST_T1);
    index = emit_use(t, insn->operand[1].reg, HOST_T2);
    if (size == 8) {
        asm_mov(a, HOST_T2, index);
    } else if (size == 4) {
        asm_rr(a, 8, 0x63, HOST_T2, index); /* movsxd */
    } else {
        asm_rr(a, 8, ASM_0F | 0xbf, HOST_T2, index);
    }
    asm_rr(a, 8, 0xc1, 7, HOST_T2); /* sar */
    ASM(a, (uint8_t)(shift + 3));
    asm_rm_index(a, 8, 0x8d, HOST_T1, HOST_T1, HOST_T2, shift, 0);
}

/* T2 = index within the word; EFLAGS as the instruction wants them. */
static void index_in_word(struct translation *t, const struct insn *insn, unsigned size,
                          enum flags_read read)
{
    asm_mov(t->a, HOST_T2, emit_use(t, insn->operand[1].reg, HOST_T2));
    asm_rr(t->a, 4, 0x83, 4, HOST_T2); /* and */
    ASM(t->a, (uint8_t)(size * 8 - 1));
    if (read != READS_NONE) { /* that takes T2 */
        asm_store(t->a, HOST_T2, HOST_VCPU, OP_EA);
        emit_flags_need(t, read);
        asm_load(t->a, HOST_T2, HOST_VCPU, OP_EA);
    }
}

static bool lower_bit_string(struct translation *t, const struct insn *insn)
{
    unsigned size = insn->operand[0].size, digit = (unsigned)(insn->op - INSN_BT);
    struct flags_use use = emit_flags_of(t, insn);

    if (insn->operand[0].kind != INSN_MEM || insn->operand[1].kind != INSN_GPR ||
        insn->seg == SEG_FS || insn->seg == SEG_GS || !emit_can_address(insn)) {
        return false;
    }
    emit_flags_give_up(t, use);
    word_address(t, insn, size);
    emit_check_t1(t, digit ? TLB_WRITE : TLB_READ, size);
    index_in_word(t, insn, size, use.read);
    emit_mem(t, size, ASM_0F | (0xa3u + 8u * digit) | (insn->has_lock ? ASM_PREFIX(0xf0) : 0),
             HOST_T2);
    t->flags = FLAGS_HOST;
    return true;
}

/* --- BMI --- */

static const struct insn_operand *operand_at(const struct insn *insn, enum insn_field field)
{
    for (unsigned i = 0; i < insn->operand_count; i++) {
        if (insn->operand[i].kind == INSN_GPR && insn->operand[i].field == field) {
            return &insn->operand[i];
        }
    }
    return NULL;
}

/* Of registers that are in memory, ModRM.rm comes to T1 and vvvv to T2; what is written goes the
 * same way, ModRM.reg by T1: all is read before anything is written. */
static bool lower_bmi(struct translation *t, const struct insn *insn)
{
    const struct insn_operand *reg = operand_at(insn, INSN_AT_REG);
    const struct insn_operand *rm = operand_at(insn, INSN_AT_RM);
    const struct insn_operand *vvvv = operand_at(insn, INSN_AT_VVVV);
    bool writes_vvvv = vvvv && (vvvv == &insn->operand[0] || insn->op == INSN_MULX);
    struct flags_use use = emit_flags_of(t, insn);
    struct asm_vex p = {
        .map = insn->map, .pp = insn->pp, .w = insn->rex >> 3 & 1, .opcode = insn->opcode};
    unsigned r = insn->modrm >> 3 & 7u, m;

    if (!rm && (insn->modrm >= 0xc0 || !emit_can_address(insn))) {
        return false;
    }
    if (!rm) {
        emit_check(t, insn, TLB_READ, insn->opsize);
    }
    emit_flags_need(t, use.read);
    if (vvvv) {
        p.vvvv = (uint8_t)emit_use(t, vvvv->reg, HOST_T2);
    }
    r = reg ? emit_target(reg->reg, HOST_T1) : r;
    if (rm) {
        m = emit_use(t, rm->reg, HOST_T1);
        asm_vex_rr(t->a, &p, r, m);
    } else {
        emit_mem_vex(t, &p, r);
    }
    if (insn->imm_len) {
        asm_imm(t->a, (uint64_t)insn->imm, 1);
    }
    if (writes_vvvv) {
        emit_put(t, vvvv->reg, p.vvvv);
    }
    if (reg) {
        emit_put(t, reg->reg, r);
    }
    t->flags = use.writes ? FLAGS_HOST : t->flags;
    return true;
}

bool emit_lower_bits(struct translation *t, const struct insn *insn)
{
    switch (insn->op) {
    case INSN_BT:
    case INSN_BTS:
    case INSN_BTR:
    case INSN_BTC: return lower_bit_string(t, insn);
    case INSN_ANDN:
    case INSN_BEXTR:
    case INSN_BZHI:
    case INSN_BLSI:
    case INSN_BLSMSK:
    case INSN_BLSR:
    case INSN_PDEP:
    case INSN_PEXT:
    case INSN_MULX:
    case INSN_RORX:
    case INSN_SARX:
    case INSN_SHLX:
    case INSN_SHRX: return lower_bmi(t, insn);
    default: return false;
    }
}
