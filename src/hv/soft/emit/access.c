/* access.c — operands in guest memory: the address, the soft TLB's comparison, the access.
 *
 * Accesses a known distance apart share a check (group.c), those around the stack pointer one in a
 * window (window.c).  The others, and the shared ones away from the stack, ask the TLB.  A block
 * belongs to one privilege (its mode key), so the table is a constant.  The sequences, with `slot`
 * = r14 + the table + r11:
 *
 *     lea  r10, [address]           (+ segment base; or mov of the base register)
 *     rorx r11d, r10d, 8            without BMI2 mov and shr
 *     and  r11d, 0xfff0             16 * number of the slot
 *     sub  r10, [slot.page]
 *     cmp  r10, 4096 - len
 *     ja   slow                     missing, crossing, device, code page: the interpreter
 *         (an operand of SSE that must be aligned: test r10, ~(4096 - alignment); jne slow)
 *     mov  r11, [slot.host]         the operand is [r10 + r11]
 * or  add  r10, [slot.host]         the operand is [r10]
 *
 * and for a constant address, whose slot is a constant:
 *
 *     cmp  qword [slot.page], page  (a page beyond 32 bits: mov r10, page; cmp r10, [slot.page])
 *     jne  slow
 *     mov  r10, [slot.host]         the operand is [r10 + offset in the page]
 *
 * A check for a group uses the first sequence with `add`, of the group's first byte and its length,
 * and goes on with
 *
 *     mov  [v->group_host + 8 * n], r10
 *
 * after which operands are [r10 + disp], also behind mov r10, [v->group_host + 8 * n].
 */
#include "hv/soft/emit/emit_int.h"

#define CC_NOT_EQUAL 0x85
#define CC_ABOVE     0x87
#define PAGE_MASK    UINT64_C(0xfff)

_Static_assert(sizeof(struct tlb_entry) == 16 && TLB_SLOTS == 4096, "shape of the tables");

static bool fits32(int64_t x)
{
    return x == (int32_t)x;
}

static bool is_constant(const struct insn *insn)
{
    return insn->base == INSN_REG_RIP || (insn->base >= GPR_COUNT && insn->index >= GPR_COUNT);
}

static uint64_t constant_of(const struct translation *t, const struct insn *insn)
{
    return (uint64_t)insn->disp + (insn->base == INSN_REG_RIP ? t->next_rip : 0);
}

bool emit_can_address(const struct insn *insn)
{
    return insn->addrsize == 8 && (is_constant(insn) || fits32(insn->disp));
}

