/* asm_vex.c — VEX and EVEX prefixes. */
#include "hv/soft/emit/asm_vex.h"

static unsigned not_bit(unsigned value, unsigned bit)
{
    return ~value >> bit & 1;
}

/* x and b: what the prefix has beyond ModRM and SIB. */
static void vex_prefix(struct asm_buf *a, const struct asm_vex *p, unsigned reg, bool x, bool b)
{
    ASM(a, 0xc4, (uint8_t)(not_bit(reg, 3) << 7 | !x << 6 | !b << 5 | p->map),
        (uint8_t)(p->w << 7 | (~p->vvvv & 15) << 3 | (p->ll & 1) << 2 | p->pp));
}

static void evex_prefix(struct asm_buf *a, const struct asm_vex *p, unsigned reg, bool x, bool b)
{
    ASM(a, 0x62,
        (uint8_t)(not_bit(reg, 3) << 7 | !x << 6 | !b << 5 | not_bit(reg, 4) << 4 | p->map),
        (uint8_t)(p->w << 7 | (~p->vvvv & 15) << 3 | 4 | p->pp),
        (uint8_t)(p->has_zeroing << 7 | p->ll << 5 | p->has_b << 4 | not_bit(p->vvvv, 4) << 3 |
                  p->opmask));
}

static void prefix(struct asm_buf *a, const struct asm_vex *p, unsigned reg, bool x, bool b)
{
    (p->is_evex ? evex_prefix : vex_prefix)(a, p, reg, x, b);
    ASM(a, p->opcode);
}

void asm_vex_rr(struct asm_buf *a, const struct asm_vex *p, unsigned reg, unsigned rm)
{
    prefix(a, p, reg, rm >> 4 & 1, rm >> 3 & 1);
    ASM(a, (uint8_t)(0xc0 | (reg & 7) << 3 | (rm & 7)));
}

/* disp8 of EVEX counts operands: only 0 is the same there. */
void asm_vex_rm(struct asm_buf *a, const struct asm_vex *p, unsigned reg, unsigned base,
                unsigned index, int32_t disp)
{
    bool has_index = index != HOST_NONE, has_sib = has_index || (base & 7) == 4;
    bool is_short = p->is_evex ? disp == 0 : disp == (int8_t)disp;
    unsigned mod = disp == 0 && (base & 7) != 5 ? 0 : is_short ? 1 : 2;

    prefix(a, p, reg, has_index && index & 8, base >> 3 & 1);
    ASM(a, (uint8_t)(mod << 6 | (reg & 7) << 3 | (has_sib ? 4 : (base & 7))));
    if (has_sib) {
        ASM(a, (uint8_t)((has_index ? index & 7 : 4) << 3 | (base & 7)));
    }
    if (mod) {
        asm_imm(a, (uint32_t)disp, mod == 1 ? 1 : 4);
    }
}

void asm_vex_alone(struct asm_buf *a, const struct asm_vex *p)
{
    prefix(a, p, 0, false, false);
}
