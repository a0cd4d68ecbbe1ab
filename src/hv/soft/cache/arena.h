/* arena.h — memory for decoded blocks: filled from the bottom, then where blocks were given back.
 *
 * Pieces are of 16 bytes; a bit of each says whether it is in use.  Freed pieces are used again
 * after arena_rewind() only, from the bottom upwards, so that an allocation looks at each hole
 * once.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct arena {
    uint8_t *base;
    size_t bytes;      /* of address space */
    size_t top;        /* above, nothing has been used yet */
    size_t populated;  /* the host has been asked for so much */
    size_t in_use;     /* bytes */
    size_t at, end;    /* the hole that is being filled */
    size_t large;      /* where to look for holes for large pieces */
    size_t holes_end;  /* where looking for holes stops: the top when it began */
    uint64_t *is_used; /* bit per piece */
};

/* 0 or -ENOMEM; arena_fini() accepts what failed, and zeroes. */
int arena_init(struct arena *a, size_t bytes);
void arena_fini(struct arena *a);

/* Aligned to 16 bytes; NULL when it is full. */
void *arena_alloc(struct arena *a, size_t size);
/* What arena_alloc() gave for `size`. */
void arena_free(struct arena *a, void *p, size_t size);

/* Begin to fill holes from the bottom. */
void arena_rewind(struct arena *a);
/* Forget all allocations. */
void arena_reset(struct arena *a);

/* No holes are left to look at, and less than `room` bytes are free between the top and `limit`. */
bool arena_is_full(const struct arena *a, size_t limit, size_t room);
