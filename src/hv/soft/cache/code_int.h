/* code_int.h — what the files of cache/ share.
 *
 * Blocks live in one arena.  When it has grown to its limit, those go that have hardly been run
 * (sweep.c), and the limit rises if these were few; when it cannot rise, everything goes at once.
 * Nothing but the vCPU's own thread ever looks at a block, and that is in none while it makes one,
 * so there is nobody to wait for.  A block is found by the host address of its first byte (which
 * stands for the physical one), its rip, and the mode; through v->lookup by rip alone.
 */
#pragma once

#include <stddef.h>

#include "hv/soft/cache/arena.h"
#include "hv/soft/cache/code.h"
#include "hv/soft/ref/lower.h"
#include "hv/soft/ref/op.h"

#define ARENA_BYTES       (64u << 20)  /* if v->code_limit says nothing else */
#define ARENA_RESERVE     (256u << 10) /* left free when a block is begun */
#define ARENA_LIMIT_FIRST (32u << 20)  /* a boot needs 28 to 32 MiB */
#define BUCKET_COUNT      131072u
#define PAGE_BUCKET_COUNT 4096u
#define BLOCK_INSNS_MAX   64u
#define BLOCK_BYTES_MAX   240u /* offset of the last instruction: fits op->pc */
#define BLOCK_OPS_MAX     ((BLOCK_INSNS_MAX + 1) * LOWER_OPS_MAX)
#define RUNS_PER_AUDIT    64u
#define DATA_WRITES_MAX   64u /* to a code page, without hitting code, before it becomes data */

/* A guest page from which blocks were made. */
struct code_page {
    uint64_t gpa;
    uint64_t lines; /* one bit per 64 bytes: may hold decoded bytes */
    struct block *blocks;
    struct code_page *next;
    unsigned data_writes;
};

/* inject.c: tables that are to behave as if they were small, per privilege where the real ones are.
 */
#define TINY_LOG2_MAX 4u
enum {
    TINY_XTLB,
    TINY_INDIRECT = TINY_XTLB + TLB_PRIV_COUNT,
    TINY_LOOKUP = TINY_INDIRECT + TLB_PRIV_COUNT,
    TINY_TABLES
};
struct tiny_table {
    uint32_t mask;                      /* entries - 1 */
    uint32_t last[1u << TINY_LOG2_MAX]; /* the slots of the real table that were filled last */
};

struct code_cache {
    struct arena arena;
    size_t limit;       /* when the arena has grown to this, sweep */
    uint32_t parts;     /* of the block being made, as in struct block */
    struct block *dead; /* by hash_next: killed ones that were never translated */
    uint64_t cs_base;   /* outside 64-bit mode: links lead from rip to rip under this base */
    uint64_t last_gen;
    uint32_t last_page_id;
    /* Linear page numbers of what is in v->xtlb.  A page from which blocks have been run in 64-bit
     * mode since map_gen changed is there, so that a flush of one page need not change it. */
    uint32_t xtlb_page[TLB_PRIV_COUNT][XTLB_SLOTS];
    bool has_short_modes; /* blocks have been run in other modes */
    uint32_t bucket_mask; /* BUCKET_COUNT - 1, but for inject.c */
    struct block *bucket[BUCKET_COUNT];
    struct code_page *page_bucket[PAGE_BUCKET_COUNT];
    struct code_page *free_pages;
    uint8_t heat;              /* runs before a block is translated; 0: never */
    uint64_t inject;           /* inject.c: random state; 0: off */
    unsigned runs_to_audit;    /* calls of code_run() until mmu_audit(); 0: never */
    struct lockstep *lockstep; /* lockstep.c, or NULL */
    struct tiny_table tiny[TINY_TABLES];
    struct op scratch[BLOCK_OPS_MAX]; /* the block being made */
};

/* inject.c: before a block is looked up; false: do not link it. */
void code_inject_init(struct vcpu *v);
bool code_inject(struct vcpu *v);
/* Begin; no block has been decoded since code_cache_clear(). */
void code_inject_seed(struct vcpu *v, uint64_t seed);
/* Block b has entered the tables: some others go. */
void code_inject_evict(struct vcpu *v, const struct block *b);

/* index.c */
/* Links and lookup entries made under the old generations do not count any more. */
void code_new_map(struct vcpu *v, bool is_user_only);
void code_new_blocks(struct vcpu *v);
/* The page of `rip` has just been fetched, to run a block there. */
void code_note_page(struct vcpu *v, uint64_t rip, uint32_t page_id);
struct block *code_find(struct code_cache *c, const uint8_t *host, uint64_t rip, uint32_t mode_key);
void code_insert(struct vcpu *v, struct block *block);
/* A part of that: into the hash table. */
void code_hash(struct code_cache *c, struct block *block);
/* Does its translation depend on bytes at [offset, offset+len) of its page that are not its own? */
bool code_looks_at(const struct block *block, uint64_t offset, uint64_t len);
/* Writes to what its translation looked at (block->look) kill it, too, from now on. */
void code_watch_look(struct vcpu *v, const struct block *block);
/* Take it out of all lists; it stays in memory. */
void code_kill(struct vcpu *v, struct block *block);
struct code_page *code_page_find(const struct code_cache *c, uint64_t gpa);
/* Found or made, and registered with mmu/; NULL when out of memory. */
struct code_page *code_page_get(struct vcpu *v, uint64_t gpa);
void code_page_drop(struct vcpu *v, struct code_page *page);
/* The next one in the list of `page`: a crossing block hangs there by the link of that page. */
struct block **code_page_next(struct block *b, const struct code_page *page);
/* 8-byte aligned memory that lives until the next code_cache_clear(); NULL when the arena is full.
 */
void *code_alloc(void *owner, size_t size);

/* breaks.c: does the debugger stop before an instruction at the linear address? */
bool code_breaks_at(const struct vcpu *v, uint64_t la);

/* sweep.c */
/* The same, but it goes with the block that is being made. */
void *code_alloc_part(void *owner, size_t size);
/* For the block and what it was made from; code_decode() alone fills it. */
struct block *code_alloc_block(struct code_cache *c, unsigned op_count, size_t byte_count);
/* Before a block is made: see to it that there is room. */
void code_make_room(struct vcpu *v);
/* Forget blocks that were run a few times only.  Links to them are gone, too. */
void code_sweep(struct vcpu *v);

/* tier.c: pick the tiers (EC1_SOFT_TIER), prepare a new block for them. */
int code_tiers_init(struct vcpu *v);
void code_tiers_enrol(struct vcpu *v, struct block *block);

/* Translate it now if its next run would begin with that. */
void code_tiers_prepare(struct vcpu *v, struct block *block);

/* run.c: run it, and what it leads to without coming back. */
void code_run_block(struct vcpu *v, const struct block *block);

/* lockstep.c: the same, in lockstep with the interpreter if it is translated (v->is_lockstep). */
int code_lockstep_init(struct vcpu *v);
void code_lockstep_fini(struct vcpu *v);
void code_lockstep_run(struct vcpu *v, struct block *block);

/* decode.c: make the block at v->rip; raises what fetching raises. `host`: its first byte.  NULL:
 * v->broken. */
struct block *code_decode(struct vcpu *v, uint64_t la, const uint8_t *host, uint32_t mode_key);
/* Linear address of the byte after the first page of a crossing block. */
static inline uint64_t code_next_page(const struct vcpu *v, uint64_t la)
{
    uint64_t next = (la | 0xfff) + 1;

    return v->mode == MODE_LONG64 ? next : (uint32_t)next;
}
