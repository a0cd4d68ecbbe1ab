/* translate.c — one block: decode it again, find out where flags are live, lower, finish. */
#include <stdlib.h>

#include "hv/soft/emit/emit_int.h"
#include "hv/soft/emit/verify.h"
#include "hv/soft/ref/lower.h"

#define JMP  0xe9
#define CALL 0xe8

#define PARTS_MAX 6u

struct work {
    struct translation t;
    unsigned count; /* instructions that decode */
    bool is_whole;  /* these are all */
    struct insn insn[SLOW_MAX];
    bool live_after[SLOW_MAX];
    /* Blocks, each but the last of which ends with a direct branch to the next, or past it. */
    const struct block *part[PARTS_MAX];
    unsigned part_end[PARTS_MAX]; /* their instructions */
    unsigned part_count, part_now;
};

/* Append the instructions of a block; returns the address behind them. */
static uint64_t decode(struct work *w, const struct block *b)
{
    size_t offset = 0, size = b->byte_count;
    unsigned end = w->count + b->insn_count;

    while (w->count < end && w->count < SLOW_MAX && offset < size &&
           insn_decode(b->bytes + offset, size - offset, INSN_MODE_64, &w->insn[w->count]) ==
               INSN_OK &&
           insn_gate(&w->insn[w->count], w->t.v->features)) {
        offset += w->insn[w->count++].len;
    }
    w->is_whole = w->count == end;
    w->part[w->part_count] = b;
    w->part_end[w->part_count++] = w->count;
    return b->rip + offset;
}

/* A block that may join: known to lie at `rip`, on the same page, and to run often. */
static struct block *part_at(const struct work *w, uint64_t rip)
{
    const struct block_slot *slot = &w->t.v->lookup[BLOCK_SLOT_OF(rip)];
    const struct block *b = w->t.block;
    struct block *next = (struct block *)(uintptr_t)slot->to;

    if (slot->rip != rip || (rip ^ b->rip) >> 12 != 0 || !next || next->is_dead) {
        return NULL;
    }
    return next->host == b->host + (rip - b->rip) && next->mode_key == b->mode_key &&
                   !next->is_crossing && next->bytes &&
                   (next->code || next->heat <= EMIT_PART_HEAT) &&
                   w->count + next->insn_count <= SLOW_MAX
               ? next
               : NULL;
}

/* Where a branch leads that need not leave the translation.  Never backwards: loops poll at
 * branches that do (link.c). */
static struct block *next_part(const struct work *w, uint64_t end)
{
    const struct insn *last = &w->insn[w->count - 1];
    bool is_forward = (uint64_t)last->imm < 4096;
    struct block *next = NULL;

    if (!w->is_whole || w->part_count == PARTS_MAX) {
        return NULL;
    }
    if (last->op == INSN_JCC) {
        next = part_at(w, end);
    }
    if (!next && is_forward && (last->op == INSN_JCC || last->op == INSN_JMP)) {
        next = part_at(w, end + (uint64_t)last->imm);
    }
    return next;
}

/* Go on with blocks that follow: one translation, left by the branches between them. */
static uint64_t append_parts(struct work *w, uint64_t end)
{
    struct block *b = w->t.block;
    struct block *next;

    while ((next = next_part(w, end)) != NULL) {
        next->is_part = true;
        end = decode(w, next);
    }
    if (w->part_count > 1) {
        b->look[LOOK_PARTS].first = (uint16_t)(w->part[1]->rip & 0xfff);
        b->look[LOOK_PARTS].end = (uint16_t)(((end - 1) & 0xfff) + 1);
    }
    return end;
}

/* Of a rest nobody watches what it would look at: it is made late. */
static void find_live_flags(struct work *w, uint64_t end)
{
    struct translation *t = &w->t;
    const struct block *last = w->part[w->part_count - 1];
    bool is_live = t->is_rest || !w->is_whole || !last->has_links ||
                   emit_live_at_end(t, &w->insn[w->count - 1], end);

    emit_find_live(t, w->insn, w->count, is_live, w->live_after);
}

/* For statistics; leaves flags alone. */
static void count_run(struct translation *t)
{
    static const size_t at[] = {offsetof(struct vcpu, stats.insns),
                                offsetof(struct vcpu, stats.runs),
                                offsetof(struct vcpu, stats.runs_translated)};

    for (unsigned i = 0; i < 3 && t->v->count_runs; i++) {
        asm_load(t->a, HOST_T2, HOST_VCPU, at[i]);
        asm_rm(t->a, 8, 0x8d, HOST_T2, HOST_T2, i == 0 ? t->block->insn_count : 1);
        asm_store(t->a, HOST_T2, HOST_VCPU, at[i]);
    }
}

/* Behind the branch at the end of a part. */
static void begin_part(struct work *w)
{
    struct translation *t = &w->t;

    t->part_first = w->part_end[w->part_now++];
    t->block = (struct block *)(uintptr_t)w->part[w->part_now];
    t->ops = t->block->op;
    t->op_count = 0;
    t->rip = t->block->rip;
    count_run(t);
}