void emit_address(struct translation *t, const struct insn *insn, unsigned size, unsigned reg)
{
    unsigned base = HOST_NONE, index = HOST_NONE;

    if (is_constant(insn)) {
        uint64_t la = constant_of(t, insn);

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

struct slow *emit_miss(struct translation *t, uint8_t *jump)
{
    const struct op *ops = t->is_end ? emit_resume_op(t) : emit_copy_ops(t);

    if (t->slow_count >= sizeof(t->slow) / sizeof(t->slow[0]) || !ops) {
        t->has_failed = true;
        return NULL;
    }
    t->slow[t->slow_count] = (struct slow){.from = jump, .ops = ops};
    return &t->slow[t->slow_count++];
}

/* Offset from struct vcpu of slot 0 of the table for `access`. */
static int32_t table_of(const struct translation *t, enum tlb_access access)
{
    unsigned priv = t->v->cpl == 3 ? TLB_USER : TLB_SUPERVISOR;

    return (int32_t)(offsetof(struct vcpu, tlb) + priv * sizeof(struct tlb_set) +
                     (size_t)access * TLB_SLOTS * sizeof(struct tlb_entry));
}

/* T2 = offset of the slot in its table, of the address in `la`. */
static void slot_of(struct translation *t, unsigned la)
{
    struct asm_buf *a = t->a;

    if (t->e->has_bmi2) {
        asm_rorx32(a, HOST_T2, la, 8);
    } else {
        asm_rr(a, 4, 0x89, la, HOST_T2);
        asm_rr(a, 4, 0xc1, 5, HOST_T2); /* shr r11d, 8 */
        ASM(a, 8);
    }
    asm_rr(a, 4, 0x81, 4, HOST_T2); /* and r11d, 0xfff0 */
    asm_imm(a, (TLB_SLOTS - 1) * sizeof(struct tlb_entry), 4);
}

/* T1 = linear address, which is in `la`, too; T1 = offset in its page and T2 = slot afterwards.
 * Returns the jump of a miss.  `align`: that of the operand, not less than `len`, if a misaligned
 * address is to miss, too: one test finds that and another page, and crossing cannot be.  Else 0.
 */
static uint8_t *compare(struct translation *t, unsigned la, enum tlb_access access, unsigned len,
                        unsigned align)
{
    struct asm_buf *a = t->a;

    slot_of(t, la);
    asm_rm_index(a, 8, 0x2b, HOST_T1, HOST_VCPU, HOST_T2, 0,
                 table_of(t, access) + (int32_t)offsetof(struct tlb_entry, page));
    if (align && align >= len) {
        asm_rr(a, 8, 0xf7, 0, HOST_T1); /* test r10, outside the page or misaligned */
        asm_imm(a, ~(4096u - align), 4);
        return asm_jump(a, CC_NOT_EQUAL);
    }
    asm_rr(a, 8, 0x81, 7, HOST_T1);
    asm_imm(a, 4096 - len, 4);
    return asm_jump(a, CC_ABOVE);
}

/* Add the page's host address, here or in the operand. */
static void add_host(struct translation *t, enum tlb_access access, bool keeps_t2)
{
    int32_t host = table_of(t, access) + (int32_t)offsetof(struct tlb_entry, host);

    asm_rm_index(t->a, 8, keeps_t2 ? 0x8b : 0x03, keeps_t2 ? HOST_T2 : HOST_T1, HOST_VCPU, HOST_T2,
                 0, host);
    t->mem = (struct host_mem){HOST_T1, keeps_t2 ? HOST_T2 : HOST_NONE, 0};
}

/* The same for an address that is known now and does not cross a page. */
static void compare_constant(struct translation *t, uint64_t la, enum tlb_access access)
{
    struct asm_buf *a = t->a;
    int32_t slot = table_of(t, access) + (int32_t)(MMU_SLOT(la) * sizeof(struct tlb_entry));
    int32_t page = slot + (int32_t)offsetof(struct tlb_entry, page);
    uint64_t tag = la & ~PAGE_MASK;

    if (fits32((int64_t)tag)) {
        asm_rm(a, 8, 0x81, 7, HOST_VCPU, page);
        asm_imm(a, tag, 4);
    } else {
        asm_mov_imm(a, HOST_T1, tag);
        asm_rm(a, 8, 0x3b, HOST_T1, HOST_VCPU, page);
    }
    (void)emit_miss(t, asm_jump(a, CC_NOT_EQUAL));
    asm_load(a, HOST_T1, HOST_VCPU, (size_t)slot + offsetof(struct tlb_entry, host));
    t->mem = (struct host_mem){HOST_T1, HOST_NONE, (int32_t)(la & PAGE_MASK)};
}

static void add_segment(struct translation *t, const struct insn *insn)
{
    size_t at = offsetof(struct vcpu, seg) + insn->seg * sizeof(struct cpu_segment) +
                offsetof(struct cpu_segment, base);

    asm_rm(t->a, 8, 0x03, HOST_T1, HOST_VCPU, (int32_t)at);
}

/* Within a page, and aligned if it must be? */
static bool is_simple(uint64_t la, unsigned len, unsigned align)
{
    return (la & PAGE_MASK) + len <= PAGE_MASK + 1 && (!align || la % align == 0);
}

static bool is_one_register(const struct insn *insn)
{
    return insn->base < GPR_COUNT && insn->index >= GPR_COUNT && insn->disp == 0 &&
           emit_host_reg(insn->base) != HOST_NONE;
}

/* --- groups --- */

/* A register that is a known distance from rSP as the window's group knows it. */
static bool stack_operand(struct translation *t, const struct group *g,
                          const struct track_address *at)
{
    static const uint8_t likely[] = {GPR_RSP, GPR_RBP};

    for (unsigned i = 0; i < sizeof(likely); i++) {
        const struct track_value *reg = &t->track.reg[likely[i]];

        if (reg->root == g->at.base) {
            t->mem = (struct host_mem){(uint8_t)emit_host_reg(likely[i]), HOST_T1,
                                       (int32_t)(at->offset - reg->offset)};
            return true;
        }
    }
    return false;
}

/* The group of an earlier check that covers the access, or NULL. */
static struct group *reuse(struct translation *t, const struct track_address *at, unsigned len,
                           enum tlb_access access)
{
    struct group *g = emit_group_find(t, at, len, access);

    if (!g || (g->is_window && !stack_operand(t, g, at))) {
        return NULL;
    }
    if (t->t1_group != g && g->is_window) {
        emit_window_load(t);
    } else if (t->t1_group != g) {
        asm_load(t->a, HOST_T1, HOST_VCPU,
                 offsetof(struct vcpu, group_host) + (size_t)(g - t->group) * 8);
    }
    if (!g->is_window) {
        t->mem = (struct host_mem){HOST_T1, HOST_NONE, (int32_t)(at->offset - g->at.offset)};
    }
    t->t1_group = g;
    return g;
}

/* The check of a new group in the window. */
static void open_window(struct translation *t, struct group *g, const struct track_address *at)
{
    int32_t lo = (int32_t)(g->at.offset - t->track.reg[GPR_RSP].offset);
    uint8_t *jump = emit_window_check(t, lo, g->bytes);
    struct slow *s = g->is_alone ? emit_miss(t, jump) : emit_group_miss(t, jump);

    if (s) {
        s->window_bytes = g->bytes;
        s->window_lo = lo;
    }
    (void)stack_operand(t, g, at);
    t->t1_group = g;
    if (g->is_alone) { /* the slow way comes back, and T1 is not the window's then */
        g->bytes = 0;
        t->t1_group = NULL;
    }
}

/* T1 = address of the group's first byte, `ahead` bytes before the access. */
static void open_group(struct translation *t, unsigned la, const struct group *g, int32_t ahead)
{
    (void)emit_group_miss(t, compare(t, la, g->access, g->bytes, 0));
    add_host(t, g->access, false);
    asm_store(t->a, HOST_T1, HOST_VCPU,
              offsetof(struct vcpu, group_host) + (size_t)(g - t->group) * 8);
    t->mem.disp = ahead;
    t->t1_group = g;
}

/* t->mem, an operand of `g`, is aligned as it must be: known from another one, or tested.  One that
 * is not raises in the interpreter, so nobody comes back from there. */
static void check_aligned(struct translation *t, struct group *g, const struct track_address *at,
                          const struct insn *insn)
{
    unsigned reg = t->mem.base;
    const struct op *ops;
    uint8_t *jump;

    if (!insn->mem_align ||
        (g->align >= insn->mem_align && (at->offset - g->align_at) % insn->mem_align == 0)) {
        return;
    }
    emit_flags_give_up(t, emit_flags_of(t, insn));
    if (t->mem.index != HOST_NONE || t->mem.disp % insn->mem_align) {
        asm_rm_index(t->a, 8, 0x8d, HOST_T2, t->mem.base, t->mem.index, 0, t->mem.disp);
        reg = HOST_T2;
    }
    asm_rr(t->a, 1, 0xf6, 0, reg); /* test reg8, align - 1 */
    ASM(t->a, (uint8_t)(insn->mem_align - 1));
    jump = asm_jump(t->a, CC_NOT_EQUAL);
    ops = emit_resume_op(t);
    if (t->slow_count >= sizeof(t->slow) / sizeof(t->slow[0]) || !ops) {
        t->has_failed = true;
        return;
    }
    t->slow[t->slow_count++] = (struct slow){.from = jump, .ops = ops, .is_leaving = true};
    g->align = insn->mem_align;
    g->align_at = at->offset;
}

/* --- accesses --- */

/* T1 = address of the operand + shift; returns a register that holds it, too. */
static unsigned operand_address(struct translation *t, const struct insn *insn, int32_t shift)
{
    struct insn shifted = *insn;

    shifted.disp += shift;
    emit_address(t, &shifted, 8, HOST_T1);
    if (insn->seg == SEG_FS || insn->seg == SEG_GS) {
        add_segment(t, insn);
        return HOST_T1;
    }
    return is_one_register(&shifted) ? emit_host_reg(insn->base) : HOST_T1;
}

static void check_alone(struct translation *t, unsigned la, enum tlb_access access, unsigned len,
                        unsigned align, bool keeps_t2)
{
    uint8_t *jump = compare(t, la, access, len, align);

    (void)emit_miss(t, jump);
    add_host(t, access, keeps_t2);
    t->t1_group = NULL;
}

void emit_access(struct translation *t, const struct insn *insn, enum tlb_access access,
                 unsigned len, bool keeps_t2)
{
    bool has_segment = insn->seg == SEG_FS || insn->seg == SEG_GS;
    struct track_address at;
    bool can_share = !t->is_plain && track_operand(&t->track, insn, &at);
    struct group *g = can_share ? reuse(t, &at, len, access) : NULL;

    if (g) {
        check_aligned(t, g, &at, insn);
        return;
    }
    emit_flags_give_up(t, emit_flags_of(t, insn));
    if (!has_segment && is_constant(insn) &&
        is_simple(constant_of(t, insn), len, insn->mem_align)) {
        compare_constant(t, constant_of(t, insn), access);
        t->t1_group = NULL;
        return;
    }
    g = can_share ? emit_group_open(t, &at, len, access) : NULL;
    if (!g) {
        check_alone(t, operand_address(t, insn, 0), access, len, insn->mem_align, keeps_t2);
        return;
    }
    if (g->is_window) {
        open_window(t, g, &at);
    } else {
        int32_t ahead = (int32_t)(at.offset - g->at.offset);

        open_group(t, operand_address(t, insn, -ahead), g, ahead);
    }
    check_aligned(t, g, &at, insn);
}

/* T1 = base + disp; returns a register that holds it, too. */
static unsigned sum(struct translation *t, unsigned base, int32_t disp)
{
    asm_rm(t->a, 8, 0x8d, HOST_T1, base, disp);
    return disp ? HOST_T1 : base;
}

void emit_access_at(struct translation *t, unsigned base, int32_t disp, enum tlb_access access,
                    unsigned len, bool keeps_t2)
{
    struct track_address at =
        track_register(&t->track, base == HOST_R15 ? (unsigned)GPR_RSP : base, disp);
    struct group *g;

    if (!t->is_plain && reuse(t, &at, len, access)) {
        return;
    }
    emit_flags_give_up(t, (struct flags_use){READS_NONE, false});
    g = t->is_plain ? NULL : emit_group_open(t, &at, len, access);
    if (!g) {
        check_alone(t, sum(t, base, disp), access, len, 0, keeps_t2);
    } else if (g->is_window) {
        open_window(t, g, &at);
    } else {
        int32_t ahead = (int32_t)(at.offset - g->at.offset);

        open_group(t, sum(t, base, disp - ahead), g, ahead);
    }
}

/* T1 = the operand's address. */
static void settle(struct translation *t)
{
    if (t->mem.disp || t->mem.index != HOST_NONE) {
        asm_rm_index(t->a, 8, 0x8d, HOST_T1, t->mem.base, t->mem.index, 0, t->mem.disp);
    }
    t->mem = (struct host_mem){HOST_T1, HOST_NONE, 0};
    t->t1_group = NULL;
}

void emit_check_at(struct translation *t, unsigned base, int32_t disp, enum tlb_access access,
                   unsigned len)
{
    emit_access_at(t, base, disp, access, len, false);
    settle(t);
}

void emit_check(struct translation *t, const struct insn *insn, enum tlb_access access,
                unsigned len)
{
    emit_access(t, insn, access, len, false);
    settle(t);
}

void emit_check_t1(struct translation *t, enum tlb_access access, unsigned len)
{
    emit_flags_give_up(t, (struct flags_use){READS_NONE, false});
    check_alone(t, HOST_T1, access, len, 0, false);
}

void emit_mem_vex(struct translation *t, const struct asm_vex *p, unsigned reg)
{
    asm_vex_rm(t->a, p, reg, t->mem.base, t->mem.index, t->mem.disp);
}

void emit_mem(struct translation *t, unsigned size, uint32_t opcode, unsigned reg)
{
    asm_rm_index(t->a, size, opcode, reg, t->mem.base, t->mem.index, 0, t->mem.disp);
    if (reg == HOST_T1) {
        t->t1_group = NULL;
    }
}
