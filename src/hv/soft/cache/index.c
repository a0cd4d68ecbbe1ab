/* index.c — where blocks are kept and found: arena, hash by address, lists by page. */
#include <errno.h>
#include <stdlib.h>

#include "hv/soft/cache/code_int.h"
#include "hv/soft/cpu/cpuid.h"
#include "hv/soft/emit/emit.h"
#include "hv/soft/ref/native.h"

/* --- generations --- */

void code_new_map(struct vcpu *v, bool is_user_only)
{
    struct code_cache *c = v->code;

    c->last_gen++;
    v->map_gens[1] = c->last_gen;
    if (!is_user_only) {
        v->map_gens[0] = c->last_gen;
        c->has_short_modes = false;
    }
    block_new_tag(v);
}

void code_new_blocks(struct vcpu *v)
{
    code_new_map(v, false);
    v->code_gen = v->map_gen;
}

static void clear_xtlb(struct vcpu *v, bool is_user_only)
{
    uint32_t *user = v->xtlb[TLB_USER];

    memset(user, 0, XTLB_USER_SLOTS * sizeof(*user));
    if (!is_user_only) {
        memset(v->xtlb[TLB_SUPERVISOR], 0, sizeof(v->xtlb[TLB_SUPERVISOR]));
    }
}

void code_cache_flush_lookup(struct vcpu *v, bool is_user_only)
{
    code_new_map(v, is_user_only);
    clear_xtlb(v, is_user_only);
}

void code_cache_flush_page(struct vcpu *v, uint64_t la)
{
    struct code_cache *c = v->code;
    bool lost[TLB_PRIV_COUNT];

    for (unsigned priv = 0; priv < TLB_PRIV_COUNT; priv++) {
        size_t slot = XTLB_SLOT_OF(priv, la);
        uint32_t *id = &v->xtlb[priv][slot];

        lost[priv] = *id && c->xtlb_page[priv][slot] == (uint32_t)(la >> 12);
        *id = lost[priv] ? 0 : *id;
    }
    if (c->has_short_modes || lost[TLB_SUPERVISOR] || lost[TLB_USER]) {
        code_new_map(v, !c->has_short_modes && !lost[TLB_SUPERVISOR]);
    }
}

void code_note_page(struct vcpu *v, uint64_t rip, uint32_t page_id)
{
    struct code_cache *c = v->code;
    enum tlb_priv priv = v->cpl == 3 ? TLB_USER : TLB_SUPERVISOR;
    uint32_t *id = &v->xtlb[priv][XTLB_SLOT_OF(priv, rip)];
    uint32_t *page = &c->xtlb_page[priv][XTLB_SLOT_OF(priv, rip)];

    if (v->mode != MODE_LONG64) {
        c->has_short_modes = true;
        return;
    }
    if (*id && *page != (uint32_t)(rip >> 12)) {
        code_new_map(v, priv == TLB_USER);
    }
    *id = page_id;
    *page = (uint32_t)(rip >> 12);
}

/* --- arena --- */

void *code_alloc(void *owner, size_t size)
{
    return arena_alloc(&((struct code_cache *)owner)->arena, size);
}

/* --- blocks by address --- */

static unsigned bucket_of(const struct code_cache *c, const uint8_t *host, uint64_t rip)
{
    uint64_t x = (uint64_t)(uintptr_t)host ^ rip << 1;

    return (unsigned)((x * UINT64_C(0x9e3779b97f4a7c15)) >> 47) & c->bucket_mask;
}

struct block *code_find(struct code_cache *c, const uint8_t *host, uint64_t rip, uint32_t mode_key)
{
    struct block *b = c->bucket[bucket_of(c, host, rip)];

    while (b && !(b->host == host && b->rip == rip && b->mode_key == mode_key)) {
        b = b->hash_next;
    }
    return b;
}

void code_hash(struct code_cache *c, struct block *block)
{
    struct block **bucket = &c->bucket[bucket_of(c, block->host, block->rip)];

    block->hash_next = *bucket;
    *bucket = block;
}

/* --- pages --- */

