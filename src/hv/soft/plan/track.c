/* track.c — roots of registers, addresses in terms of them. */
#include "hv/soft/plan/track.h"

#define OFFSET_MAX (INT64_C(1) << 30)

/* --- registers --- */

static void forget(struct track *k, unsigned reg)
{
    if (reg < GPR_COUNT) {
        k->reg[reg] = (struct track_value){.root = ++k->last_root};
    }
}

static void forget_all(struct track *k)
{
    for (unsigned i = 0; i < GPR_COUNT; i++) {
        forget(k, i);
    }
}

void track_init(struct track *k)
{
    k->last_root = TRACK_NO_ROOT;
    forget_all(k);
}

/* Offsets stay small, so that sums of a few cannot overflow. */
static void set(struct track *k, unsigned reg, struct track_value value, int64_t add)
{
    if (add < -OFFSET_MAX || add > OFFSET_MAX || value.offset + add < -OFFSET_MAX ||
        value.offset + add > OFFSET_MAX) {
        forget(k, reg);
        return;
    }
    k->reg[reg] = (struct track_value){.root = value.root, .offset = value.offset + add};
}

static void move(struct track *k, unsigned reg, int64_t add)
{
    set(k, reg, k->reg[reg], add);
}

static bool is_whole(const struct insn_operand *o)
{
    return o->kind == INSN_GPR && o->size == 8 && o->reg < GPR_COUNT;
}

/* Operands that are registers, up to `count` of them. */
static void forget_operands(struct track *k, const struct insn *insn, unsigned count)
{
    for (unsigned i = 0; i < count && i < insn->operand_count; i++) {
        if (insn->operand[i].kind == INSN_GPR) {
            forget(k, insn->operand[i].reg);
        }
    }
}

static void step_lea(struct track *k, const struct insn *insn)
{
    const struct insn_operand *d = &insn->operand[0];

    if (is_whole(d) && insn->addrsize == 8 && insn->base < GPR_COUNT && insn->index >= GPR_COUNT) {
        set(k, d->reg, k->reg[insn->base], insn->disp);
    } else {
        forget(k, d->reg);
    }
}

/* MOV, ADD and SUB, INC and DEC of whole registers by something known. */
static void step_sum(struct track *k, const struct insn *insn)
{
    const struct insn_operand *d = &insn->operand[0], *s = &insn->operand[1];

    if (!is_whole(d)) {
        forget_operands(k, insn, 1);
    } else if (insn->op == INSN_MOV && is_whole(s)) {
        k->reg[d->reg] = k->reg[s->reg];
    } else if ((insn->op == INSN_ADD || insn->op == INSN_SUB) && s->kind == INSN_IMM &&
               insn->imm == (int32_t)insn->imm) {
        move(k, d->reg, insn->op == INSN_ADD ? insn->imm : -insn->imm);
    } else if (insn->op == INSN_INC || insn->op == INSN_DEC) {
        move(k, d->reg, insn->op == INSN_INC ? 1 : -1);
    } else {
        forget(k, d->reg);
    }
}

static void step_stack(struct track *k, const struct insn *insn)
{
    int64_t slot = insn->opsize;

    switch (insn->op) {
    case INSN_PUSH:
    case INSN_CALL:
    case INSN_CALL_IND: move(k, GPR_RSP, -slot); break;
    case INSN_POP:
        move(k, GPR_RSP, slot);
        forget_operands(k, insn, 1);
        break;
    case INSN_RET: move(k, GPR_RSP, slot + (insn->operand_count ? (uint16_t)insn->imm : 0)); break;
    default: /* LEAVE */
        if (slot == 8) {
            set(k, GPR_RSP, k->reg[GPR_RBP], slot);
        } else {
            forget(k, GPR_RSP);
        }
        forget(k, GPR_RBP);
        break;
    }
}

/* Instructions of class INT that change no general register. */
static bool writes_none(const struct insn *insn)
{
    switch (insn->op) {
    case INSN_CMP:
    case INSN_TEST:
    case INSN_BT:
    case INSN_JMP:
    case INSN_JCC:
    case INSN_JMP_IND:
    case INSN_NOP:
    case INSN_PAUSE:
    case INSN_LFENCE:
    case INSN_MFENCE:
    case INSN_SFENCE:
    case INSN_PREFETCH:
    case INSN_CLC:
    case INSN_STC:
    case INSN_CMC:
    case INSN_SAHF: return true;
    default: return false;
    }
}

/* Of the others, those that change their first operand only. */
static bool writes_first(const struct insn *insn)
{
    switch (insn->op) {
    case INSN_OR:
    case INSN_ADC:
    case INSN_SBB:
    case INSN_AND:
    case INSN_XOR:
    case INSN_NEG:
    case INSN_NOT:
    case INSN_ROL:
    case INSN_ROR:
    case INSN_RCL:
    case INSN_RCR:
    case INSN_SHL:
    case INSN_SHR:
    case INSN_SAR:
    case INSN_SHLD:
    case INSN_SHRD:
    case INSN_BTS:
    case INSN_BTR:
    case INSN_BTC:
    case INSN_BSF:
    case INSN_BSR:
    case INSN_TZCNT:
    case INSN_LZCNT:
    case INSN_POPCNT:
    case INSN_BSWAP:
    case INSN_MOVZX:
    case INSN_MOVSX:
    case INSN_MOVSXD:
    case INSN_MOVBE:
    case INSN_MOVNTI:
    case INSN_SETCC:
    case INSN_CMOVCC:
    case INSN_CRC32: return true;
    default: return false;
    }
}

