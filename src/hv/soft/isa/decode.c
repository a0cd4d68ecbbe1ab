/* decode.c — bytes in, struct insn out.
 *
 * Theory of operation.  Prefixes, opcode and ModRM are read first; together with the mode they make
 * the key by which the opcode's list of forms (forms.h) is searched.  The form found says how large
 * things are and which operands there are; displacement and immediates are read as the operands are
 * listed, which is the order they have in the bytes.
 *
 * Where vendors differ: near branches in 64-bit mode ignore a 66 prefix, as Intel has it (AMD
 * truncates the target to 16 bits; no compiler emits that).  Far pointers in memory have 64-bit
 * offsets with REX.W, also as on Intel.  UD0 and UD1 have a ModRM byte.
 *
 * VEX and EVEX prefixes are decode_vex.c; XOP prefixes are #UD.
 */
#include <string.h>

#include "hv/soft/isa/decode_int.h"

/* Numbers of enum cpu_seg, which this room cannot include. */
enum { ES, CS, SS, DS, FS, GS, SEG_LAST = GS };

/* Little-endian, sign-extended; the caller knows that the bytes are there. */
static int64_t take(struct decoder *d, unsigned count)
{
    const uint8_t *p = d->bytes + d->pos;
    int16_t s16;
    int32_t s32;
    int64_t s64;

    d->pos += (uint8_t)count;
    switch (count) {
    case 1: return (int8_t)*p;
    case 2: memcpy(&s16, p, sizeof(s16)); return s16;
    case 4: memcpy(&s32, p, sizeof(s32)); return s32;
    default: memcpy(&s64, p, sizeof(s64)); return s64;
    }
}

static void override_segment(struct insn *insn, uint8_t seg)
{
    insn->seg = seg;
    insn->has_seg_override = true;
}

/* True if `byte` is a legacy prefix, which is then noted. */
static bool take_prefix(struct decoder *d, uint8_t byte)
{
    struct insn *insn = d->insn;

    switch (byte) {
    case 0x26:
    case 0x2e:
    case 0x36:
    case 0x3e:
        /* no effect in 64-bit mode: SDM volume 1, 3.4.2.1 */
        if (!d->is_long) {
            override_segment(insn, (byte >> 3) & 3);
        }
        return true;
    case 0x64:
    case 0x65: override_segment(insn, byte & 1 ? GS : FS); return true;
    case 0x66: insn->has_66 = true; return true;
    case 0x67: insn->addrsize = 0; return true;
    case 0xf0: insn->has_lock = true; return true;
    case 0xf2:
    case 0xf3: insn->rep = byte; return true;
    default: return false;
    }
}

/* Bytes that can be a prefix in some mode: all others are opcodes. */
static bool may_be_prefix(uint8_t byte)
{
    static const uint64_t set[4] = {
        1ull << 0x26 | 1ull << 0x2e | 1ull << 0x36 | 1ull << 0x3e,
        0xffffull | 0xfull << 36,                /* 40..4f, 64..67 */
        0, 1ull << 48 | 1ull << 50 | 1ull << 51, /* f0 f2 f3 */
    };

    return set[byte >> 6] >> (byte & 63) & 1;
}

static enum insn_status take_prefixes(struct decoder *d)
{
    struct insn *insn = d->insn;
    uint8_t rex = 0;
    static const uint8_t addrsize[2][3] = {{4, 2, 4}, {2, 4, 8}}; /* [no 67][mode] */

    insn->addrsize = 1;
    for (;; d->pos++) {
        uint8_t byte;

        if (!decode_has(d, 1)) {
            return decode_short(d);
        }
        byte = d->bytes[d->pos];
        if (!may_be_prefix(byte)) {
            break;
        }
        if (d->is_long && (byte & 0xf0) == 0x40) {
            rex = byte;
        } else if (take_prefix(d, byte)) {
            rex = 0; /* counts only right before the opcode */
        } else {
            break;
        }
    }
    insn->rex = rex;
    insn->addrsize = addrsize[insn->addrsize][d->mode];
    insn->prefix_len = d->pos;
    return INSN_OK;
}

