/* tlb.c — the soft TLB: filling slots, and the flushes.
 *
 * Theory of operation.  Six tables: {supervisor, user} x {read, write, fetch}, direct-mapped by the
 * low bits of the page number.  An empty slot holds a tag that no address selecting it can match
 * (mmu_poison).  Beside each table there are bitmaps of the slots that hold something: `local` for
 * what a CR3 write drops, `global` for what it keeps.  A flush walks the set bits, so it costs what
 * was filled since the last one, not the size of the tables: a Linux boot writes CR3 17,500 times,
 * mostly for a handful of entries.
 *
 * Large pages enter as 4 KiB splinters, marked in `large`.  INVLPG of any address of a large page
 * must drop them all: the splinters of the surrounding 2 MiB are looked for if its bit in a filter
 * is set, those of the surrounding 1 GiB only if a 1 GiB page was seen there.  Dropping too much is
 * always allowed.
 *
 * Decoded blocks are found by linear address, which is a cache of fetch translations of its own:
 * cache/ is told what flushes drop, whether or not it is still in the tables here.  For that, what
 * has been fetched since is noted: whether any of it was local, and where it was in large pages.
 *
 * Dirty pages are noted when an access that writes is translated; entries for writing stand for
 * pages that are noted.  When the notes are cleared, all entries are dropped.
 *
 * The windows of the stack (vcpu.h) are copies of write entries that may since have been evicted,
 * so no bitmap knows of them: each flush and each page that begins to hold code drops them; INVLPG
 * does if they may be part of the same large page.
 *
 * Supervisor tables hold user pages only while CR4.SMAP is off; under SMAP such accesses take the
 * slow path, which looks at EFLAGS.AC.  So a change of AC needs no flush.
 */
#include <string.h>

#include "base/bits.h"
#include "hv/soft/mmu/mmu_int.h"
#include "x86/cr.h"

#define LARGE_BYTES (UINT64_C(2) << 20)

static void clear_slot(struct vcpu *v, enum tlb_priv priv, enum tlb_access access, unsigned slot)
{
    v->tlb[priv].slot[access][slot] = (struct tlb_entry){.page = mmu_poison(slot)};
}

static void unmark(struct tlb_marks *m, unsigned slot)
{
    uint64_t keep = ~BIT(slot % 64);

    m->local[slot / 64] &= keep;
    m->global[slot / 64] &= keep;
    m->large[slot / 64] &= keep;
}

/* Drop all slots of `word` that are in `bits`. */
static void drop_bits(struct vcpu *v, enum tlb_priv priv, enum tlb_access access, unsigned word,
                      uint64_t bits)
{
    struct tlb_marks *m = &v->mmu.marks[priv][access];

    m->local[word] &= ~bits;
    m->global[word] &= ~bits;
    m->large[word] &= ~bits;
    for (; bits; bits &= bits - 1) {
        clear_slot(v, priv, access, word * 64 + (unsigned)__builtin_ctzll(bits));
    }
}

static void flush_table(struct vcpu *v, enum tlb_priv priv, enum tlb_access access,
                        bool with_global)
{
    struct tlb_marks *m = &v->mmu.marks[priv][access];
    uint64_t words = m->local_sum | (with_global ? m->global_sum : 0);

    for (; words; words &= words - 1) {
        unsigned word = (unsigned)__builtin_ctzll(words);
        uint64_t bits = m->local[word] | (with_global ? m->global[word] : 0);

        drop_bits(v, priv, access, word, bits);
    }
    m->local_sum = 0;
    if (with_global) {
        m->global_sum = 0;
    }
}

/* Was one of them on the page at `host_page`? */
static bool drop_windows(struct vcpu *v, const uint8_t *host_page)
{
    bool was_there = false;

    for (unsigned priv = 0; priv < TLB_PRIV_COUNT; priv++) {
        struct stack_window *w = &v->window[priv];

        was_there |= w->limit[0] && w->delta - w->neg_page == (uint64_t)(uintptr_t)host_page;
        memset(w->limit, 0, sizeof(w->limit));
    }
    return was_there;
}

