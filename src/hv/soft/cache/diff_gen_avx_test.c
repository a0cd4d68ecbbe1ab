/* diff_gen_avx_test.c — cases with VEX and EVEX: their prefixes, their masks, vectors of indices.
 */
#include <string.h>

#include "base/bits.h"
#include "hv/soft/cache/diff_gen.h"
#include "hv/soft/cpu/fpu.h"
#include "hv/soft/cpu/vcpu.h"

/* --- prefixes --- */

static bool has_place(const struct insn_form *form, unsigned place)
{
    unsigned i;

    for (i = 0; i < FORM_OPERAND_MAX && form->operand[i]; i++) {
        if (insn_operand_spec[form->operand[i]].place == place) {
            return true;
        }
    }
    return false;
}

static bool names_vvvv(const struct insn_form *form)
{
    return has_place(form, AT_V_GPR) || has_place(form, AT_V_VEC) || has_place(form, AT_V_MASK);
}

static unsigned choose_bit(struct diff_random *r, const struct insn_form *form, unsigned key)
{
    return form->mask & key ? (form->value & key) != 0 : diff_next(r) & 1;
}

static unsigned choose_length(struct diff_random *r, const struct insn_form *form)
{
    unsigned ll;

    do {
        ll = (unsigned)(diff_next(r) % 3);
    } while (!(form->vl >> ll & 1));
    return ll;
}

static void put_vex(struct diff_random *r, struct diff_draft *d, const struct insn_form *form,
                    unsigned map, bool is_compat)
{
    unsigned pp = (unsigned)__builtin_ctz(form->prefix), w = choose_bit(r, form, KEY_W);
    unsigned vvvv = names_vvvv(form) ? (unsigned)diff_next(r) & 15 : 15;
    unsigned ll = choose_length(r, form) & 1, rxb = is_compat ? 7 : (unsigned)diff_next(r) & 7;

    if (map == 1 && !w && (rxb & 3) == 3 && diff_chance(r, 60)) {
        diff_put(d, 0xc5);
        diff_put(d, (rxb & 4) << 5 | vvvv << 3 | ll << 2 | pp);
        return;
    }
    diff_put(d, 0xc4);
    diff_put(d, rxb << 5 | map);
    diff_put(d, w << 7 | vvvv << 3 | ll << 2 | pp);
}

static void put_evex(struct diff_random *r, struct diff_draft *d, const struct insn_form *form,
                     unsigned map, bool is_compat)
{
    unsigned pp = (unsigned)__builtin_ctz(form->prefix), w = choose_bit(r, form, KEY_W);
    unsigned vvvv = names_vvvv(form) ? (unsigned)diff_next(r) & 15 : 15;
    unsigned rxbr = is_compat ? 15 : (unsigned)diff_next(r) & 15;
    unsigned ll = choose_length(r, form), aaa = 0, z = 0, high = 1, b = 0;
    bool is_indexed = has_place(form, AT_VSIB);

    if (form->avx & A_NEEDMASK || (form->avx & A_MASK && diff_chance(r, 65))) {
        aaa = 1 + (unsigned)(diff_next(r) % 7);
        z = form->avx & A_ZERO && diff_chance(r, 35);
    }
    if (form->avx & (A_BCAST | A_ROUND | A_SAE)) {
        b = diff_chance(r, 30);
    }
    if (!is_compat && (is_indexed || (names_vvvv(form)))) {
        high = (unsigned)diff_next(r) & 1;
    }
    if (has_place(form, AT_REG_MASK)) {
        rxbr |= 9; /* there are eight */
    }
    if (has_place(form, AT_RM)) {
        rxbr |= 4; /* else a CPU was seen to take an old RSP after CALL or PUSH */
    }
    diff_put(d, 0x62);
    diff_put(d, rxbr << 4 | map);
    diff_put(d, w << 7 | vvvv << 3 | 4 | pp);
    diff_put(d, z << 7 | ll << 5 | b << 4 | high << 3 | aaa);
}

void diff_put_avx(struct diff_random *r, struct diff_draft *d, const struct insn_form *form,
                  unsigned map, bool is_compat)
{
    if (diff_chance(r, 10)) {
        diff_put(d, 0x67);
    }
    if (!is_compat && diff_chance(r, 10)) {
        diff_put(d, 0x65);
    }
    if (map < INSN_MAP_EVEX) {
        put_vex(r, d, form, map - INSN_MAP_VEX + 1, is_compat);
    } else {
        put_evex(r, d, form, map - INSN_MAP_EVEX + 1, is_compat);
    }
}

/* --- state --- */

/* Indices that stay near, so that most elements are there. */
void diff_set_indices(struct diff_random *r, struct diff_case *c)
{
    unsigned width = c->insn.opcode & 1 ? 8 : 4, i;
    uint8_t bytes[64] = {0};

    for (i = 0; i < 64 / width; i++) {
        int64_t index = (int64_t)(diff_next(r) % 64) - 32;

        if (diff_chance(r, 1)) {
            index = (int64_t)diff_next(r);
        }
        memcpy(bytes + (size_t)i * width, &index, width);
    }
    diff_set_vector(&c->start, c->insn.index, bytes);
}

/* --- vector registers in an image --- */

void diff_set_vector(struct diff_state *s, unsigned reg, const uint8_t bytes[64])
{
    if (reg >= 16) {
        memcpy(s->fx + FPU_HI_ZMM + (size_t)64 * (reg - 16), bytes, 64);
        return;
    }
    memcpy(s->fx + FPU_XMM0 + (size_t)16 * reg, bytes, 16);
    memcpy(s->fx + FPU_YMM_HI + (size_t)16 * reg, bytes + 16, 16);
    memcpy(s->fx + FPU_ZMM_HI + (size_t)32 * reg, bytes + 32, 32);
}

void diff_get_vector(const struct diff_state *s, unsigned reg, uint8_t ret_bytes[64])
{
    if (reg >= 16) {
        memcpy(ret_bytes, s->fx + FPU_HI_ZMM + (size_t)64 * (reg - 16), 64);
        return;
    }
    memcpy(ret_bytes, s->fx + FPU_XMM0 + (size_t)16 * reg, 16);
    memcpy(ret_bytes + 16, s->fx + FPU_YMM_HI + (size_t)16 * reg, 16);
    memcpy(ret_bytes + 32, s->fx + FPU_ZMM_HI + (size_t)32 * reg, 32);
}
