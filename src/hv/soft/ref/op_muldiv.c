/* op_muldiv.c — MUL IMUL DIV IDIV.  Undefined flags are the host's. */
#include "hv/soft/ref/lower_int.h"
#include "hv/soft/ref/op_mem.h"

__extension__ typedef __int128 wide_int;
__extension__ typedef unsigned __int128 wide_uint;

#define RAX (GPR_RAX * 8)
#define RDX (GPR_RDX * 8)
#define AH  (GPR_RAX * 8 + 1)

/* --- rDX:rAX = rAX * x --- */

#define WIDE_MUL(name, ins, bits, sfx, k)                                                 \
    static inline void name##bits(struct vcpu *v, OP_UINT(bits) x)                        \
    {                                                                                     \
        OP_UINT(bits) lo = R##bits(v, RAX), hi;                                           \
        uint16_t f = v->aflags;                                                           \
        /* AX is taken: flags in through DX, out through CX */                            \
        __asm__("xchgq %%rax, %%rdx; " ASM_FLAGS_IN "xchgq %%rax, %%rdx; " ins sfx " %" k \
                "3; movq %%rax, %%rcx; " ASM_FLAGS_OUT "; xchgq %%rax, %%rcx"             \
                : "+a"(lo), "=d"(hi), "=&c"(f)                                            \
                : "r"(x), "1"(f)                                                          \
                : "cc");                                                                  \
        v->aflags = f;                                                                    \
        SET##bits(v, RAX, lo);                                                            \
        SET##bits(v, RDX, hi);                                                            \
    }
WIDE_MUL(mul, "mul", 16, "w", "w")
WIDE_MUL(mul, "mul", 32, "l", "k")
WIDE_MUL(mul, "mul", 64, "q", "q")
WIDE_MUL(imul, "imul", 16, "w", "w")
WIDE_MUL(imul, "imul", 32, "l", "k")
WIDE_MUL(imul, "imul", 64, "q", "q")

#define BYTE_MUL(name, ins)                                                        \
    static inline void name##8(struct vcpu * v, uint8_t x)                         \
    {                                                                              \
        uint64_t lo = R8(v, RAX);                                                  \
        uint64_t f = v->aflags;                                                    \
        __asm__("xchgq %%rax, %1; " ASM_FLAGS_IN "xchgq %%rax, %1; " ins "b %b2; " \
                "movq %%rax, %1; " ASM_FLAGS_OUT "; xchgq %%rax, %1"               \
                : "+a"(lo), "+&r"(f)                                               \
                : "q"(x)                                                           \
                : "cc");                                                           \
        v->aflags = (uint16_t)f;                                                   \
        SET16(v, RAX, lo);                                                         \
    }
BYTE_MUL(mul, "mul")
BYTE_MUL(imul, "imul")

/* --- rAX, rDX = rDX:rAX / x, remainder --- */

OP_COLD _Noreturn static void raise_divide(struct vcpu *v)
{
    vcpu_raise(v, EXC_DE);
}

#define DIV_FLAGS(ins, bits, sfx, k)                                                  \
    OP_UINT(bits) lo = R##bits(v, RAX), hi = R##bits(v, RDX);                         \
    uint64_t f = v->aflags;                                                           \
    __asm__("xchgq %%rax, %2; " ASM_FLAGS_IN "xchgq %%rax, %2; " ins sfx " %" k "3; " \
            "movq %%rax, %2; " ASM_FLAGS_OUT "; xchgq %%rax, %2"                      \
            : "+a"(lo), "+d"(hi), "+&r"(f)                                            \
            : "r"(x)                                                                  \
            : "cc");                                                                  \
    v->aflags = (uint16_t)f;                                                          \
    SET##bits(v, RAX, lo);                                                            \
    SET##bits(v, RDX, hi)