static void flush(struct vcpu *v, bool with_global)
{
    bool lost[TLB_PRIV_COUNT];

    v->stats.tlb_flushes++;
    (void)drop_windows(v, NULL);
    for (unsigned priv = 0; priv < TLB_PRIV_COUNT; priv++) {
        lost[priv] = with_global || v->mmu.exec_local[priv];
        v->mmu.exec_local[priv] = false;
        for (unsigned access = 0; access < TLB_ACCESS_COUNT; access++) {
            flush_table(v, (enum tlb_priv)priv, (enum tlb_access)access, with_global);
        }
    }
    if (with_global) {
        memset(v->mmu.large_filter, 0, sizeof(v->mmu.large_filter));
        v->mmu.huge_count = 0;
        v->mmu.exec_large_count = 0;
    }
    if (lost[TLB_SUPERVISOR] || lost[TLB_USER]) {
        code_cache_flush_lookup(v, !lost[TLB_SUPERVISOR]);
    }
}

void mmu_flush_all(struct vcpu *v)
{
    flush(v, true);
}

void mmu_flush_non_global(struct vcpu *v)
{
    flush(v, false);
}

/* --- one page --- */

static bool is_huge_region(const struct vcpu *v, uint64_t la)
{
    const struct mmu_state *s = &v->mmu;

    if (s->huge_count > MMU_HUGE_MAX) {
        return true;
    }
    for (unsigned i = 0; i < s->huge_count; i++) {
        if (s->huge[i] == la >> 30) {
            return true;
        }
    }
    return false;
}

static void note_huge(struct vcpu *v, uint64_t la)
{
    struct mmu_state *s = &v->mmu;

    if (!is_huge_region(v, la)) {
        if (s->huge_count < MMU_HUGE_MAX) {
            s->huge[s->huge_count] = la >> 30;
        }
        s->huge_count++;
    }
}

/* The bit of large_filter for the 2 MiB around la: 2^64 / golden ratio spreads the regions. */
static unsigned filter_bit(uint64_t la)
{
    return (unsigned)((la >> 21) * UINT64_C(0x9e3779b97f4a7c15) >> (64 - MMU_FILTER_LOG2));
}

static bool may_be_large(const struct vcpu *v, uint64_t la)
{
    unsigned bit = filter_bit(la);

    return v->mmu.large_filter[bit / 64] & BIT(bit % 64);
}

static void note_large(struct vcpu *v, uint64_t la)
{
    unsigned bit = filter_bit(la);

    v->mmu.large_filter[bit / 64] |= BIT(bit % 64);
}

/* Splinters in words [first, end) whose address shares its bits above `shift` with la. */
static void drop_splinters(struct vcpu *v, enum tlb_priv priv, enum tlb_access access, uint64_t la,
                           unsigned shift, unsigned first, unsigned end)
{
    const struct tlb_marks *m = &v->mmu.marks[priv][access];

    for (unsigned word = first; word < end; word++) {
        for (uint64_t bits = m->large[word]; bits; bits &= bits - 1) {
            unsigned slot = word * 64 + (unsigned)__builtin_ctzll(bits);

            if (v->tlb[priv].slot[access][slot].page >> shift == la >> shift) {
                drop_bits(v, priv, access, word, BIT(slot % 64));
            }
        }
    }
}

static void flush_page_of(struct vcpu *v, enum tlb_priv priv, enum tlb_access access, uint64_t la)
{
    unsigned slot = (unsigned)MMU_SLOT(la);

    if (v->tlb[priv].slot[access][slot].page == (la & ~UINT64_C(0xfff))) {
        drop_bits(v, priv, access, slot / 64, BIT(slot % 64));
    }
    if (is_huge_region(v, la)) {
        drop_splinters(v, priv, access, la, 30, 0, TLB_WORDS);
    } else if (may_be_large(v, la)) {
        unsigned first = (slot & ~511u) / 64;

        drop_splinters(v, priv, access, la, 21, first, first + 8);
    }
}

/* May code have been fetched there from a large page? */
static bool is_exec_large(const struct vcpu *v, uint64_t la)
{
    const struct mmu_state *s = &v->mmu;

    for (unsigned i = 0; i < s->exec_large_count && i < MMU_EXEC_MAX; i++) {
        if (s->exec_large[i] == la >> 21) {
            return true;
        }
    }
    return s->exec_large_count > MMU_EXEC_MAX;
}

static void note_exec(struct vcpu *v, enum tlb_priv priv, uint64_t la, const struct mmu_walk *walk)
{
    struct mmu_state *s = &v->mmu;

    s->exec_local[priv] |= !walk->global;
    if (walk->leaf_bytes > LARGE_BYTES) {
        s->exec_large_count = MMU_EXEC_MAX + 1;
    } else if (walk->leaf_bytes > 4096 && !is_exec_large(v, la)) {
        if (s->exec_large_count < MMU_EXEC_MAX) {
            s->exec_large[s->exec_large_count] = la >> 21;
        }
        s->exec_large_count++;
    }
}

