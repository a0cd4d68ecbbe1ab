/* verify_step.c — what an instruction of emitted code makes of what is known, and whether it may
 * be.
 *
 * Registers hold a name each, an unknown number plus a constant; copies, LEA and additions of
 * constants keep it, all else gives a new one.  T1 and T2 hold a value besides, which the steps of
 * a check build up.  Whatever is not recognised makes a register unknown, so the worst that can
 * happen to a new pattern is to be refused. */
#include <string.h>

#include "hv/soft/emit/verify_int.h"

#define T1 HOST_T1
#define T2 HOST_T2

static bool is_t(unsigned reg)
{
    return reg == T1 || reg == T2;
}

static struct verify_value *value_of(struct verify_state *s, unsigned reg)
{
    return &s->t[reg == T2];
}

static bool same_name(struct verify_name a, struct verify_name b)
{
    return a.root == b.root && a.offset == b.offset;
}

/* --- operands --- */

static const struct insn_operand *memory_of(const struct insn *insn)
{
    for (unsigned i = 0; i < insn->operand_count; i++) {
        if (insn->operand[i].kind == INSN_MEM) {
            return &insn->operand[i];
        }
    }
    return NULL;
}

static bool is_gpr(const struct insn *insn, unsigned i, unsigned reg)
{
    const struct insn_operand *o = &insn->operand[i];

    return insn->operand_count > i && o->kind == INSN_GPR && o->reg == reg && !o->is_high8;
}

/* [struct vcpu + disp], without an index. */
static bool is_field(const struct insn *insn)
{
    return insn->base == HOST_VCPU && insn->index == INSN_NO_REG && !insn->has_seg_override;
}

static bool only_reads(const struct insn *insn)
{
    return insn->op == INSN_CMP || insn->op == INSN_TEST || insn->op == INSN_BT ||
           insn->operand[0].kind != INSN_GPR || verify_writes_pair(insn);
}

/* --- accesses --- */

static bool is_within(const struct verify_value *v, int64_t from, unsigned len, bool is_write)
{
    return from >= 0 && from + len <= v->len && (!is_write || v->table == TLB_WRITE) &&
           (v->table == TLB_READ || v->table == TLB_WRITE);
}

/* [reg + delta + disp] in the window, reg being a known distance from where it was checked. */
static bool is_in_window(const struct verify_state *s, const struct insn *insn, unsigned len)
{
    unsigned reg = insn->base == T1 ? insn->index : insn->base;
    const struct verify_name *name = &s->reg[reg & 15];
    int64_t from = (int64_t)name->offset + insn->disp - s->window.name.offset;

    return reg < 16 && insn->scale <= 1 && s->t[0].kind == VERIFY_DELTA && s->window.len &&
           name->root == s->window.name.root && from >= 0 && from + len <= s->window.len;
}

static bool is_checked(const struct verify_state *s, const struct insn *insn, unsigned len,
                       bool is_write)
{
    const struct verify_value *t1 = &s->t[0], *t2 = &s->t[1];

    if (insn->index == INSN_NO_REG) {
        return insn->base == T1 && t1->kind == VERIFY_POINTER &&
               is_within(t1, insn->disp, len, is_write);
    }
    if (insn->base == T1 && insn->index == T2 && insn->scale == 1) {
        return t1->kind == VERIFY_OFFSET && t2->kind == VERIFY_HOST && t1->table == t2->table &&
               same_name(t1->name, t2->name) && is_within(t1, insn->disp, len, is_write);
    }
    return (insn->base == T1 || insn->index == T1) && is_in_window(s, insn, len);
}

/* A field of an entry of the TLB, by constant or by T2. */
static bool is_tlb_read(const struct verifier *f, const struct verify_state *s,
                        const struct insn *insn, unsigned len)
{
    enum tlb_access table;
    int64_t offset;

    if (insn->base != HOST_VCPU || insn->mem_access != INSN_MEM_READ || len != 8 ||
        !verify_is_tlb(insn->disp, f->unit->is_user, &table, &offset)) {
        return false;
    }
    return insn->index == INSN_NO_REG ||
           (insn->index == T2 && insn->scale == 1 && s->t[1].kind == VERIFY_SLOT && offset < 16);
}

