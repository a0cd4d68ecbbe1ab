/* run.c — the loop that runs blocks.
 *
 * A block is left with v->rip at the next instruction, and v->link at the link that should lead
 * there, if it was a direct branch.  The loop finds or makes the next block, completes the link and
 * the lookup table, and goes on.  Steps (single instructions, for shadows and TF) use blocks of
 * their own that are never linked.
 *
 * Frames here are left by longjmp. */
#include <stdio.h>

#include "hv/soft/cache/code_int.h"
#include "hv/soft/emit/emit.h"

#define LOOKUP_DISABLED UINT64_MAX /* no entry has this tag */

/* A crossing block is the right one only if the second page is still the same. */
static bool is_current(struct vcpu *v, const struct block *b, uint64_t la)
{
    gpa_t gpa;

    return !b->is_crossing || mmu_fetch_page(v, code_next_page(v, la), &gpa) == b->host2;
}

/* Links and tables only lead to blocks. */
static struct block *unconst(const struct block *b)
{
    return (struct block *)(uintptr_t)b;
}

/* Where emitted code is verified, the tables that it believes are looked at, too. */
static bool audit(struct vcpu *v)
{
    char why[MMU_AUDIT_WHY];

    if (--v->code->runs_to_audit != 0) {
        return true;
    }
    v->code->runs_to_audit = RUNS_PER_AUDIT;
    if (!mmu_audit(v, why)) {
        v->broken = true;
        (void)snprintf(v->why, sizeof(v->why), "audit: %s", why);
    }
    return !v->broken;
}

/* What led here before, under older generations: mostly still right. */
static bool is_same(const struct block *b, const uint8_t *host, uint64_t rip, uint32_t mode_key)
{
    return b && b->host == host && b->rip == rip && b->mode_key == mode_key && !b->is_dead &&
           !b->is_crossing;
}

/* The block at v->rip; raises what fetching raises.  NULL: v->broken. */
static struct block *find_block(struct vcpu *v, uint32_t mode_key)
{
    const struct block_slot *slot;
    uint64_t la = v->rip;
    const uint8_t *host;
    struct block *b;
    gpa_t page;

    if (v->mode != MODE_LONG64) {
        if (v->code->cs_base != v->seg[SEG_CS].base) {
            v->code->cs_base = v->seg[SEG_CS].base;
            v->link = NULL;
            code_new_map(v, false);
        }
        la = (uint32_t)(v->seg[SEG_CS].base + v->rip);
        if (v->rip > v->seg[SEG_CS].limit) {
            vcpu_raise_error(v, EXC_GP, 0);
        }
    } else if (!op_is_canonical(la)) {
        vcpu_raise_error(v, EXC_GP, 0);
    }
    host = mmu_hit(v, TLB_EXEC, la, 1);
    if (!host) {
        host = mmu_fetch_page(v, la, &page);
        if (!host) { /* where nothing answers, all bits read as 1: FF FF is undefined */
            vcpu_raise(v, EXC_UD);
        }
        host += la & 0xfff;
    }
    b = v->link && v->link->rip == v->rip ? unconst(v->link->to) : NULL;
    if (is_same(b, host, v->rip, mode_key)) {
        return b;
    }
    slot = &v->lookup[BLOCK_SLOT_OF(v->rip)];
    if (slot->rip == v->rip && is_same(unconst(slot->to), host, v->rip, mode_key)) {
        return unconst(slot->to);
    }
    b = code_find(v->code, host, v->rip, mode_key);
    while (b && !is_current(v, b, la)) {
        code_kill(v, b);
        b = code_find(v->code, host, v->rip, mode_key);
    }
    return b ? b : code_decode(v, la, host, mode_key);
}

/* Interpret, or run translated code, until one of them leaves. */
static void run_ops(struct vcpu *v, const struct op *op)
{
    v->code_hit = false;
    while (op) {
        op = op->fn(v, op);
    }
    /* The fault belongs to the branch, and comes before anything that poll knows of. */
    if (v->has_missed && UNLIKELY(!op_is_canonical(v->rip))) {
        emit_undo_branch(v);
        vcpu_raise_error(v, EXC_GP, 0);
    }
}

void code_run_block(struct vcpu *v, const struct block *b)
{
    v->block = b;
    v->stats.insns += b->insn_count;
    v->stats.runs++;
    run_ops(v, b->op);
}

/* How the interpreter came here: the translation will have its tests ready. */
static enum emit_entry entry_of(const struct vcpu *v, const struct block *b)
{
    if (!v->link) {
        return ENTRY_INDIRECT;
    }
    return !v->link->is_near                     ? ENTRY_FAR
           : v->block && b->rip <= v->block->rip ? ENTRY_BACK
                                                 : ENTRY_NEAR;
}

