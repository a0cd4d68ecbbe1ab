/* lower_branch.c — the ends of blocks: jumps, calls, returns, links.
 *
 * All that can miss or fault comes before the first change, and a miss at the end of a block leaves
 * to the interpreter, which runs the whole instruction. */
#include "hv/soft/emit/emit_int.h"

#define CC_NOT_EQUAL 0x85
#define JMP          0xe9

/* --- by links --- */

static const struct block_link *link_of(const struct translation *t, unsigned index)
{
    const struct op *slots = &t->block->op[t->block->op_count - 2];

    return (const struct block_link *)(const void *)slots + index;
}

static void poll_or(struct asm_buf *a, const uint8_t *target)
{
    asm_rm(a, 4, 0x83, 7, HOST_VCPU, offsetof(struct vcpu, poll)); /* cmp dword [poll], 0 */
    ASM(a, 0);
    asm_jump_to(a, CC_NOT_EQUAL, target);
}

void emit_follow(struct translation *t, unsigned index)
{
    const struct block_link *link = link_of(t, index);
    size_t gen = link->is_near ? offsetof(struct vcpu, code_gen) : offsetof(struct vcpu, map_gen);
    struct asm_buf *a = t->a;

    asm_mov_imm(a, HOST_T1, (uintptr_t)link);
    asm_load(a, HOST_T2, HOST_T1, offsetof(struct block_link, gen));
    asm_rm(a, 8, 0x3b, HOST_T2, HOST_VCPU, (int32_t)gen);
    asm_jump_to(a, CC_NOT_EQUAL, t->e->leave_link);
    poll_or(a, t->e->leave_link);
    asm_load(a, HOST_T2, HOST_T1, offsetof(struct block_link, to));
    asm_rm(a, 4, 0xff, 4, HOST_T2, offsetof(struct block, code));
}

/* --- by address: T1 --- */

static void emit_lookup(struct translation *t)
{
    struct asm_buf *a = t->a;

    _Static_assert(sizeof(struct block_slot) == 32 && BLOCK_SLOTS == 8192, "shape of the table");
    asm_store(a, HOST_T1, HOST_VCPU, offsetof(struct vcpu, rip));
    asm_mov(a, HOST_T2, HOST_T1);
    asm_rr(a, 8, 0xc1, 5, HOST_T2); /* shr r11, 13 */
    ASM(a, 13);
    asm_rr(a, 4, 0x31, HOST_T1, HOST_T2);
    asm_rr(a, 4, 0x81, 4, HOST_T2);
    asm_imm(a, BLOCK_SLOTS - 1, 4);
    asm_rr(a, 4, 0xc1, 4, HOST_T2); /* shl r11d, 5 */
    ASM(a, 5);
    asm_rm(a, 8, 0x03, HOST_T2, HOST_VCPU, offsetof(struct vcpu, lookup));
    asm_rm(a, 8, 0x3b, HOST_T1, HOST_T2, offsetof(struct block_slot, rip));
    asm_jump_to(a, CC_NOT_EQUAL, t->e->leave_miss);
    asm_load(a, HOST_T1, HOST_VCPU, offsetof(struct vcpu, rip_tag));
    asm_rm(a, 8, 0x3b, HOST_T1, HOST_T2, offsetof(struct block_slot, tag));
    asm_jump_to(a, CC_NOT_EQUAL, t->e->leave_miss);
    poll_or(a, t->e->leave_miss);
    asm_load(a, HOST_T2, HOST_T2, offsetof(struct block_slot, to));
    asm_rm(a, 4, 0xff, 4, HOST_T2, offsetof(struct block, code));
}

/* Out of line behind the block: the interpreter runs this instruction. */
static void slow_unless_canonical(struct translation *t)
{
    struct asm_buf *a = t->a;
    const struct op *ops = emit_resume_op(t);

    asm_mov(a, HOST_T2, HOST_T1);
    asm_rr(a, 8, 0xc1, 4, HOST_T2); /* shl r11, 16 */
    ASM(a, 16);
    asm_rr(a, 8, 0xc1, 7, HOST_T2); /* sar r11, 16 */
    ASM(a, 16);
    asm_rr(a, 8, 0x39, HOST_T1, HOST_T2);
    t->has_failed |= !ops;
    t->slow[t->slow_count++] = (struct slow){.from = asm_jump(a, CC_NOT_EQUAL), .ops = ops};
}

/* --- the instructions --- */

static bool lower_jcc(struct translation *t, const struct insn *insn)
{
    uint8_t *taken;

    emit_flags_restore(t);
    taken = asm_jump(t->a, (uint8_t)(0x80 | (insn->cond & 15)));
    emit_follow(t, 1);
    asm_land(t->a, taken, t->a->at);
    emit_follow(t, 0);
    return true;
}

/* Store the return address; T1 is free afterwards. */
static void push_return(struct translation *t)
{
    emit_access_at(t, HOST_R15, -8, TLB_WRITE, 8, false);
    asm_mov_imm(t->a, HOST_T2, t->next_rip);
    emit_mem(t, 8, 0x89, HOST_T2);
    asm_rm(t->a, 8, 0x8d, HOST_R15, HOST_R15, -8);
}

static bool lower_ret(struct translation *t, const struct insn *insn)
{
    int32_t drop = insn->operand_count ? (uint16_t)insn->imm : 0;

    if (insn->opsize != 8) {
        return false;
    }
    emit_access_at(t, HOST_R15, 0, TLB_READ, 8, true);
    emit_mem(t, 8, 0x8b, HOST_T1);
    slow_unless_canonical(t);
    asm_rm(t->a, 8, 0x8d, HOST_R15, HOST_R15, 8 + drop);
    emit_lookup(t);
    return true;
}

/* The target waits in v->ea while the return address is stored. */
static bool lower_indirect(struct translation *t, const struct insn *insn)
{
    const struct insn_operand *o = &insn->operand[0];

    if (insn->opsize != 8 || (o->kind == INSN_MEM && !emit_can_address(insn))) {
        return false;
    }
    if (o->kind == INSN_MEM) {
        emit_access(t, insn, TLB_READ, 8, true);
        emit_mem(t, 8, 0x8b, HOST_T1);
    } else {
        asm_mov(t->a, HOST_T1, emit_use(t, o->reg, HOST_T1));
    }
    slow_unless_canonical(t);
    if (insn->op == INSN_CALL_IND) {
        asm_store(t->a, HOST_T1, HOST_VCPU, OP_EA);
        push_return(t);
        asm_load(t->a, HOST_T1, HOST_VCPU, OP_EA);
    }
    emit_lookup(t);
    return true;
}

/* Flags are always in memory between blocks; saving them leaves EFLAGS as they are. */
bool emit_lower_branch(struct translation *t, const struct insn *insn)
{
    switch (insn->op) {
    case INSN_JMP:
    case INSN_JCC:
    case INSN_CALL:
    case INSN_RET:
    case INSN_JMP_IND:
    case INSN_CALL_IND: break;
    default: return false;
    }
    t->is_end = true;
    emit_flags_save(t);
    switch (insn->op) {
    case INSN_JCC: return lower_jcc(t, insn);
    case INSN_RET: return lower_ret(t, insn);
    case INSN_JMP_IND:
    case INSN_CALL_IND: return lower_indirect(t, insn);
    case INSN_CALL: push_return(t); break;
    default: break;
    }
    emit_follow(t, 0);
    return true;
}