static bool check_memory(struct verifier *f, const struct insn *insn, const struct verify_state *s)
{
    const struct insn_operand *m = memory_of(insn);
    bool is_write = insn->mem_access & INSN_MEM_WRITE;

    if (!m || insn->op == INSN_LEA || insn->op == INSN_NOP) {
        return true;
    }
    if (!m->size || insn->addrsize != 8 || insn->has_seg_override) {
        return verify_refuse(f, "an operand of no size, or with prefixes");
    }
    if (insn->base == HOST_RSP && insn->index == INSN_NO_REG && insn->disp == 8 && m->size == 8 &&
        insn->op == INSN_CMP && !s->pushed) {
        return true; /* the guest's half of the pair on top */
    }
    if (is_field(insn) && verify_field_allowed(insn->disp, m->size, is_write)) {
        return true;
    }
    if (is_tlb_read(f, s, insn, m->size) || is_checked(s, insn, m->size, is_write)) {
        return true;
    }
    return verify_refuse(f, "an operand that is not checked");
}

/* --- results --- */

void verify_forget(struct verify_state *s, unsigned reg, uint32_t at)
{
    uint32_t root = (at + 1) << 5 | (reg & 15);

    for (unsigned i = 0; i < 16; i++) {
        s->has_clash |= i != (reg & 15) && s->reg[i].root == root;
    }
    s->has_clash |= s->window.len && s->window.name.root == root;
    s->reg[reg & 15] = (struct verify_name){root, 0};
    if (is_t(reg)) {
        *value_of(s, reg) = (struct verify_value){0};
    }
}

static void set_value(struct verify_state *s, unsigned reg, enum verify_kind kind,
                      struct verify_name name)
{
    *value_of(s, reg) = (struct verify_value){.kind = (uint8_t)kind, .name = name};
}

/* Everything the instruction may write becomes unknown. */
static bool forget_results(struct verifier *f, const struct insn *insn, uint32_t at,
                           struct verify_state *s)
{
    static const uint8_t implied[] = {HOST_RAX, HOST_RCX, HOST_RDX};
    bool is_move = insn->op == INSN_MOV || insn->op == INSN_LEA || insn->op == INSN_MOVZX;

    for (unsigned i = 0; i < sizeof(implied) && !is_move; i++) {
        verify_forget(s, implied[i], at);
    }
    for (unsigned i = 0; i < 2 && i < insn->operand_count; i++) {
        const struct insn_operand *o = &insn->operand[i];
        bool is_written =
            i == 0 ? !only_reads(insn)
                   : insn->op == INSN_XCHG || insn->op == INSN_XADD || insn->op == INSN_MULX;

        if (o->kind != INSN_GPR || !is_written) {
            continue;
        }
        if (!o->is_high8 && (o->reg == HOST_VCPU || o->reg == HOST_RSP)) {
            return verify_refuse(f, "writes r14 or rsp");
        }
        verify_forget(s, o->reg, at);
    }
    return true;
}

/* --- recognised steps: what they leave in a register; s is the state before --- */

static void copy_register(const struct verify_state *s, struct verify_state *to, unsigned dst,
                          unsigned src)
{
    to->reg[dst] = s->reg[src];
    if (is_t(dst) && is_t(src)) {
        *value_of(to, dst) = s->t[src == T2];
    }
}

static void load_field(const struct verifier *f, const struct insn *insn, struct verify_state *to,
                       unsigned dst)
{
    int64_t at = insn->disp;
    const size_t window =
        offsetof(struct vcpu, window) +
        (f->unit->is_user ? TLB_USER : TLB_SUPERVISOR) * sizeof(struct stack_window);
    uint64_t group = (uint64_t)at - offsetof(struct vcpu, group_host);
    enum tlb_access table;
    int64_t offset;

    if (at == (int64_t)(window + offsetof(struct stack_window, neg_page))) {
        set_value(to, dst, VERIFY_NEG_PAGE, (struct verify_name){0});
    } else if (at == (int64_t)(window + offsetof(struct stack_window, delta))) {
        set_value(to, dst, VERIFY_DELTA, (struct verify_name){0});
    } else if (group < sizeof(to->group) / sizeof(to->group[0]) * 8 && group % 8 == 0) {
        *value_of(to, dst) = to->group[group / 8];
    } else if (at == (int64_t)offsetof(struct vcpu, ea)) {
        *value_of(to, dst) = to->ea;
    } else if (verify_is_tlb(at, f->unit->is_user, &table, &offset) && offset % 16 == 8 &&
               to->page_slot == offset - 8 && to->page_table == table) {
        *value_of(to, dst) =
            (struct verify_value){.kind = VERIFY_POINTER, .table = (uint8_t)table, .len = 4096};
    }
}