static unsigned page_bucket_of(uint64_t gpa)
{
    return (unsigned)(gpa >> 12) & (PAGE_BUCKET_COUNT - 1);
}

struct code_page *code_page_find(const struct code_cache *c, uint64_t gpa)
{
    struct code_page *p = c->page_bucket[page_bucket_of(gpa)];

    while (p && p->gpa != gpa) {
        p = p->next;
    }
    return p;
}

struct code_page *code_page_get(struct vcpu *v, uint64_t gpa)
{
    struct code_cache *c = v->code;
    struct code_page *p = code_page_find(c, gpa);

    if (p) {
        return p;
    }
    p = c->free_pages;
    if (p) {
        c->free_pages = p->next;
    } else {
        p = code_alloc(c, sizeof(*p));
    }
    if (!p) {
        return NULL;
    }
    *p = (struct code_page){.gpa = gpa, .next = c->page_bucket[page_bucket_of(gpa)]};
    c->page_bucket[page_bucket_of(gpa)] = p;
    mmu_code_page_add(v, GPA(gpa));
    v->platform->code_event(v, GPA(gpa), 0);
    return p;
}

void code_page_drop(struct vcpu *v, struct code_page *page)
{
    struct code_cache *c = v->code;
    struct code_page **at = &c->page_bucket[page_bucket_of(page->gpa)];

    while (page->blocks) {
        code_kill(v, page->blocks);
    }
    while (*at != page) {
        at = &(*at)->next;
    }
    *at = page->next;
    page->next = c->free_pages;
    c->free_pages = page;
    mmu_code_page_remove(v, GPA(page->gpa));
}

/* --- in and out --- */

/* Bits of the 64-byte lines of [first, first+len) within a page. */
static uint64_t line_bits(uint64_t first, uint64_t len)
{
    uint64_t from = (first & 0xfff) / 64, to = ((first & 0xfff) + len - 1) / 64;

    /* 0 < len: NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult) */
    return (UINT64_MAX >> (63 - (to - from))) << from;
}

static uint64_t look_lines(const struct block *b)
{
    uint64_t lines = 0;

    for (unsigned i = 0; i < LOOK_COUNT; i++) {
        if (b->look[i].end > b->look[i].first) {
            lines |= line_bits(b->look[i].first, b->look[i].end - b->look[i].first);
        }
    }
    return lines;
}

static uint64_t first_page_len(const struct block *b)
{
    uint64_t room = 4096 - (b->gpa.v & 0xfff);

    return b->byte_count < room ? b->byte_count : room;
}

static void page_link(struct code_page *page, struct block *b, unsigned list, uint64_t gpa,
                      uint64_t len)
{
    if (!page) {
        return; /* cannot be: made before the block */
    }
    b->page_next[list] = page->blocks;
    page->blocks = b;
    page->lines |= line_bits(gpa, len);
}

struct block **code_page_next(struct block *b, const struct code_page *page)
{
    return &b->page_next[(b->gpa.v & ~UINT64_C(0xfff)) != page->gpa];
}

static void page_unlink(struct code_page *page, const struct block *b)
{
    struct block **at = page ? &page->blocks : NULL;

    while (at && *at && *at != b) {
        at = code_page_next(*at, page);
    }
    if (at && *at) {
        *at = *code_page_next(*at, page);
    }
}

/* One for each page as seen from one linear address in one mode. */
static uint32_t page_id_of(struct code_cache *c, const struct code_page *page, uint64_t rip,
                           uint32_t mode_key)
{
    for (struct block *other = page->blocks; other; other = *code_page_next(other, page)) {
        if (other->mode_key != mode_key) {
            continue;
        }
        if ((other->gpa.v ^ page->gpa) < 4096 && (other->rip ^ rip) < 4096) {
            return other->page_id;
        }
        if (other->is_crossing && other->gpa2.v == page->gpa &&
            ((other->rip | 0xfff) + 1) >> 12 == rip >> 12) {
            return other->page_id2;
        }
    }
    return ++c->last_page_id;
}

void code_watch_look(struct vcpu *v, const struct block *block)
{
    struct code_page *page = code_page_find(v->code, block->gpa.v & ~UINT64_C(0xfff));

    if (page) {
        page->lines |= look_lines(block);
    }
}

