/* op_branch.c — jumps, calls, returns, loops: how one block leads to the next.
 *
 * A direct branch is followed by its links in memory: [0] taken, [1] not taken.  Variants _near
 * stay within the block's page, whose translation is that of the block itself; _far must be looked
 * up again after any change of translations. */
#include "hv/soft/ref/lower_int.h"
#include "hv/soft/ref/op_link.h"
#include "hv/soft/ref/op_mem.h"

#define RSP (GPR_RSP * 8)

/* --- direct --- */

OP_HANDLER(jmp_near)
{
    FOLLOW(v, links_of(op), v->code_gen);
}

OP_HANDLER(jmp_far)
{
    FOLLOW(v, links_of(op), v->map_gen);
}

#define JCC(cc)                                   \
    OP_HANDLER(jcc_near_##cc)                     \
    {                                             \
        if (COND_##cc(v->aflags)) {               \
            FOLLOW(v, links_of(op), v->code_gen); \
        }                                         \
        FOLLOW(v, links_of(op) + 1, v->code_gen); \
    }                                             \
    OP_HANDLER(jcc_far_##cc)                      \
    {                                             \
        if (COND_##cc(v->aflags)) {               \
            FOLLOW(v, links_of(op), v->map_gen);  \
        }                                         \
        FOLLOW(v, links_of(op) + 1, v->map_gen);  \
    }
COND_ALL(JCC)

#define NEAR_ENTRY(cc) jcc_near_##cc,
#define FAR_ENTRY(cc)  jcc_far_##cc,
static const op_fn jcc_table[2][16] = {{COND_ALL(NEAR_ENTRY)}, {COND_ALL(FAR_ENTRY)}};

/* imm = address bytes, disp = operation.  The count is written unless an address fault follows,
 * which a direct branch has none of. */
OP_HANDLER(loop_any)
{
    uint64_t count = v->gpr[GPR_RCX];
    uint64_t mask = op->imm == 8 ? UINT64_MAX : op->imm == 4 ? UINT32_MAX : UINT16_MAX;
    bool zf = v->aflags & AF_ZF, is_taken;

    if (op->disp == INSN_JRCXZ) {
        is_taken = (count & mask) == 0;
    } else {
        count = op->imm == 2 ? (count & ~mask) | ((count - 1) & mask) : (count - 1) & mask;
        v->gpr[GPR_RCX] = count;
        is_taken = (count & mask) != 0 && (op->disp == INSN_LOOP || zf == (op->disp == INSN_LOOPE));
    }
    FOLLOW(v, links_of(op) + !is_taken, v->map_gen);
}

/* --- calls; imm = return address --- */

OP_COLD OP_HANDLER(call_slow)
{
    op_store_slow(v, op, R64(v, RSP) - 8, op->imm, 8);
    R64(v, RSP) -= 8;
    v->rip = links_of(op)->rip;
    v->link = NULL;
    return NULL;
}

#define CALL(name, gen)                         \
    OP_HANDLER(name)                            \
    {                                           \
        uint64_t la = R64(v, RSP) - 8;          \
        void *p = mmu_hit(v, TLB_WRITE, la, 8); \
        if (UNLIKELY(!p)) {                     \
            OP_TAIL return call_slow(v, op);    \
        }                                       \
        memcpy(p, &op->imm, 8);                 \
        R64(v, RSP) = la;                       \
        FOLLOW(v, links_of(op), v->gen);        \
    }
CALL(call_near, code_gen)
CALL(call_far, map_gen)

/* Outside 64-bit mode; disp = size of the slot. */
OP_HANDLER(call_any)
{
    op_sync(v, op);
    ref_push(v, op->imm, (unsigned)op->disp);
    v->rip = links_of(op)->rip;
    v->link = v->code_hit ? NULL : links_of(op);
    return NULL;
}

/* --- indirect, 64-bit mode --- */

OP_COLD OP_HANDLER(raise_target)
{
    op_sync(v, op);
    vcpu_raise_error(v, EXC_GP, 0);
}

OP_COLD OP_HANDLER(ret_slow)
{
    uint64_t x = op_load_slow(v, op, R64(v, RSP), 8);

    if (!op_is_canonical(x)) {
        raise_target(v, op);
    }
    R64(v, RSP) += 8 + op->imm;
    v->rip = x;
    v->link = NULL;
    return NULL;
}

OP_HANDLER(ret)
{
    uint64_t la = R64(v, RSP), x;
    const void *p = mmu_hit(v, TLB_READ, la, 8);

    if (UNLIKELY(!p)) {
        OP_TAIL return ret_slow(v, op);
    }
    memcpy(&x, p, 8);
    if (UNLIKELY(!op_is_canonical(x))) {
        OP_TAIL return raise_target(v, op);
    }
    R64(v, RSP) = la + 8 + op->imm;
    JUMP_TO(v, x);
}

OP_HANDLER(jmp_reg)
{
    uint64_t x = R64(v, op->src);

    if (UNLIKELY(!op_is_canonical(x))) {
        OP_TAIL return raise_target(v, op);
    }
    JUMP_TO(v, x);
}

/* The target is in v->ea: behind a load, or a register. */
OP_COLD OP_HANDLER(call_ea_slow)
{
    op_store_slow(v, op, R64(v, RSP) - 8, op->imm, 8);
    R64(v, RSP) -= 8;
    v->rip = v->ea;
    v->link = NULL;
    return NULL;
}

/* The target is read before rsp changes, should it be rsp itself. */
OP_HANDLER(call_reg)
{
    uint64_t la = R64(v, RSP) - 8, x = R64(v, op->src);
    void *p = mmu_hit(v, TLB_WRITE, la, 8);

    if (UNLIKELY(!op_is_canonical(x))) {
        OP_TAIL return raise_target(v, op);
    }
    if (UNLIKELY(!p || op->src == RSP)) {
        v->ea = x;
        OP_TAIL return call_ea_slow(v, op);
    }
    memcpy(p, &op->imm, 8);
    R64(v, RSP) = la;
    JUMP_TO(v, x);
}

OP_LOAD(load_ea, 64, op_la_base, v->ea = x)

/* --- indirect, other modes --- */

static uint64_t target_mask(const struct insn *insn)
{
    return insn->opsize == 2 ? UINT16_MAX : UINT32_MAX;
}

static enum ref_result ret_any(struct vcpu *v, const struct insn *insn)
{
    uint64_t rsp = v->gpr[GPR_RSP];
    uint64_t target = ref_pop(v, insn->opsize) & target_mask(insn);

    if (target > v->seg[SEG_CS].limit) {
        v->gpr[GPR_RSP] = rsp;
        vcpu_raise_error(v, EXC_GP, 0);
    }
    if (insn->operand_count) {
        bool is_wide = v->seg[SEG_SS].attr & SEG_ATTR_DB;
        uint64_t sp = v->gpr[GPR_RSP] + (uint16_t)insn->imm;

        v->gpr[GPR_RSP] =
            is_wide ? (uint32_t)sp : (v->gpr[GPR_RSP] & ~UINT64_C(0xffff)) | (uint16_t)sp;
    }
    v->rip = target;
    return REF_JUMP;
}

static enum ref_result jump_any(struct vcpu *v, const struct insn *insn)
{
    uint64_t target = ref_operand_read(v, insn, 0) & target_mask(insn);

    if (target > v->seg[SEG_CS].limit) {
        vcpu_raise_error(v, EXC_GP, 0);
    }
    if (insn->op == INSN_CALL_IND) {
        ref_push(v, (v->rip + insn->len) & target_mask(insn), insn->opsize);
    }
    v->rip = target;
    return REF_JUMP;
}

/* --- picking --- */

static bool is_near(const struct lower *lw, uint64_t rip)
{
    return rip >= lw->page_first && rip <= lw->page_last;
}

static uint64_t branch_target(const struct lower *lw, const struct insn *insn)
{
    uint64_t target = lw->next_rip + (uint64_t)insn->imm;

    if (lw->v->mode == MODE_LONG64) {
        return target;
    }
    return insn->opsize == 2 ? (uint16_t)target : (uint32_t)target;
}

/* Two op slots hold two links. */
static void emit_links(struct lower *lw, uint64_t taken, uint64_t not_taken, bool near)
{
    struct block_link *link = (struct block_link *)(void *)&lw->op[lw->count];

    _Static_assert(2 * sizeof(*link) <= 2 * sizeof(struct op), "links fit");
    lw->count += 2;
    link[0] = (struct block_link){.rip = taken, .is_near = near};
    link[1] = (struct block_link){.rip = not_taken, .is_near = near};
    lw->is_end = true;
    lw->is_closed = true;
    lw->has_links = true;
}

void ref_lower_end(struct lower *lw)
{
    bool near = is_near(lw, lw->next_rip);

    lw->rip = lw->next_rip;
    lower_emit(lw, near ? jmp_near : jmp_far);
    emit_links(lw, lw->next_rip, 0, near);
}

static void lower_direct(struct lower *lw, const struct insn *insn)
{
    uint64_t target = branch_target(lw, insn);
    bool is_far = !is_near(lw, target) || !is_near(lw, lw->next_rip);
    bool is_direct = insn->op == INSN_JMP || insn->op == INSN_JCC || insn->op == INSN_CALL;
    struct op *op;

    switch (insn->op) {
    case INSN_JMP: lower_emit(lw, is_far ? jmp_far : jmp_near); break;
    case INSN_JCC:
        if (is_far || !lower_fuse(lw, insn->cond & 15)) {
            lower_emit(lw, jcc_table[is_far][insn->cond & 15]);
        }
        break;
    case INSN_CALL:
        op = lower_emit(lw, lw->v->mode != MODE_LONG64 ? call_any : is_far ? call_far : call_near);
        op->imm = lw->next_rip;
        op->disp = insn->opsize;
        op->shape = OP_STACK_SEG;
        break;
    default:
        op = lower_emit(lw, loop_any);
        op->imm = insn->addrsize;
        op->disp = insn->op;
        break;
    }
    emit_links(lw, target, lw->next_rip, !is_far && is_direct);
}

static void lower_indirect(struct lower *lw, const struct insn *insn)
{
    bool is_call = insn->op == INSN_CALL_IND;
    uint8_t src = lower_reg(&insn->operand[0]);
    struct op *op;

    if (insn->operand[0].kind == INSN_MEM) {
        struct lower_ea ea = lower_mem(lw, insn, 8, true);

        lower_set_ea(lower_emit(lw, load_ea), &ea);
        src = OP_EA;
    }
    op = lower_emit(lw, is_call ? call_reg : jmp_reg);
    op->src = src;
    op->imm = lw->next_rip;
    op->shape = OP_STACK_SEG;
    lw->is_end = true;
    lw->is_closed = true;
}

static void lower_ret(struct lower *lw, const struct insn *insn)
{
    struct op *op = lower_emit(lw, ret);

    op->imm = insn->operand_count ? (uint16_t)insn->imm : 0;
    op->shape = OP_STACK_SEG;
    lw->is_end = true;
    lw->is_closed = true;
}

bool lower_branch(struct lower *lw, const struct insn *insn)
{
    bool is_long = lw->v->mode == MODE_LONG64;

    switch (insn->op) {
    case INSN_JMP:
    case INSN_JCC:
    case INSN_CALL:
    case INSN_LOOP:
    case INSN_LOOPE:
    case INSN_LOOPNE:
    case INSN_JRCXZ: lower_direct(lw, insn); return true;
    case INSN_JMP_IND:
    case INSN_CALL_IND:
    case INSN_RET: break;
    default: return false;
    }
    if (is_long && insn->op == INSN_RET) {
        lower_ret(lw, insn);
    } else if (is_long) {
        lower_indirect(lw, insn);
    } else {
        lower_call(lw, insn, insn->op == INSN_RET ? ret_any : jump_any);
        lw->is_end = true;
    }
    return true;
}
