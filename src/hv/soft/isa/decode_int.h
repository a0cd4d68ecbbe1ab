/* decode_int.h — what the files of the decoder share: the decoding in progress. */
#pragma once

#include "hv/soft/isa/forms.h"

#define REX_W 0x8u
#define REX_R 0x4u
#define REX_X 0x2u
#define REX_B 0x1u

struct decoder {
    const uint8_t *bytes;
    uint8_t pos, end; /* end: at most INSN_LEN_MAX */
    bool is_long;
    enum insn_mode mode;
    struct insn *insn;
    uint8_t size[SIZE_COUNT];
    uint8_t high_reg; /* EVEX.R' << 4: of a vector register in ModRM.reg */
};

/* Why bytes ran out. */
static inline enum insn_status decode_short(const struct decoder *d)
{
    return d->end == INSN_LEN_MAX ? INSN_TOO_LONG : INSN_MORE;
}

static inline bool decode_has(const struct decoder *d, unsigned count)
{
    return (unsigned)(d->end - d->pos) >= count;
}

static inline bool decode_is_mem(const struct insn *insn)
{
    return insn->has_modrm && insn->modrm < 0xc0;
}

void decode_operand(struct insn_operand *o, enum insn_operand_kind kind, unsigned reg,
                    unsigned size);

/* decode_vex.c */

/* Is the byte at d->pos the first of a VEX or EVEX prefix? */
bool decode_vex_begins(const struct decoder *d);
/* Take the prefix and the opcode. */
enum insn_status decode_vex_prefix(struct decoder *d);
/* Does the form have the vector length?  `is_mem`: of r/m. */
bool decode_vex_fits(const struct decoder *d, const struct insn_form *form, bool is_mem);
/* What follows from the form: vector length, sizes, scale of displacements. */
void decode_vex_sizes(struct decoder *d, const struct insn_form *form, bool is_mem);
/* An operand that only VEX and EVEX have, apart from IS4. */
void decode_vex_operand(const struct decoder *d, struct insn_operand *o,
                        const struct operand_spec *spec);
/* Rules that the form does not show by itself. */
bool decode_vex_is_undefined(const struct decoder *d, const struct insn_form *form, bool is_mem);
