/* diff_gen.h — what the generators of cases share: bytes being put together. */
#pragma once

#include "hv/soft/cache/diff.h"

struct diff_draft {
    uint8_t bytes[32];
    unsigned len;
};

static inline void diff_put(struct diff_draft *d, unsigned byte)
{
    d->bytes[d->len++] = (uint8_t)byte;
}

/* Prefixes up to the opcode of a form of map 4 and up. */
void diff_put_avx(struct diff_random *r, struct diff_draft *d, const struct insn_form *form,
                  unsigned map, bool is_compat);
/* The vector of indices of a gather or scatter. */
void diff_set_indices(struct diff_random *r, struct diff_case *c);
