/* lower.c — from decoded instructions to ops: addresses, calls of C functions, the pick. */
#include "hv/soft/ref/lower.h"

#include "hv/soft/ref/lower_int.h"

struct op *lower_emit(struct lower *lw, op_fn fn)
{
    struct op *op = &lw->op[lw->count++];

    memset(op, 0, sizeof(*op));
    op->fn = fn;
    op->base = OP_ZERO;
    op->index = OP_ZERO;
    op->seg = OP_ZERO / 8;
    op->pc = (uint8_t)(lw->rip - lw->block_rip);
    op->len = (uint8_t)(lw->next_rip - lw->rip);
    return op;
}

const struct insn *lower_keep(struct lower *lw, const struct insn *insn)
{
    struct insn *copy = lw->alloc(lw->alloc_owner, sizeof(*copy));

    if (!copy) {
        lw->is_out_of_memory = true;
        return NULL;
    }
    *copy = *insn;
    return copy;
}

uint8_t lower_reg(const struct insn_operand *operand)
{
    return (uint8_t)((operand->reg & 15u) * 8u + operand->is_high8);
}

/* --- addresses --- */

_Static_assert(offsetof(struct vcpu, gpr) == 0 && OP_EA <= UINT8_MAX, "offsets fit");
_Static_assert(offsetof(struct vcpu, seg[SEG_GS].base) / 8 <= UINT8_MAX, "offsets fit");
_Static_assert(offsetof(struct vcpu, seg[SEG_GS].base) % 8 == 0, "offsets are scaled");

OP_HANDLER(ea_full)
{
    v->ea = op_la_full(v, op);
    OP_NEXT(v, op);
}

/* Any mode: imm = insn, disp = bytes << 1 | is_write. */
OP_HANDLER(ea_any)
{
    const struct insn *insn = (const struct insn *)(uintptr_t)op->imm;

    op_sync(v, op);
    v->ea = ref_ea(v, insn, (unsigned)(op->disp >> 1), op->disp & 1);
    return op + 1;
}

static uint8_t address_reg(uint8_t reg)
{
    return reg >= GPR_COUNT ? OP_ZERO : (uint8_t)(reg * 8u);
}

static struct lower_ea long_ea(const struct lower *lw, const struct insn *insn)
{
    bool has_base = insn->seg == SEG_FS || insn->seg == SEG_GS;
    size_t seg = has_base ? offsetof(struct vcpu, seg) + insn->seg * sizeof(struct cpu_segment) +
                                offsetof(struct cpu_segment, base)
                          : OP_ZERO;

    return (struct lower_ea){
        .is_full = has_base || insn->index < GPR_COUNT,
        .disp = insn->disp + (insn->base == INSN_REG_RIP ? (int64_t)lw->next_rip : 0),
        .base = address_reg(insn->base),
        .index = address_reg(insn->index),
        .seg = (uint8_t)(seg / 8),
        .shape = (uint8_t)((insn->scale ? lower_log2(insn->scale) : 0) |
                           (insn->seg == SEG_SS ? OP_STACK_SEG : 0)),
    };
}

static const struct lower_ea ea_ready = {.base = OP_EA, .index = OP_ZERO, .seg = OP_ZERO / 8};

struct lower_ea lower_mem(struct lower *lw, const struct insn *insn, unsigned len, bool only_base)
{
    struct lower_ea ea;
    struct op *op;

    if (lw->v->mode != MODE_LONG64 || insn->addrsize != 8) {
        op = lower_emit(lw, ea_any);
        op->imm = (uintptr_t)lower_keep(lw, insn);
        op->disp = (int64_t)(len << 1 | (insn->mem_access & INSN_MEM_WRITE ? 1 : 0));
        return ea_ready;
    }
    ea = long_ea(lw, insn);
    if (ea.is_full && only_base) {
        lower_set_ea(lower_emit(lw, ea_full), &ea);
        ea = (struct lower_ea){
            .base = OP_EA, .index = OP_ZERO, .seg = OP_ZERO / 8, .shape = ea.shape & OP_STACK_SEG};
    }
    return ea;
}

