/* inject.c — for tests: things that may happen at any time, happening often.
 *
 * With EC1_SOFT_INJECT=seed in the environment the loop of run.c drops translations, shortcuts and
 * blocks at random between two blocks, and forgets to link every other one, so that it comes by
 * often.  All of it is harmless to the guest by contract: a TLB may lose entries, and code is
 * decoded again.  Poll bits are set that nobody has set, where there is a local APIC: then the loop
 * around code_run() is the engine's, which serves them.
 *
 * Tables are tiny, the seed says how much.  Translated code has their sizes built in, so they stay
 * as large as they are, and an entry that comes evicts the one that a small table would have had in
 * its place.  The block hash really uses that many buckets. */
#include <stdlib.h>

#include "hv/soft/cache/code_int.h"
#include "hv/soft/emit/emit.h"

#define CHANCE 16u /* one in so many blocks that the loop sees */
/* Buckets of the hash: 16 to 1024. With fewer, a boot does little but look for blocks. */
#define TINY_HASH_LOG2 4u
#define TINY_HASH_MORE 6u

static uint64_t next(struct code_cache *c)
{
    c->inject ^= c->inject << 13;
    c->inject ^= c->inject >> 7;
    c->inject ^= c->inject << 17;
    return c->inject >> 20;
}

void code_inject_seed(struct vcpu *v, uint64_t seed)
{
    struct code_cache *c = v->code;

    c->inject = seed * UINT64_C(0x9e3779b97f4a7c15) + v->index;
    c->inject += !c->inject; /* 0 is off */
    for (unsigned i = 0; i < TINY_TABLES; i++) {
        c->tiny[i].mask = (1u << next(c) % (TINY_LOG2_MAX + 1)) - 1;
    }
    c->bucket_mask = (1u << (TINY_HASH_LOG2 + next(c) % (TINY_HASH_MORE + 1))) - 1;
}

void code_inject_init(struct vcpu *v)
{
    const char *text = getenv("EC1_SOFT_INJECT");
    uint64_t seed = text ? strtoull(text, NULL, 0) : 0;

    if (seed) {
        code_inject_seed(v, seed);
    }
}

/* --- tiny tables --- */

/* The slot that a small table would have used for both. */
static bool evicts(struct tiny_table *t, size_t slot, size_t *ret_old)
{
    uint32_t *last = &t->last[slot & t->mask];

    *ret_old = *last;
    *last = (uint32_t)slot;
    return *ret_old != slot;
}

void code_inject_evict(struct vcpu *v, const struct block *b)
{
    enum tlb_priv priv = v->cpl == 3 ? TLB_USER : TLB_SUPERVISOR;
    struct tiny_table *tiny = v->code->tiny;
    size_t old;

    if (evicts(&tiny[TINY_XTLB + priv], XTLB_SLOT_OF(priv, b->rip), &old) && v->xtlb[priv][old]) {
        v->xtlb[priv][old] = 0;
        code_new_map(v, priv == TLB_USER); /* as code_note_page(): who is missing has no links */
    }
    if (evicts(&tiny[TINY_LOOKUP], BLOCK_SLOT_OF(b->rip), &old)) {
        v->lookup[old] = (struct block_slot){0};
    }
    if (v->emit && evicts(&tiny[TINY_INDIRECT + priv], b->rip % INDIRECT_SLOTS, &old)) {
        emit_forget_slot(v, priv, (unsigned)old);
    }
}

/* --- events --- */

/* Whoever serves these finds nothing. */
static void poll_for_nothing(struct vcpu *v, uint64_t dice)
{
    static const uint8_t bits[] = {POLL_IRQ, POLL_SMC, POLL_STOP, POLL_KICK};

    if (v->lapic) {
        atomic_fetch_or(&v->poll, bits[dice % sizeof(bits)]);
    }
}

/* The page that is about to run loses its blocks. */
static void drop_page(struct vcpu *v)
{
    gpa_t page;

    if (mmu_peek_page(v, v->rip, &page)) {
        code_cache_external_write(v, page, 4096);
    }
}

bool code_inject(struct vcpu *v)
{
    uint64_t dice = next(v->code);

    if (dice % CHANCE == 0) {
        switch (dice / CHANCE % 16) {
        case 0: mmu_flush_all(v); break;
        case 1:
        case 2: mmu_flush_non_global(v); break;
        case 3:
        case 4:
        case 5: mmu_flush_page(v, v->rip); break;
        case 6:
        case 7:
        case 8: mmu_flush_page(v, v->gpr[GPR_RSP]); break;
        case 9: code_new_map(v, dice >> 20 & 1); break;
        case 10: drop_page(v); break;
        case 11:
            if ((dice >> 20) % 32 == 0) {
                code_cache_clear(v);
            } else if (v->emit && (dice >> 20) % 32 == 1) {
                code_sweep(v); /* more often, a boot does little but decode */
            }
            break;
        case 12: poll_for_nothing(v, dice >> 20); break;
        default: mmu_flush_page(v, v->gpr[dice >> 24 & 15]); break;
        }
    }
    return dice >> 30 & 1;
}
