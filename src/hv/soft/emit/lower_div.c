/* lower_div.c — DIV and IDIV, where it is plain that they do not raise.
 *
 * DIV overflows, or divides by zero, exactly if rDX is not less than the divisor.  IDIV is carried
 * out here if rDX is the sign of rAX, as CQO leaves it, and the divisor neither 0 nor -1; no
 * quotient overflows then.  All else is the interpreter's. */
#include "hv/soft/emit/emit_int.h"

#define CC_ABOVE_EQUAL 0x83
#define CC_NOT_EQUAL   0x85
#define CC_BELOW_EQUAL 0x86

/* opcode T2, imm8 */
static void t2_imm8(struct asm_buf *a, unsigned size, uint32_t opcode, unsigned digit, uint8_t imm)
{
    asm_rr(a, size, opcode, digit, HOST_T2);
    ASM(a, imm);
}

static void check_signed(struct translation *t, unsigned size, unsigned divisor)
{
    struct asm_buf *a = t->a;

    asm_rr(a, size, 0x89, HOST_RAX, HOST_T2);
    t2_imm8(a, size, 0xc1, 7, (uint8_t)(size * 8 - 1)); /* sar */
    asm_rr(a, size, 0x39, HOST_RDX, HOST_T2);
    emit_miss(t, asm_jump(a, CC_NOT_EQUAL));
    asm_rm(a, size, 0x8d, HOST_T2, divisor, 1);
    t2_imm8(a, size, 0x83, 7, 1); /* cmp: divisor + 1 is 0 or 1 */
    emit_miss(t, asm_jump(a, CC_BELOW_EQUAL));
}

static void check_unsigned(struct translation *t, unsigned size, unsigned divisor)
{
    asm_rr(t->a, size, 0x39, divisor, HOST_RDX); /* cmp rdx, divisor */
    emit_miss(t, asm_jump(t->a, CC_ABOVE_EQUAL));
}

bool emit_lower_div(struct translation *t, const struct insn *insn)
{
    const struct insn_operand *o = &insn->operand[0];
    bool is_signed = insn->op == INSN_IDIV;
    unsigned size = o->size, divisor = HOST_T1;

    if ((!is_signed && insn->op != INSN_DIV) || size < 4 ||
        (o->kind == INSN_MEM && !emit_can_address(insn))) {
        return false;
    }
    if (o->kind == INSN_MEM) {
        emit_check(t, insn, TLB_READ, size);
    }
    emit_flags_give_up(t, emit_flags_of(t, insn));
    if (o->kind == INSN_MEM) {
        emit_mem(t, size, 0x8b, HOST_T1);
    } else {
        divisor = emit_use(t, o->reg, HOST_T1);
    }
    (is_signed ? check_signed : check_unsigned)(t, size, divisor);
    if (t->is_live) { /* what it leaves in them may depend on what they were */
        emit_flags_restore(t);
        t->flags = FLAGS_HOST;
    }
    asm_rr(t->a, size, 0xf7, is_signed ? 7 : 6, divisor);
    return true;
}