static enum insn_status take_opcode(struct decoder *d)
{
    struct insn *insn = d->insn;
    uint8_t byte = d->bytes[d->pos++]; /* take_prefixes() has seen it */

    if (byte == 0x0f) {
        if (!decode_has(d, 1)) {
            return decode_short(d);
        }
        byte = d->bytes[d->pos++];
        insn->map = 1;
        if (byte == 0x38 || byte == 0x3a) {
            if (!decode_has(d, 1)) {
                return decode_short(d);
            }
            insn->map = byte == 0x38 ? 2 : 3;
            byte = d->bytes[d->pos++];
        }
    }
    insn->opcode_at = d->pos - 1;
    insn->opcode = byte;
    return INSN_OK;
}

/* The prefix that counts as part of the opcode, as a bit of PREFIX_*: SDM volume 2, 2.1.2. */
static unsigned mandatory_prefix(const struct insn *insn)
{
    if (insn->encoding != INSN_LEGACY) {
        return 1u << insn->pp;
    }
    if (insn->rep) {
        return insn->rep == 0xf3 ? PREFIX_F3 : PREFIX_F2;
    }
    return insn->has_66 ? PREFIX_P66 : PREFIX_NP;
}

static const struct insn_form *find_form(const struct decoder *d, const struct insn_form *form)
{
    const struct insn *insn = d->insn;
    unsigned prefix = mandatory_prefix(insn);
    unsigned key = insn->modrm;

    key |= decode_is_mem(insn) ? KEY_MEM : 0;
    key |= d->is_long ? KEY_LONG : 0;
    key |= insn->rex & REX_W ? KEY_W : 0;
    key |= insn->rex & REX_B ? KEY_B : 0;
    for (; form->op != INSN_INVALID; form++) {
        if ((key & form->mask) == form->value && (form->prefix & prefix) &&
            (!insn->encoding || decode_vex_fits(d, form, decode_is_mem(insn)))) {
            return form;
        }
    }
    return NULL;
}

static enum insn_status take_disp(struct decoder *d, unsigned len)
{
    struct insn *insn = d->insn;

    if (!decode_has(d, len)) {
        return decode_short(d);
    }
    insn->disp_at = d->pos;
    insn->disp_len = (uint8_t)len;
    insn->disp = take(d, len);
    if (len == 1 && insn->disp_scale) {
        insn->disp *= insn->disp_scale;
    }
    return INSN_OK;
}

static void set_base(struct insn *insn, uint8_t base, bool is_stack)
{
    insn->base = base;
    if (is_stack && !insn->has_seg_override) {
        insn->seg = SS;
    }
}

/* 16-bit addressing: SDM volume 2, table 2-1. */
static enum insn_status take_memory16(struct decoder *d)
{
    enum { BX = 3, BP = 5, SI = 6, DI = 7 };
    static const uint8_t base[8] = {BX, BX, BP, BP, SI, DI, BP, BX};
    static const uint8_t index[8] = {SI,          DI,          SI,          DI,
                                     INSN_NO_REG, INSN_NO_REG, INSN_NO_REG, INSN_NO_REG};
    struct insn *insn = d->insn;
    unsigned mod = insn->modrm >> 6;
    unsigned rm = insn->modrm & 7;

    if (mod == 0 && rm == 6) {
        return take_disp(d, 2);
    }
    set_base(insn, base[rm], base[rm] == BP);
    insn->index = index[rm];
    return mod ? take_disp(d, mod) : INSN_OK;
}

static enum insn_status take_sib(struct decoder *d, unsigned *ret_disp_len)
{
    struct insn *insn = d->insn;
    uint8_t index, base;

    if (!decode_has(d, 1)) {
        return decode_short(d);
    }
    insn->sib = d->bytes[d->pos++];
    index = ((insn->sib >> 3) & 7) | (insn->rex & REX_X ? 8 : 0);
    base = insn->sib & 7;
    if (insn->has_vsib) {
        index |= insn->vvvv & 16; /* EVEX.V' */
    }
    if (index != 4 || insn->has_vsib) {
        insn->index = index;
        insn->scale = (uint8_t)(1u << (insn->sib >> 6));
    }
    if (base == 5 && insn->modrm < 0x40) {
        *ret_disp_len = 4; /* no base */
    } else {
        base |= insn->rex & REX_B ? 8 : 0;
        set_base(insn, base, base == 4 || base == 5);
    }
    return INSN_OK;
}