/* What is known of a register stays known of the field. */
static void store_field(const struct insn *insn, const struct verify_state *s,
                        struct verify_state *to)
{
    const struct insn_operand *d = &insn->operand[0], *o = &insn->operand[1];
    uint64_t group = (uint64_t)insn->disp - offsetof(struct vcpu, group_host);
    uint64_t ea = (uint64_t)insn->disp - offsetof(struct vcpu, ea);
    bool is_whole = d->size == 8 && o->kind == INSN_GPR && is_t(o->reg) && group % 8 == 0;
    struct verify_value value = {0};

    if (is_whole) {
        value = s->t[o->reg == T2];
        /* names are looked after in registers only */
        value =
            value.kind == VERIFY_POINTER || value.kind == VERIFY_BITS
                ? (struct verify_value){.kind = value.kind, .table = value.table, .len = value.len}
                : (struct verify_value){0};
    }
    if (group < sizeof(to->group) / sizeof(to->group[0]) * 8) {
        to->group[group / 8] = value;
    } else if (ea < 8) {
        to->ea = value;
    }
}

static void step_mov(const struct verifier *f, const struct insn *insn,
                     const struct verify_state *s, struct verify_state *to)
{
    const struct insn_operand *d = &insn->operand[0], *o = &insn->operand[1];
    enum tlb_access table;
    int64_t offset;

    if (d->kind == INSN_MEM) {
        if (is_field(insn)) {
            store_field(insn, s, to);
        }
    } else if (o->kind == INSN_GPR && d->size == 8 && !d->is_high8) {
        copy_register(s, to, d->reg, o->reg);
    } else if (o->kind == INSN_GPR && d->size == 4 && d->reg == T2) {
        set_value(to, T2, VERIFY_LOW, s->reg[o->reg]);
    } else if (o->kind == INSN_IMM && d->size >= 4 && is_t(d->reg)) {
        set_value(to, d->reg, VERIFY_CONST,
                  (struct verify_name){(uint32_t)((uint64_t)insn->imm >> 32), (int32_t)insn->imm});
    } else if (o->kind == INSN_MEM && d->size == 8 && is_t(d->reg) && insn->base == HOST_VCPU) {
        if (insn->index == INSN_NO_REG) {
            load_field(f, insn, to, d->reg);
        } else if (verify_is_tlb(insn->disp, f->unit->is_user, &table, &offset) && offset == 8) {
            *value_of(to, d->reg) = s->t[1];
            value_of(to, d->reg)->kind = VERIFY_HOST;
            value_of(to, d->reg)->table = (uint8_t)table;
        }
    }
}

/* [reg + T1 + disp] with the window's page in T1, as base or index. */
static bool is_window_sum(const struct insn *insn, const struct verify_state *s, unsigned *ret_reg)
{
    *ret_reg = insn->base == T1 ? insn->index : insn->base;
    return s->t[0].kind == VERIFY_NEG_PAGE && (insn->base == T1 || insn->index == T1) &&
           *ret_reg < 16 && insn->scale <= 1;
}

static void step_lea(const struct insn *insn, const struct verify_state *s, struct verify_state *to)
{
    const struct insn_operand *d = &insn->operand[0];
    const struct verify_value *t1 = &s->t[0];
    unsigned reg;

    if (d->size != 8 || insn->addrsize != 8) {
        return;
    }
    if (insn->index == INSN_NO_REG && insn->base < 16) {
        struct verify_name name = s->reg[insn->base];

        if (!__builtin_add_overflow(name.offset, (int32_t)insn->disp, &name.offset)) {
            to->reg[d->reg] = name;
        }
        if (d->reg == T1 && insn->base == T1 && t1->kind == VERIFY_POINTER && insn->disp >= 0 &&
            insn->disp <= t1->len) {
            to->t[0] = *t1;
            to->t[0].len = (uint16_t)(t1->len - insn->disp);
        }
    } else if (d->reg == T1 && (insn->base == T1 || insn->index == T1) &&
               is_in_window(s, insn, 0)) {
        const struct verify_name *name =
            &s->reg[(insn->base == T1 ? insn->index : insn->base) & 15];
        int64_t from = (int64_t)name->offset + insn->disp - s->window.name.offset;

        to->t[0] = (struct verify_value){
            .kind = VERIFY_POINTER, .table = TLB_WRITE, .len = (uint16_t)(s->window.len - from)};
    } else if (d->reg == T1 && is_window_sum(insn, s, &reg)) {
        struct verify_name name = s->reg[reg];

        if (!__builtin_add_overflow(name.offset, (int32_t)insn->disp, &name.offset)) {
            set_value(to, T1, VERIFY_IN_WINDOW, name);
        }
    }
}

