/* arena.c — memory for decoded blocks: filled from the bottom, then where blocks were given back.
 */
#include "hv/soft/cache/arena.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bits.h"

#define PIECE 16u
#define STEP  (2u << 20) /* asked from the host at once */
#define SMALL 1024u      /* what is larger goes to the top: looking for its hole would pass many */

static size_t bitmap_bytes(const struct arena *a)
{
    return a->bytes / PIECE / 8;
}

int arena_init(struct arena *a, size_t bytes)
{
    *a = (struct arena){.bytes = align_up(bytes, STEP)};
    a->base = mmap(NULL, a->bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    a->is_used = mmap(NULL, bitmap_bytes(a), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (a->base == MAP_FAILED || a->is_used == MAP_FAILED) {
        arena_fini(a);
        return -ENOMEM;
    }
    (void)madvise(a->base, a->bytes, MADV_HUGEPAGE);
    (void)madvise(a->base, a->bytes, MADV_DONTDUMP);
    return 0;
}

void arena_fini(struct arena *a)
{
    if (a->base && a->base != MAP_FAILED) {
        (void)munmap(a->base, a->bytes);
    }
    if (a->is_used && (void *)a->is_used != MAP_FAILED) {
        (void)munmap(a->is_used, bitmap_bytes(a));
    }
    *a = (struct arena){0};
}

/* Set or clear the bits of [at, at + size). */
static void mark(struct arena *a, size_t at, size_t size, bool used)
{
    for (size_t bit = at / PIECE, end = (at + size) / PIECE; bit < end;) {
        size_t count = 64 - bit % 64;
        uint64_t bits;

        count = count < end - bit ? count : end - bit;
        bits = (UINT64_MAX >> (64 - count)) << (bit % 64);
        if (used) {
            a->is_used[bit / 64] |= bits;
        } else {
            a->is_used[bit / 64] &= ~bits;
        }
        bit += count;
    }
}

/* The next piece from `at` on that is used, or is not; holes_end if there is none. */
static size_t find(const struct arena *a, size_t at, bool used)
{
    while (at < a->holes_end) {
        uint64_t word = a->is_used[at / PIECE / 64];

        word = (used ? word : ~word) >> (at / PIECE % 64);
        if (word) {
            at += (size_t)__builtin_ctzll(word) * PIECE;
            return at < a->holes_end ? at : a->holes_end;
        }
        at = align_down(at, 64 * PIECE) + 64 * PIECE;
    }
    return a->holes_end;
}

/* Smaller holes than `size` are passed. */
static bool find_hole(struct arena *a, size_t size)
{
    while (a->end - a->at < size && a->end < a->holes_end) {
        a->at = find(a, a->end, false);
        a->end = find(a, a->at, true);
    }
    return a->end - a->at >= size;
}

/* For large pieces, ahead of the hole that is being filled. */
static bool find_large_hole(struct arena *a, size_t size)
{
    a->large = a->large > a->end ? a->large : a->end;
    while (a->large < a->holes_end) {
        size_t at = find(a, a->large, false);
        size_t end = find(a, at, true);

        a->large = end - at >= size ? at : end;
        if (a->large == at) {
            return at < end;
        }
    }
    return false;
}

static bool grow(struct arena *a, size_t size)
{
    if (size > a->bytes - a->top) {
        return false;
    }
    while (a->top + size > a->populated) {
        (void)madvise(a->base + a->populated, STEP, MADV_POPULATE_WRITE);
        a->populated += STEP;
    }
    return true;
}

void *arena_alloc(struct arena *a, size_t size)
{
    size_t *from = &a->at;
    size_t at;

    size = align_up(size, PIECE);
    if (size > SMALL && find_large_hole(a, size)) {
        from = &a->large;
    } else if (size > SMALL || !find_hole(a, size)) {
        from = &a->top;
        if (!grow(a, size)) {
            return NULL;
        }
    }
    at = *from;
    *from += size;
    a->in_use += size;
    mark(a, at, size, true);
    return a->base + at;
}

void arena_free(struct arena *a, void *p, size_t size)
{
    size = align_up(size, PIECE);
    a->in_use -= size;
    mark(a, (size_t)((uint8_t *)p - a->base), size, false);
}

void arena_rewind(struct arena *a)
{
    a->at = 0;
    a->end = 0;
    a->large = 0;
    a->holes_end = a->top;
}

void arena_reset(struct arena *a)
{
    memset(a->is_used, 0, align_up(a->top, 64 * PIECE) / PIECE / 8);
    a->top = 0;
    a->in_use = 0;
    arena_rewind(a);
}

bool arena_is_full(const struct arena *a, size_t limit, size_t room)
{
    return a->end >= a->holes_end && a->end - a->at < SMALL && a->top + room > limit;
}
