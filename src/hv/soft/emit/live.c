/* live.c — where arithmetic flags are live: within the block, and a few instructions beyond.
 *
 * A block that ends with direct branches within its page looks at what they lead to: most code
 * overwrites the flags soon.  The bytes looked at are noted in the block, so that it dies when
 * they change.  Beyond anything else flags are live. */
#include "hv/soft/emit/emit_int.h"

#define LOOK_INSNS 8

static bool merges(struct flags_use use)
{
    return use.read == MERGES_CF || use.read == MERGES_ALL;
}

static bool ends_lookahead(const struct insn *insn)
{
    return emit_is_branch(insn) || insn->klass == INSN_CLASS_SYSTEM;
}

/* Does code at rip overwrite the flags before it reads them?  Then *ret_end is the offset in the
 * page behind what was looked at. */
static bool overwrites_flags(const struct block *b, uint64_t rip, uint16_t *ret_end)
{
    const uint8_t *page = b->host - (b->rip & 0xfff);
    size_t at = rip & 0xfff;

    for (unsigned i = 0; i < LOOK_INSNS && at < 4096; i++) {
        size_t have = 4096 - at < INSN_LEN_MAX ? 4096 - at : INSN_LEN_MAX;
        uint8_t bytes[INSN_LEN_MAX]; /* guest: may change meanwhile */
        struct flags_use use;
        struct insn insn;

        memcpy(bytes, page + at, have);
        if (insn_decode(bytes, have, INSN_MODE_64, &insn) != INSN_OK) {
            return false;
        }
        use = emit_flags_use(&insn);
        at += insn.len;
        if (merges(use)) {
            continue;
        }
        if (use.read != READS_NONE || use.writes || ends_lookahead(&insn)) {
            *ret_end = (uint16_t)at;
            return use.read == READS_NONE && use.writes;
        }
    }
    return false;
}

static bool is_live_at(struct translation *t, uint64_t rip, unsigned look)
{
    struct block *b = t->block;
    uint16_t end;

    if (((rip ^ b->rip) & ~UINT64_C(0xfff)) != 0 || !overwrites_flags(b, rip, &end)) {
        return true;
    }
    b->look[look].first = (uint16_t)(rip & 0xfff);
    b->look[look].end = end;
    return false;
}

bool emit_live_at_end(struct translation *t, const struct insn *last, uint64_t end_rip)
{
    uint64_t target = end_rip + (uint64_t)last->imm;

    if (t->v->has_strict_flags || !t->block->has_links || t->block->is_crossing) {
        return true;
    }
    switch (last->op) {
    case INSN_JMP:
    case INSN_CALL: return is_live_at(t, target, 0);
    case INSN_JCC: {
        bool is_live = is_live_at(t, target, 0);

        return is_live_at(t, end_rip, 1) || is_live;
    }
    default: return emit_is_branch(last) || is_live_at(t, end_rip, 0);
    }
}

static bool has_access(const struct insn *insn)
{
    return insn->klass != INSN_CLASS_INT || insn->mem_access ||
           (insn->op >= INSN_PUSH && insn->op <= INSN_LEAVE) || insn->op == INSN_CALL ||
           insn->op == INSN_RET || insn->op == INSN_CALL_IND || insn->op == INSN_JMP_IND;
}

/* Where flags from outside are best kept: in memory if an access destroys them before anything
 * reads them. */
static enum flags_in wanted_at(const struct insn *insn, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (has_access(&insn[i])) {
            return FLAGS_IN_SAVED;
        }
        if (emit_flags_use(&insn[i]).read != READS_NONE) {
            break;
        }
    }
    return FLAGS_IN_HOST;
}

void emit_find_live(struct translation *t, const struct insn *insn, unsigned count, bool is_live,
                    bool *live_after)
{
    for (unsigned i = count; i-- > 0;) {
        struct flags_use use = emit_flags_use(&insn[i]);

        live_after[i] = is_live || t->v->has_strict_flags;
        if (!merges(use)) { /* else they are if they are after it */
            is_live = use.read != READS_NONE || (is_live && !use.writes);
        }
    }
    if (!is_live && !t->v->has_strict_flags) {
        t->flags_in = FLAGS_IN_DEAD;
    } else { /* the body of a crossing one begins with a test */
        t->flags_in = t->block->is_crossing ? FLAGS_IN_SAVED : wanted_at(insn, count);
    }
}
