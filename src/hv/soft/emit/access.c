/* access.c — operands in guest memory: the address, the soft TLB's comparison, the access.
 *
 *     lea r10, [address]            (+ segment base)
 *     r11 = slot of the page in the table of this access and privilege
 *     sub r10, [slot.page]
 *     cmp r10, 4096 - len
 *     ja  slow                      missing, crossing, device, code page: the interpreter
 *     add r10, [slot.page]; add r10, [slot.delta]
 *
 * A block belongs to one privilege (its mode key), so the table is a constant. */
#include "hv/soft/emit/emit_int.h"

#define CC_NOT_EQUAL 0x85
#define CC_ABOVE     0x87

_Static_assert(sizeof(struct tlb_entry) == 16 && TLB_SLOTS == 4096, "shape of the tables");

static bool fits32(int64_t x)
{
    return x == (int32_t)x;
}

bool emit_can_address(const struct insn *insn)
{
    return insn->addrsize == 8 && (insn->base == INSN_REG_RIP || fits32(insn->disp) ||
                                   (insn->base >= GPR_COUNT && insn->index >= GPR_COUNT));
}

void emit_address(struct translation *t, const struct insn *insn, unsigned size, unsigned reg)
{
    unsigned base = HOST_NONE, index = HOST_NONE;

    if (insn->base == INSN_REG_RIP || (insn->base >= GPR_COUNT && insn->index >= GPR_COUNT)) {
        uint64_t la = (uint64_t)insn->disp + (insn->base == INSN_REG_RIP ? t->next_rip : 0);

        asm_mov_imm(t->a, reg, size == 4 ? (uint32_t)la : la);
        return;
    }
    if (insn->base < GPR_COUNT) {
        base = emit_use(t, insn->base, HOST_T1);
    }
    if (insn->index < GPR_COUNT) {
        index = emit_use(t, insn->index, HOST_T2);
    }
    asm_rm_index(t->a, size, 0x8d, reg, base, index,
                 insn->scale ? (unsigned)__builtin_ctz(insn->scale) : 0, (int32_t)insn->disp);
}

static void add_slow(struct translation *t, uint8_t *jump)
{
    const struct op *ops = t->is_end ? emit_resume_op(t) : emit_copy_ops(t);

    if (t->slow_count >= sizeof(t->slow) / sizeof(t->slow[0]) || !ops) {
        t->has_failed = true;
        return;
    }
    t->slow[t->slow_count++] = (struct slow){.from = jump, .ops = ops};
}

/* T1 = linear address. */
static void compare(struct translation *t, enum tlb_access access, unsigned len)
{
    struct asm_buf *a = t->a;
    unsigned priv = t->v->cpl == 3 ? TLB_USER : TLB_SUPERVISOR;
    size_t table = offsetof(struct vcpu, tlb) + priv * sizeof(struct tlb_set) +
                   (size_t)access * TLB_SLOTS * sizeof(struct tlb_entry);
    int32_t page = (int32_t)(table + offsetof(struct tlb_entry, page));
    int32_t delta = (int32_t)(table + offsetof(struct tlb_entry, delta));

    asm_rr(a, 4, 0x89, HOST_T1, HOST_T2);
    asm_rr(a, 4, 0xc1, 5, HOST_T2); /* shr r11d, 8 */
    ASM(a, 8);
    asm_rr(a, 4, 0x81, 4, HOST_T2); /* and r11d, 0xfff0 */
    asm_imm(a, 0xfff0, 4);
    asm_rm_index(a, 8, 0x2b, HOST_T1, HOST_VCPU, HOST_T2, 0, page);
    asm_rr(a, 8, 0x81, 7, HOST_T1);
    asm_imm(a, 4096 - len, 4);
    add_slow(t, asm_jump(a, CC_ABOVE));
    asm_rm_index(a, 8, 0x03, HOST_T1, HOST_VCPU, HOST_T2, 0, page);
    asm_rm_index(a, 8, 0x03, HOST_T1, HOST_VCPU, HOST_T2, 0, delta);
}

/* The comparison destroys EFLAGS: keep them in memory if anybody wants them. */
static void before(struct translation *t, struct flags_use use)
{
    if (use.read != READS_NONE || (t->is_live && !use.writes)) {
        emit_flags_save(t);
    }
    t->flags = FLAGS_SAVED;
}

void emit_check(struct translation *t, const struct insn *insn, enum tlb_access access,
                unsigned len)
{
    before(t, emit_flags_use(insn));
    emit_address(t, insn, 8, HOST_T1);
    if (insn->seg == SEG_FS || insn->seg == SEG_GS) {
        size_t at = offsetof(struct vcpu, seg) + insn->seg * sizeof(struct cpu_segment) +
                    offsetof(struct cpu_segment, base);

        asm_rm(t->a, 8, 0x03, HOST_T1, HOST_VCPU, (int32_t)at);
    }
    compare(t, access, len);
}

void emit_check_at(struct translation *t, unsigned base, int32_t disp, enum tlb_access access,
                   unsigned len)
{
    before(t, (struct flags_use){READS_NONE, false});
    asm_rm(t->a, 8, 0x8d, HOST_T1, base, disp);
    compare(t, access, len);
}

void emit_mem(struct translation *t, unsigned size, uint32_t opcode, unsigned reg)
{
    asm_rm(t->a, size, opcode, reg, HOST_T1, 0);
}
