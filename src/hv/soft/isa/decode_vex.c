/* decode_vex.c — VEX and EVEX: the prefixes, what they select, and what they forbid.
 *
 * SDM volume 2, 2.3 (VEX) and 2.7 (EVEX).  A prefix stands for 66, F2, F3, REX, the map, a second
 * source register (vvvv), the vector length (L'L), and with EVEX a mask (aaa, z) and one bit (b)
 * that broadcasts memory or changes rounding of registers.
 */
#include "hv/soft/isa/decode_int.h"

#define EVEX_BYTES 4u

/* Outside 64-bit mode these bytes are LES, LDS and BOUND, which want memory. */
bool decode_vex_begins(const struct decoder *d)
{
    uint8_t byte = d->bytes[d->pos];

    if (byte != 0xc4 && byte != 0xc5 && byte != 0x62) {
        return false;
    }
    return d->is_long || (decode_has(d, 2) && d->bytes[d->pos + 1] >= 0xc0);
}

/* R X B of the first payload byte, inverted there. */
static uint8_t take_rxb(const struct decoder *d, uint8_t byte)
{
    uint8_t rxb = (uint8_t)(~byte >> 5 & 7);

    return d->is_long ? rxb : 0;
}

static uint8_t take_vvvv(uint8_t byte)
{
    return ~byte >> 3 & 15;
}

static enum insn_status take_vex2(struct decoder *d)
{
    struct insn *insn = d->insn;
    uint8_t p = d->bytes[d->pos + 1];

    insn->encoding = INSN_VEX;
    insn->map = 1;
    insn->rex = take_rxb(d, p | 0x60);
    insn->vvvv = take_vvvv(p);
    insn->ll = p >> 2 & 1;
    insn->pp = p & 3;
    d->pos += 2;
    return INSN_OK;
}

static enum insn_status take_vex3(struct decoder *d)
{
    struct insn *insn = d->insn;
    uint8_t p0 = d->bytes[d->pos + 1], p1 = d->bytes[d->pos + 2];

    insn->encoding = INSN_VEX;
    insn->map = p0 & 0x1f;
    insn->rex = take_rxb(d, p0) | (p1 >> 7 ? REX_W : 0);
    insn->vvvv = take_vvvv(p1);
    insn->ll = p1 >> 2 & 1;
    insn->pp = p1 & 3;
    d->pos += 3;
    return insn->map >= 1 && insn->map <= 3 ? INSN_OK : INSN_UNDEFINED;
}

static enum insn_status take_evex(struct decoder *d)
{
    struct insn *insn = d->insn;
    uint8_t p0 = d->bytes[d->pos + 1], p1 = d->bytes[d->pos + 2], p2 = d->bytes[d->pos + 3];

    insn->encoding = INSN_EVEX;
    insn->map = p0 & 7;
    insn->rex = take_rxb(d, p0) | (p1 >> 7 ? REX_W : 0);
    d->high_reg = d->is_long && !(p0 & 0x10) ? 16 : 0;
    insn->vvvv = take_vvvv(p1) | (d->is_long && !(p2 & 8) ? 16 : 0);
    insn->ll = p2 >> 5 & 3;
    insn->pp = p1 & 3;
    insn->opmask = p2 & 7;
    insn->has_zeroing = p2 >> 7;
    insn->has_b = p2 >> 4 & 1;
    d->pos += EVEX_BYTES;
    return !(p0 & 8) && (p1 & 4) && insn->map >= 1 && insn->map <= 3 ? INSN_OK : INSN_UNDEFINED;
}

enum insn_status decode_vex_prefix(struct decoder *d)
{
    struct insn *insn = d->insn;
    bool has_other = insn->has_66 || insn->rep || insn->has_lock || insn->rex;
    uint8_t byte = d->bytes[d->pos];
    unsigned len = byte == 0x62 ? EVEX_BYTES : byte == 0xc4 ? 3 : 2;
    enum insn_status status;

    if (!decode_has(d, len + 1)) {
        return decode_short(d);
    }
    status = byte == 0x62 ? take_evex(d) : byte == 0xc4 ? take_vex3(d) : take_vex2(d);
    insn->opcode_at = d->pos;
    insn->opcode = d->bytes[d->pos++];
    insn->len = d->pos;
    return has_other ? INSN_UNDEFINED : status;
}