/* Windows on the page, or on another one of the same large page. */
static void drop_windows_near(struct vcpu *v, uint64_t la)
{
    unsigned shift = is_huge_region(v, la) ? 30 : 21;

    for (unsigned priv = 0; priv < TLB_PRIV_COUNT; priv++) {
        struct stack_window *w = &v->window[priv];

        if (-w->neg_page >> shift == la >> shift) {
            memset(w->limit, 0, sizeof(w->limit));
        }
    }
}

void mmu_flush_page(struct vcpu *v, uint64_t la)
{
    if (!(v->cr4 & CR4_PAE)) { /* 4 MiB pages: not worth a mechanism */
        flush(v, true);
        return;
    }
    drop_windows_near(v, la);
    for (unsigned priv = 0; priv < TLB_PRIV_COUNT; priv++) {
        for (unsigned access = 0; access < TLB_ACCESS_COUNT; access++) {
            flush_page_of(v, (enum tlb_priv)priv, (enum tlb_access)access, la);
        }
    }
    if (is_exec_large(v, la)) {
        code_cache_flush_lookup(v, false);
    } else {
        code_cache_flush_page(v, la);
    }
}

void mmu_mode_changed(struct vcpu *v)
{
    flush(v, true);
}

void mmu_ac_changed(struct vcpu *v)
{
    (void)v; /* see the theory of operation */
}

/* --- filling --- */

static void fill(struct vcpu *v, enum tlb_priv priv, enum tlb_access access, uint64_t la,
                 const uint8_t *host_page, const struct mmu_walk *walk)
{
    struct tlb_marks *m = &v->mmu.marks[priv][access];
    unsigned slot = (unsigned)MMU_SLOT(la);
    uint64_t page = la & ~UINT64_C(0xfff);
    struct tlb_entry *e = &v->tlb[priv].slot[access][slot];
    uint64_t bit = BIT(slot % 64);

    if (access == TLB_EXEC) {
        note_exec(v, priv, la, walk);
    }
    unmark(m, slot);
    if (walk->global) {
        m->global[slot / 64] |= bit;
        m->global_sum |= BIT(slot / 64);
    } else {
        m->local[slot / 64] |= bit;
        m->local_sum |= BIT(slot / 64);
    }
    if (walk->leaf_bytes > 4096) {
        m->large[slot / 64] |= bit;
        note_large(v, la);
        if (walk->leaf_bytes > LARGE_BYTES) {
            note_huge(v, la);
        }
    }
    *e = (struct tlb_entry){.page = page, .host = (uint64_t)(uintptr_t)host_page};
}

static void fill_allowed(struct vcpu *v, const struct mmu_ask *ask, const uint8_t *host_page,
                         const struct mmu_walk *walk, bool is_watched)
{
    bool can_write;

    if (ask->access == TLB_EXEC) {
        fill(v, ask->priv, TLB_EXEC, ask->la, host_page, walk);
        return;
    }
    if (ask->priv == TLB_SUPERVISOR && walk->user && (v->cr0 & CR0_PG) && (v->cr4 & CR4_SMAP)) {
        return;
    }
    if (__builtin_expect(v->debug != NULL, 0) && mmu_page_is_watched(v, ask->la)) {
        return;
    }
    /* where writes are noted, no permit to write comes with a read */
    if (ask->access == TLB_READ && mem_dirty_is_tracked(v->mem)) {
        fill(v, ask->priv, TLB_READ, ask->la, host_page, walk);
        return;
    }
    can_write = walk->writable || (ask->priv == TLB_SUPERVISOR && !(v->cr0 & CR0_WP));
    fill(v, ask->priv, TLB_READ, ask->la, host_page, walk);
    if (can_write && walk->dirty && !is_watched) {
        fill(v, ask->priv, TLB_WRITE, ask->la, host_page, walk);
    }
}