/* ADD and SUB: of constants, and of what is in a slot. */
static void step_sum(const struct verifier *f, const struct insn *insn,
                     const struct verify_state *s, struct verify_state *to)
{
    const struct insn_operand *d = &insn->operand[0], *o = &insn->operand[1];
    const struct verify_value *t1 = &s->t[0], *t2 = &s->t[1];
    enum tlb_access table;
    int64_t offset;

    if (d->kind != INSN_GPR || d->size != 8) {
        return;
    }
    if (o->kind == INSN_IMM) {
        int64_t imm = insn->op == INSN_ADD ? insn->imm : -insn->imm;
        struct verify_name name = s->reg[d->reg];

        if (imm == (int32_t)imm &&
            !__builtin_add_overflow(name.offset, (int32_t)imm, &name.offset)) {
            to->reg[d->reg] = name;
        }
        return;
    }
    if (d->reg != T1 || o->kind != INSN_MEM || insn->index != T2 || t2->kind != VERIFY_SLOT ||
        !verify_is_tlb(insn->disp, f->unit->is_user, &table, &offset)) {
        return;
    }
    if (insn->op == INSN_SUB && offset == 0 && same_name(s->reg[T1], t2->name)) {
        set_value(to, T1, VERIFY_DIFF, t2->name);
        to->t[0].table = (uint8_t)table;
    } else if (insn->op == INSN_ADD && offset == 8 && t1->kind == VERIFY_OFFSET &&
               t1->table == table && same_name(t1->name, t2->name)) {
        to->t[0] = *t1;
        to->t[0].kind = VERIFY_POINTER;
    }
}

/* Those that make the slot in T2. */
static void step_slot(const struct insn *insn, const struct verify_state *s,
                      struct verify_state *to)
{
    const struct verify_value *t2 = &s->t[1];

    if (!is_gpr(insn, 0, T2) || insn->operand[0].size != 4) {
        return;
    }
    if (insn->op == INSN_RORX && insn->operand[1].kind == INSN_GPR && (insn->imm & 31) == 8) {
        set_value(to, T2, VERIFY_SHIFTED, s->reg[insn->operand[1].reg]);
    } else if (insn->op == INSN_SHR && insn->operand[1].kind == INSN_IMM && (insn->imm & 31) == 8 &&
               t2->kind == VERIFY_LOW) {
        set_value(to, T2, VERIFY_SHIFTED, t2->name);
    } else if (insn->op == INSN_AND && insn->operand[1].kind == INSN_IMM &&
               (uint32_t)insn->imm == (TLB_SLOTS - 1) * 16 && t2->kind == VERIFY_SHIFTED) {
        set_value(to, T2, VERIFY_SLOT, t2->name);
    } else if (insn->op == INSN_AND && insn->operand[1].kind == INSN_IMM && insn->imm >= 0 &&
               insn->imm < 64) {
        set_value(to, T2, VERIFY_BITS, (struct verify_name){0});
        to->t[1].len = (uint16_t)(insn->imm + 1);
    } else if (insn->op == INSN_MOVZX && insn->operand[1].kind == INSN_GPR &&
               insn->operand[1].size <= 2) {
        set_value(to, T2, VERIFY_WORD, (struct verify_name){0});
    }
}

/* A tag that no other slot's unused entry can have. */
static bool is_tag_of(int64_t tag, int64_t slot_offset)
{
    return (tag & 0xfff) == 0 && (int64_t)MMU_SLOT((uint64_t)tag) * 16 == slot_offset;
}

int64_t verify_constant(const struct verify_value *v)
{
    return (int64_t)((uint64_t)v->name.root << 32 | (uint32_t)v->name.offset);
}

static void set_test(struct verify_state *to, enum verify_test test, int64_t imm)
{
    to->test = (uint8_t)test;
    to->imm = imm;
}

static void step_cmp(const struct verifier *f, const struct insn *insn,
                     const struct verify_state *s, struct verify_state *to)
{
    const struct insn_operand *d = &insn->operand[0], *o = &insn->operand[1];
    const size_t limits =
        offsetof(struct vcpu, window) +
        (f->unit->is_user ? TLB_USER : TLB_SUPERVISOR) * sizeof(struct stack_window) +
        offsetof(struct stack_window, limit);
    uint64_t limit = (uint64_t)insn->disp - limits;
    enum tlb_access table;
    int64_t offset, tag = o->kind == INSN_IMM ? insn->imm : verify_constant(&s->t[0]);

    if (d->size != 8) {
        return;
    }
    if (is_gpr(insn, 0, T1) && o->kind == INSN_IMM) {
        set_test(to, VERIFY_CMP, insn->imm);
    } else if (memory_of(insn) && is_field(insn) &&
               (o->kind == INSN_IMM || (is_gpr(insn, 0, T1) && s->t[0].kind == VERIFY_CONST)) &&
               verify_is_tlb(insn->disp, f->unit->is_user, &table, &offset) && offset % 16 == 0 &&
               is_tag_of(tag, offset)) {
        set_test(to, VERIFY_CMP_PAGE, offset);
        to->page_table = (uint8_t)table;
    } else if (is_gpr(insn, 0, T1) && o->kind == INSN_MEM && is_field(insn) &&
               limit < STACK_WINDOW_LIMITS * 8u && limit % 8 == 0) {
        set_test(to, VERIFY_CMP_LIMIT, 8 << (limit / 8));
    }
}