void code_insert(struct vcpu *v, struct block *block)
{
    struct code_cache *c = v->code;
    struct code_page *page = code_page_find(c, block->gpa.v & ~UINT64_C(0xfff));
    uint64_t len = first_page_len(block);

    block->page_id = page ? page_id_of(c, page, block->rip, block->mode_key) : 0;
    code_hash(c, block);
    page_link(page, block, 0, block->gpa.v, len);
    if (block->is_crossing) {
        struct code_page *page2 = code_page_find(c, block->gpa2.v);

        block->page_id2 =
            page2 ? page_id_of(c, page2, (block->rip | 0xfff) + 1, block->mode_key) : 0;
        if (page2 != page) {
            page_link(page2, block, 1, 0, block->byte_count - len);
        }
    }
}

/* Does the block run, perhaps as the head of a translation of several?  Then that is to be left. */
static bool is_running(const struct vcpu *v, const struct block *block)
{
    const struct block *now = v->block;
    uint64_t offset = now ? now->rip & 0xfff : 0;

    return now == block ||
           (now && block->code && ((now->gpa.v ^ block->gpa.v) >> 12) == 0 &&
            block->look[LOOK_PARTS].first <= offset && offset < block->look[LOOK_PARTS].end);
}

void code_kill(struct vcpu *v, struct block *block)
{
    struct code_cache *c = v->code;
    struct block **at = &c->bucket[bucket_of(c, block->host, block->rip)];

    while (*at && *at != block) {
        at = &(*at)->hash_next;
    }
    if (*at) {
        *at = block->hash_next;
    }
    page_unlink(code_page_find(c, block->gpa.v & ~UINT64_C(0xfff)), block);
    if (block->is_crossing && block->gpa2.v != (block->gpa.v & ~UINT64_C(0xfff))) {
        page_unlink(code_page_find(c, block->gpa2.v), block);
    }
    block->is_dead = true;
    if (is_running(v, block)) {
        v->code_hit = true;
    }
    if (block->code) {
        emit_unlink(v, block);
    } else if (!block->is_part) {
        block->hash_next = c->dead;
        c->dead = block;
    }
    code_new_blocks(v);
}

/* --- writes --- */

/* What its translation looked at lies on the page of its first byte; crossing ones have none. */
bool code_looks_at(const struct block *b, uint64_t offset, uint64_t len)
{
    for (unsigned i = 0; i < LOOK_COUNT; i++) {
        if (b->look[i].first < offset + len && offset < b->look[i].end) {
            return true;
        }
    }
    return false;
}

static bool overlaps(const struct block *b, const struct code_page *page, uint64_t gpa,
                     uint64_t len)
{
    uint64_t first = b->gpa.v, count = first_page_len(b);

    if ((b->gpa.v & ~UINT64_C(0xfff)) != page->gpa) {
        first = b->gpa2.v;
        count = b->byte_count - first_page_len(b);
    } else if (b->is_crossing && b->gpa2.v == page->gpa) {
        return true; /* both halves on one page: rare enough to be rough */
    }
    return (first < gpa + len && gpa < first + count) || code_looks_at(b, gpa & 0xfff, len);
}

/* Kill what overlaps, and find out which lines still hold code. */
static bool kill_overlapping(struct vcpu *v, struct code_page *page, uint64_t gpa, uint64_t len)
{
    struct block *b = page->blocks;
    bool is_hit = false;
    uint64_t lines = 0;

    while (b) {
        struct block *next = *code_page_next(b, page);

        if (overlaps(b, page, gpa, len)) {
            v->stats.smc_invalidations++;
            code_kill(v, b);
            is_hit = true;
        } else if ((b->gpa.v & ~UINT64_C(0xfff)) == page->gpa) {
            lines |= line_bits(b->gpa.v, first_page_len(b)) | look_lines(b);
            lines |= b->is_crossing && b->gpa2.v == page->gpa ? UINT64_MAX : 0;
        } else {
            lines |= line_bits(0, b->byte_count - first_page_len(b));
        }
        b = next;
    }
    page->lines = lines;
    return is_hit;
}

