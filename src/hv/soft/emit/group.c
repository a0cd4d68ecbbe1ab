/* group.c — one check for several accesses of a block.
 *
 * Theory of operation.  Before an access is checked, the rest of the block is searched for others a
 * known distance from it (plan/track.h).  If there are, one check covers them all: in the table of
 * writes if one of them writes.  The host address of the first byte stays in v->group_host; the
 * accesses that follow take it from there, or from T1 while it is still in it.
 *
 * A check that covers more than its own access may fail where the access would not.  Then nothing
 * has been done yet, so the interpreter takes over at this instruction, to the end of the block; it
 * checks each access by itself.  If a check keeps failing, the block's rest is translated once more
 * without groups and the failing check leads there (struct group_miss).
 *
 * What a check said holds to the end of the block: translations, privileges and pages with code
 * change at barriers (track_is_barrier) and between blocks only.  An evicted TLB entry does no
 * harm, for nothing flushed it.
 */
#include "hv/soft/emit/emit_int.h"

#define MISSES_MAX       8u /* then the rest of the block is translated without groups */
#define GROUP_BYTES_MAX  256
#define WINDOW_BYTES_MAX (8 << (STACK_WINDOW_LIMITS - 1))

/* --- misses --- */

struct group_miss {
    struct block *block;
    emit_alloc_fn alloc;
    void *alloc_owner;
    uint8_t *jump; /* to here; in the writable view */
    uint8_t index; /* of the instruction */
    uint8_t count;
};

/* imm = struct group_miss, disp = the op to go on with. */
OP_HANDLER(count_miss)
{
    struct group_miss *m = (struct group_miss *)(uintptr_t)op->imm;

    if (m->count < MISSES_MAX && ++m->count == MISSES_MAX) {
        uint8_t *rest = emit_rest(v, m->block, m->index, m->alloc, m->alloc_owner);

        if (rest) {
            asm_land(&v->emit->buf, m->jump, rest);
        }
    }
    return (const struct op *)(uintptr_t)op->disp;
}

struct slow *emit_group_miss(struct translation *t, uint8_t *jump)
{
    struct group_miss *m = t->alloc(t->alloc_owner, sizeof(*m));
    struct op *op = t->alloc(t->alloc_owner, sizeof(*op));
    const struct op *resume = emit_resume_op(t);

    if (!m || !op || !resume || t->slow_count >= sizeof(t->slow) / sizeof(t->slow[0])) {
        t->has_failed = true;
        return NULL;
    }
    *m = (struct group_miss){.block = t->block,
                             .alloc = t->alloc,
                             .alloc_owner = t->alloc_owner,
                             .jump = jump,
                             .index = (uint8_t)(t->at - t->part_first)};
    memset(op, 0, sizeof(*op));
    op->fn = count_miss;
    op->imm = (uintptr_t)m;
    op->disp = (int64_t)(uintptr_t)resume;
    t->slow[t->slow_count] = (struct slow){.from = jump, .ops = op, .is_leaving = true, .miss = m};
    return &t->slow[t->slow_count++];
}

void emit_group_moved(struct group_miss *miss, uint8_t *jump)
{
    if (miss) {
        miss->jump = jump;
    }
}

/* --- the present state of the translation --- */

void emit_look_begin(struct translation *t, const struct insn *insn, unsigned count)
{
    t->insn = insn;
    t->insn_count = count;
    track_init(&t->track);
}

static void forget_groups(struct translation *t)
{
    memset(t->group, 0, sizeof(t->group));
    t->t1_group = NULL;
}

/* Does a miss before this point go on behind the instruction?  Then a check from here on has not
 * been made on all ways there, and T1 is anything. */
static bool may_be_skipped(const struct translation *t)
{
    for (unsigned i = t->first_slow; i < t->slow_count; i++) {
        if (!t->slow[i].vec_load && !t->slow[i].is_leaving) {
            return true;
        }
    }
    return false;
}

void emit_look_next(struct translation *t)
{
    const struct insn *insn = &t->insn[t->at++];

    track_step(&t->track, insn);
    if (track_is_barrier(insn)) {
        forget_groups(t);
    }
    if (!t->keeps_t1 || may_be_skipped(t)) {
        t->t1_group = NULL;
    }
    t->keeps_t1 = false;
}

/* --- which accesses go together --- */

static bool covers(const struct group *g, const struct track_address *at, unsigned len,
                   enum tlb_access access)
{
    uint64_t into = (uint64_t)at->offset - (uint64_t)g->at.offset;

    return track_is_near(&g->at, at) && into < g->bytes && len <= g->bytes - into &&
           (access == g->access || g->access == TLB_WRITE);
}

struct group *emit_group_find(struct translation *t, const struct track_address *at, unsigned len,
                              enum tlb_access access)
{
    for (unsigned i = 0; i < GROUP_MAX; i++) {
        if (covers(&t->group[i], at, len, access)) {
            return &t->group[i];
        }
    }
    return NULL;
}

/* Take the access in, if it is near enough. */
static bool extend(struct group *g, const struct track_access *access)
{
    int64_t first = g->at.offset, end = first + g->bytes;
    int64_t from = access->at.offset, to = from + access->len;

    if (!track_is_near(&g->at, &access->at)) {
        return false;
    }
    first = from < first ? from : first;
    end = to > end ? to : end;
    if (end - first > (g->is_window ? WINDOW_BYTES_MAX : GROUP_BYTES_MAX)) {
        return false;
    }
    g->at.offset = first;
    g->bytes = (unsigned)(end - first);
    g->access = access->is_write ? TLB_WRITE : g->access;
    return true;
}

/* All that one check could cover, from the present instruction on; returns how many. */
static unsigned collect(const struct translation *t, struct group *g)
{
    struct track k = t->track;
    unsigned count = 0;

    for (unsigned i = t->at; i < t->insn_count && !track_is_barrier(&t->insn[i]); i++) {
        struct track_access access[TRACK_ACCESS_MAX];
        unsigned n = track_accesses(&k, &t->insn[i], access);

        for (unsigned j = 0; j < n; j++) {
            count += extend(g, &access[j]);
        }
        track_step(&k, &t->insn[i]);
    }
    return count;
}

/* Of the stack, as rSP is now?  There is one window, so a new group of it replaces the old. */
static bool is_of_stack(const struct translation *t, const struct track_address *at)
{
    return !at->seg && !at->index && at->base == t->track.reg[GPR_RSP].root;
}

static void drop_window_groups(struct translation *t)
{
    for (unsigned i = 0; i < GROUP_MAX; i++) {
        if (t->group[i].is_window) {
            t->group[i].bytes = 0;
        }
    }
}

struct group *emit_group_open(struct translation *t, const struct track_address *at, unsigned len,
                              enum tlb_access access)
{
    struct group g = {.at = *at, .bytes = len, .access = access, .is_window = is_of_stack(t, at)};
    struct group *to = &t->group[t->group_count % GROUP_MAX];

    g.is_alone = may_be_skipped(t) || collect(t, &g) < 2;
    if (g.is_alone && !g.is_window) {
        return NULL;
    }
    if (g.is_window) {
        drop_window_groups(t);
        g.access = TLB_WRITE;
    }
    *to = g;
    t->group_count++;
    t->t1_group = NULL;
    return to;
}
