/* verify.h — proves of emitted code that it touches only what it may.
 *
 * Code is decoded again, by the decoder, from what was written, and followed along every path from
 * its entries, with what is known of the registers (verify.c).  Accepted are: operands in the
 * fields of struct vcpu that verify_rules.c lists; operands in guest memory behind one of the
 * checks that access.c, group.c and window.c describe; jumps within the code, to stubs with what
 * they want, and by the table of indirect branches; instructions that verify_rules.c lists.  So a
 * fault in the translator that would let a guest out becomes a vCPU that stops.
 *
 * On in gcc's builds with sanitizers and in the random tests, elsewhere by EC1_SOFT_VERIFY=1 in the
 * environment.
 */
#pragma once

#include "hv/soft/emit/emit_int.h"

#define VERIFY_WHY  160
#define VERIFY_WAYS (2 * ENTRY_COUNT + 2)

struct verify_range {
    const uint8_t *from, *to; /* in the writable view */
};

/* One piece of code: where it is, and the ways in. */
struct verify_unit {
    struct verify_range range[2];
    const uint8_t *start[VERIFY_WAYS]; /* NULL: unused */
    const uint8_t *also[VERIFY_WAYS];  /* into code that was accepted before; may be jumped to */
    const struct block *block;         /* what it was made from; NULL: anything */
    bool is_user;                      /* of a block at CPL 3 */
};

bool verify_is_wanted(void);
/* False: `why` says what is wrong. */
bool verify_code(const struct emit_cache *e, const struct verify_unit *unit,
                 char why[static VERIFY_WHY]);
/* What was emitted behind these ends for block b, to be entered at `start`; NULL: wherever the
 * block is entered.  If it is not accepted, v->broken.  True if nothing is verified at all. */
bool verify_emitted(struct vcpu *v, const struct block *b, const struct asm_buf *hot,
                    const struct asm_buf *cold, const uint8_t *start);