static void page_written(struct vcpu *v, uint64_t gpa, uint64_t len)
{
    struct code_page *page = code_page_find(v->code, gpa & ~UINT64_C(0xfff));

    if (!page) {
        return;
    }
    if ((page->lines & line_bits(gpa, len)) && kill_overlapping(v, page, gpa, len)) {
        page->data_writes = 0;
    } else {
        page->data_writes++;
    }
    if (!page->blocks || page->data_writes > DATA_WRITES_MAX) {
        code_page_drop(v, page);
    }
}

void code_cache_external_write(struct vcpu *v, gpa_t gpa, uint64_t len)
{
    while (len > 0) {
        uint64_t room = 4096 - (gpa.v & 0xfff), step = len < room ? len : room;

        page_written(v, gpa.v, step);
        gpa.v += step;
        len -= step;
    }
}

void code_cache_written(struct vcpu *v, gpa_t gpa, uint64_t len)
{
    code_cache_external_write(v, gpa, len);
    v->platform->code_event(v, gpa, len);
}

void code_cache_page_shared(struct vcpu *v, gpa_t page)
{
    uint64_t first = page.v & ~UINT64_C(0xfff);

    if (mmu_code_page_drop_writers(v, GPA(first))) {
        v->platform->code_event(v, GPA(first), 4096); /* perhaps it was written */
    }
}

/* --- life --- */

void code_cache_clear(struct vcpu *v)
{
    struct code_cache *c = v->code;

    v->stats.cache_clears++;
    for (unsigned i = 0; i < PAGE_BUCKET_COUNT; i++) {
        for (struct code_page *p = c->page_bucket[i]; p; p = p->next) {
            mmu_code_page_remove(v, GPA(p->gpa));
        }
        c->page_bucket[i] = NULL;
    }
    memset(c->bucket, 0, sizeof(c->bucket));
    memset(v->lookup, 0, BLOCK_SLOTS * sizeof(*v->lookup));
    c->free_pages = NULL;
    c->dead = NULL;
    c->limit = c->limit < c->arena.bytes ? c->limit : c->arena.bytes;
    arena_reset(&c->arena);
    native_clear(v);
    if (v->emit) {
        emit_clear(v);
    }
    v->block = NULL;
    v->link = NULL;
    v->site = NULL;
    v->has_missed = false;
    c->last_page_id = 0;
    clear_xtlb(v, false);
    code_new_blocks(v);
}

void code_cache_usage(const struct vcpu *v, struct code_usage *ret_usage)
{
    *ret_usage = (struct code_usage){.block_bytes = v->code->arena.in_use,
                                     .code_bytes = v->emit ? emit_code_bytes(v) : 0};
}

int code_cache_init(struct vcpu *v)
{
    struct code_cache *c = calloc(1, sizeof(*c));
    int r;

    if (!c) {
        return -ENOMEM;
    }
    v->code = c;
    c->bucket_mask = BUCKET_COUNT - 1;
    r = arena_init(&c->arena, v->code_limit ? v->code_limit : ARENA_BYTES);
    v->lookup = calloc(BLOCK_SLOTS, sizeof(*v->lookup));
    if (r < 0 || !v->lookup) {
        code_cache_fini(v);
        return -ENOMEM;
    }
    v->features = cpuid_features(v->cpuid);
    code_new_blocks(v);
    code_inject_init(v);
    r = native_init(v);
    if (r == 0) {
        r = code_tiers_init(v);
    }
    if (r == 0) {
        r = code_lockstep_init(v);
    }
    c->limit = v->emit ? ARENA_LIMIT_FIRST : c->arena.bytes;
    c->runs_to_audit = emit_is_verified(v) ? RUNS_PER_AUDIT : 0;
    if (r < 0) {
        code_cache_fini(v);
    }
    return r;
}

void code_cache_fini(struct vcpu *v)
{
    struct code_cache *c = v->code;

    emit_fini(v);
    native_fini(v);
    free(v->lookup);
    v->lookup = NULL;
    if (c) {
        code_lockstep_fini(v);
        arena_fini(&c->arena);
    }
    free(c);
    v->code = NULL;
}