static void step_known(const struct verifier *f, const struct insn *insn,
                       const struct verify_state *s, struct verify_state *to)
{
    switch (insn->op) {
    case INSN_MOV: step_mov(f, insn, s, to); break;
    case INSN_LEA: step_lea(insn, s, to); break;
    case INSN_ADD:
    case INSN_SUB: step_sum(f, insn, s, to); break;
    case INSN_RORX:
    case INSN_SHR:
    case INSN_AND:
    case INSN_MOVZX: step_slot(insn, s, to); break;
    case INSN_CMP: step_cmp(f, insn, s, to); break;
    case INSN_TEST:
        if (is_gpr(insn, 0, T1) && insn->operand[1].kind == INSN_IMM &&
            insn->operand[0].size == 8) {
            set_test(to, VERIFY_MASK, insn->imm);
        }
        break;
    default: break;
    }
}

/* With an index in a register, memory beyond the operand. */
static bool is_bit_string(const struct insn *insn)
{
    return insn->op >= INSN_BT && insn->op <= INSN_BTC && insn->operand[0].kind == INSN_MEM &&
           insn->operand[1].kind != INSN_IMM;
}

bool verify_step(struct verifier *f, const struct insn *insn, uint32_t at, struct verify_state *s)
{
    struct verify_state before = *s;

    if (!verify_op_allowed(insn)) {
        return verify_refuse(f, "not among the instructions");
    }
    if (is_bit_string(insn) && !(is_gpr(insn, 1, T2) && s->t[1].kind == VERIFY_BITS &&
                                 s->t[1].len <= 8u * insn->operand[0].size)) {
        return verify_refuse(f, "a bit beyond the operand");
    }
    if (!check_memory(f, insn, s) || !forget_results(f, insn, at, s)) {
        return false;
    }
    s->test = VERIFY_NO_TEST;
    if (insn->op != INSN_MOV) {
        s->page_slot = -1; /* of use to the next instruction only */
    }
    step_known(f, insn, &before, s);
    if (insn->op == INSN_MOV) {
        s->page_slot = -1;
    }
    return true;
}

/* --- conditional jumps --- */

#define COND_AE 3u
#define COND_NE 5u
#define COND_A  7u

static void admit(struct verify_state *s, unsigned cond)
{
    struct verify_value *t1 = &s->t[0];
    int64_t allowed = ~s->imm;

    if (s->test == VERIFY_CMP && cond == COND_A && s->imm >= 0 && s->imm < 4096) {
        uint16_t len = (uint16_t)(4096 - s->imm);

        if (t1->kind == VERIFY_DIFF) {
            t1->kind = VERIFY_OFFSET;
            t1->len = len;
        } else if (t1->kind == VERIFY_FILLED) {
            s->window = (struct verify_value){.kind = VERIFY_OFFSET, .len = len, .name = t1->name};
        }
    } else if (s->test == VERIFY_MASK && cond == COND_NE && t1->kind == VERIFY_DIFF &&
               allowed > 0 && allowed < 4096 && ((4096 - allowed) & (4095 - allowed)) == 0) {
        t1->kind = VERIFY_OFFSET; /* a multiple of a power of two, not above 4096 - it */
        t1->len = (uint16_t)(4096 - allowed);
    } else if (s->test == VERIFY_CMP_PAGE && cond == COND_NE) {
        s->page_slot = (int32_t)s->imm;
    } else if (s->test == VERIFY_CMP_LIMIT && cond == COND_AE && t1->kind == VERIFY_IN_WINDOW) {
        s->window =
            (struct verify_value){.kind = VERIFY_OFFSET, .len = (uint16_t)s->imm, .name = t1->name};
    }
}

void verify_not_taken(struct verify_state *s, unsigned cond)
{
    admit(s, cond);
    s->test = VERIFY_NO_TEST;
}
