/* sweep.c — memory of blocks that hardly ran is used again.
 *
 * Two of three blocks run less often than it takes to be translated, most of them once or twice.
 * They are forgotten when the arena has grown to its limit: out of the hash table, out of the lists
 * of their pages, and out of the links and the table of addresses that lead to them, for these are
 * followed without asking whether the block is still there.  A block that has been translated
 * stays, alone or as a part of another: code leads to code without a list of who does, and calls
 * the interpreter for its blocks.
 *
 * A sweep happens where a block is about to be made, between two blocks. */
#include "hv/soft/cache/code_int.h"
#include "hv/soft/emit/emit.h"
#include "hv/soft/ref/native.h"

#define LIMIT_STEP (8u << 20)
/* Up to here memory counts more than time; a program that needs more than this runs cold code in
 * rounds (a compiler does), and to decode that once more in each round takes a fifth of its time.
 */
#define LIMIT_SMALL (40u << 20)

/* Memory that goes with a block: before each piece, the place of the next one. */
struct part {
    uint32_t next; /* in units of PART_UNIT; 0: none */
    uint32_t size;
};

#define PART_UNIT 16u

void *code_alloc_part(void *owner, size_t size)
{
    struct code_cache *c = owner;
    struct part *p = arena_alloc(&c->arena, sizeof(*p) + size);

    if (!p) {
        return NULL;
    }
    *p = (struct part){.next = c->parts, .size = (uint32_t)(sizeof(*p) + size)};
    c->parts = (uint32_t)(((uint8_t *)p - c->arena.base) / PART_UNIT) + 1;
    return p + 1;
}

static size_t block_size(unsigned op_count, size_t byte_count)
{
    return sizeof(struct block) + op_count * sizeof(struct op) + byte_count;
}

struct block *code_alloc_block(struct code_cache *c, unsigned op_count, size_t byte_count)
{
    return arena_alloc(&c->arena, block_size(op_count, byte_count));
}

static void free_block(struct code_cache *c, struct block *b)
{
    uint32_t next = b->parts;

    while (next) {
        struct part *p = (struct part *)(void *)(c->arena.base + (size_t)(next - 1) * PART_UNIT);

        next = p->next;
        arena_free(&c->arena, p, p->size);
    }
    arena_free(&c->arena, b, block_size(b->op_count, b->byte_count));
}

/* Less than half of the way to its translation.  Blocks that are never translated have no heat. */
static bool is_cold(const struct code_cache *c, const struct block *b)
{
    return !b->code && !b->is_part && (b->heat == 0 || b->heat > c->heat / 2);
}

/* Links are followed without asking whether the block is still there. */
static void unlink_cold(const struct code_cache *c, struct block *b)
{
    if (b->has_links) {
        for (unsigned i = 1; i <= 2; i++) {
            struct block_link *link = (void *)&b->op[b->op_count - i];

            if (link->to && (link->to->is_dead || is_cold(c, link->to))) {
                link->to = NULL;
                link->gen = 0;
            }
        }
    }
}

/* Keep or forget the blocks of a page, and put those that stay into the new hash table; a block on
 * two pages has its turn for that with its first one. */
static void sweep_page(struct code_cache *c, struct code_page *page)
{
    struct block **at = &page->blocks;

    while (*at) {
        struct block *b = *at;
        struct block **next = code_page_next(b, page);
        bool is_first = (b->gpa.v & ~UINT64_C(0xfff)) == page->gpa;
        bool is_kept = !is_cold(c, b);

        if (is_kept) {
            at = next;
        } else {
            *at = *next;
        }
        if (is_first && is_kept) {
            unlink_cold(c, b);
            code_hash(c, b);
        } else if (is_first) {
            b->is_dead = true;
            b->hash_next = c->dead;
            c->dead = b;
        }
    }
}

void code_sweep(struct vcpu *v)
{
    struct code_cache *c = v->code;

    memset(c->bucket, 0, sizeof(c->bucket));
    for (unsigned i = 0; i < PAGE_BUCKET_COUNT; i++) {
        for (struct code_page *p = c->page_bucket[i]; p; p = p->next) {
            sweep_page(c, p);
        }
    }
    while (c->dead) {
        struct block *b = c->dead;

        c->dead = b->hash_next;
        v->stats.blocks_swept++;
        free_block(c, b);
    }
    memset(v->lookup, 0, BLOCK_SLOTS * sizeof(*v->lookup));
    v->block = NULL;
    v->link = NULL;
    v->stats.cache_sweeps++;
    arena_rewind(&c->arena);
    code_new_blocks(v);
}

/* The limit rises if little was found to forget.  False: there is no room even then. */
static bool sweep(struct vcpu *v)
{
    struct code_cache *c = v->code;

    if (!v->emit) { /* nothing would be left */
        return false;
    }
    code_sweep(v);
    if (c->limit < LIMIT_SMALL) {
        c->limit += c->arena.in_use > c->limit - c->limit / 4 ? LIMIT_STEP : 0;
    } else if (c->arena.in_use > c->limit / 3) {
        c->limit = c->limit * 2 < c->arena.bytes ? c->limit * 2 : c->arena.bytes;
    }
    return !arena_is_full(&c->arena, c->limit, ARENA_RESERVE);
}

void code_make_room(struct vcpu *v)
{
    struct code_cache *c = v->code;
    bool is_full = native_is_full(v) || (v->emit && emit_is_full(v)) ||
                   c->arena.top + ARENA_RESERVE > c->arena.bytes;

    c->parts = 0;
    if (!is_full && arena_is_full(&c->arena, c->limit, ARENA_RESERVE)) {
        is_full = !sweep(v);
    }
    if (is_full) {
        code_cache_clear(v);
    }
}
