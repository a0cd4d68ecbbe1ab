/* stubs.c — into translated code and out of it; the interpreter's ops as a subroutine. */
#include <errno.h>
#include <stdlib.h>

#include "hv/soft/emit/emit_int.h"

/* --- ops that stop --- */

OP_HANDLER(stop)
{
    return op;
}

/* Run ops up to the stop.  NULL: the block is to be left, v->rip is set. */
static const struct op *run_until_stop(struct vcpu *v, const struct op *op)
{
    while (op && op->fn != stop) {
        op = op->fn(v, op);
    }
    return op;
}

static void copy_ops(const struct translation *t, struct op *to, const struct op *from,
                     size_t count)
{
    memcpy(to, from, count * sizeof(*to));
    if (from == t->block->op) {
        to->fn = t->block->first;
    }
}

const struct op *emit_copy_ops(struct translation *t)
{
    struct op *ops = t->alloc(t->alloc_owner, (t->op_count + 1) * sizeof(*ops));

    if (!ops || !t->op_count) {
        return NULL;
    }
    copy_ops(t, ops, t->ops, t->op_count);
    memset(&ops[t->op_count], 0, sizeof(*ops));
    ops[t->op_count].fn = stop;
    return ops;
}

/* imm = block: its first op, which now leads into its code, as it was. */
OP_HANDLER(first_op)
{
    const struct block *b = (const struct block *)(uintptr_t)op->imm;

    return b->first(v, b->op);
}

const struct op *emit_resume_op(struct translation *t)
{
    struct op *op;

    if (t->ops != t->block->op) {
        return t->ops;
    }
    op = t->alloc(t->alloc_owner, sizeof(*op));
    if (op) {
        memset(op, 0, sizeof(*op));
        op->fn = first_op;
        op->imm = (uintptr_t)t->block;
    }
    return op;
}

/* --- stubs --- */

#define SAVED_COUNT 6
static const uint8_t saved[SAVED_COUNT] = {HOST_RBP, HOST_RBX, HOST_R12,
                                           HOST_R13, HOST_R14, HOST_R15};

static void push_pop(struct asm_buf *a, uint8_t opcode, unsigned reg)
{
    if (reg >= 8) {
        ASM(a, 0x41);
    }
    ASM(a, (uint8_t)(opcode + (reg & 7)));
}

static void spill(struct emit_cache *e)
{
    struct asm_buf *a = &e->buf;

    emit_vec_park(e);
    for (unsigned g = 0; g < GPR_COUNT; g++) {
        if (emit_host_reg(g) != HOST_NONE) {
            asm_store(a, emit_host_reg(g), HOST_VCPU, 8u * g);
        }
    }
}

static void reload(struct asm_buf *a)
{
    for (unsigned g = 0; g < GPR_COUNT; g++) {
        if (emit_host_reg(g) != HOST_NONE) {
            asm_load(a, emit_host_reg(g), HOST_VCPU, 8u * g);
        }
    }
}

/* struct op *enter(struct vcpu *v, const void *code) */
static void enter_stub(struct asm_buf *a)
{
    for (unsigned i = 0; i < SAVED_COUNT; i++) {
        push_pop(a, 0x50, saved[i]);
    }
    ASM(a, 0x48, 0x83, 0xec, 8); /* sub rsp, 8: aligned to 16 for calls */
    asm_mov(a, HOST_VCPU, HOST_RDI);
    asm_mov(a, HOST_T2, HOST_RSI);
    asm_load(a, HOST_T1, HOST_VCPU, offsetof(struct vcpu, rip)); /* for indirect entries */
    asm_store(a, HOST_RSP, HOST_VCPU, offsetof(struct vcpu, host_rsp));
    asm_load(a, HOST_RSP, HOST_VCPU, offsetof(struct vcpu, pair_base));
    reload(a);
    ASM(a, 0x41, 0xff, 0xe3); /* jmp r11 */
}

/* Guest registers are in struct vcpu, rax is the result. */
static void return_stub(struct asm_buf *a)
{
    asm_load(a, HOST_RSP, HOST_VCPU, offsetof(struct vcpu, host_rsp));
    ASM(a, 0x48, 0x83, 0xc4, 8); /* add rsp, 8 */
    for (unsigned i = SAVED_COUNT; i-- > 0;) {
        push_pop(a, 0x58, saved[i]);
    }
    ASM(a, 0xc3);
}