static void step_muldiv(struct track *k, const struct insn *insn)
{
    if (insn->operand_count > 1) {
        forget_operands(k, insn, 1);
        return;
    }
    forget(k, GPR_RAX);
    forget(k, GPR_RDX);
}

static void step_int(struct track *k, const struct insn *insn)
{
    if (writes_none(insn)) {
        return;
    }
    if (writes_first(insn)) {
        forget_operands(k, insn, 1);
        return;
    }
    switch (insn->op) {
    case INSN_MOV:
    case INSN_ADD:
    case INSN_SUB:
    case INSN_INC:
    case INSN_DEC: step_sum(k, insn); break;
    case INSN_LEA: step_lea(k, insn); break;
    case INSN_PUSH:
    case INSN_POP:
    case INSN_CALL:
    case INSN_CALL_IND:
    case INSN_RET:
    case INSN_LEAVE: step_stack(k, insn); break;
    case INSN_XCHG:
    case INSN_XADD: forget_operands(k, insn, 2); break;
    case INSN_CMPXCHG:
        forget_operands(k, insn, 1);
        forget(k, GPR_RAX);
        break;
    case INSN_MUL:
    case INSN_IMUL:
    case INSN_DIV:
    case INSN_IDIV: step_muldiv(k, insn); break;
    case INSN_CBW:
    case INSN_LAHF: forget(k, GPR_RAX); break;
    case INSN_CWD: forget(k, GPR_RDX); break;
    default: forget_all(k); break;
    }
}

void track_step(struct track *k, const struct insn *insn)
{
    switch ((enum insn_class)insn->klass) {
    case INSN_CLASS_INT: step_int(k, insn); break;
    case INSN_CLASS_SIMD:
    case INSN_CLASS_AVX: /* some write registers, or rCX */
        forget_operands(k, insn, INSN_OPERAND_MAX);
        forget(k, GPR_RCX);
        break;
    case INSN_CLASS_STRING:
        forget(k, GPR_RAX);
        forget(k, GPR_RCX);
        forget(k, GPR_RSI);
        forget(k, GPR_RDI);
        break;
    case INSN_CLASS_X87: forget(k, GPR_RAX); break;
    case INSN_CLASS_SYSTEM:
    case INSN_CLASS_FPSTATE: forget_all(k); break;
    }
}

bool track_is_barrier(const struct insn *insn)
{
    return insn->klass == INSN_CLASS_SYSTEM || insn->klass == INSN_CLASS_FPSTATE;
}

/* --- addresses --- */

struct track_address track_register(const struct track *k, unsigned reg, int64_t disp)
{
    return (struct track_address){
        .scale = 1, .base = k->reg[reg].root, .offset = k->reg[reg].offset + disp};
}

bool track_operand(const struct track *k, const struct insn *insn, struct track_address *ret_at)
{
    struct track_address at;

    if (insn->addrsize != 8 || insn->base >= GPR_COUNT || insn->disp < -OFFSET_MAX ||
        insn->disp > OFFSET_MAX) {
        return false; /* constants have cheaper checks */
    }
    at = track_register(k, insn->base, insn->disp);
    if (insn->seg == SEG_FS || insn->seg == SEG_GS) {
        at.seg = insn->seg;
    }
    if (insn->index < GPR_COUNT) {
        at.scale = insn->scale;
        at.index = k->reg[insn->index].root;
        at.offset += k->reg[insn->index].offset * insn->scale;
    }
    *ret_at = at;
    return true;
}

static unsigned operand_bytes(const struct insn *insn)
{
    for (unsigned i = 0; i < insn->operand_count; i++) {
        if (insn->operand[i].kind == INSN_MEM) {
            return insn->operand[i].size;
        }
    }
    return 0;
}

static bool add_stack(const struct track *k, const struct insn *insn, struct track_access *out)
{
    bool is_push = insn->op == INSN_PUSH || insn->op == INSN_CALL || insn->op == INSN_CALL_IND;

    if (insn->klass != INSN_CLASS_INT || insn->opsize != 8 ||
        (!is_push && insn->op != INSN_POP && insn->op != INSN_RET && insn->op != INSN_LEAVE)) {
        return false;
    }
    *out = (struct track_access){
        .at = track_register(k, insn->op == INSN_LEAVE ? GPR_RBP : GPR_RSP, is_push ? -8 : 0),
        .len = 8,
        .is_write = is_push};
    return true;
}

unsigned track_accesses(const struct track *k, const struct insn *insn,
                        struct track_access out[static TRACK_ACCESS_MAX])
{
    unsigned count = 0, len = operand_bytes(insn);

    if ((insn->klass == INSN_CLASS_INT || insn->klass == INSN_CLASS_SIMD ||
         insn->klass == INSN_CLASS_AVX) &&
        insn->mem_access && len > 0 && len <= 64 && track_operand(k, insn, &out[0].at)) {
        out[0].len = (uint8_t)len;
        out[0].is_write = insn->mem_access & INSN_MEM_WRITE;
        count++;
    }
    return count + add_stack(k, insn, &out[count]);
}