/* Advance to the ops of the instruction at t->rip; none if it was fused with the one before. */
static void find_ops(struct translation *t)
{
    const struct block *b = t->block;
    const struct op *end = b->op + b->op_count - (b->has_links ? 2 : 0);
    uint8_t pc = (uint8_t)(t->rip - b->rip);

    t->ops += t->op_count;
    t->op_count = 0;
    while (t->ops + t->op_count < end && t->ops[t->op_count].pc == pc) {
        t->op_count++;
    }
}

/* `opcode`: JMP or CALL to a stub that wants ops in T1 and their block in T2. */
static void to_stub(struct asm_buf *a, uint8_t opcode, const uint8_t *stub, const struct op *ops,
                    const struct block *block)
{
    asm_mov_imm(a, HOST_T1, (uintptr_t)ops);
    asm_mov_imm(a, HOST_T2, (uintptr_t)block);
    asm_jump_to(a, opcode, stub);
}

static void leave_here(struct translation *t)
{
    const struct op *op = t->op_count ? emit_resume_op(t) : NULL;

    t->has_failed |= !op;
    t->is_end = true;
    emit_flags_save(t);
    to_stub(t->a, JMP, t->e->leave_op, op, t->block);
}

/* No lowering: the interpreter's ops, in between.  They expect and leave flags in memory. */
static void run_here(struct translation *t, struct flags_use use)
{
    const struct op *ops = emit_copy_ops(t);

    t->has_failed |= !ops;
    emit_flags_give_up(t, use);
    t->vec = VEC_NONE;
    to_stub(t->a, CALL, t->e->run_ops, ops, t->block);
}

static void finish_slow(struct translation *t)
{
    for (unsigned i = t->first_slow; i < t->slow_count; i++) {
        t->slow[i].block = t->block;
        if (!t->is_end && !t->slow[i].vec_load && !t->slow[i].is_leaving) {
            t->slow[i].resume = t->a->at;
            t->slow[i].restore_flags = t->flags != FLAGS_SAVED && t->is_live;
            t->slow[i].vec_reload = (uint8_t)t->vec;
        }
    }
}

static void emit_slow(struct translation *t, const struct slow *s)
{
    asm_land(t->a, s->from, t->cold->at);
    if (s->window_bytes) {
        emit_window_cold(t, s);
    }
    if (!s->resume) {
        to_stub(t->cold, JMP, t->e->leave_op, s->ops, s->block);
        return;
    }
    to_stub(t->cold, CALL, s->vec_load ? t->e->vec_load[s->vec_load] : t->e->run_ops, s->ops,
            s->block);
    if (s->vec_reload) {
        asm_jump_to(t->cold, CALL, t->e->vec_reload[s->vec_reload]);
    }
    if (s->restore_flags) {
        emit_flags_load_all(t->cold);
    }
    asm_jump_to(t->cold, JMP, s->resume);
}

/* Does the interpreter raise #UD here, because the host or the guest's CPUID has no such thing? */
static bool is_undefined(const struct translation *t)
{
    return t->op_count && ref_is_fault(t->ops == t->block->op ? t->block->first : t->ops->fn);
}

/* What may stand within a block, asked in this order; operations are of one class each. */
static bool lower_plain(struct translation *t, const struct insn *insn)
{
    static bool (*const lowerings[])(struct translation * t, const struct insn *insn) = {
        emit_lower_int, emit_lower_stack, emit_lower_string, emit_lower_simd,
        emit_lower_avx, emit_lower_div,   emit_lower_bits,   emit_lower_sys,
    };

    for (size_t i = 0; i < sizeof(lowerings) / sizeof(lowerings[0]); i++) {
        if (lowerings[i](t, insn)) {
            return true;
        }
    }
    return false;
}

static void lower_one(struct work *w, unsigned i)
{
    struct translation *t = &w->t;
    const struct insn *insn = &w->insn[i];
    bool is_last = i + 1 == w->count && w->is_whole;
    bool is_between = i + 1 == w->part_end[w->part_now] && i + 1 < w->count;

    t->first_slow = t->slow_count;
    t->next_rip = t->rip + insn->len;
    t->is_live = w->live_after[i];
    find_ops(t);
    if (is_between) {
        emit_side_exit(t, insn, w->part[w->part_now + 1]->rip);
    } else if (emit_is_branch(insn)) {
        if (!is_last || !emit_lower_branch(t, insn)) {
            leave_here(t);
        }
    } else if (!t->op_count || t->ops->len != insn->len) {
        t->has_failed = true; /* cannot be: the block was made from these bytes */
    } else if (is_undefined(t)) {
        leave_here(t);
    } else if (!lower_plain(t, insn)) {
        bool is_fused = is_last && t->block->has_links &&
                        t->ops + t->op_count == t->block->op + t->block->op_count - 2;

        if (is_fused || (is_last && !t->block->has_links)) {
            leave_here(t);
        } else {
            run_here(t, emit_flags_of(t, insn));
        }
    }
    if (insn->klass == INSN_CLASS_SYSTEM || insn->klass == INSN_CLASS_FPSTATE) {
        t->vec = VEC_NONE; /* what closes the way in may have changed */
    }
    finish_slow(t);
    emit_look_next(t);
    t->rip = t->next_rip;
    if (is_between) {
        begin_part(w);
    }
}