/* 32-bit and 64-bit addressing: SDM volume 2, tables 2-2 and 2-3. */
static enum insn_status take_memory32(struct decoder *d)
{
    static const uint8_t disp_len[3] = {0, 1, 4};
    struct insn *insn = d->insn;
    unsigned mod = insn->modrm >> 6;
    unsigned rm = insn->modrm & 7;
    unsigned len = disp_len[mod];

    if (rm == 4) {
        enum insn_status status = take_sib(d, &len);

        if (status != INSN_OK) {
            return status;
        }
    } else if (rm == 5 && mod == 0) {
        insn->base = d->is_long ? INSN_REG_RIP : INSN_NO_REG;
        len = 4;
    } else {
        set_base(insn, (uint8_t)(rm | (insn->rex & REX_B ? 8 : 0)),
                 rm == 5 && !(insn->rex & REX_B));
    }
    return len ? take_disp(d, len) : INSN_OK;
}

static uint8_t operand_size(const struct decoder *d, const struct insn_form *form)
{
    const struct insn *insn = d->insn;
    unsigned flags = form->flags;
    bool has_66 = insn->has_66;

    if (flags & F_BYTE) {
        return 1;
    }
    if (flags & F_MIN4 || form->prefix == PREFIX_P66 || form->klass == INSN_CLASS_SIMD) {
        has_66 = d->mode == INSN_MODE_16;
    }
    if (!d->is_long) {
        return (d->mode == INSN_MODE_16) == has_66 ? 4 : 2;
    }
    if (flags & F_F64 || insn->rex & REX_W) {
        return flags & F_MAX4 ? 4 : 8; /* REX.W goes before 66 */
    }
    if (has_66) {
        return 2;
    }
    return flags & F_D64 ? 8 : 4;
}

static void set_sizes(struct decoder *d, const struct insn_form *form)
{
    static const uint8_t fixed[SIZE_COUNT] = {
        [SIZE_B] = 1, [SIZE_W] = 2, [SIZE_D] = 4, [SIZE_Q] = 8, [SIZE_T] = 10, [SIZE_X] = 16};
    uint8_t opsize = operand_size(d, form);

    memcpy(d->size, fixed, sizeof(fixed));
    if (d->insn->encoding) {
        decode_vex_sizes(d, form, decode_is_mem(d->insn));
        return;
    }
    d->insn->opsize = opsize;
    d->size[SIZE_V] = opsize;
    d->size[SIZE_Z] = opsize > 4 ? 4 : opsize;
    d->size[SIZE_Y] = d->insn->rex & REX_W ? 8 : 4;
    d->size[SIZE_N] = d->is_long ? 8 : 4;
    d->size[SIZE_P] = opsize + 2;
    d->size[SIZE_S] = d->is_long ? 10 : 6;
    d->size[SIZE_A] = (uint8_t)(2 * opsize);
    d->size[SIZE_E] = opsize == 2 ? 14 : 28;
    d->size[SIZE_F] = opsize == 2 ? 94 : 108;
}

void decode_operand(struct insn_operand *o, enum insn_operand_kind kind, unsigned reg,
                    unsigned size)
{
    o->kind = (uint8_t)kind;
    o->reg = (uint8_t)reg;
    o->size = (uint8_t)size;
    o->is_high8 = false;
}

static void set_gpr(const struct insn *insn, struct insn_operand *o, unsigned reg, unsigned size)
{
    decode_operand(o, INSN_GPR, reg, size);
    if (size == 1 && !insn->rex && reg >= 4) {
        o->reg = (uint8_t)(reg - 4);
        o->is_high8 = true;
    }
}

/* Read `len` bytes of immediate, which follow earlier ones. */
static enum insn_status take_imm(struct decoder *d, unsigned len, int64_t *ret_imm)
{
    struct insn *insn = d->insn;

