/* translate.c — one block: decode it again, find out where flags are live, lower, finish. */
#include <cpuid.h>
#include <errno.h>
#include <stdlib.h>

#include "hv/soft/emit/emit_int.h"

struct work {
    struct translation t;
    unsigned count; /* instructions that decode */
    struct insn insn[SLOW_MAX];
    bool live_after[SLOW_MAX];
};

static void decode(struct work *w)
{
    const struct block *b = w->t.block;
    size_t offset = 0, size = b->byte_count;

    while (w->count < b->insn_count && w->count < SLOW_MAX && offset < size &&
           insn_decode(b->bytes + offset, size - offset, INSN_MODE_64, &w->insn[w->count]) ==
               INSN_OK &&
           insn_gate(&w->insn[w->count], w->t.v->features)) {
        offset += w->insn[w->count++].len;
    }
}

/* Backwards; at the end of the block they are. */
static void find_live_flags(struct work *w)
{
    bool is_live = true;

    for (unsigned i = w->count; i-- > 0;) {
        struct flags_use use = emit_flags_use(&w->insn[i]);

        w->live_after[i] = is_live;
        is_live = use.read != READS_NONE || (is_live && !use.writes);
    }
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

static void leave_here(struct translation *t)
{
    const struct op *op = t->op_count ? emit_resume_op(t) : NULL;

    t->has_failed |= !op;
    t->is_end = true;
    emit_flags_save(t);
    asm_mov_imm(t->a, HOST_T1, (uintptr_t)op);
    asm_jump_to(t->a, 0xe9, t->e->leave_op);
}

/* No lowering: the interpreter's ops, in between.  They expect and leave flags in memory. */
static void run_here(struct translation *t)
{
    const struct op *ops = emit_copy_ops(t);

    t->has_failed |= !ops;
    emit_flags_save(t);
    t->flags = FLAGS_SAVED;
    asm_mov_imm(t->a, HOST_T1, (uintptr_t)ops);
    asm_jump_to(t->a, 0xe8, t->e->run_ops);
}

static void finish_slow(struct translation *t, unsigned first)
{
    for (unsigned i = first; i < t->slow_count; i++) {
        if (!t->is_end) {
            t->slow[i].resume = t->a->at;
            t->slow[i].restore_flags = t->flags != FLAGS_SAVED;
        }
    }
}

static void emit_slow(struct translation *t, const struct slow *s)
{
    asm_land(t->a, s->from, t->a->at);
    asm_mov_imm(t->a, HOST_T1, (uintptr_t)s->ops);
    if (!s->resume) {
        asm_jump_to(t->a, 0xe9, t->e->leave_op);
        return;
    }
    asm_jump_to(t->a, 0xe8, t->e->run_ops);
    if (s->restore_flags) {
        emit_flags_load_all(t->a);
    }
    asm_jump_to(t->a, 0xe9, s->resume);
}

static bool is_branch(const struct insn *insn)
{
    return insn->op >= INSN_JMP && insn->op <= INSN_JRCXZ;
}

/* What may stand within a block, asked in this order; operations are of one class each. */
static bool lower_plain(struct translation *t, const struct insn *insn)
{
    static bool (*const lowerings[])(struct translation * t, const struct insn *insn) = {
        emit_lower_int,
        emit_lower_stack,
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
    unsigned first_slow = t->slow_count;
    bool is_last = i + 1 == w->count && w->count == t->block->insn_count;

    t->next_rip = t->rip + insn->len;
    t->is_live = w->live_after[i];
    find_ops(t);
    if (is_branch(insn)) {
        if (!is_last || !emit_lower_branch(t, insn)) {
            leave_here(t);
        }
    } else if (!t->op_count || t->ops->len != insn->len) {
        t->has_failed = true; /* cannot be: the block was made from these bytes */
    } else if (!lower_plain(t, insn)) {
        bool is_fused = is_last && t->block->has_links &&
                        t->ops + t->op_count == t->block->op + t->block->op_count - 2;

        if (is_fused || (is_last && !t->block->has_links)) {
            leave_here(t);
        } else {
            run_here(t);
        }
    }
    finish_slow(t, first_slow);
    t->rip = t->next_rip;
}

/* Bytes that did not decode raise: the interpreter's business. */
static void end_block(struct work *w)
{
    struct translation *t = &w->t;

    if (t->is_end) {
        return;
    }
    if (w->count == t->block->insn_count && t->block->has_links) {
        emit_flags_save(t);
        emit_follow(t, 0);
        return;
    }
    find_ops(t);
    leave_here(t);
}

/* What every way in passes; T2 = block. */
static void prologue(struct translation *t)
{
    asm_store(t->a, HOST_T2, HOST_VCPU, offsetof(struct vcpu, block));
    if (t->v->count_runs) {
        asm_rm(t->a, 8, 0x83, 0, HOST_VCPU, offsetof(struct vcpu, stats.insns));
        ASM(t->a, t->block->insn_count);
        asm_rm(t->a, 8, 0x83, 0, HOST_VCPU, offsetof(struct vcpu, stats.runs));
        ASM(t->a, 1);
        asm_rm(t->a, 8, 0x83, 0, HOST_VCPU, offsetof(struct vcpu, stats.runs_translated));
        ASM(t->a, 1);
    }
}

static bool translate(struct work *w)
{
    struct translation *t = &w->t;
    const uint8_t *code = t->a->at, *body;

    prologue(t);
    body = t->a->at;
    for (unsigned i = 0; i < w->count && !t->is_end && !t->has_failed; i++) {
        lower_one(w, i);
    }
    end_block(w);
    for (unsigned i = 0; i < t->slow_count && !t->has_failed; i++) {
        emit_slow(t, &t->slow[i]);
    }
    if (t->has_failed || t->a->is_full) {
        return false;
    }
    t->block->code = emit_executable(t->e, code);
    t->block->body = emit_executable(t->e, body);
    return true;
}

bool emit_block(struct vcpu *v, struct block *b, emit_alloc_fn alloc, void *alloc_owner)
{
    struct emit_cache *e = v->emit;
    uint8_t *start = e->buf.at;
    struct work *w;
    bool is_done;

    if (emit_is_full(v) || !b->bytes) {
        return false;
    }
    w = calloc(1, sizeof(*w));
    if (!w) {
        return false;
    }
    w->t = (struct translation){.a = &e->buf,
                                .v = v,
                                .e = e,
                                .block = b,
                                .alloc = alloc,
                                .alloc_owner = alloc_owner,
                                .rip = b->rip,
                                .ops = b->op};
    decode(w);
    find_live_flags(w);
    is_done = w->count > 0 && translate(w);
    free(w);
    if (!is_done) {
        e->buf.at = start;
        e->buf.is_full = false;
        return false;
    }
    v->stats.blocks_translated++;
    v->stats.insns_translated += b->insn_count;
    return true;
}

const struct op *emit_enter(struct vcpu *v)
{
    return v->emit->enter(v, v->block->body);
}

const void *emit_interpreter(const struct vcpu *v)
{
    return emit_executable(v->emit, v->emit->interpret);
}

/* --- life --- */

bool emit_is_full(const struct vcpu *v)
{
    return (size_t)(v->emit->buf.end - v->emit->buf.at) < CODE_RESERVE;
}

size_t emit_code_bytes(const struct vcpu *v)
{
    return (size_t)(v->emit->buf.at - v->emit->buf.start);
}

void emit_clear(struct vcpu *v)
{
    v->emit->buf.at = v->emit->buf.start + v->emit->first;
}

/* CPUID leaf 7, EBX bit 8.  Its instructions on general registers need nothing of the system. */
static bool host_has_bmi2(void)
{
    unsigned a, b = 0, c, d;

    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & 1u << 8);
}

int emit_init(struct vcpu *v)
{
    struct emit_cache *e = calloc(1, sizeof(*e));
    int r;

    if (!e) {
        return -ENOMEM;
    }
    v->emit = e;
    e->has_bmi2 = host_has_bmi2();
    r = code_view_open(&e->view, "ec1-translated", CODE_BYTES);
    if (r == 0) {
        e->buf = (struct asm_buf){
            .start = e->view.rw, .at = e->view.rw, .end = e->view.rw + e->view.size};
        r = emit_stubs(e);
    }
    if (r < 0) {
        emit_fini(v);
    }
    return r;
}

void emit_fini(struct vcpu *v)
{
    if (v->emit) {
        code_view_close(&v->emit->view);
        free(v->emit);
        v->emit = NULL;
    }
}