/* EVEX.b with registers: L'L is the rounding mode, or nothing, and the length is 512. */
static bool is_rounding(const struct insn *insn, const struct insn_form *form, bool is_mem)
{
    return insn->has_b && !is_mem && form->avx & (A_ROUND | A_SAE);
}

bool decode_vex_fits(const struct decoder *d, const struct insn_form *form, bool is_mem)
{
    unsigned ll = is_rounding(d->insn, form, is_mem) ? 2 : d->insn->ll;

    return form->vl >> ll & 1; /* 3 is none */
}

static uint8_t at_least_16(unsigned size)
{
    return (uint8_t)(size < 16 ? 16 : size);
}

/* Where W chooses the size of a general register, it does nothing outside 64-bit mode. */
static bool is_w_void(const struct decoder *d, const struct insn_form *form)
{
    if (form->op == INSN_VPCMPESTRI || form->op == INSN_VPCMPESTRM) {
        return !d->is_long; /* EAX and EDX, not named */
    }
    for (unsigned i = 0; i < FORM_OPERAND_MAX && form->operand[i]; i++) {
        if (insn_operand_spec[form->operand[i]].size == SIZE_Y) {
            return !d->is_long;
        }
    }
    return form->flags & F_I64;
}

/* Size of memory that the form's operand has, before broadcasting. */
static uint8_t find_memory(struct decoder *d, const struct insn_form *form)
{
    for (unsigned i = 0; i < FORM_OPERAND_MAX && form->operand[i]; i++) {
        const struct operand_spec *spec = &insn_operand_spec[form->operand[i]];

        if (spec->place >= AT_RM && spec->place <= AT_RM_MASK) {
            return d->size[spec->more];
        }
        if (spec->place == AT_VSIB) {
            d->insn->has_vsib = true;
            d->insn->vsib_size = d->size[spec->more];
            return form->elem;
        }
    }
    return 0;
}

void decode_vex_sizes(struct decoder *d, const struct insn_form *form, bool is_mem)
{
    struct insn *insn = d->insn;
    uint8_t vl = (uint8_t)(16u << (is_rounding(insn, form, is_mem) ? 2 : insn->ll));
    bool is_wide = d->is_long && insn->rex & REX_W;
    uint8_t memory;

    if (form->vl == VL_LIG) {
        vl = 16;
    }
    insn->vl = form->vl == VL_LIG ? 0 : vl;
    insn->opsize = is_wide ? 8 : 4;
    d->size[SIZE_Y] = insn->opsize;
    d->size[SIZE_V] = insn->opsize;
    d->size[SIZE_N] = d->is_long ? 8 : 4;
    d->size[SIZE_YMM] = 32;
    d->size[SIZE_ZMM] = 64;
    d->size[SIZE_VL] = vl;
    d->size[SIZE_VL2] = vl / 2;
    d->size[SIZE_VL4] = vl / 4;
    d->size[SIZE_VL8] = vl / 8;
    d->size[SIZE_R2] = at_least_16(vl / 2);
    d->size[SIZE_R4] = at_least_16(vl / 4);
    d->size[SIZE_R8] = at_least_16(vl / 8);
    insn->elem = form->elem;
    insn->is_float = form->avx & A_FLOAT;
    insn->writes_flags = form->avx & A_FLAGS;
    insn->suppresses = form->avx & A_SUPPRESS;
    insn->is_any = form->avx & A_ANY;
    insn->is_packed = form->avx & A_T1;
    memory = find_memory(d, form);
    if (is_w_void(d, form)) {
        insn->rex &= ~REX_W & 15;
    }
    if (insn->elem) {
        insn->elem_count = (insn->is_any ? vl : memory) / insn->elem;
    }
    if (insn->encoding == INSN_EVEX) {
        bool needs_vl = insn->vl && insn->vl < 64 && !(form->avx & A_NOVL);

        insn->features |= needs_vl ? CPU_HAS(AVX512VL) : 0;
        insn->disp_scale = insn->has_b || insn->is_packed ? form->elem : memory;
    }
}