    if (!decode_has(d, len)) {
        return decode_short(d);
    }
    if (!insn->imm_len) {
        insn->imm_at = d->pos;
    }
    insn->imm_len += (uint8_t)len;
    *ret_imm = take(d, len);
    return INSN_OK;
}

static enum insn_status immediate(struct decoder *d, struct insn_operand *o,
                                  enum insn_operand_kind kind, unsigned size, unsigned len)
{
    decode_operand(o, kind, 0, size);
    return take_imm(d, len, &d->insn->imm);
}

/* An immediate, then a second one that goes to imm2: ENTER (16 and 8 bits), far pointers. */
static enum insn_status two_immediates(struct decoder *d, struct insn_operand *o,
                                       enum insn_operand_kind kind, unsigned len, unsigned len2)
{
    int64_t second = 0;
    enum insn_status status = immediate(d, o, kind, len, len);

    if (status != INSN_OK) {
        return status;
    }
    status = take_imm(d, len2, &second);
    d->insn->imm2 = len2 == 1 ? (uint8_t)second : (uint16_t)second;
    if (kind == INSN_FAR || len == 2) {
        d->insn->imm = len == 2 ? (uint16_t)d->insn->imm : (uint32_t)d->insn->imm;
    }
    return status;
}

static enum insn_status immediate_operand(struct decoder *d, struct insn_operand *o,
                                          const struct operand_spec *spec)
{
    struct insn *insn = d->insn;
    unsigned size = d->size[spec->size];
    enum insn_status status;

    switch (spec->place) {
    case AT_ONE:
        decode_operand(o, INSN_IMM, 0, 1);
        insn->imm = 1;
        return INSN_OK;
    case AT_IMM_U8:
        status = immediate(d, o, INSN_IMM, 1, 1);
        insn->imm = (uint8_t)insn->imm;
        return status;
    case AT_IMM_S8: return immediate(d, o, INSN_IMM, size, 1);
    case AT_IMM_16:
        status = immediate(d, o, INSN_IMM, 2, 2);
        insn->imm = (uint16_t)insn->imm;
        return status;
    case AT_IMM_Z: return immediate(d, o, INSN_IMM, size, d->size[SIZE_Z]);
    case AT_IMM_V: return immediate(d, o, INSN_IMM, size, size);
    case AT_IMM_ENTER: return two_immediates(d, o, INSN_IMM, 2, 1);
    case AT_REL_8: return immediate(d, o, INSN_REL, size, 1);
    case AT_REL_Z: return immediate(d, o, INSN_REL, size, d->size[SIZE_Z]);
    case AT_IS4:
        status = immediate(d, o, INSN_XMM, size, 1);
        o->reg = (uint8_t)insn->imm >> 4 & (d->is_long ? 15 : 7);
        o->field = INSN_AT_IS4;
        return status;
    default: return two_immediates(d, o, INSN_FAR, size, 2);
    }
}

static enum insn_status moffs_operand(struct decoder *d, struct insn_operand *o, unsigned size)
{
    struct insn *insn = d->insn;
    enum insn_status status = take_disp(d, insn->addrsize);

    decode_operand(o, INSN_MEM, INSN_NO_REG, size);
    if (insn->addrsize == 4) {
        insn->disp = (uint32_t)insn->disp;
    }
    return status;
}

static unsigned modrm_reg(const struct insn *insn)
{
    return ((insn->modrm >> 3) & 7) | (insn->rex & REX_R ? 8 : 0);
}

static unsigned modrm_rm(const struct insn *insn)
{
    return (insn->modrm & 7) | (insn->rex & REX_B ? 8 : 0);
}

static uint8_t field_of(unsigned place)
{
    return place >= AT_RM && place <= AT_RM_ST       ? INSN_AT_RM
           : place >= AT_REG && place <= AT_REG_MASK ? INSN_AT_REG
           : place >= AT_V_GPR && place <= AT_V_MASK ? INSN_AT_VVVV
                                                     : INSN_AT_NONE;
}

