/* op_shift.c — ROL ROR RCL RCR SHL SHR SAR SHLD SHRD.
 *
 * The host's instruction masks the count, leaves the flags for a count of 0, and gives its own
 * values to undefined flags. */
#include "hv/soft/ref/lower_int.h"
#include "hv/soft/ref/op_mem.h"

#define CL (GPR_RCX * 8)

#define SHIFT_OP(name, ins, bits, sfx, k)                                                  \
    static inline OP_UINT(bits) name##bits(struct vcpu *v, OP_UINT(bits) a, uint8_t count) \
    {                                                                                      \
        uint16_t f = v->aflags;                                                            \
        __asm__(ASM_FLAGS_IN ins sfx " %%cl, %" k "0; " ASM_FLAGS_OUT                      \
                : "+q"(a), "+&a"(f)                                                        \
                : "c"(count)                                                               \
                : "cc");                                                                   \
        v->aflags = f;                                                                     \
        return a;                                                                          \
    }

#define SHIFT_FORMS(name, bits)                                                       \
    OP_HANDLER(name##bits##_ri)                                                       \
    {                                                                                 \
        SET##bits(v, op->dst, name##bits(v, R##bits(v, op->dst), (uint8_t)op->imm));  \
        OP_NEXT(v, op);                                                               \
    }                                                                                 \
    OP_HANDLER(name##bits##_rc)                                                       \
    {                                                                                 \
        SET##bits(v, op->dst, name##bits(v, R##bits(v, op->dst), R8(v, CL)));         \
        OP_NEXT(v, op);                                                               \
    }                                                                                 \
    OP_RMW(name##bits##_mi, bits, op_la_base, x = name##bits(v, x, (uint8_t)op->imm)) \
    OP_RMW(name##bits##_mc, bits, op_la_base, x = name##bits(v, x, R8(v, CL)))

#define SHIFT(name, ins)              \
    SHIFT_OP(name, ins, 8, "b", "b")  \
    SHIFT_OP(name, ins, 16, "w", "w") \
    SHIFT_OP(name, ins, 32, "l", "k") \
    SHIFT_OP(name, ins, 64, "q", "q") \
    SHIFT_FORMS(name, 8)              \
    SHIFT_FORMS(name, 16)             \
    SHIFT_FORMS(name, 32)             \
    SHIFT_FORMS(name, 64)

SHIFT(rol, "rol")
SHIFT(ror, "ror")
SHIFT(rcl, "rcl")
SHIFT(rcr, "rcr")
SHIFT(shl, "shl")
SHIFT(shr, "shr")
SHIFT(sar, "sar")

#define SHIFT_CELL(name, bits)                                             \
    {                                                                      \
        name##bits##_ri, name##bits##_rc, name##bits##_mi, name##bits##_mc \
    }
#define SHIFT_ROW(name)                                                                       \
    {                                                                                         \
        SHIFT_CELL(name, 8), SHIFT_CELL(name, 16), SHIFT_CELL(name, 32), SHIFT_CELL(name, 64) \
    }
static const op_fn shift_table[][4][4] = {SHIFT_ROW(rol), SHIFT_ROW(ror), SHIFT_ROW(rcl),
                                          SHIFT_ROW(rcr), SHIFT_ROW(shl), SHIFT_ROW(shr),
                                          SHIFT_ROW(sar)};
_Static_assert(INSN_SAR - INSN_ROL == 6 && INSN_SHL - INSN_ROL == 4, "order of ops.def");

static void lower_single(struct lower *lw, const struct insn *insn)
{
    unsigned size = insn->operand[0].size;
    unsigned form = insn->operand[1].kind == INSN_IMM ? 0 : 1;
    struct lower_ea ea = {0};
    struct op *op;

    if (insn->operand[0].kind == INSN_MEM) {
        ea = lower_mem(lw, insn, size, true);
        form += 2;
    }
    op = lower_emit(lw, shift_table[insn->op - INSN_ROL][lower_log2(size)][form]);
    lower_set_ea(op, &ea);
    op->imm = (uint64_t)insn->imm;
    op->dst = lower_reg(&insn->operand[0]);
}

/* --- SHLD, SHRD: src is the register whose bits come in --- */

#define DOUBLE_OP(name, ins, bits, sfx, k)                                                         \
    static inline OP_UINT(bits)                                                                    \
        name##bits(struct vcpu *v, OP_UINT(bits) a, OP_UINT(bits) b, uint8_t count)                \
    {                                                                                              \
        uint16_t f = v->aflags;                                                                    \
        __asm__(ASM_FLAGS_IN ins sfx " %%cl, %" k "3, %" k "0; " ASM_FLAGS_OUT                     \
                : "+r"(a), "+&a"(f)                                                                \
                : "c"(count), "r"(b)                                                               \
                : "cc");                                                                           \
        v->aflags = f;                                                                             \
        return a;                                                                                  \
    }                                                                                              \
    OP_HANDLER(name##bits##_ri)                                                                    \
    {                                                                                              \
        SET##bits(v, op->dst,                                                                      \
                  name##bits(v, R##bits(v, op->dst), R##bits(v, op->src), (uint8_t)op->imm));      \
        OP_NEXT(v, op);                                                                            \
    }                                                                                              \
    OP_HANDLER(name##bits##_rc)                                                                    \
    {                                                                                              \
        SET##bits(v, op->dst, name##bits(v, R##bits(v, op->dst), R##bits(v, op->src), R8(v, CL))); \
        OP_NEXT(v, op);                                                                            \
    }                                                                                              \
    OP_RMW(name##bits##_mi, bits, op_la_base,                                                      \
           x = name##bits(v, x, R##bits(v, op->src), (uint8_t)op->imm))                            \
    OP_RMW(name##bits##_mc, bits, op_la_base, x = name##bits(v, x, R##bits(v, op->src), R8(v, CL)))

#define DOUBLE(name, ins)              \
    DOUBLE_OP(name, ins, 16, "w", "w") \
    DOUBLE_OP(name, ins, 32, "l", "k") \
    DOUBLE_OP(name, ins, 64, "q", "q")
DOUBLE(shld, "shld")
DOUBLE(shrd, "shrd")

static const op_fn double_table[2][3][4] = {
    {SHIFT_CELL(shld, 16), SHIFT_CELL(shld, 32), SHIFT_CELL(shld, 64)},
    {SHIFT_CELL(shrd, 16), SHIFT_CELL(shrd, 32), SHIFT_CELL(shrd, 64)}};

static void lower_double(struct lower *lw, const struct insn *insn)
{
    unsigned size = insn->operand[0].size;
    unsigned form = insn->operand[2].kind == INSN_IMM ? 0 : 1;
    struct lower_ea ea = {0};
    struct op *op;

    if (insn->operand[0].kind == INSN_MEM) {
        ea = lower_mem(lw, insn, size, true);
        form += 2;
    }
    op = lower_emit(lw, double_table[insn->op == INSN_SHRD][lower_wide(size)][form]);
    lower_set_ea(op, &ea);
    op->imm = (uint64_t)insn->imm;
    op->dst = lower_reg(&insn->operand[0]);
    op->src = lower_reg(&insn->operand[1]);
}

bool lower_shift(struct lower *lw, const struct insn *insn)
{
    if (insn->op >= INSN_ROL && insn->op <= INSN_SAR) {
        lower_single(lw, insn);
        return true;
    }
    if (insn->op == INSN_SHLD || insn->op == INSN_SHRD) {
        lower_double(lw, insn);
        return true;
    }
    return false;
}
