/* op_stack.c — PUSH POP LEAVE ENTER PUSHA POPA. */
#include "hv/soft/ref/lower_int.h"
#include "hv/soft/ref/op_mem.h"

#define RSP (GPR_RSP * 8)
#define RBP (GPR_RBP * 8)

/* --- 64-bit mode, 8-byte slots --- */

#define PUSH(name, value)                                  \
    OP_COLD OP_HANDLER(name##_slow)                        \
    {                                                      \
        op_store_slow(v, op, R64(v, RSP) - 8, (value), 8); \
        R64(v, RSP) -= 8;                                  \
        return op_after_write(v, op);                      \
    }                                                      \
    OP_HANDLER(name)                                       \
    {                                                      \
        uint64_t la = R64(v, RSP) - 8, x = (value);        \
        void *p = mmu_hit(v, TLB_WRITE, la, 8);            \
        if (UNLIKELY(!p)) {                                \
            OP_TAIL return name##_slow(v, op);             \
        }                                                  \
        memcpy(p, &x, 8);                                  \
        R64(v, RSP) = la;                                  \
        OP_NEXT(v, op);                                    \
    }
PUSH(push_r, R64(v, op->src))
PUSH(push_i, op->imm)

OP_LOAD(load_ea, 64, op_la_base, v->ea = x)

static inline uint64_t rsp_la(struct vcpu *v, const struct op *op __attribute__((unused)))
{
    return R64(v, RSP);
}

static inline uint64_t rbp_la(struct vcpu *v, const struct op *op __attribute__((unused)))
{
    return R64(v, RBP);
}

/* POP rSP keeps what was read. */
OP_LOAD(pop_r, 64, rsp_la, R64(v, RSP) += 8; R64(v, op->dst) = x)
OP_LOAD(leave64, 64, rbp_la, R64(v, RSP) = R64(v, RBP) + 8; R64(v, RBP) = x)

/* --- any mode, any size --- */

static enum ref_result push_any(struct vcpu *v, const struct insn *insn)
{
    ref_push(v, ref_operand_read(v, insn, 0), insn->opsize);
    return REF_NEXT;
}

/* The address of the destination is computed with the incremented rSP, which stays if it faults. */
static enum ref_result pop_any(struct vcpu *v, const struct insn *insn)
{
    uint64_t old_rsp = v->gpr[GPR_RSP], new_rsp, offset, la, value;

    value = ref_pop(v, insn->opsize);
    if (insn->operand[0].kind != INSN_MEM) {
        ref_operand_write(v, insn, 0, value);
        return REF_NEXT;
    }
    new_rsp = v->gpr[GPR_RSP];
    offset = ref_offset(v, insn);
    v->gpr[GPR_RSP] = old_rsp;
    la = ref_linear(v, (enum cpu_seg)insn->seg, offset, insn->opsize, true);
    mmu_write(v, la, &value, insn->opsize);
    v->gpr[GPR_RSP] = new_rsp;
    return REF_NEXT;
}

static bool is_wide_stack(const struct vcpu *v)
{
    return v->seg[SEG_SS].attr & SEG_ATTR_DB;
}

static void set_stack_reg(struct vcpu *v, enum cpu_gpr reg, uint64_t value)
{
    if (v->mode == MODE_LONG64) {
        v->gpr[reg] = value;
    } else if (is_wide_stack(v)) {
        v->gpr[reg] = (uint32_t)value;
    } else {
        memcpy(&v->gpr[reg], &value, 2);
    }
}

static void set_sized(struct vcpu *v, enum cpu_gpr reg, uint64_t value, unsigned size)
{
    if (size == 4) {
        v->gpr[reg] = (uint32_t)value;
    } else {
        memcpy(&v->gpr[reg], &value, size);
    }
}

static enum ref_result leave_any(struct vcpu *v, const struct insn *insn)
{
    uint64_t value = 0, la, rbp = v->gpr[GPR_RBP];
    bool is_long = v->mode == MODE_LONG64;
    uint64_t sp = is_long ? rbp : is_wide_stack(v) ? (uint32_t)rbp : (uint16_t)rbp;

    la = ref_linear(v, SEG_SS, sp, insn->opsize, false);
    mmu_read(v, la, &value, insn->opsize);
    set_stack_reg(v, GPR_RSP, sp + insn->opsize);
    set_sized(v, GPR_RBP, value, insn->opsize);
    return REF_NEXT;
}

/* SDM volume 2, ENTER.  All that can fault comes first: the frame pointers that are read, then the
 * lowest byte that the new frame touches. */
/* Raise where a write `below` bytes under the stack pointer would. */
static void check_push(struct vcpu *v, uint64_t below, unsigned size)
{
    uint64_t at = v->gpr[GPR_RSP] - below;

    if (v->mode != MODE_LONG64) {
        at = is_wide_stack(v) ? (uint32_t)at : (uint16_t)at;
    }
    mmu_check_write(v, ref_linear(v, SEG_SS, at, size, true), size);
}

/* The frame pointer that ENTER copies for level `i`. */
static uint64_t outer_frame(struct vcpu *v, uint64_t rbp, unsigned i, unsigned size)
{
    uint64_t at = rbp - (uint64_t)i * size, value = 0;

    if (v->mode != MODE_LONG64) {
        at = is_wide_stack(v) ? (uint32_t)at : (uint16_t)at;
    }
    mmu_read(v, ref_linear(v, SEG_SS, at, size, false), &value, size);
    return value;
}

static enum ref_result enter_any(struct vcpu *v, const struct insn *insn)
{
    unsigned level = insn->imm2 & 31u, size = insn->opsize;
    uint64_t rbp = v->gpr[GPR_RBP], frame;

    for (unsigned i = 1; i < level; i++) {
        (void)outer_frame(v, rbp, i, size);
    }
    for (unsigned i = 0; i <= level; i++) {
        check_push(v, (uint64_t)(i + 1) * size, size);
    }
    /* faults where a write at the final stack pointer would: SDM volume 2, "ENTER" */
    check_push(v, (uint64_t)(level + 1) * size + (uint16_t)insn->imm, size);
    ref_push(v, rbp, size);
    frame = v->gpr[GPR_RSP];
    for (unsigned i = 1; i < level; i++) { /* may read what was just pushed */
        ref_push(v, outer_frame(v, rbp, i, size), size);
    }
    if (level) {
        ref_push(v, frame, size);
    }
    set_sized(v, GPR_RBP, frame, size);
    set_stack_reg(v, GPR_RSP, v->gpr[GPR_RSP] - (uint16_t)insn->imm);
    return REF_NEXT;
}

static enum ref_result pusha_any(struct vcpu *v, const struct insn *insn)
{
    uint64_t rsp = v->gpr[GPR_RSP];
    uint64_t mask = is_wide_stack(v) ? UINT32_MAX : UINT16_MAX;

    for (unsigned i = 1; i <= 8; i++) {
        mmu_check_write(v,
                        ref_linear(v, SEG_SS, (rsp - i * insn->opsize) & mask, insn->opsize, true),
                        insn->opsize);
    }
    for (unsigned r = GPR_RAX; r <= GPR_RDI; r++) {
        ref_push(v, r == GPR_RSP ? rsp : v->gpr[r], insn->opsize);
    }
    return REF_NEXT;
}

static enum ref_result popa_any(struct vcpu *v, const struct insn *insn)
{
    uint64_t rsp = v->gpr[GPR_RSP], value[8] = {0};
    uint64_t mask = is_wide_stack(v) ? UINT32_MAX : UINT16_MAX;

    for (unsigned i = 0; i < 8; i++) {
        mmu_read(v, ref_linear(v, SEG_SS, (rsp + i * insn->opsize) & mask, insn->opsize, false),
                 &value[i], insn->opsize);
    }
    for (unsigned i = 0; i < 8; i++) {
        if (i != GPR_RDI - GPR_RSP) { /* the slot of rSP is skipped */
            set_sized(v, (enum cpu_gpr)(GPR_RDI - i), value[i], insn->opsize);
        }
    }
    set_stack_reg(v, GPR_RSP, rsp + 8u * insn->opsize);
    return REF_NEXT;
}

/* --- picking --- */

static void lower_push64(struct lower *lw, const struct insn *insn)
{
    uint8_t src = lower_reg(&insn->operand[0]);
    struct op *op;

    if (insn->operand[0].kind == INSN_MEM) {
        struct lower_ea ea = lower_mem(lw, insn, 8, true);

        lower_set_ea(lower_emit(lw, load_ea), &ea);
        src = OP_EA;
    }
    op = lower_emit(lw, insn->operand[0].kind == INSN_IMM ? push_i : push_r);
    op->src = src;
    op->imm = (uint64_t)insn->imm;
    op->shape = OP_STACK_SEG;
}

static bool lower_long(struct lower *lw, const struct insn *insn)
{
    struct op *op;

    if (lw->v->mode != MODE_LONG64 || insn->opsize != 8) {
        return false;
    }
    if (insn->op == INSN_PUSH) {
        lower_push64(lw, insn);
        return true;
    }
    if (insn->op == INSN_LEAVE || (insn->op == INSN_POP && insn->operand[0].kind == INSN_GPR)) {
        op = lower_emit(lw, insn->op == INSN_LEAVE ? leave64 : pop_r);
        op->dst = lower_reg(&insn->operand[0]);
        op->shape = OP_STACK_SEG;
        return true;
    }
    return false;
}

bool lower_stack(struct lower *lw, const struct insn *insn)
{
    if (lower_long(lw, insn)) {
        return true;
    }
    switch (insn->op) {
    case INSN_PUSH: lower_call(lw, insn, push_any); return true;
    case INSN_POP: lower_call(lw, insn, pop_any); return true;
    case INSN_LEAVE: lower_call(lw, insn, leave_any); return true;
    case INSN_ENTER: lower_call(lw, insn, enter_any); return true;
    case INSN_PUSHA: lower_call(lw, insn, pusha_any); return true;
    case INSN_POPA: lower_call(lw, insn, popa_any); return true;
    default: return false;
    }
}