/* Bytes that did not decode raise: the interpreter's business. */
static void end_block(struct work *w)
{
    struct translation *t = &w->t;

    if (t->is_end) {
        return;
    }
    if (w->is_whole && t->block->has_links) {
        emit_exit(t, JMP, t->rip);
        return;
    }
    find_ops(t);
    leave_here(t);
}

/* From instruction `first` on. */
static bool lower_from(struct work *w, unsigned first)
{
    struct translation *t = &w->t;

    for (unsigned i = first; i < w->count && !t->is_end && !t->has_failed; i++) {
        lower_one(w, i);
    }
    end_block(w);
    for (unsigned i = 0; i < t->slow_count && !t->has_failed; i++) {
        emit_slow(t, &t->slow[i]);
    }
    return !t->has_failed && !t->a->is_full && !t->cold->is_full;
}

static bool translate(struct work *w)
{
    struct translation *t = &w->t;
    struct block *b = t->block;
    struct emit_code *code = t->alloc(t->alloc_owner, sizeof(*code));

    if (!code) {
        return false;
    }
    *code = (struct emit_code){.flags_in = (uint8_t)t->flags_in};
    t->flags = t->flags_in == FLAGS_IN_SAVED ? FLAGS_SAVED : FLAGS_HOST;
    b->code = code;
    emit_front(t);
    count_run(t);
    if (!lower_from(w, 0)) {
        b->code = NULL;
        return false;
    }
    return true;
}

/* NULL if there is no room, or nothing to translate. */
static struct work *begin(struct vcpu *v, struct block *b, emit_alloc_fn alloc, void *alloc_owner,
                          bool is_rest)
{
    struct emit_cache *e = v->emit;
    struct work *w = emit_is_full(v) || !b->bytes ? NULL : calloc(1, sizeof(*w));
    uint64_t end;

    if (!w) {
        return NULL;
    }
    emit_populate(e);
    w->t = (struct translation){.a = &e->buf,
                                .cold = &e->cold,
                                .v = v,
                                .e = e,
                                .block = b,
                                .alloc = alloc,
                                .alloc_owner = alloc_owner,
                                .rip = b->rip,
                                .ops = b->op,
                                .is_rest = is_rest};
    end = decode(w, b);
    if (w->count == 0) {
        free(w);
        return NULL;
    }
    if (!is_rest && !b->is_crossing) {
        end = append_parts(w, end);
    }
    find_live_flags(w, end);
    emit_look_begin(&w->t, w->insn, w->count);
    return w;
}

bool emit_block(struct vcpu *v, struct block *b, emit_alloc_fn alloc, void *alloc_owner)
{
    struct asm_buf hot = v->emit->buf, cold = v->emit->cold;
    struct work *w = begin(v, b, alloc, alloc_owner, false);
    bool is_done = w && translate(w) && verify_emitted(v, b, &hot, &cold, NULL);

    v->stats.insns_translated += is_done ? w->count : 0;
    free(w);
    b->code = is_done ? b->code : NULL;
    if (!is_done) {
        v->emit->buf = hot;
        v->emit->cold = cold;
        return false;
    }
    v->stats.blocks_translated++;
    return true;
}

uint8_t *emit_rest(struct vcpu *v, struct block *b, unsigned index, emit_alloc_fn alloc,
                   void *alloc_owner)
{
    struct asm_buf hot = v->emit->buf, cold = v->emit->cold;
    struct work *w = begin(v, b, alloc, alloc_owner, true);
    bool is_done = false;

    if (w) {
        w->t.is_plain = true;
        w->t.flags = FLAGS_SAVED;
        for (unsigned i = 0; i < index; i++) {
            find_ops(&w->t);
            w->t.rip += w->insn[i].len;
            emit_look_next(&w->t);
        }
        is_done = lower_from(w, index) && verify_emitted(v, b, &hot, &cold, hot.at);
    }
    free(w);
    if (!is_done) {
        v->emit->buf = hot;
        v->emit->cold = cold;
        return NULL;
    }
    return hot.at;
}

const struct op *emit_enter(struct vcpu *v, const struct block *b)
{
    return v->emit->enter(v, emit_executable(v->emit, b->code->at[1][ENTRY_NEAR]));
}

const struct op *emit_continue(struct vcpu *v)
{
    const void *code = emit_code_at_rip(v);

    return code ? v->emit->enter(v, code) : NULL;
}
