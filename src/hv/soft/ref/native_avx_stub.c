/* native_avx_stub.c — stubs for VEX and EVEX: registers in, the instruction anew, registers out.
 *
 * Vector registers and masks keep their numbers.  What an instruction writes is stored as wide as
 * the host's registers are, since it has cleared all above its vector length.
 */
#include "hv/soft/cpu/fpu.h"
#include "hv/soft/ref/native_stub_int.h"

#define PP_NONE 0u
#define PP_66   1u
#define MAP_0F  1u
#define MAP_3A  3u

/* The fields of a prefix; register numbers are whole. */
struct prefix {
    uint8_t map, pp, ll, w;
    uint8_t reg, v, x, b; /* x and b: bits that extend r/m */
    uint8_t aaa, z, has_b;
};

static void emit_vex(struct code *c, const struct prefix *p)
{
    EMIT(c, 0xc4, (uint8_t)(((p->reg & 8 ? 4 : 0) | p->x << 1 | p->b) << 5 ^ 0xe0) | p->map,
         (uint8_t)(p->w << 7 | (~p->v & 15) << 3 | p->ll << 2 | p->pp));
}

static void emit_evex(struct code *c, const struct prefix *p)
{
    uint8_t rxb =
        (uint8_t)((p->reg & 8 ? 0x80 : 0) | p->x << 6 | p->b << 5 | (p->reg & 16 ? 0x10 : 0));

    EMIT(c, 0x62, (uint8_t)((rxb ^ 0xf0) | p->map),
         (uint8_t)(p->w << 7 | (~p->v & 15) << 3 | 4 | p->pp),
         (uint8_t)(p->z << 7 | p->ll << 5 | p->has_b << 4 | (p->v & 16 ? 0 : 8) | p->aaa));
}

/* opcode /reg with [rdi + off]. */
static void emit_state(struct code *c, bool is_evex, const struct prefix *p, uint8_t opcode,
                       size_t off)
{
    (is_evex ? emit_evex : emit_vex)(c, p);
    EMIT(c, opcode, (uint8_t)(0x87 | (p->reg & 7) << 3));
    emit32(c, offsetof(struct vcpu, xsave) + off);
}

/* --- registers --- */

/* MOVUPS of 16 bytes, or of all 64 where the image has them in one piece. */
static void emit_low(struct code *c, bool is_store, unsigned reg)
{
    bool is_high = reg >= 16;
    struct prefix p = {.map = MAP_0F, .ll = is_high ? 2 : 0, .reg = (uint8_t)reg};

    emit_state(c, is_high, &p, is_store ? 0x11 : 0x10,
               is_high ? FPU_HI_ZMM + 64u * (reg - 16) : FPU_XMM0 + 16u * reg);
}

/* VINSERTF128 and VINSERTF64X4 of the upper half, or VEXTRACT back. */
static void emit_upper(struct code *c, bool is_store, unsigned reg, bool is_zmm)
{
    struct prefix p = {.map = MAP_3A,
                       .pp = PP_66,
                       .ll = is_zmm ? 2 : 1,
                       .w = is_zmm,
                       .reg = (uint8_t)reg,
                       .v = (uint8_t)(is_store ? 0 : reg)};
    uint8_t opcode = is_zmm ? 0x1a : 0x18;

    emit_state(c, is_zmm, &p, opcode | (is_store ? 1 : 0),
               is_zmm ? FPU_ZMM_HI + 32u * reg : FPU_YMM_HI + 16u * reg);
    EMIT(c, 1);
}

static void emit_vector(struct code *c, bool is_store, unsigned reg, unsigned size)
{
    emit_low(c, is_store, reg);
    if (reg < 16 && size >= 32) {
        emit_upper(c, is_store, reg, false);
    }
    if (reg < 16 && size >= 64) {
        emit_upper(c, is_store, reg, true);
    }
}

/* KMOVQ */
static void emit_mask(struct code *c, bool is_store, unsigned reg)
{
    struct prefix p = {.map = MAP_0F, .pp = PP_NONE, .w = 1, .reg = (uint8_t)reg};

    emit_state(c, false, &p, is_store ? 0x91 : 0x90, FPU_OPMASK + 8u * reg);
}

/* The host's register for a general one of the guest. */
static unsigned host_gpr(const struct insn_operand *o)
{
    return o->field == INSN_AT_REG ? GPR_RAX : o->field == INSN_AT_RM ? GPR_RCX : GPR_RDX;
}

