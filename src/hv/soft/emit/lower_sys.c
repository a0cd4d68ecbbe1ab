/* lower_sys.c — system instructions: the frequent simple ones inline, transfers without a detour.
 *
 * What is inline here is the common case of a function of ref/sys_*.c; anything unusual (privilege,
 * an interrupt that waits for IF) runs that function, by the instruction's ops.
 *
 * Transfers (SYSCALL, SYSRET, IRET, INT n, far branches) call that function directly and go on at
 * the block they lead to, if it is known and nothing is to be looked at first.
 *
 * STI in translated code leaves no shadow behind: nothing looks at poll before the next instruction
 * of the same block.  As the last instruction of a block it is the interpreter's. */
#include "hv/soft/emit/emit_int.h"
#include "hv/soft/ref/ref.h"
#include "x86/cr.h"

#define CC_EQUAL     0x84
#define CC_NOT_EQUAL 0x85

static bool is_user(const struct translation *t)
{
    return t->v->cpl == 3;
}

static bool is_last(const struct translation *t)
{
    return t->next_rip - t->block->rip >= t->block->byte_count;
}

/* What follows destroys EFLAGS, which the instruction neither reads nor writes. */
static void lose_flags(struct translation *t)
{
    emit_flags_give_up(t, (struct flags_use){READS_NONE, false});
}

/* To the interpreter at CPL 1 and 2. */
static void need_cpl0(struct translation *t)
{
    lose_flags(t);
    asm_rm(t->a, 1, 0x80, 7, HOST_VCPU, offsetof(struct vcpu, cpl)); /* cmp byte [cpl], 0 */
    ASM(t->a, 0);
    emit_miss(t, asm_jump(t->a, CC_NOT_EQUAL));
}

/* --- flags --- */

static bool lower_sti(struct translation *t)
{
    _Static_assert(offsetof(struct vcpu, irq_held) == offsetof(struct vcpu, cpl) + 1,
                   "compared as one");
    if (is_user(t) || is_last(t)) {
        return false;
    }
    lose_flags(t);
    asm_rm(t->a, 2, 0x83, 7, HOST_VCPU, offsetof(struct vcpu, cpl)); /* cmp word [cpl], 0 */
    ASM(t->a, 0);
    emit_miss(t, asm_jump(t->a, CC_NOT_EQUAL));
    asm_rm(t->a, 4, 0x81, 1, HOST_VCPU, offsetof(struct vcpu, rflags)); /* or */
    asm_imm(t->a, FLAG_IF, 4);
    return true;
}

static bool lower_cli(struct translation *t)
{
    if (is_user(t)) {
        return false;
    }
    need_cpl0(t);
    asm_rm(t->a, 4, 0x81, 4, HOST_VCPU, offsetof(struct vcpu, rflags)); /* and */
    asm_imm(t->a, ~FLAG_IF, 4);
    return true;
}

/* vcpu_rflags() into T2; EFLAGS are free. */
static void read_rflags(struct asm_buf *a)
{
    uint8_t *no_of;

    asm_rm(a, 4, ASM_0F | 0xb6, HOST_T2, HOST_VCPU, offsetof(struct vcpu, aflags) + 1);
    asm_rr(a, 4, 0x81, 4, HOST_T2);
    asm_imm(a, FLAGS_ARITH & 0xff, 4);
    asm_rm(a, 8, 0x0b, HOST_T2, HOST_VCPU, offsetof(struct vcpu, rflags));
    asm_rm(a, 1, 0xf6, 0, HOST_VCPU, offsetof(struct vcpu, aflags)); /* test byte [aflags], 1 */
    ASM(a, 1);
    no_of = asm_jump(a, CC_EQUAL);
    asm_rr(a, 4, 0x81, 1, HOST_T2);
    asm_imm(a, FLAG_OF, 4);
    asm_land(a, no_of, a->at);
}

static bool lower_pushf(struct translation *t, const struct insn *insn)
{
    if (insn->opsize != 8) {
        return false;
    }
    emit_flags_save(t);
    emit_check_at(t, HOST_R15, -8, TLB_WRITE, 8);
    lose_flags(t);
    read_rflags(t->a);
    asm_rr(t->a, 4, 0x81, 4, HOST_T2);
    asm_imm(t->a, ~(FLAG_RF | FLAG_VM), 4);
    asm_rr(t->a, 4, 0x83, 1, HOST_T2);
    ASM(t->a, FLAG_1);
    emit_mem(t, 8, 0x89, HOST_T2);
    asm_rm(t->a, 8, 0x8d, HOST_R15, HOST_R15, -8);
    return true;
}

/* --- registers --- */

static bool lower_swapgs(struct translation *t)
{
    size_t base = offsetof(struct vcpu, seg) + SEG_GS * sizeof(struct cpu_segment) +
                  offsetof(struct cpu_segment, base);

    if (is_user(t)) {
        return false;
    }
    need_cpl0(t);
    asm_load(t->a, HOST_T1, HOST_VCPU, base);
    asm_load(t->a, HOST_T2, HOST_VCPU, offsetof(struct vcpu, kernel_gs_base));
    asm_store(t->a, HOST_T2, HOST_VCPU, base);
    asm_store(t->a, HOST_T1, HOST_VCPU, offsetof(struct vcpu, kernel_gs_base));
    return true;
}