/* Let the branch that was left, and the lookup table, lead here next time. */
static void remember(struct vcpu *v, struct block *b)
{
    struct block_slot *slot = &v->lookup[BLOCK_SLOT_OF(b->rip)];

    if (v->site || v->has_missed) {
        emit_arrive(v, b);
    } else if (!b->code) {
        b->entered |= (uint8_t)(1u << entry_of(v, b));
    }
    code_note_page(v, b->rip, b->page_id);
    if (b->is_crossing) {
        code_note_page(v, b->rip + 0x1000, b->page_id2);
        return; /* the interpreter looks for it each time */
    }
    if (v->link && v->link->rip == b->rip) {
        v->link->to = b;
        v->link->gen = v->link->is_near ? v->code_gen : v->map_gen;
    }
    if (v->mode == MODE_LONG64) {
        *slot = (struct block_slot){.rip = b->rip, .tag = v->rip_tag, .to = b};
    }
}

/* In lockstep, nothing leads from block to block but this loop.  The table is there for
 * translations of several blocks, its entry for nobody else. */
static void remember_place(struct vcpu *v, struct block *b)
{
    code_note_page(v, b->rip, b->page_id);
    if (b->is_crossing) {
        code_note_page(v, b->rip + 0x1000, b->page_id2);
    } else if (v->mode == MODE_LONG64) {
        v->lookup[BLOCK_SLOT_OF(b->rip)] = (struct block_slot){.rip = b->rip, .to = b};
    }
}

/* Since code ran here last, this thread may have computed with floating point. */
static void forget_host_flags(struct vcpu *v)
{
    v->host_mxcsr_flags = HOST_MXCSR_UNKNOWN;
}

static void forget_branch(struct vcpu *v)
{
    v->link = NULL;
    v->site = NULL;
    v->has_missed = false;
}

static void step(struct vcpu *v)
{
    const struct block *b;

    v->shadow = 0;
    forget_branch(v);
    v->rip_tag = LOOKUP_DISABLED;
    b = find_block(v, block_mode_key(v) | MODE_KEY_SINGLE);
    if (b) {
        v->rip_tag = LOOKUP_DISABLED;
        code_run_block(v, b);
    }
    v->link = NULL;
    block_new_tag(v);
}

void code_step(struct vcpu *v)
{
    forget_host_flags(v);
    step(v);
}

/* SDM volume 3, 17.3.1.4: the trap follows the instruction that began with TF set; MOV SS delays
 * it.  Delivery, SYSCALL and SYSRET have rules of their own: they change trap_due. */
static void step_with_trap(struct vcpu *v)
{
    v->trap_due = vcpu_has_flag(v, FLAG_TF);
    step(v);
    if (v->trap_due && !(v->shadow & 2) && !v->broken) {
        v->shadow = 0;
        vcpu_raise_step(v);
    }
}

void code_step_traced(struct vcpu *v)
{
    forget_host_flags(v);
    step_with_trap(v);
}

static bool must_return(const struct vcpu *v, bool was_nmi_blocked)
{
    return v->halted || v->broken || v->triple_fault ||
           (v->irq_held && vcpu_has_flag(v, FLAG_IF)) || (was_nmi_blocked && !v->nmi_blocked);
}

/* Handlers of exceptions and interrupts, mostly. */
static void continue_directly(struct vcpu *v)
{
    if (v->emit && !vcpu_poll(v)) {
        run_ops(v, emit_continue(v));
    }
    if (!v->link) {
        block_new_tag(v);
    }
}

/* The block at v->rip, and where that leads; false: v->broken. */
static bool run_next(struct vcpu *v)
{
    bool is_linked = LIKELY(!v->code->inject) || code_inject(v);
    struct block *b = find_block(v, block_mode_key(v));

    if (!b) {
        return false;
    }
    if (UNLIKELY(v->is_lockstep)) {
        remember_place(v, b);
    } else if (is_linked) {
        remember(v, b);
    }
    if (UNLIKELY(v->code->inject)) {
        code_inject_evict(v, b);
    }
    forget_branch(v);
    if (UNLIKELY(v->is_lockstep)) {
        code_lockstep_run(v, b);
    } else {
        code_run_block(v, b);
    }
    if (!v->link) {
        block_new_tag(v);
    }
    return true;
}

void code_run(struct vcpu *v)
{
    bool was_nmi_blocked = v->nmi_blocked;

    if (UNLIKELY(v->code->runs_to_audit) && !audit(v)) {
        return;
    }
    forget_host_flags(v);
    forget_branch(v);
    block_new_tag(v);
    continue_directly(v);
    while (v->shadow || !must_return(v, was_nmi_blocked)) {
        if (v->shadow || vcpu_has_flag(v, FLAG_TF)) {
            step_with_trap(v);
        } else if (vcpu_poll(v) || !run_next(v)) {
            return;
        }
    }
}