static enum insn_status one_operand(struct decoder *d, struct insn_operand *o, unsigned code,
                                    bool is_mem)
{
    const struct operand_spec *spec = &insn_operand_spec[code];
    const struct insn *insn = d->insn;
    unsigned size = d->size[spec->size];

    if (is_mem && spec->place >= AT_RM && spec->place <= AT_RM_MASK) {
        decode_operand(o, INSN_MEM, INSN_NO_REG, insn->has_b ? insn->elem : d->size[spec->more]);
        return INSN_OK;
    }
    switch (spec->place) {
    case AT_RM: set_gpr(insn, o, modrm_rm(insn), size); break;
    case AT_RM_XMM: decode_operand(o, INSN_XMM, modrm_rm(insn), size); break;
    case AT_RM_MMX: decode_operand(o, INSN_MMX, insn->modrm & 7, size); break;
    case AT_RM_ST: decode_operand(o, INSN_ST, insn->modrm & 7, size); break;
    case AT_REG: set_gpr(insn, o, modrm_reg(insn), size); break;
    case AT_REG_XMM: decode_operand(o, INSN_XMM, modrm_reg(insn), size); break;
    case AT_REG_MMX: decode_operand(o, INSN_MMX, (insn->modrm >> 3) & 7, size); break;
    case AT_REG_SREG: decode_operand(o, INSN_SREG, (insn->modrm >> 3) & 7, size); break;
    case AT_REG_CREG: decode_operand(o, INSN_CREG, modrm_reg(insn), size); break;
    case AT_REG_DREG: decode_operand(o, INSN_DREG, modrm_reg(insn), size); break;
    case AT_VSIB: decode_operand(o, INSN_MEM, INSN_NO_REG, size); break;
    case AT_RM_VEC:
    case AT_RM_MASK:
    case AT_REG_VEC:
    case AT_REG_MASK:
    case AT_V_GPR:
    case AT_V_VEC:
    case AT_V_MASK: decode_vex_operand(d, o, spec); break;
    case AT_OPCODE:
        set_gpr(insn, o, (insn->opcode & 7u) | (insn->rex & REX_B ? 8 : 0), size);
        break;
    case AT_GPR: decode_operand(o, INSN_GPR, spec->more, size); break;
    case AT_SREG: decode_operand(o, INSN_SREG, spec->more, size); break;
    case AT_ST: decode_operand(o, INSN_ST, spec->more, size); break;
    case AT_MOFFS: return moffs_operand(d, o, size);
    default: return immediate_operand(d, o, spec);
    }
    o->field = field_of(spec->place);
    return INSN_OK;
}

/* Registers that do not exist, and LOCK where it is not allowed (SDM volume 2, "LOCK"). */
static bool is_undefined(const struct insn *insn, const struct insn_form *form, bool is_mem)
{
    const struct insn_operand *o = insn->operand;
    unsigned reg;

    if (insn->has_lock && !(is_mem && form->flags & F_LOCKABLE)) {
        return true;
    }
    if (form->klass != INSN_CLASS_SYSTEM) {
        return false;
    }
    switch (insn->op) {
    case INSN_MOV_TO_SREG: return o[0].reg > SEG_LAST || o[0].reg == CS;
    case INSN_MOV_FROM_SREG: return o[1].reg > SEG_LAST;
    case INSN_MOV_TO_DR:
    case INSN_MOV_FROM_DR: return modrm_reg(insn) > 7;
    case INSN_MOV_TO_CR:
    case INSN_MOV_FROM_CR:
        reg = modrm_reg(insn);
        return reg != 0 && reg != 2 && reg != 3 && reg != 4 && reg != 8;
    default: return false;
    }
}

static uint8_t alignment(const struct insn *insn, const struct insn_form *form)
{
    unsigned i;

    if (form->avx & A_ALIGN) {
        return insn->vl;
    }
    if (form->flags & (F_A16 | F_A64)) {
        return form->flags & F_A16 ? 16 : 64;
    }
    if (form->klass != INSN_CLASS_SIMD || form->flags & F_UNAL) {
        return 0;
    }
    /* SDM volume 2, 2.4: legacy SSE operands of 16 bytes */
    for (i = 0; i < insn->operand_count; i++) {
        if (insn->operand[i].kind == INSN_MEM && insn->operand[i].size == 16) {
            return 16;
        }
    }
    return 0;
}