void decode_vex_operand(const struct decoder *d, struct insn_operand *o,
                        const struct operand_spec *spec)
{
    const struct insn *insn = d->insn;
    bool is_evex = insn->encoding == INSN_EVEX;
    unsigned reg = (insn->modrm >> 3 & 7) | (insn->rex & REX_R ? 8 : 0);
    unsigned rm = (insn->modrm & 7) | (insn->rex & REX_B ? 8 : 0);
    unsigned vvvv = insn->vvvv & (d->is_long ? 31 : 7);
    unsigned size = d->size[spec->size];

    switch (spec->place) {
    case AT_RM_VEC:
        rm |= is_evex && insn->rex & REX_X ? 16 : 0;
        decode_operand(o, INSN_XMM, rm, size);
        break;
    case AT_REG_VEC: decode_operand(o, INSN_XMM, reg | d->high_reg, size); break;
    case AT_V_VEC: decode_operand(o, INSN_XMM, vvvv, size); break;
    case AT_V_GPR: decode_operand(o, INSN_GPR, vvvv & 15, size); break;
    case AT_RM_MASK: decode_operand(o, INSN_MASK, rm & 7, size); break;
    case AT_REG_MASK: decode_operand(o, INSN_MASK, reg & 7, size); break;
    default: decode_operand(o, INSN_MASK, vvvv & 7, size); break;
    }
}

/* --- what is forbidden --- */

static bool has_place(const struct insn_form *form, unsigned place)
{
    for (unsigned i = 0; i < FORM_OPERAND_MAX && form->operand[i]; i++) {
        if (insn_operand_spec[form->operand[i]].place == place) {
            return true;
        }
    }
    return false;
}

/* Registers that do not exist, and vvvv where it names nothing. */
static bool has_bad_register(const struct decoder *d, const struct insn_form *form)
{
    const struct insn *insn = d->insn;
    unsigned vvvv = insn->vvvv;

    if (has_place(form, AT_V_VEC)) {
        vvvv = 0;
    } else if (has_place(form, AT_VSIB)) {
        vvvv &= 15; /* V' belongs to the index */
    } else if (has_place(form, AT_V_MASK)) {
        vvvv &= d->is_long ? 0x18 : 0x10;
    } else if (has_place(form, AT_V_GPR)) {
        vvvv &= 0x10;
    }
    if (vvvv) {
        return true;
    }
    if (has_place(form, AT_REG_MASK)) {
        return insn->rex & REX_R || d->high_reg;
    }
    return d->high_reg && has_place(form, AT_REG);
}

static bool has_bad_mask(const struct insn *insn, const struct insn_form *form, bool is_mem)
{
    if (insn->opmask ? !(form->avx & A_MASK) : form->avx & A_NEEDMASK) {
        return true;
    }
    if (!insn->has_zeroing) {
        return false;
    }
    return !(form->avx & A_ZERO) || !insn->opmask || (is_mem && form->flags & F_W);
}

/* Destination, index and mask of a gather are different registers; index and data of a scatter
 * need not be. */
static bool has_bad_gather(const struct insn *insn, const struct insn_form *form)
{
    unsigned dst = insn->operand[0].reg, mask;

    if (!insn->has_vsib || form->flags & F_W) {
        return false;
    }
    if (insn->encoding == INSN_EVEX) {
        return dst == insn->index;
    }
    mask = insn->operand[2].reg;
    return dst == insn->index || dst == mask || insn->index == mask;
}

bool decode_vex_is_undefined(const struct decoder *d, const struct insn_form *form, bool is_mem)
{
    const struct insn *insn = d->insn;
    unsigned b_means = is_mem ? A_BCAST : A_ROUND | A_SAE;

    if (has_bad_register(d, form) || has_bad_gather(insn, form)) {
        return true;
    }
    if (insn->encoding == INSN_VEX) {
        return false;
    }
    return has_bad_mask(insn, form, is_mem) || (insn->has_b && !(form->avx & b_means));
}

bool insn_gate(struct insn *insn, uint64_t features)
{
    if ((insn->features & ~features) == 0) {
        return true;
    }
    if (insn->op == INSN_TZCNT || insn->op == INSN_LZCNT) {
        insn->op = insn->op == INSN_TZCNT ? INSN_BSF : INSN_BSR;
        insn->rep = 0;
        return true;
    }
    return false;
}
