/* op_bmi.c — BMI1 and BMI2: integer instructions with VEX encoding.
 *
 * x is r/m, y the register in VEX.vvvv, whose offset is in op->imm.  Those with flags run on the
 * host, from the guest's flags, so that undefined ones come out as there.
 */
#include "hv/soft/ref/lower_int.h"
#include "hv/soft/ref/op_mem.h"

#define Y(bits) R##bits(v, (unsigned)op->imm)

/* name: of a function of x and y; both kinds of r/m. */
#define BMI_FORMS(name, bits, y)                                        \
    OP_HANDLER(name##bits##_r)                                          \
    {                                                                   \
        SET##bits(v, op->dst, name##bits(v, R##bits(v, op->src), (y))); \
        OP_NEXT(v, op);                                                 \
    }                                                                   \
    OP_LOAD(name##bits##_m, bits, op_la_base, SET##bits(v, op->dst, name##bits(v, x, (y))))

#define BMI_HOST(name, bits, text)                                                           \
    static inline OP_UINT(bits) name##bits(struct vcpu *v, OP_UINT(bits) x, OP_UINT(bits) y) \
    {                                                                                        \
        uint16_t f = v->aflags;                                                              \
        OP_UINT(bits) result = 0;                                                            \
        __asm__(ASM_FLAGS_IN text "; " ASM_FLAGS_OUT                                         \
                : "+&r"(result), "+&a"(f)                                                    \
                : "r"(x), "r"(y)                                                             \
                : "cc");                                                                     \
        v->aflags = f;                                                                       \
        return result;                                                                       \
    }                                                                                        \
    BMI_FORMS(name, bits, Y(bits))
BMI_HOST(andn, 32, "andn %k2, %k3, %k0")
BMI_HOST(andn, 64, "andn %q2, %q3, %q0")
BMI_HOST(bextr, 32, "bextr %k3, %k2, %k0")
BMI_HOST(bextr, 64, "bextr %q3, %q2, %q0")
BMI_HOST(bzhi, 32, "bzhi %k3, %k2, %k0")
BMI_HOST(bzhi, 64, "bzhi %q3, %q2, %q0")
BMI_HOST(blsi, 32, "blsi %k2, %k0")
BMI_HOST(blsi, 64, "blsi %q2, %q0")
BMI_HOST(blsmsk, 32, "blsmsk %k2, %k0")
BMI_HOST(blsmsk, 64, "blsmsk %q2, %q0")
BMI_HOST(blsr, 32, "blsr %k2, %k0")
BMI_HOST(blsr, 64, "blsr %q2, %q0")
BMI_HOST(pdep, 32, "pdep %k2, %k3, %k0")
BMI_HOST(pdep, 64, "pdep %q2, %q3, %q0")
BMI_HOST(pext, 32, "pext %k2, %k3, %k0")
BMI_HOST(pext, 64, "pext %q2, %q3, %q0")

#define BMI_PLAIN(name, bits, y, expression)                                                 \
    static inline OP_UINT(bits)                                                              \
        name##bits(struct vcpu *v __attribute__((unused)), OP_UINT(bits) a, OP_UINT(bits) n) \
    {                                                                                        \
        n &= (bits)-1;                                                                       \
        return (OP_UINT(bits))(expression);                                                  \
    }                                                                                        \
    BMI_FORMS(name, bits, y)
BMI_PLAIN(shlx, 32, Y(32), a << n)
BMI_PLAIN(shlx, 64, Y(64), a << n)
BMI_PLAIN(shrx, 32, Y(32), a >> n)
BMI_PLAIN(shrx, 64, Y(64), a >> n)
BMI_PLAIN(sarx, 32, Y(32), (int32_t)a >> n)
BMI_PLAIN(sarx, 64, Y(64), (int64_t)a >> n)
BMI_PLAIN(rorx, 32, (uint32_t)op->imm, a >> n | a << (-n & 31))
BMI_PLAIN(rorx, 64, op->imm, a >> n | a << (-n & 63))

__extension__ typedef unsigned __int128 wide_t;

/* rDX times x: the upper half to dst, the lower to y; the upper one stays if they are the same. */
#define MULX(bits, wide, a)                                 \
    {                                                       \
        wide product = (wide)R##bits(v, GPR_RDX * 8) * (a); \
        SET##bits(v, (unsigned)op->imm, product);           \
        SET##bits(v, op->dst, product >> (bits));           \
    }
OP_HANDLER(mulx32_r)
{
    MULX(32, uint64_t, R32(v, op->src))
    OP_NEXT(v, op);
}
OP_HANDLER(mulx64_r)
{
    MULX(64, wide_t, R64(v, op->src))
    OP_NEXT(v, op);
}
OP_LOAD(mulx32_m, 32, op_la_base, MULX(32, uint64_t, x))
OP_LOAD(mulx64_m, 64, op_la_base, MULX(64, wide_t, x))

#define CELLS(name)                                         \
    {                                                       \
        {name##32_r, name##32_m}, {name##64_r, name##64_m}, \
    }
/* In the order of ops.def: [op][64 bits][memory] */
static const op_fn bmi_table[][2][2] = {
    CELLS(andn), CELLS(bextr), CELLS(bzhi), CELLS(blsi), CELLS(blsmsk), CELLS(blsr), CELLS(pdep),
    CELLS(pext), CELLS(shlx),  CELLS(shrx), CELLS(sarx), CELLS(rorx),   CELLS(mulx),
};
_Static_assert(INSN_MULX - INSN_ANDN + 1 == sizeof(bmi_table) / sizeof(bmi_table[0]),
               "order of ops.def");

static uint64_t vvvv_offset(const struct insn *insn)
{
    for (unsigned i = 0; i < insn->operand_count; i++) {
        if (insn->operand[i].field == INSN_AT_VVVV) {
            return lower_reg(&insn->operand[i]);
        }
    }
    return OP_ZERO;
}

/* Which operand is r/m; the other source, if there is one, is in VEX.vvvv. */
static unsigned rm_operand(const struct insn *insn)
{
    switch (insn->op) {
    case INSN_ANDN:
    case INSN_PDEP:
    case INSN_PEXT:
    case INSN_MULX: return 2;
    default: return 1;
    }
}

bool lower_bmi(struct lower *lw, const struct insn *insn)
{
    const struct insn_operand *rm = &insn->operand[rm_operand(insn)];
    bool is_mem = rm->kind == INSN_MEM;
    struct lower_ea ea = {0};
    struct op *op;

    if (insn->op < INSN_ANDN || insn->op > INSN_MULX) {
        return false;
    }
    if (is_mem) {
        ea = lower_mem(lw, insn, rm->size, true);
    }
    op = lower_emit(lw, bmi_table[insn->op - INSN_ANDN][insn->operand[0].size == 8][is_mem]);
    lower_set_ea(op, &ea);
    op->dst = lower_reg(&insn->operand[0]);
    op->src = is_mem ? 0 : lower_reg(rm);
    op->imm = insn->op == INSN_RORX ? (uint64_t)insn->imm : vvvv_offset(insn);
    return true;
}