bool mmu_try_resolve(struct vcpu *v, const struct mmu_ask *ask, struct mmu_page *ret_page,
                     uint32_t *ret_error)
{
    const struct tlb_entry *e = &v->tlb[ask->priv].slot[ask->access][MMU_SLOT(ask->la)];
    uint64_t offset = ask->la & 0xfff;
    struct mmu_walk walk;
    uint8_t *host;
    bool is_code;
    bool is_fixed;

    if (ask->la - e->page < 4096) {
        host = (uint8_t *)(uintptr_t)e->host + offset; /* NOLINT(performance-no-int-to-ptr) */
        *ret_page = (struct mmu_page){.gpa = mmu_ram_gpa(v, host), .host = host};
        return true;
    }
    v->stats.tlb_misses++;
    if (!mmu_walk(v, ask, &walk)) {
        *ret_error = walk.error;
        return false;
    }
    host = mmu_memory(v, walk.gpa, 4096, &is_fixed);
    if (!host || (is_fixed && ask->access == TLB_WRITE)) {
        *ret_page = (struct mmu_page){.gpa = walk.gpa + offset};
        return true;
    }
    mmu_populate(v, walk.gpa);
    if (ask->access == TLB_WRITE) {
        mem_dirty_mark(v->mem, GPA(walk.gpa), 4096);
    }
    is_code = mem_page_is_flagged(v->mem, GPA(walk.gpa));
    fill_allowed(v, ask, host, &walk, is_code || is_fixed);
    *ret_page =
        (struct mmu_page){.gpa = walk.gpa + offset, .host = host + offset, .is_code = is_code};
    return true;
}

void mmu_resolve(struct vcpu *v, const struct mmu_ask *ask, struct mmu_page *ret_page)
{
    uint32_t error;

    if (!mmu_try_resolve(v, ask, ret_page, &error)) {
        vcpu_raise_pf(v, ask->la, error);
    }
}

/* --- code pages --- */

/* Drop every write entry that leads to the page at `host_page`. */
static bool drop_writers(struct vcpu *v, const uint8_t *host_page)
{
    bool had_any = drop_windows(v, host_page);

    for (unsigned priv = 0; priv < TLB_PRIV_COUNT; priv++) {
        struct tlb_marks *m = &v->mmu.marks[priv][TLB_WRITE];
        const struct tlb_entry *table = v->tlb[priv].slot[TLB_WRITE];

        for (uint64_t words = m->local_sum | m->global_sum; words; words &= words - 1) {
            unsigned word = (unsigned)__builtin_ctzll(words);

            for (uint64_t bits = m->local[word] | m->global[word]; bits; bits &= bits - 1) {
                unsigned slot = word * 64 + (unsigned)__builtin_ctzll(bits);

                if (table[slot].host == (uint64_t)(uintptr_t)host_page) {
                    drop_bits(v, (enum tlb_priv)priv, TLB_WRITE, word, BIT(slot % 64));
                    had_any = true;
                }
            }
        }
    }
    return had_any;
}

void mmu_code_page_add(struct vcpu *v, gpa_t page)
{
    bool is_fixed;
    const uint8_t *host = mmu_memory(v, page.v & ~UINT64_C(0xfff), 4096, &is_fixed);

    if (host) {
        mem_page_flag(v->mem, page, true);
        (void)drop_writers(v, host);
    }
}

bool mmu_code_page_drop_writers(struct vcpu *v, gpa_t page)
{
    bool is_fixed;
    const uint8_t *host = mmu_memory(v, page.v & ~UINT64_C(0xfff), 4096, &is_fixed);

    return host && drop_writers(v, host);
}

void mmu_code_page_remove(struct vcpu *v, gpa_t page)
{
    mem_page_flag(v->mem, page, false);
}

/* --- start --- */

void mmu_clear_set(struct tlb_set *set)
{
    for (unsigned access = 0; access < TLB_ACCESS_COUNT; access++) {
        for (unsigned slot = 0; slot < TLB_SLOTS; slot++) {
            set->slot[access][slot] = (struct tlb_entry){.page = mmu_poison(slot)};
        }
    }
}

void mmu_init(struct vcpu *v)
{
    memset(&v->mmu, 0, sizeof(v->mmu));
    (void)drop_windows(v, NULL);
    for (unsigned i = 0; i < mem_range_count(v->mem) && i < MMU_RAM_MAX; i++) {
        const struct mem_range *r = mem_range_at(v->mem, i);

        v->mmu.ram[i].gpa = r->gpa.v;
        v->mmu.ram[i].len = r->len;
        v->mmu.ram[i].host = r->host;
        v->mmu.ram[i].slots = r->slots ? r : NULL;
        v->mmu.ram_count++;
    }
    for (unsigned priv = 0; priv < TLB_PRIV_COUNT; priv++) {
        mmu_clear_set(&v->tlb[priv]);
    }
    v->tlb_now = &v->tlb[v->cpl == 3 ? TLB_USER : TLB_SUPERVISOR];
}
