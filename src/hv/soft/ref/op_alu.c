/* op_alu.c — ADD OR ADC SBB AND SUB XOR CMP TEST INC DEC NEG NOT. */
#include "hv/soft/ref/lower_int.h"
#include "hv/soft/ref/op_mem.h"

/* --- the operations: the host's own instruction, and its flags --- */

#define ALU_BINARY(name, ins, bits, sfx, k)                                                       \
    static inline OP_UINT(bits) name##bits(struct vcpu *v, OP_UINT(bits) a, OP_UINT(bits) b)      \
    {                                                                                             \
        uint16_t f;                                                                               \
        __asm__(ins sfx " %" k "2, %" k "0; " ASM_FLAGS_OUT : "+q"(a), "=&a"(f) : "q"(b) : "cc"); \
        v->aflags = f;                                                                            \
        return a;                                                                                 \
    }

/* With CF as an input. */
#define ALU_CARRY(name, ins, bits, sfx, k)                                                   \
    static inline OP_UINT(bits) name##bits(struct vcpu *v, OP_UINT(bits) a, OP_UINT(bits) b) \
    {                                                                                        \
        uint16_t f = v->aflags;                                                              \
        __asm__("btw $8, %w1; " ins sfx " %" k "2, %" k "0; " ASM_FLAGS_OUT                  \
                : "+q"(a), "+&a"(f)                                                          \
                : "q"(b)                                                                     \
                : "cc");                                                                     \
        v->aflags = f;                                                                       \
        return a;                                                                            \
    }

/* INC, DEC keep CF; the same form does for NEG. */
#define ALU_UNARY(name, ins, bits, sfx, k)                                                        \
    static inline OP_UINT(bits) name##bits(struct vcpu *v, OP_UINT(bits) a)                       \
    {                                                                                             \
        uint16_t f = v->aflags;                                                                   \
        __asm__("btw $8, %w1; " ins sfx " %" k "0; " ASM_FLAGS_OUT : "+q"(a), "+&a"(f) : : "cc"); \
        v->aflags = f;                                                                            \
        return a;                                                                                 \
    }

#define ALU_SIZES(kind, name, ins)                                                           \
    kind(name, ins, 8, "b", "b") kind(name, ins, 16, "w", "w") kind(name, ins, 32, "l", "k") \
        kind(name, ins, 64, "q", "q")

/* clang-format off */
ALU_SIZES(ALU_BINARY, add, "add")
ALU_SIZES(ALU_BINARY, or,  "or")
ALU_SIZES(ALU_CARRY,  adc, "adc")
ALU_SIZES(ALU_CARRY,  sbb, "sbb")
ALU_SIZES(ALU_BINARY, and, "and")
ALU_SIZES(ALU_BINARY, sub, "sub")
ALU_SIZES(ALU_BINARY, xor, "xor")
ALU_SIZES(ALU_UNARY,  inc, "inc")
ALU_SIZES(ALU_UNARY,  dec, "dec")
ALU_SIZES(ALU_UNARY,  neg, "neg")
/* clang-format on */

#define ALU_TEST_ONLY(name, ins, bits, sfx, k)                                                   \
    static inline void name##bits(struct vcpu *v, OP_UINT(bits) a, OP_UINT(bits) b)              \
    {                                                                                            \
        uint16_t f;                                                                              \
        __asm__(ins sfx " %" k "2, %" k "1; " ASM_FLAGS_OUT : "=&a"(f) : "q"(a), "q"(b) : "cc"); \
        v->aflags = f;                                                                           \
    }
ALU_SIZES(ALU_TEST_ONLY, cmp, "cmp")
ALU_SIZES(ALU_TEST_ONLY, test, "test")

#define NOT_SIZE(bits)                                                              \
    static inline OP_UINT(bits) not ##bits(struct vcpu * v __attribute__((unused)), \
                                           OP_UINT(bits) a)                         \
    {                                                                               \
        return (OP_UINT(bits)) ~a;                                                  \
    }
NOT_SIZE(8)
NOT_SIZE(16)
NOT_SIZE(32)
NOT_SIZE(64)

/* --- handlers by operand form --- */

enum alu_form {
    FORM_RR,
    FORM_RI,
    FORM_RM,
    FORM_RM_FULL,
    FORM_MR,
    FORM_MR_FULL,
    FORM_MI,
    FORM_MI_FULL,
    FORM_COUNT
};