void lower_set_ea(struct op *op, const struct lower_ea *ea)
{
    op->disp = ea->disp;
    op->base = ea->base;
    op->index = ea->index;
    op->seg = ea->seg;
    op->shape = ea->shape;
}

/* --- instructions as C functions --- */

/* imm = insn, disp = the function. */
static const struct op *call_insn(struct vcpu *v, const struct op *op)
{
    ref_insn_fn fn = (ref_insn_fn)(uintptr_t)op->disp;
    uint64_t gen = v->map_gen;

    op_sync(v, op);
    switch (fn(v, (const struct insn *)(uintptr_t)op->imm)) {
    case REF_JUMP: return NULL;
    case REF_NEXT:
        if (LIKELY(gen == v->map_gen && !(v->code_hit | v->shadow | v->halted))) {
            return op + 1;
        }
        break;
    case REF_END: break;
    }
    v->rip = op_next_rip(v, op);
    return NULL;
}

void lower_call(struct lower *lw, const struct insn *insn, ref_insn_fn fn)
{
    struct op *op = lower_emit(lw, call_insn);

    op->imm = (uintptr_t)lower_keep(lw, insn);
    op->disp = (int64_t)(uintptr_t)fn;
}

/* --- the pick --- */

/* imm = vector. */
OP_HANDLER(raise_fault)
{
    op_sync(v, op);
    if (op->imm == EXC_GP) {
        vcpu_raise_error(v, EXC_GP, 0);
    }
    vcpu_raise(v, (enum exc_vector)op->imm);
}

void ref_lower_fault(struct lower *lw, enum exc_vector vector)
{
    lw->next_rip = lw->rip;
    lower_emit(lw, raise_fault)->imm = vector;
    lw->is_end = true;
    lw->is_closed = true;
}

bool ref_is_fault(op_fn fn)
{
    return fn == raise_fault;
}

/* Does it surely leave the block?  What only may (MOV CR3, STI) says so when it runs. */
static bool system_ends(const struct insn *insn)
{
    switch (insn->op) {
    case INSN_RETF:
    case INSN_JMP_FAR:
    case INSN_CALL_FAR:
    case INSN_IRET:
    case INSN_INT:
    case INSN_INT3:
    case INSN_INT1:
    case INSN_SYSCALL:
    case INSN_SYSRET:
    case INSN_SYSENTER:
    case INSN_SYSEXIT:
    case INSN_HLT: return true;
    default: return false;
    }
}

static void lower_int(struct lower *lw, const struct insn *insn)
{
    if (insn->has_lock) {
        if (!lower_atomic(lw, insn)) {
            ref_lower_fault(lw, EXC_UD);
        }
        return;
    }
    if (lower_alu(lw, insn) || lower_mov(lw, insn) || lower_branch(lw, insn) ||
        lower_stack(lw, insn) || lower_shift(lw, insn) || lower_bits(lw, insn) ||
        lower_bmi(lw, insn) || lower_muldiv(lw, insn) || lower_atomic(lw, insn) ||
        lower_rare(lw, insn)) {
        return;
    }
    ref_lower_fault(lw, EXC_UD);
}

void ref_lower(struct lower *lw, const struct insn *insn)
{
    lw->next_rip = lw->rip + insn->len;
    if (lw->v->mode != MODE_LONG64) {
        lw->next_rip = (uint32_t)lw->next_rip;
    }
    switch ((enum insn_class)insn->klass) {
    case INSN_CLASS_INT: lower_int(lw, insn); break;
    case INSN_CLASS_STRING:
        if (!lower_string(lw, insn)) {
            ref_lower_fault(lw, EXC_UD);
        }
        break;
    case INSN_CLASS_SYSTEM:
        lower_call(lw, insn, ref_system);
        lw->is_end |= system_ends(insn);
        break;
    case INSN_CLASS_FPSTATE: lower_call(lw, insn, ref_fpstate); break;
    case INSN_CLASS_AVX: lower_avx(lw, insn); break;
    case INSN_CLASS_SIMD:
    case INSN_CLASS_X87:
        if (!lower_native(lw, insn)) {
            ref_lower_fault(lw, EXC_UD);
        }
        break;
    }
}
