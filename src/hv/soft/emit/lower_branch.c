/* lower_branch.c — the ends of blocks: jumps, calls, returns.
 *
 * All that can miss or fault comes before the first change, and a miss at the end of a block leaves
 * to the interpreter, which runs the whole instruction.
 *
 * Targets of RET and JMP are not tested for being canonical: no block has an address that is not,
 * so these miss the table, and the branch is undone then (emit_undo_branch).  What is needed for
 * that waits in cold memory; the branch notes where. */
#include "hv/soft/emit/emit_int.h"

#define CC_NOT_EQUAL 0x85
#define JMP          0xe9
#define CALL         0xe8

bool emit_is_branch(const struct insn *insn)
{
    return insn->op >= INSN_JMP && insn->op <= INSN_JRCXZ;
}

/* --- by address: T1 --- */

struct undo {
    uint64_t rip, popped;
};

/* Offset of what is needed to undo the branch. */
static uint64_t keep_undo(struct translation *t, uint64_t popped)
{
    struct undo undo = {.rip = t->rip, .popped = popped};
    ptrdiff_t offset = t->cold->at - t->e->view.rw;

    asm_bytes(t->cold, &undo, sizeof(undo));
    return (uint64_t)offset;
}

static void note_branch(struct asm_buf *a, uint64_t undo)
{
    asm_rm(a, 4, 0xc7, 0, HOST_VCPU, offsetof(struct vcpu, branch_site));
    asm_imm(a, undo, 4);
}

void emit_undo_branch(struct vcpu *v)
{
    struct undo undo;

    memcpy(&undo, v->emit->view.rw + v->branch_site, sizeof(undo));
    v->rip = undo.rip;
    v->gpr[GPR_RSP] -= undo.popped;
}

void emit_by_table(struct asm_buf *a, enum tlb_priv priv, unsigned digit)
{
    size_t table =
        offsetof(struct vcpu, indirect) + (size_t)priv * sizeof(((struct vcpu *)NULL)->indirect[0]);

    _Static_assert(INDIRECT_SLOTS == 65536, "indexed by a word");
    asm_rr(a, 4, ASM_0F | 0xb7, HOST_T2, HOST_T1); /* movzx r11d, r10w */
    asm_rm_index(a, 4, 0xff, digit, HOST_VCPU, HOST_T2, 3, (int32_t)table);
}

/* Out of line: the interpreter runs this instruction. */
static void slow_unless_canonical(struct translation *t)
{
    struct asm_buf *a = t->a;
    const struct op *ops = emit_resume_op(t);

    emit_flags_save(t);
    t->flags = FLAGS_SAVED;
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
    emit_flags_restore(t);
    emit_exit(t, (uint8_t)(0x80 | (insn->cond & 15)), t->next_rip + (uint64_t)insn->imm);
    emit_exit(t, JMP, t->next_rip);
    return true;
}

void emit_side_exit(struct translation *t, const struct insn *insn, uint64_t stay)
{
    uint64_t target = t->next_rip + (uint64_t)insn->imm;
    bool is_live = t->is_live, is_inverted = stay == target;

    if (insn->op == INSN_JMP) {
        return;
    }
    emit_flags_restore(t);
    t->is_live = true; /* where it leads to is not looked at */
    emit_exit(t, (uint8_t)(0x80 | ((insn->cond & 15) ^ is_inverted)),
              is_inverted ? t->next_rip : target);
    t->is_live = is_live;
}

/* Store the return address, and push it for the host's pair; T1 is free afterwards. */
static void push_return(struct translation *t)
{
    bool is_short = (uint64_t)(int32_t)t->next_rip == t->next_rip;

    emit_access_at(t, HOST_R15, -8, TLB_WRITE, 8, is_short);
    if (is_short) {
        emit_mem(t, 8, 0xc7, 0);
        asm_imm(t->a, t->next_rip, 4);
        ASM(t->a, 0x68); /* push imm32 */
        asm_imm(t->a, t->next_rip, 4);
    } else {
        asm_mov_imm(t->a, HOST_T2, t->next_rip);
        emit_mem(t, 8, 0x89, HOST_T2);
        ASM(t->a, 0x41, 0x53); /* push r11 */
    }
    asm_rm(t->a, 8, 0x8d, HOST_R15, HOST_R15, -8);
}

/* Where the host comes back to: returns have flags in memory. */
static void come_back(struct translation *t)
{
    ASM(t->a, 0x48, 0x8d, 0x64, 0x24, 8); /* lea rsp, [rsp + 8] */
    t->flags = FLAGS_SAVED;
    t->is_live = true;
    emit_exit(t, JMP, t->next_rip);
}

static bool lower_ret(struct translation *t, const struct insn *insn)
{
    int32_t popped = 8 + (insn->operand_count ? (uint16_t)insn->imm : 0);
    uint64_t undo;

    if (insn->opsize != 8) {
        return false;
    }
    emit_access_at(t, HOST_R15, 0, TLB_READ, 8, true);
    emit_mem(t, 8, 0x8b, HOST_T1);
    emit_flags_save(t);
    asm_rm(t->a, 8, 0x8d, HOST_R15, HOST_R15, popped);
    asm_rm(t->a, 8, 0x3b, HOST_T1, HOST_RSP, 8); /* cmp r10, [rsp + 8] */
    undo = keep_undo(t, (uint64_t)popped);
    asm_jump_to(t->a, CC_NOT_EQUAL, t->cold->at);
    ASM(t->a, 0xc3); /* ret */
    note_branch(t->cold, undo);
    asm_jump_to(t->cold, JMP, t->e->return_miss[emit_priv_of(t->block)]);
    return true;
}

/* The target waits in v->ea while the return address is stored. */
static bool lower_indirect(struct translation *t, const struct insn *insn)
{
    const struct insn_operand *o = &insn->operand[0];
    bool is_call = insn->op == INSN_CALL_IND;

    if (insn->opsize != 8 || (o->kind == INSN_MEM && !emit_can_address(insn))) {
        return false;
    }
    if (o->kind == INSN_MEM) {
        emit_access(t, insn, TLB_READ, 8, true);
        emit_mem(t, 8, 0x8b, HOST_T1);
    } else {
        asm_mov(t->a, HOST_T1, emit_use(t, o->reg, HOST_T1));
        t->t1_group = NULL;
    }
    if (is_call) {
        slow_unless_canonical(t);
        asm_store(t->a, HOST_T1, HOST_VCPU, OP_EA);
        push_return(t);
        asm_load(t->a, HOST_T1, HOST_VCPU, OP_EA);
    } else {
        note_branch(t->a, keep_undo(t, 0));
    }
    emit_flags_save(t);
    emit_by_table(t->a, emit_priv_of(t->block), is_call ? CALL_NEAR : JMP_NEAR);
    if (is_call) {
        come_back(t);
    }
    return true;
}

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
    switch (insn->op) {
    case INSN_JCC: return lower_jcc(t, insn);
    case INSN_RET: return lower_ret(t, insn);
    case INSN_JMP_IND:
    case INSN_CALL_IND: return lower_indirect(t, insn);
    case INSN_CALL:
        push_return(t);
        emit_exit(t, CALL, t->next_rip + (uint64_t)insn->imm);
        come_back(t);
        return true;
    default: emit_exit(t, JMP, t->next_rip + (uint64_t)insn->imm); return true;
    }
}
