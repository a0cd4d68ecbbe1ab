/* op_fuse.c — CMP or TEST of registers together with the conditional jump that follows: one op.
 *
 * The pair ends about every second block of a kernel.  Neither half can fault, and the flags are
 * kept as always.
 */
#include "hv/soft/ref/lower_int.h"
#include "hv/soft/ref/op_link.h"

#define COMPARE(name, ins, bits, sfx, k)                                                         \
    static inline uint16_t name##bits(struct vcpu *v, uint##bits##_t a, uint##bits##_t b)        \
    {                                                                                            \
        uint16_t f;                                                                              \
        __asm__(ins sfx " %" k "2, %" k "1; " ASM_FLAGS_OUT : "=&a"(f) : "q"(a), "q"(b) : "cc"); \
        v->aflags = f;                                                                           \
        return f;                                                                                \
    }
#define COMPARES(name, ins)          \
    COMPARE(name, ins, 8, "b", "b")  \
    COMPARE(name, ins, 32, "l", "k") \
    COMPARE(name, ins, 64, "q", "q")
COMPARES(cmp, "cmp")
COMPARES(test, "test")

#define FUSED(name, bits, form, b, cc)                                        \
    OP_HANDLER(name##bits##form##_##cc)                                       \
    {                                                                         \
        uint16_t f = name##bits(v, R##bits(v, op->dst), (uint##bits##_t)(b)); \
        if (COND_##cc(f)) {                                                   \
            FOLLOW(v, links_of(op), v->code_gen);                             \
        }                                                                     \
        FOLLOW(v, links_of(op) + 1, v->code_gen);                             \
    }

/* One family of sixteen, and its table. */
#define CMP8_RR(cc)   FUSED(cmp, 8, _rr, R8(v, op->src), cc)
#define CMP8_RI(cc)   FUSED(cmp, 8, _ri, op->imm, cc)
#define CMP32_RR(cc)  FUSED(cmp, 32, _rr, R32(v, op->src), cc)
#define CMP32_RI(cc)  FUSED(cmp, 32, _ri, op->imm, cc)
#define CMP64_RR(cc)  FUSED(cmp, 64, _rr, R64(v, op->src), cc)
#define CMP64_RI(cc)  FUSED(cmp, 64, _ri, op->imm, cc)
#define TEST8_RR(cc)  FUSED(test, 8, _rr, R8(v, op->src), cc)
#define TEST8_RI(cc)  FUSED(test, 8, _ri, op->imm, cc)
#define TEST32_RR(cc) FUSED(test, 32, _rr, R32(v, op->src), cc)
#define TEST32_RI(cc) FUSED(test, 32, _ri, op->imm, cc)
#define TEST64_RR(cc) FUSED(test, 64, _rr, R64(v, op->src), cc)
#define TEST64_RI(cc) FUSED(test, 64, _ri, op->imm, cc)
COND_ALL(CMP8_RR)
COND_ALL(CMP8_RI)
COND_ALL(CMP32_RR)
COND_ALL(CMP32_RI)
COND_ALL(CMP64_RR)
COND_ALL(CMP64_RI)
COND_ALL(TEST8_RR)
COND_ALL(TEST8_RI)
COND_ALL(TEST32_RR)
COND_ALL(TEST32_RI)
COND_ALL(TEST64_RR)
COND_ALL(TEST64_RI)

#define E_CMP8_RR(cc)   cmp8_rr_##cc,
#define E_CMP8_RI(cc)   cmp8_ri_##cc,
#define E_CMP32_RR(cc)  cmp32_rr_##cc,
#define E_CMP32_RI(cc)  cmp32_ri_##cc,
#define E_CMP64_RR(cc)  cmp64_rr_##cc,
#define E_CMP64_RI(cc)  cmp64_ri_##cc,
#define E_TEST8_RR(cc)  test8_rr_##cc,
#define E_TEST8_RI(cc)  test8_ri_##cc,
#define E_TEST32_RR(cc) test32_rr_##cc,
#define E_TEST32_RI(cc) test32_ri_##cc,
#define E_TEST64_RR(cc) test64_rr_##cc,
#define E_TEST64_RI(cc) test64_ri_##cc,

static const struct {
    bool is_test;
    uint8_t size; /* log2 */
    bool is_imm;
    op_fn fn[16];
} families[] = {
    {false, 0, false, {COND_ALL(E_CMP8_RR)}},  {false, 0, true, {COND_ALL(E_CMP8_RI)}},
    {false, 2, false, {COND_ALL(E_CMP32_RR)}}, {false, 2, true, {COND_ALL(E_CMP32_RI)}},
    {false, 3, false, {COND_ALL(E_CMP64_RR)}}, {false, 3, true, {COND_ALL(E_CMP64_RI)}},
    {true, 0, false, {COND_ALL(E_TEST8_RR)}},  {true, 0, true, {COND_ALL(E_TEST8_RI)}},
    {true, 2, false, {COND_ALL(E_TEST32_RR)}}, {true, 2, true, {COND_ALL(E_TEST32_RI)}},
    {true, 3, false, {COND_ALL(E_TEST64_RR)}}, {true, 3, true, {COND_ALL(E_TEST64_RI)}},
};

bool lower_fuse(struct lower *lw, unsigned cond)
{
    struct op *last = lw->count ? &lw->op[lw->count - 1] : NULL;

    if (!last) {
        return false;
    }
    for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++) {
        if (last->fn ==
            alu_compare_handler(families[i].is_test, families[i].size, families[i].is_imm)) {
            last->fn = families[i].fn[cond];
            return true;
        }
    }
    return false;
}