#define ALU_REG_FORMS(name, bits)                                                          \
    OP_HANDLER(name##bits##_rr)                                                            \
    {                                                                                      \
        SET##bits(v, op->dst, name##bits(v, R##bits(v, op->dst), R##bits(v, op->src)));    \
        OP_NEXT(v, op);                                                                    \
    }                                                                                      \
    OP_HANDLER(name##bits##_ri)                                                            \
    {                                                                                      \
        SET##bits(v, op->dst, name##bits(v, R##bits(v, op->dst), (OP_UINT(bits))op->imm)); \
        OP_NEXT(v, op);                                                                    \
    }
#define ALU_MEM_FORMS(name, bits, tail, ea)                                            \
    OP_LOAD(name##bits##_rm##tail, bits, ea,                                           \
            SET##bits(v, op->dst, name##bits(v, R##bits(v, op->dst), x)))              \
    OP_RMW(name##bits##_mr##tail, bits, ea, x = name##bits(v, x, R##bits(v, op->src))) \
    OP_RMW(name##bits##_mi##tail, bits, ea, x = name##bits(v, x, (OP_UINT(bits))op->imm))
#define ALU_ALL_FORMS(name, bits)             \
    ALU_REG_FORMS(name, bits)                 \
    ALU_MEM_FORMS(name, bits, _b, op_la_base) \
    ALU_MEM_FORMS(name, bits, _f, op_la_full)

#define FLAG_REG_FORMS(name, bits)                                  \
    OP_HANDLER(name##bits##_rr)                                     \
    {                                                               \
        name##bits(v, R##bits(v, op->dst), R##bits(v, op->src));    \
        OP_NEXT(v, op);                                             \
    }                                                               \
    OP_HANDLER(name##bits##_ri)                                     \
    {                                                               \
        name##bits(v, R##bits(v, op->dst), (OP_UINT(bits))op->imm); \
        OP_NEXT(v, op);                                             \
    }
#define FLAG_MEM_FORMS(name, bits, tail, ea)                                        \
    OP_LOAD(name##bits##_rm##tail, bits, ea, name##bits(v, R##bits(v, op->dst), x)) \
    OP_LOAD(name##bits##_mr##tail, bits, ea, name##bits(v, x, R##bits(v, op->src))) \
    OP_LOAD(name##bits##_mi##tail, bits, ea, name##bits(v, x, (OP_UINT(bits))op->imm))
#define FLAG_ALL_FORMS(name, bits)             \
    FLAG_REG_FORMS(name, bits)                 \
    FLAG_MEM_FORMS(name, bits, _b, op_la_base) \
    FLAG_MEM_FORMS(name, bits, _f, op_la_full)

#define UNARY_ALL_FORMS(name, bits)                                  \
    OP_HANDLER(name##bits##_r)                                       \
    {                                                                \
        SET##bits(v, op->dst, name##bits(v, R##bits(v, op->dst)));   \
        OP_NEXT(v, op);                                              \
    }                                                                \
    OP_RMW(name##bits##_m_b, bits, op_la_base, x = name##bits(v, x)) \
    OP_RMW(name##bits##_m_f, bits, op_la_full, x = name##bits(v, x))

#define FOUR(kind, name) kind(name, 8) kind(name, 16) kind(name, 32) kind(name, 64)

FOUR(ALU_ALL_FORMS, add)
FOUR(ALU_ALL_FORMS, or)
FOUR(ALU_ALL_FORMS, adc)
FOUR(ALU_ALL_FORMS, sbb)
FOUR(ALU_ALL_FORMS, and)
FOUR(ALU_ALL_FORMS, sub)
FOUR(ALU_ALL_FORMS, xor)
FOUR(FLAG_ALL_FORMS, cmp)
FOUR(FLAG_ALL_FORMS, test)
FOUR(UNARY_ALL_FORMS, inc)
FOUR(UNARY_ALL_FORMS, dec)
FOUR(UNARY_ALL_FORMS, neg)
FOUR(UNARY_ALL_FORMS, not )

/* XOR r, r and SUB r, r: the usual zero. */
OP_HANDLER(zero_r)
{
    R64(v, op->dst) = 0;
    v->aflags = AF_ZF | AF_PF | 0x0200;
    OP_NEXT(v, op);
}

/* --- picking --- */

#define ALU_ROW(name, bits)                                                                        \
    {                                                                                              \
        name##bits##_rr, name##bits##_ri, name##bits##_rm_b, name##bits##_rm_f, name##bits##_mr_b, \
            name##bits##_mr_f, name##bits##_mi_b, name##bits##_mi_f                                \
    }
#define ALU_ROWS(name)                                                            \
    {                                                                             \
        ALU_ROW(name, 8), ALU_ROW(name, 16), ALU_ROW(name, 32), ALU_ROW(name, 64) \
    }
#define UNARY_ROW(name, bits)                              \
    {                                                      \
        name##bits##_r, name##bits##_m_b, name##bits##_m_f \
    }
#define UNARY_ROWS(name)                                                                  \
    {                                                                                     \
        UNARY_ROW(name, 8), UNARY_ROW(name, 16), UNARY_ROW(name, 32), UNARY_ROW(name, 64) \
    }

static const op_fn binary_table[][4][FORM_COUNT] = {ALU_ROWS(add), ALU_ROWS(or),  ALU_ROWS(adc),
                                                    ALU_ROWS(sbb), ALU_ROWS(and), ALU_ROWS(sub),
                                                    ALU_ROWS(xor), ALU_ROWS(cmp), ALU_ROWS(test)};
static const op_fn unary_table[][4][3] = {UNARY_ROWS(inc), UNARY_ROWS(dec), UNARY_ROWS(neg),
                                          UNARY_ROWS(not )};

_Static_assert(INSN_TEST - INSN_ADD == 8 && INSN_NOT - INSN_INC == 3, "order of ops.def");

op_fn alu_compare_handler(bool is_test, unsigned size, bool is_imm)
{
    return binary_table[(is_test ? INSN_TEST : INSN_CMP) - INSN_ADD][size]
                       [is_imm ? FORM_RI : FORM_RR];
}

static enum alu_form binary_form(const struct insn *insn)
{
    if (insn->operand[0].kind == INSN_MEM) {
        return insn->operand[1].kind == INSN_IMM ? FORM_MI : FORM_MR;
    }
    switch (insn->operand[1].kind) {
    case INSN_IMM: return FORM_RI;
    case INSN_MEM: return FORM_RM;
    default: return FORM_RR;
    }
}

static bool is_zeroing(const struct insn *insn)
{
    return (insn->op == INSN_XOR || insn->op == INSN_SUB) && insn->operand[0].size >= 4 &&
           insn->operand[1].kind == INSN_GPR && insn->operand[0].kind == INSN_GPR &&
           insn->operand[0].reg == insn->operand[1].reg;
}

static void lower_binary(struct lower *lw, const struct insn *insn)
{
    unsigned size = insn->operand[0].size;
    enum alu_form form = binary_form(insn);
    struct lower_ea ea = {0};
    struct op *op;

    if (form >= FORM_RM) {
        ea = lower_mem(lw, insn, size, false);
        form += ea.is_full;
    }
    op = lower_emit(
        lw, is_zeroing(insn) ? zero_r : binary_table[insn->op - INSN_ADD][lower_log2(size)][form]);
    lower_set_ea(op, &ea);
    op->imm = (uint64_t)insn->imm;
    op->dst = lower_reg(&insn->operand[0]);
    op->src = lower_reg(&insn->operand[1]);
}

static void lower_unary(struct lower *lw, const struct insn *insn)
{
    unsigned size = insn->operand[0].size, form = 0;
    struct lower_ea ea = {0};
    struct op *op;

    if (insn->operand[0].kind == INSN_MEM) {
        ea = lower_mem(lw, insn, size, false);
        form = 1u + ea.is_full;
    }
    op = lower_emit(lw, unary_table[insn->op - INSN_INC][lower_log2(size)][form]);
    lower_set_ea(op, &ea);
    op->dst = lower_reg(&insn->operand[0]);
}

bool lower_alu(struct lower *lw, const struct insn *insn)
{
    if (insn->op >= INSN_ADD && insn->op <= INSN_TEST) {
        lower_binary(lw, insn);
        return true;
    }
    if (insn->op >= INSN_INC && insn->op <= INSN_NOT) {
        lower_unary(lw, insn);
        return true;
    }
    return false;
}