static void describe_memory(struct insn *insn, const struct insn_form *form)
{
    if (!(form->flags & F_NOMEM)) {
        insn->mem_access = INSN_MEM_READ;
        if (form->flags & (F_W | F_RW)) {
            insn->mem_access = form->flags & F_RW ? INSN_MEM_READ | INSN_MEM_WRITE : INSN_MEM_WRITE;
        }
    }
    insn->mem_align = alignment(insn, form);
}

static enum insn_status take_operands(struct decoder *d, const struct insn_form *form, bool is_mem)
{
    struct insn *insn = d->insn;
    enum insn_status status = INSN_OK;
    unsigned i;

    if (insn->has_vsib && (insn->addrsize == 2 || (insn->modrm & 7) != 4)) {
        return INSN_UNDEFINED;
    }
    if (is_mem) {
        status = insn->addrsize == 2 ? take_memory16(d) : take_memory32(d);
    }
    for (i = 0; status == INSN_OK && i < FORM_OPERAND_MAX && form->operand[i]; i++) {
        status = one_operand(d, &insn->operand[i], form->operand[i], is_mem);
    }
    insn->operand_count = (uint8_t)i;
    return status;
}

static enum insn_status decode_form(struct decoder *d, const struct insn_form *form)
{
    struct insn *insn = d->insn;
    bool is_mem = decode_is_mem(insn) && !(form->flags & F_RMREG);
    enum insn_status status;

    insn->op = form->op;
    insn->klass = form->klass;
    insn->cond = insn->opcode & 0xf;
    insn->features = form->features;
    set_sizes(d, form);
    status = take_operands(d, form, is_mem);
    insn->len = d->pos;
    if (status != INSN_OK) {
        return status;
    }
    if (insn->encoding ? decode_vex_is_undefined(d, form, is_mem)
                       : is_undefined(insn, form, is_mem)) {
        return INSN_UNDEFINED;
    }
    if (is_mem || insn->disp_len) {
        describe_memory(insn, form);
    }
    return INSN_OK;
}

static unsigned table_map(const struct insn *insn)
{
    switch (insn->encoding) {
    case INSN_VEX: return INSN_MAP_VEX - 1u + insn->map;
    case INSN_EVEX: return INSN_MAP_EVEX - 1u + insn->map;
    default: return insn->map;
    }
}

static enum insn_status decode(struct decoder *d)
{
    struct insn *insn = d->insn;
    const struct insn_opcode *opcode;
    const struct insn_form *form;
    enum insn_status status = take_prefixes(d);

    if (status != INSN_OK) {
        return status;
    }
    status = decode_vex_begins(d) ? decode_vex_prefix(d) : take_opcode(d);
    if (status != INSN_OK) {
        return status;
    }
    opcode = &insn_opcode[table_map(insn) << 8 | insn->opcode];
    if (opcode->has_modrm) {
        if (!decode_has(d, 1)) {
            return decode_short(d);
        }
        insn->has_modrm = true;
        insn->modrm_at = d->pos;
        insn->modrm = d->bytes[d->pos++];
    }
    insn->len = d->pos;
    form = find_form(d, &insn_form[opcode->first]);
    return form ? decode_form(d, form) : INSN_UNDEFINED;
}

enum insn_status insn_decode(const uint8_t *bytes, size_t avail, enum insn_mode mode,
                             struct insn *ret_insn)
{
    struct decoder d = {
        .bytes = bytes,
        .end = avail < INSN_LEN_MAX ? (uint8_t)avail : INSN_LEN_MAX,
        .is_long = mode == INSN_MODE_64,
        .mode = mode,
        .insn = ret_insn,
    };

    memset(ret_insn, 0, sizeof(*ret_insn));
    ret_insn->seg = DS;
    ret_insn->base = INSN_NO_REG;
    ret_insn->index = INSN_NO_REG;
    ret_insn->scale = 1;
    return decode(&d);
}