#define UNSIGNED_DIV(bits, sfx, k)                                  \
    static inline void div##bits(struct vcpu *v, OP_UINT(bits) x)   \
    {                                                               \
        if (UNLIKELY(R##bits(v, RDX) >= x)) { /* includes x == 0 */ \
            raise_divide(v);                                        \
        }                                                           \
        DIV_FLAGS("div", bits, sfx, k);                             \
    }
UNSIGNED_DIV(16, "w", "w")
UNSIGNED_DIV(32, "l", "k")
UNSIGNED_DIV(64, "q", "q")

/* Does hi:lo / x fit into `bits`?  Magnitudes: |n| < |x| * 2^(bits-1), or equal with a negative
 * quotient and a remainder that brings it back (quotient exactly -2^(bits-1)). */
static bool fits_signed(wide_int n, int64_t x, unsigned bits)
{
    wide_uint un = n < 0 ? -(wide_uint)n : (wide_uint)n;
    wide_uint ux = x < 0 ? -(wide_uint)x : (wide_uint)x;
    bool is_negative = (n < 0) != (x < 0);
    wide_uint half = ux << (bits - 1);

    return is_negative ? un < half + ux : un < half;
}

#define SIGNED_DIV(bits, wide, sfx, k)                                             \
    static inline void idiv##bits(struct vcpu *v, OP_UINT(bits) x)                 \
    {                                                                              \
        wide_int n = (wide)((wide_uint)R##bits(v, RDX) << bits | R##bits(v, RAX)); \
        if (UNLIKELY(x == 0 || !fits_signed(n, (int##bits##_t)x, bits))) {         \
            raise_divide(v);                                                       \
        }                                                                          \
        DIV_FLAGS("idiv", bits, sfx, k);                                           \
    }
SIGNED_DIV(16, int32_t, "w", "w")
SIGNED_DIV(32, int64_t, "l", "k")
SIGNED_DIV(64, wide_int, "q", "q")

#define BYTE_DIV(name, ins)                                                        \
    {                                                                              \
        uint64_t lo = R16(v, RAX), f = v->aflags;                                  \
        __asm__("xchgq %%rax, %1; " ASM_FLAGS_IN "xchgq %%rax, %1; " ins "b %b2; " \
                "movq %%rax, %1; " ASM_FLAGS_OUT "; xchgq %%rax, %1"               \
                : "+a"(lo), "+&r"(f)                                               \
                : "q"(x)                                                           \
                : "cc");                                                           \
        v->aflags = (uint16_t)f;                                                   \
        SET16(v, RAX, lo);                                                         \
    }

static inline void div8(struct vcpu *v, uint8_t x)
{
    if (UNLIKELY(R8(v, AH) >= x)) {
        raise_divide(v);
    }
    BYTE_DIV(div8, "div")
}

static inline void idiv8(struct vcpu *v, uint8_t x)
{
    if (UNLIKELY(x == 0 || !fits_signed((int16_t)R16(v, RAX), (int8_t)x, 8))) {
        raise_divide(v);
    }
    BYTE_DIV(idiv8, "idiv")
}

/* Handlers: only division raises, but v->rip costs one store. */
#define ONE_FORMS(name, bits)               \
    OP_HANDLER(name##bits##_r)              \
    {                                       \
        op_sync(v, op);                     \
        name##bits(v, R##bits(v, op->src)); \
        OP_NEXT(v, op);                     \
    }                                       \
    OP_LOAD(name##bits##_m, bits, op_la_base, op_sync(v, op); name##bits(v, x))
#define ONE(name) ONE_FORMS(name, 8) ONE_FORMS(name, 16) ONE_FORMS(name, 32) ONE_FORMS(name, 64)
ONE(mul)
ONE(imul)
ONE(div)
ONE(idiv)

#define ONE_CELL(name, bits)           \
    {                                  \
        name##bits##_r, name##bits##_m \
    }
#define ONE_ROW(name)                                                                 \
    {                                                                                 \
        ONE_CELL(name, 8), ONE_CELL(name, 16), ONE_CELL(name, 32), ONE_CELL(name, 64) \
    }
static const op_fn one_table[4][4][2] = {ONE_ROW(mul), ONE_ROW(imul), ONE_ROW(div), ONE_ROW(idiv)};
_Static_assert(INSN_IDIV - INSN_MUL == 3 && INSN_IMUL - INSN_MUL == 1, "order of ops.def");

static void lower_one(struct lower *lw, const struct insn *insn)
{
    unsigned size = insn->operand[0].size;
    bool is_mem = insn->operand[0].kind == INSN_MEM;
    struct lower_ea ea = {0};
    struct op *op;

    if (is_mem) {
        ea = lower_mem(lw, insn, size, true);
    }
    op = lower_emit(lw, one_table[insn->op - INSN_MUL][lower_log2(size)][is_mem]);
    lower_set_ea(op, &ea);
    op->src = lower_reg(&insn->operand[0]);
}

/* --- IMUL with two or three operands --- */

#define IMUL2(bits, sfx, k)                                                                    \
    static inline OP_UINT(bits) imul2_##bits(struct vcpu *v, OP_UINT(bits) a, OP_UINT(bits) b) \
    {                                                                                          \
        uint16_t f = v->aflags;                                                                \
        __asm__(ASM_FLAGS_IN "imul" sfx " %" k "2, %" k "0; " ASM_FLAGS_OUT                    \
                : "+r"(a), "+&a"(f)                                                            \
                : "r"(b)                                                                       \
                : "cc");                                                                       \
        v->aflags = f;                                                                         \
        return a;                                                                              \
    }                                                                                          \
    OP_HANDLER(imul2_##bits##_rr)                                                              \
    {                                                                                          \
        SET##bits(v, op->dst, imul2_##bits(v, R##bits(v, op->dst), R##bits(v, op->src)));      \
        OP_NEXT(v, op);                                                                        \
    }                                                                                          \
    OP_HANDLER(imul2_##bits##_rri)                                                             \
    {                                                                                          \
        SET##bits(v, op->dst, imul2_##bits(v, R##bits(v, op->src), (OP_UINT(bits))op->imm));   \
        OP_NEXT(v, op);                                                                        \
    }                                                                                          \
    OP_LOAD(imul2_##bits##_rm, bits, op_la_base,                                               \
            SET##bits(v, op->dst, imul2_##bits(v, R##bits(v, op->dst), x)))                    \
    OP_LOAD(imul2_##bits##_rmi, bits, op_la_base,                                              \
            SET##bits(v, op->dst, imul2_##bits(v, x, (OP_UINT(bits))op->imm)))
IMUL2(16, "w", "w")
IMUL2(32, "l", "k")
IMUL2(64, "q", "q")

#define IMUL2_CELL(bits)                                                             \
    {                                                                                \
        imul2_##bits##_rr, imul2_##bits##_rri, imul2_##bits##_rm, imul2_##bits##_rmi \
    }
static const op_fn imul2_table[3][4] = {IMUL2_CELL(16), IMUL2_CELL(32), IMUL2_CELL(64)};

static void lower_imul2(struct lower *lw, const struct insn *insn)
{
    unsigned size = insn->operand[0].size;
    unsigned form = insn->operand_count == 3 ? 1 : 0;
    struct lower_ea ea = {0};
    struct op *op;

    if (insn->operand[1].kind == INSN_MEM) {
        ea = lower_mem(lw, insn, size, true);
        form += 2;
    }
    op = lower_emit(lw, imul2_table[lower_wide(size)][form]);
    lower_set_ea(op, &ea);
    op->imm = (uint64_t)insn->imm;
    op->dst = lower_reg(&insn->operand[0]);
    op->src = lower_reg(&insn->operand[1]);
}

bool lower_muldiv(struct lower *lw, const struct insn *insn)
{
    if (insn->op < INSN_MUL || insn->op > INSN_IDIV) {
        return false;
    }
    if (insn->op == INSN_IMUL && insn->operand_count > 1) {
        lower_imul2(lw, insn);
    } else {
        lower_one(lw, insn);
    }
    return true;
}
