/* inject.c — for tests: things that may happen at any time, happening often.
 *
 * With EC1_SOFT_INJECT=seed in the environment the loop of run.c drops translations, shortcuts and
 * blocks at random between two blocks, and forgets to link every other one, so that it comes by
 * often.  All of it is harmless to the guest by contract: a TLB may lose entries, and code is
 * decoded again. */
#include <stdlib.h>

#include "hv/soft/cache/code_int.h"

#define CHANCE 16u /* one in so many blocks that the loop sees */

static uint64_t next(struct code_cache *c)
{
    c->inject ^= c->inject << 13;
    c->inject ^= c->inject >> 7;
    c->inject ^= c->inject << 17;
    return c->inject >> 20;
}

void code_inject_init(struct vcpu *v)
{
    const char *seed = getenv("EC1_SOFT_INJECT");
    uint64_t number = seed ? strtoull(seed, NULL, 0) : 0;

    v->code->inject = number ? number * UINT64_C(0x9e3779b97f4a7c15) + v->index : 0;
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
        default: mmu_flush_page(v, v->gpr[dice >> 24 & 15]); break;
        }
    }
    return dice >> 30 & 1;
}