static void run_stub(struct emit_cache *e)
{
    struct asm_buf *a = &e->buf;
    uint8_t *left;

    asm_store(a, HOST_T2, HOST_VCPU, offsetof(struct vcpu, block));
    spill(e);
    asm_mov(a, HOST_RBX, HOST_RSP);
    asm_load(a, HOST_RSP, HOST_VCPU, offsetof(struct vcpu, host_rsp));
    asm_mov(a, HOST_RDI, HOST_VCPU);
    asm_mov(a, HOST_RSI, HOST_T1);
    asm_mov_imm(a, HOST_RAX, (uintptr_t)run_until_stop);
    ASM(a, 0xff, 0xd0); /* call rax */
    asm_mov(a, HOST_RSP, HOST_RBX);
    ASM(a, 0x48, 0x85, 0xc0); /* test rax, rax */
    left = asm_jump(a, 0x84);
    reload(a);
    ASM(a, 0xc3);
    asm_land(a, left, a->at);
    return_stub(a);
}

/* T2 = struct insn: carry it out, and on to the block it leads to. */
static void transfer_stub(struct emit_cache *e)
{
    struct asm_buf *a = &e->buf;
    uint8_t *left;

    spill(e);
    asm_load(a, HOST_RSP, HOST_VCPU, offsetof(struct vcpu, host_rsp));
    asm_mov(a, HOST_RDI, HOST_VCPU);
    asm_mov(a, HOST_RSI, HOST_T2);
    asm_mov_imm(a, HOST_RAX, (uintptr_t)emit_transfer);
    ASM(a, 0xff, 0xd0);       /* call rax */
    ASM(a, 0x48, 0x85, 0xc0); /* test rax, rax */
    left = asm_jump(a, 0x84);
    asm_mov(a, HOST_T2, HOST_RAX);
    asm_load(a, HOST_T1, HOST_VCPU, offsetof(struct vcpu, rip));
    asm_load(a, HOST_RSP, HOST_VCPU, offsetof(struct vcpu, pair_base));
    reload(a);
    ASM(a, 0x41, 0xff, 0xe3); /* jmp r11 */
    asm_land(a, left, a->at);
    return_stub(a);
}

/* v->rip = T2; nothing to go on with. */
static void leave_to_rip(struct emit_cache *e)
{
    struct asm_buf *a = &e->buf;

    asm_store(a, HOST_T2, HOST_VCPU, offsetof(struct vcpu, rip));
    spill(e);
    asm_mov_imm(a, HOST_RAX, 0);
    return_stub(a);
}

static void leave_stubs(struct emit_cache *e)
{
    struct asm_buf *a = &e->buf;

    e->leave_op = a->at;
    asm_store(a, HOST_T2, HOST_VCPU, offsetof(struct vcpu, block));
    spill(e);
    asm_mov(a, HOST_RAX, HOST_T1);
    return_stub(a);
    e->leave_site_with_flags = a->at;
    emit_flags_save_all(a);
    e->leave_site = a->at;
    asm_store(a, HOST_T1, HOST_VCPU, offsetof(struct vcpu, site));
    asm_load(a, HOST_T2, HOST_T1, offsetof(struct emit_site, rip));
    leave_to_rip(e);
    e->leave_entry = a->at;
    asm_load(a, HOST_T2, HOST_T1, offsetof(struct block, rip));
    leave_to_rip(e);
    e->leave_miss = a->at;
    asm_rm(a, 1, 0xc6, 0, HOST_VCPU, offsetof(struct vcpu, has_missed));
    ASM(a, 1);
    asm_mov(a, HOST_T2, HOST_T1);
    leave_to_rip(e);
}

/* Who returns by the pair at the bottom leaves it where it is. */
static void return_miss_stubs(struct emit_cache *e)
{
    e->return_bottom = e->buf.at;
    asm_load(&e->buf, HOST_RSP, HOST_VCPU, offsetof(struct vcpu, pair_base));
    asm_jump_to(&e->buf, 0xe9, e->leave_miss);
    for (unsigned priv = 0; priv < TLB_PRIV_COUNT; priv++) {
        e->return_miss[priv] = e->buf.at;
        asm_load(&e->buf, HOST_RSP, HOST_VCPU, offsetof(struct vcpu, pair_base));
        emit_by_table(&e->buf, (enum tlb_priv)priv, JMP_NEAR);
    }
}

const void *emit_executable(const struct emit_cache *e, const uint8_t *at)
{
    return e->view.rx + (at - e->view.rw);
}

int emit_stubs(struct emit_cache *e)
{
    struct asm_buf *a = &e->buf;

    e->enter = (emit_enter_fn)(uintptr_t)emit_executable(e, a->at);
    enter_stub(a);
    emit_vec_park_stub(e);
    e->run_ops = a->at;
    run_stub(e);
    leave_stubs(e);
    return_miss_stubs(e);
    e->transfer = a->at;
    transfer_stub(e);
    emit_vec_load_stubs(e);
    emit_window_stubs(e);
    emit_string_stubs(e);
    e->first = (size_t)(a->at - a->start);
    return a->is_full ? -ENOSPC : 0;
}
