/* tier.c — which blocks are interpreted, and when one gets host code.
 *
 * The first op of a block that may be translated counts its runs; then it becomes the door into
 * the code.  So the interpreter's ways from block to block need not know of tiers. */
#include <stdlib.h>
#include <string.h>

#include "hv/soft/cache/code_int.h"
#include "hv/soft/emit/emit.h"

#define HEAT_DEFAULT 32

static struct block *block_now(struct vcpu *v)
{
    return (struct block *)(uintptr_t)v->block;
}

OP_HANDLER(enter_code)
{
    const struct block *b = v->block;

    /* translated code counts by itself, if at all */
    v->stats.insns -= b->insn_count;
    v->stats.runs--;
    return emit_enter(v, b);
}

static void translate(struct vcpu *v, struct block *b)
{
    b->op[0].fn = b->first;
    if (emit_block(v, b, code_alloc, v->code)) {
        b->op[0].fn = enter_code;
        code_watch_look(v, b);
    }
}

OP_HANDLER(count_run)
{
    struct block *b = block_now(v);

    if (--b->heat == 0) {
        translate(v, b);
        return b->op[0].fn(v, op);
    }
    return b->first(v, op);
}

void code_tiers_prepare(struct vcpu *v, struct block *block)
{
    if (block->op[0].fn == count_run && block->heat == 1) {
        block->heat = 0;
        translate(v, block);
    }
}

void code_tiers_enrol(struct vcpu *v, struct block *block)
{
    block->first = block->op[0].fn;
    if (!v->emit) {
        return;
    }
    if (v->mode == MODE_LONG64 && !(block->mode_key & MODE_KEY_SINGLE)) {
        block->heat = v->code->heat;
        block->op[0].fn = count_run;
    }
}

/* EC1_SOFT_TIER: "interp", "eager", which translates at the first run, or the default. */
int code_tiers_init(struct vcpu *v)
{
    const char *tier = getenv("EC1_SOFT_TIER");

    v->code->heat = tier && strcmp(tier, "eager") == 0 ? 1 : HEAT_DEFAULT;
    if (tier && strcmp(tier, "interp") == 0) {
        return 0;
    }
    return emit_init(v);
}
