/* lower_stack.c — PUSH, POP, LEAVE.
 *
 * All that can miss or fault comes before the first change. */
#include "hv/soft/emit/emit_int.h"

/* What was read waits in v->ea for the second check; one that misses begins anew. */
static bool lower_push_memory(struct translation *t, const struct insn *insn)
{
    if (!emit_can_address(insn)) {
        return false;
    }
    emit_access(t, insn, TLB_READ, 8, true);
    emit_mem(t, 8, 0x8b, HOST_T2);
    asm_store(t->a, HOST_T2, HOST_VCPU, OP_EA);
    emit_access_at(t, HOST_R15, -8, TLB_WRITE, 8, false);
    asm_load(t->a, HOST_T2, HOST_VCPU, OP_EA);
    emit_mem(t, 8, 0x89, HOST_T2);
    asm_rm(t->a, 8, 0x8d, HOST_R15, HOST_R15, -8);
    return true;
}

static bool lower_push(struct translation *t, const struct insn *insn)
{
    const struct insn_operand *o = &insn->operand[0];

    if (insn->opsize != 8) {
        return false;
    }
    if (o->kind == INSN_MEM) {
        return lower_push_memory(t, insn);
    }
    emit_access_at(t, HOST_R15, -8, TLB_WRITE, 8,
                   o->kind == INSN_IMM || emit_host_reg(o->reg) != HOST_NONE);
    if (o->kind == INSN_IMM) {
        emit_mem(t, 8, 0xc7, 0);
        asm_imm(t->a, (uint64_t)insn->imm, 4);
    } else {
        emit_mem(t, 8, 0x89, emit_use(t, o->reg, HOST_T2));
    }
    asm_rm(t->a, 8, 0x8d, HOST_R15, HOST_R15, -8);
    t->keeps_t1 = true;
    return true;
}

/* POP rSP keeps what was read. */
static bool lower_pop(struct translation *t, const struct insn *insn)
{
    const struct insn_operand *o = &insn->operand[0];
    unsigned host = emit_target(o->reg, HOST_T2);

    if (insn->opsize != 8 || o->kind != INSN_GPR) {
        return false;
    }
    emit_access_at(t, HOST_R15, 0, TLB_READ, 8, true);
    emit_mem(t, 8, 0x8b, host);
    if (o->reg != GPR_RSP) {
        asm_rm(t->a, 8, 0x8d, HOST_R15, HOST_R15, 8);
    }
    emit_put(t, o->reg, host);
    t->keeps_t1 = true;
    return true;
}

bool emit_lower_stack(struct translation *t, const struct insn *insn)
{
    switch (insn->op) {
    case INSN_PUSH: return lower_push(t, insn);
    case INSN_POP: return lower_pop(t, insn);
    case INSN_LEAVE:
        if (insn->opsize != 8) {
            return false;
        }
        emit_access_at(t, HOST_RBP, 0, TLB_READ, 8, true);
        emit_mem(t, 8, 0x8b, HOST_T2); /* the operand may be in terms of either register */
        asm_rm(t->a, 8, 0x8d, HOST_R15, HOST_RBP, 8);
        asm_mov(t->a, HOST_RBP, HOST_T2);
        t->keeps_t1 = true;
        return true;
    default: return false;
    }
}