static void emit_operand(struct code *c, bool is_store, const struct insn_operand *o, unsigned size)
{
    switch (o->kind) {
    case INSN_XMM: emit_vector(c, is_store, o->reg, size); break;
    case INSN_MASK: emit_mask(c, is_store, o->reg); break;
    case INSN_GPR: stub_gpr(c, is_store, host_gpr(o), o->reg); break;
    default: break;
    }
}

/* --- string compares, which have operands that they do not name --- */

static bool is_string_compare(const struct insn *insn)
{
    return insn->op == INSN_VPCMPESTRI || insn->op == INSN_VPCMPESTRM ||
           insn->op == INSN_VPCMPISTRI || insn->op == INSN_VPCMPISTRM;
}

static void emit_compare_loads(struct code *c, const struct insn *insn)
{
    if (insn->op == INSN_VPCMPESTRI || insn->op == INSN_VPCMPESTRM) {
        stub_gpr(c, false, GPR_RAX, GPR_RAX);
        stub_gpr(c, false, GPR_RDX, GPR_RDX);
    }
}

static void emit_compare_stores(struct code *c, const struct insn *insn, unsigned width)
{
    if (insn->op == INSN_VPCMPESTRI || insn->op == INSN_VPCMPISTRI) {
        stub_gpr(c, true, GPR_RCX, GPR_RCX);
    } else {
        emit_vector(c, true, 0, width);
    }
}

/* --- the instruction --- */

static void set_register(struct prefix *p, uint8_t *modrm, const struct insn_operand *o)
{
    unsigned reg = o->kind == INSN_GPR ? host_gpr(o) : o->reg;

    switch ((enum insn_field)o->field) {
    case INSN_AT_REG:
        p->reg = (uint8_t)reg;
        *modrm = (uint8_t)((*modrm & 0xc7) | (reg & 7) << 3);
        break;
    case INSN_AT_RM:
        *modrm = (uint8_t)((*modrm & 0xf8) | (reg & 7));
        p->b = reg >> 3 & 1;
        p->x = reg >> 4 & 1;
        break;
    case INSN_AT_VVVV: p->v = (uint8_t)reg; break;
    case INSN_AT_IS4:
    case INSN_AT_NONE: break;
    }
}

static void emit_avx_insn(struct code *c, const struct insn *insn)
{
    struct prefix p = {.map = insn->map,
                       .pp = insn->pp,
                       .ll = insn->ll,
                       .w = insn->rex >> 3 & 1,
                       .aaa = insn->opmask,
                       .z = insn->has_zeroing,
                       .has_b = insn->has_b};
    uint8_t modrm = insn->modrm;
    uint8_t imm = (uint8_t)insn->imm;

    for (unsigned i = 0; i < insn->operand_count; i++) {
        const struct insn_operand *o = &insn->operand[i];

        if (o->kind == INSN_MEM) {
            modrm = (uint8_t)((modrm & 0x38) | GPR_RSI);
        } else {
            set_register(&p, &modrm, o);
        }
        if (o->field == INSN_AT_IS4) {
            imm = (uint8_t)(o->reg << 4 | (imm & 15));
        }
    }
    (insn->encoding == INSN_EVEX ? emit_evex : emit_vex)(c, &p);
    EMIT(c, insn->opcode);
    if (insn->has_modrm) {
        EMIT(c, modrm);
    }
    if (insn->imm_len) {
        EMIT(c, imm);
    }
}

void stub_build_avx(struct code *c, const struct insn *insn, bool has_zmm)
{
    unsigned width = has_zmm ? 64 : 32, loaded = 16;

    /* one register may be named with two sizes */
    for (unsigned i = 0; i < insn->operand_count; i++) {
        if (insn->operand[i].kind == INSN_XMM && insn->operand[i].size > loaded) {
            loaded = insn->operand[i].size;
        }
    }
    EMIT(c, 0xf3, 0x0f, 0x1e, 0xfa); /* endbr64 */
    for (unsigned i = 0; i < insn->operand_count; i++) {
        emit_operand(c, false, &insn->operand[i], loaded);
    }
    if (insn->opmask) {
        emit_mask(c, false, insn->opmask);
    }
    emit_compare_loads(c, insn);
    emit_avx_insn(c, insn);
    if (insn->writes_flags) { /* these write nothing that they name */
        if (is_string_compare(insn)) {
            emit_compare_stores(c, insn, width);
        }
        stub_flags_out(c);
    } else {
        emit_operand(c, true, &insn->operand[0], width);
    }
    EMIT(c, 0xc5, 0xf8, 0x77, 0xc3); /* vzeroupper, ret */
}