static bool lower_mov_from_cr(struct translation *t, const struct insn *insn)
{
    unsigned host = emit_target(insn->operand[0].reg, HOST_T2);
    size_t from;

    switch (insn->operand[1].reg) {
    case 0: from = offsetof(struct vcpu, cr0); break;
    case 2: from = offsetof(struct vcpu, cr2); break;
    case 3: from = offsetof(struct vcpu, cr3); break;
    case 4: from = offsetof(struct vcpu, cr4); break;
    default: return false;
    }
    if (is_user(t)) {
        return false;
    }
    need_cpl0(t);
    asm_load(t->a, host, HOST_VCPU, from);
    emit_put(t, insn->operand[0].reg, host);
    return true;
}

/* RDTSC, RDTSCP: the sum of the host's TSC and the offset, in two halves. */
static bool lower_rdtsc(struct translation *t, const struct insn *insn)
{
    struct asm_buf *a = t->a;

    if (!t->v->has_host_tsc) {
        return false;
    }
    lose_flags(t);
    asm_rm(a, 4, 0xf7, 0, HOST_VCPU, offsetof(struct vcpu, cr4)); /* test dword [cr4], TSD */
    asm_imm(a, CR4_TSD, 4);
    emit_miss(t, asm_jump(a, CC_NOT_EQUAL));
    ASM(a, 0x0f, 0x31);
    asm_rr(a, 8, 0xc1, 4, HOST_RDX); /* shl rdx, 32 */
    ASM(a, 32);
    asm_rr(a, 8, 0x09, HOST_RDX, HOST_RAX);
    asm_rm(a, 8, 0x03, HOST_RAX, HOST_VCPU, offsetof(struct vcpu, tsc_offset));
    asm_mov(a, HOST_RDX, HOST_RAX);
    asm_rr(a, 8, 0xc1, 5, HOST_RDX); /* shr rdx, 32 */
    ASM(a, 32);
    asm_rr(a, 4, 0x89, HOST_RAX, HOST_RAX);
    if (insn->op == INSN_RDTSCP) {
        asm_rm(a, 4, 0x8b, HOST_RCX, HOST_VCPU, offsetof(struct vcpu, tsc_aux));
    }
    return true;
}

/* --- transfers --- */

/* Where an indirect branch to v->rip would lead; NULL if the loops have something to look at.  What
 * is not canonical is theirs, too: there is no branch to undo. */
const void *emit_code_at_rip(struct vcpu *v)
{
    bool is_due = v->irq_held && vcpu_has_flag(v, FLAG_IF);

    block_new_tag(v);
    if (v->mode != MODE_LONG64 || v->shadow || v->code_hit || is_due || vcpu_has_flag(v, FLAG_TF) ||
        !op_is_canonical(v->rip)) {
        return NULL;
    }
    return v->indirect[v->cpl == 3 ? TLB_USER : TLB_SUPERVISOR][v->rip & (INDIRECT_SLOTS - 1)];
}

const void *emit_transfer(struct vcpu *v, const struct insn *insn)
{
    uint64_t next_rip = v->rip + insn->len;
    bool was_nmi_blocked = v->nmi_blocked;

    v->link = NULL;
    if (ref_system(v, insn) != REF_JUMP) {
        v->rip = next_rip;
    }
    return v->nmi_blocked == was_nmi_blocked ? emit_code_at_rip(v) : NULL;
}

static bool lower_transfer(struct translation *t)
{
    t->is_end = true;
    emit_flags_save(t);
    asm_mov_imm(t->a, HOST_T1, t->rip);
    asm_store(t->a, HOST_T1, HOST_VCPU, offsetof(struct vcpu, rip));
    asm_mov_imm(t->a, HOST_T2, t->ops->imm); /* the kept struct insn */
    asm_jump_to(t->a, 0xe9, t->e->transfer);
    return true;
}

bool emit_lower_sys(struct translation *t, const struct insn *insn)
{
    if (insn->klass != INSN_CLASS_SYSTEM || insn->has_lock) {
        return false;
    }
    switch (insn->op) {
    case INSN_STI: return lower_sti(t);
    case INSN_CLI: return lower_cli(t);
    case INSN_PUSHF: return lower_pushf(t, insn);
    case INSN_SWAPGS: return lower_swapgs(t);
    case INSN_MOV_FROM_CR: return lower_mov_from_cr(t, insn);
    case INSN_RDTSC:
    case INSN_RDTSCP: return lower_rdtsc(t, insn);
    case INSN_SYSCALL:
    case INSN_SYSRET:
    case INSN_IRET:
    case INSN_INT:
    case INSN_INT3:
    case INSN_RETF: return lower_transfer(t);
    default: return false;
    }
}
