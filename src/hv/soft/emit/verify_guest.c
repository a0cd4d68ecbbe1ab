/* verify_guest.c — what an instruction of the guest, run by the interpreter in the midst of emitted
 * code, does to the registers there.
 *
 * Written without plan/, whose findings it checks: what the verifier takes for the same register is
 * so by this file. */
#include "hv/soft/emit/verify_int.h"

/* rSP moves. */
static void move_stack(struct verify_state *s, int32_t by, uint32_t at)
{
    struct verify_name name = s->reg[HOST_R15];

    if (__builtin_add_overflow(name.offset, by, &name.offset)) {
        verify_forget(s, HOST_R15, at);
    } else {
        s->reg[HOST_R15] = name;
    }
}

static void forget(struct verify_state *s, uint32_t at, unsigned guest)
{
    unsigned host = emit_host_reg(guest & 15);

    if (host != HOST_NONE) {
        verify_forget(s, host, at);
    }
}

static void forget_all(struct verify_state *s, uint32_t at)
{
    for (unsigned g = 0; g < GPR_COUNT; g++) {
        forget(s, at, g);
    }
}

/* Results are the first operand, and the second of a few. */
static void forget_operands(const struct insn *insn, uint32_t at, struct verify_state *s)
{
    bool has_two = insn->op == INSN_XCHG || insn->op == INSN_XADD || insn->op == INSN_MULX;

    for (unsigned i = 0; i < (has_two ? 2u : 1u) && i < insn->operand_count; i++) {
        if (insn->operand[i].kind == INSN_GPR) {
            forget(s, at, insn->operand[i].reg);
        }
    }
}

static bool only_reads(const struct insn *insn)
{
    return insn->op == INSN_CMP || insn->op == INSN_TEST || insn->op == INSN_BT ||
           insn->op == INSN_NOP;
}

static void step_int(const struct insn *insn, uint32_t at, struct verify_state *s)
{
    switch (insn->op) {
    case INSN_PUSH: move_stack(s, -(int32_t)insn->opsize, at); return;
    case INSN_POP:
        move_stack(s, insn->opsize, at);
        if (insn->operand[0].kind == INSN_GPR) {
            forget(s, at, insn->operand[0].reg);
        }
        return;
    case INSN_LEAVE:
        s->reg[HOST_R15] = s->reg[HOST_RBP];
        move_stack(s, insn->opsize, at);
        forget(s, at, GPR_RBP);
        return;
    case INSN_ENTER:
    case INSN_PUSHA:
    case INSN_POPA: forget_all(s, at); return;
    default: break;
    }
    if (!only_reads(insn)) {
        forget(s, at, GPR_RAX);
        forget(s, at, GPR_RCX);
        forget(s, at, GPR_RDX);
        if (!verify_writes_pair(insn)) {
            forget_operands(insn, at, s);
        }
    }
}

static void step_system(const struct insn *insn, uint32_t at, struct verify_state *s)
{
    switch (insn->op) {
    case INSN_CLI:
    case INSN_STI:
    case INSN_SWAPGS:
    case INSN_CLTS:
    case INSN_INVLPG:
    case INSN_STAC:
    case INSN_CLAC:
    case INSN_WRMSR: return;
    case INSN_PUSHF: move_stack(s, -(int32_t)insn->opsize, at); return;
    case INSN_POPF: move_stack(s, insn->opsize, at); return;
    case INSN_MOV_FROM_CR:
    case INSN_MOV_TO_CR:
    case INSN_RDFSBASE:
    case INSN_RDGSBASE:
    case INSN_WRFSBASE:
    case INSN_WRGSBASE: forget_operands(insn, at, s); return;
    case INSN_RDTSC:
    case INSN_RDTSCP:
    case INSN_RDMSR:
    case INSN_RDPMC:
    case INSN_XGETBV:
        forget(s, at, GPR_RAX);
        forget(s, at, GPR_RCX);
        forget(s, at, GPR_RDX);
        return;
    default: forget_all(s, at); return;
    }
}

void verify_guest_step(const struct insn *insn, uint32_t at, struct verify_state *s)
{
    switch ((enum insn_class)insn->klass) {
    case INSN_CLASS_INT: step_int(insn, at, s); break;
    case INSN_CLASS_SYSTEM: step_system(insn, at, s); break;
    case INSN_CLASS_STRING:
        forget(s, at, GPR_RAX);
        forget(s, at, GPR_RCX);
        forget(s, at, GPR_RSI);
        forget(s, at, GPR_RDI);
        break;
    case INSN_CLASS_SIMD:
    case INSN_CLASS_AVX:
    case INSN_CLASS_X87:
    case INSN_CLASS_FPSTATE:
        forget(s, at, GPR_RAX);
        forget(s, at, GPR_RCX);
        forget_operands(insn, at, s);
        break;
    }
}

void verify_guest_unknown(uint32_t at, struct verify_state *s)
{
    forget_all(s, at);
}
