/* seq_gen_test.c — make random sequences. */
#include <string.h>

#include "base/bits.h"
#include "hv/soft/cache/seq.h"
#include "hv/soft/cpu/fpu.h"
#include "hv/soft/cpu/vcpu.h"

#define INSNS_MAX 60u
#define FUNCTIONS 3u
#define POINTERS                                                                               \
    ((1u << GPR_RBX) | (1u << GPR_RSI) | (1u << GPR_RBP) | (1u << GPR_R10) | (1u << GPR_R12) | \
     (1u << GPR_R14) | (1u << GPR_RSP))

struct maker {
    struct seq *s;
    struct diff_random *r;
    size_t rows;
    uint16_t function[FUNCTIONS]; /* first items, once they are there */
    uint16_t calls[32];           /* items that want one */
    unsigned call_count;
    bool writes_code;
};

/* --- items --- */

static struct seq_item *add(struct maker *m, const void *bytes, size_t len)
{
    struct seq_item *item = &m->s->items[m->s->item_count];

    m->s->item_count += m->s->item_count < SEQ_ITEMS_MAX - 1;
    *item = (struct seq_item){.len = (uint8_t)len};
    memcpy(item->bytes, bytes, len);
    return item;
}

#define ADD(m, ...) add((m), (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static void fix(struct seq_item *item, enum seq_fix kind, unsigned at, unsigned len)
{
    item->fix = kind;
    item->fix_at = (uint8_t)at;
    item->fix_len = (uint8_t)len;
}

static bool has_room(const struct maker *m)
{
    return m->s->item_count + 12 < SEQ_ITEMS_MAX;
}

static unsigned pick_value(struct diff_random *r)
{
    static const uint8_t regs[] = {GPR_RAX, GPR_RCX, GPR_RDX, GPR_RDI, GPR_R8,
                                   GPR_R9,  GPR_R11, GPR_R13, GPR_R15};

    return regs[diff_dice(r, sizeof(regs))];
}

/* RSP is seldom aligned for long, nor RSI behind string instructions. */
static unsigned pick_pointer(struct diff_random *r, const struct insn *insn, bool low_only)
{
    static const uint8_t regs[] = {GPR_RSI, GPR_RSP, GPR_RBX, GPR_RBP, GPR_R10, GPR_R12, GPR_R14};
    unsigned first = insn->mem_align && !diff_chance(r, 3) ? 2 : 0;

    return regs[first + diff_dice(r, (low_only ? 4 : (unsigned)sizeof(regs)) - first)];
}

/* A word of memory of the sequence's own; its address, 0 if there are no more. */
static uint64_t add_word(struct maker *m, bool is_item, uint64_t value)
{
    struct seq *s = m->s;
    uint64_t at = SEQ_TABLES + s->word_count * 8u;

    if (s->word_count == SEQ_WORDS_MAX) {
        return 0;
    }
    s->words[s->word_count++] = (struct seq_word){at, is_item, value};
    return at;
}

static void put32(uint8_t *bytes, uint64_t value)
{
    store_le32(bytes, (uint32_t)value);
}

/* and reg32, imm */
static void add_mask(struct maker *m, unsigned reg, unsigned mask)
{
    uint8_t bytes[] = {0x41, 0x81, 0xe0, 0, 0, 0, 0};

    bytes[0] = (uint8_t)(0x40 | reg >> 3);
    bytes[2] = (uint8_t)(0xe0 | (reg & 7));
    put32(bytes + 3, mask);
    (void)add(m, bytes, sizeof(bytes));
}

/* lea rdi, [rbx + disp] */
static void add_lea_rdi(struct maker *m)
{
    uint8_t bytes[] = {0x48, 0x8d, 0xbb, 0, 0, 0, 0};

    put32(bytes + 3, (uint64_t)diff_dice(m->r, 1024) - 512);
    (void)add(m, bytes, sizeof(bytes));
}

/* --- instructions of the table --- */

static bool is_branch(const struct insn *insn)
{
    return insn->klass == INSN_CLASS_INT && insn->op >= INSN_JMP && insn->op <= INSN_JRCXZ;
}

/* Those that would end too many sequences, or that store what is the host's own. */
static bool is_unwanted(struct diff_random *r, const struct insn *insn)
{
    switch (insn->op) {
    case INSN_POPF:
    case INSN_MASKMOVQ: /* bytes that are masked off may fault */
    case INSN_VMASKMOVDQU:
    case INSN_MASKMOVDQU:
    case INSN_FNSTENV:
    case INSN_FNSAVE:
    case INSN_FXSAVE: return true;
    case INSN_SHA1NEXTE: /* some CPUs do not insist on alignment */
    case INSN_SHA1MSG1:
    case INSN_SHA1MSG2:
    case INSN_SHA1RNDS4:
    case INSN_SHA256RNDS2:
    case INSN_SHA256MSG1:
    case INSN_SHA256MSG2: return insn->modrm < 0xc0;
    case INSN_FXRSTOR:
    case INSN_FRSTOR:
    case INSN_FLDENV:
    case INSN_FLDCW:
    case INSN_LDMXCSR:
    case INSN_LEAVE:
    case INSN_ENTER: return diff_chance(r, 95);
    case INSN_DIV:
    case INSN_IDIV: return diff_chance(r, 60);
    default: break;
    }
    if (insn->klass == INSN_CLASS_STRING && insn->addrsize == 4) {
        return true; /* vendors differ in what a count of 0 does to the upper half */
    }
    return is_branch(insn) || (insn->has_seg_override && insn->seg == SEG_GS && diff_chance(r, 98));
}

static bool only_reads(const struct insn *insn)
{
    switch (insn->op) {
    case INSN_CMP:
    case INSN_TEST:
    case INSN_BT:
    case INSN_PUSH:
    case INSN_NOP: return true;
    default: return false;
    }
}

/* Would it write a pointer? */
static bool writes_pointer(const struct insn *insn)
{
    for (unsigned i = 0; i < 2 && i < insn->operand_count; i++) {
        bool is_written =
            i == 0 ? !only_reads(insn) : insn->op == INSN_XCHG || insn->op == INSN_XADD;
        unsigned reg = insn->operand[i].reg + (insn->operand[i].is_high8 ? 4u : 0);

        if (insn->operand[i].kind == INSN_GPR && is_written && POINTERS >> (reg & 15) & 1 &&
            !insn->operand[i].is_high8) {
            return true;
        }
        if (insn->operand[i].is_high8 && is_written && insn->operand[i].reg == GPR_RBX) {
            return true;
        }
    }
    return false;
}

/* The displacement: mostly small and aligned as the instruction wants it. */
static int32_t pick_disp(struct diff_random *r, const struct insn *insn, bool is_short)
{
    int32_t disp = is_short ? (int32_t)diff_dice(r, 256) - 128 : (int32_t)diff_dice(r, 4096) - 2048;

    if (insn->mem_align && !diff_chance(r, 5)) {
        disp &= -(int32_t)insn->mem_align;
    }
    return disp;
}

/* Write ModRM and what follows anew, with an address that leads into data. */
static void redirect(struct maker *m, const uint8_t *old, const struct insn *insn)
{
    struct diff_random *r = m->r;
    bool has_rex = insn->rex != 0, is_short = diff_chance(r, 60),
         has_index = diff_chance(r, insn->mem_align ? 1 : 15);
    unsigned reg = insn->modrm & 0x38u, base = pick_pointer(r, insn, !has_rex),
             len = insn->modrm_at;
    int32_t disp = pick_disp(r, insn, is_short);
    struct seq_item *item;
    unsigned index = has_rex ? pick_value(r) : GPR_RCX;
    uint8_t bytes[24];

    memcpy(bytes, old, len);
    if (has_rex) {
        bytes[insn->prefix_len - 1] &= 0xfc;
    }
    if (diff_chance(r, 8)) {
        bytes[len] = (uint8_t)(reg | 5);
        memcpy(bytes + len + 5, old + insn->imm_at, insn->imm_len);
        item = add(m, bytes, (size_t)len + 5 + insn->imm_len);
        fix(item, SEQ_FIX_RIP, len + 1, 4);
        item->address = DIFF_REGION(DIFF_PLAIN) + 0x800 + (uint64_t)disp;
        return;
    }
    if (has_index) {
        add_mask(m, index, 0x3f);
    }
    if (has_rex) {
        bytes[insn->prefix_len - 1] |= (uint8_t)(base >> 3 | (has_index ? (index >> 3) << 1 : 0));
    }
    bytes[len++] = (uint8_t)((is_short ? 0x40u : 0x80u) | reg | (has_index ? 4 : base & 7));
    if (has_index) {
        bytes[len++] = (uint8_t)(diff_dice(r, 4) << 6 | (index & 7) << 3 | (base & 7));
    } else if ((base & 7) == 4) {
        bytes[len++] = (uint8_t)(0x20 | (base & 7));
    }
    store_le32(bytes + len, (uint32_t)disp);
    len += is_short ? 1 : 4;
    memcpy(bytes + len, old + insn->imm_at, insn->imm_len);
    len += insn->imm_len;
    if (len <= INSN_LEN_MAX) {
        (void)add(m, bytes, len);
    }
}

static bool has_memory(const struct insn *insn)
{
    for (unsigned i = 0; i < insn->operand_count; i++) {
        if (insn->operand[i].kind == INSN_MEM) {
            return true;
        }
    }
    return false;
}

static bool is_bit_string(const struct insn *insn)
{
    return insn->op >= INSN_BT && insn->op <= INSN_BTC && insn->operand[0].kind == INSN_MEM &&
           insn->operand[1].kind == INSN_GPR;
}

/* What must come before. */
static void prepare(struct maker *m, const struct insn *insn)
{
    if (insn->klass == INSN_CLASS_STRING) {
        if (diff_chance(m->r, 80)) {
            add_lea_rdi(m);
        }
        if (insn->rep) {
            (void)ADD(m, 0xb9, (uint8_t)diff_dice(m->r, 40), 0, 0, 0); /* mov ecx, n */
        }
    }
    if (is_bit_string(insn)) {
        add_mask(m, insn->operand[1].reg, 0x3ff);
    }
}

static void add_plain(struct maker *m)
{
    uint8_t bytes[INSN_LEN_MAX];
    struct insn insn;

    for (unsigned tries = 0; tries < 400; tries++) {
        if (!diff_draft(m->r, diff_next(m->r) % m->rows, false, bytes, &insn) ||
            is_unwanted(m->r, &insn) || (writes_pointer(&insn) && diff_chance(m->r, 97)) ||
            (is_bit_string(&insn) && POINTERS >> insn.operand[1].reg & 1)) {
            continue;
        }
        if ((insn.encoding != INSN_LEGACY && has_memory(&insn)) ||
            (has_memory(&insn) && !insn.has_modrm && insn.klass != INSN_CLASS_STRING)) {
            continue;
        }
        prepare(m, &insn);
        if (has_memory(&insn) && insn.has_modrm && insn.modrm < 0xc0) {
            redirect(m, bytes, &insn);
        } else {
            (void)add(m, bytes, insn.len);
        }
        return;
    }
    (void)ADD(m, 0x90);
}

/* --- control flow --- */

static void add_jump(struct maker *m, unsigned distance)
{
    bool is_short = distance < 5;
    unsigned cond = diff_dice(m->r, 20);
    uint16_t target = (uint16_t)(m->s->item_count + distance);
    struct seq_item *item;

    if (cond < 16) {
        item = is_short ? ADD(m, (uint8_t)(0x70 + cond), 0)
                        : ADD(m, 0x0f, (uint8_t)(0x80 + cond), 0, 0, 0, 0);
    } else if (cond < 18 && is_short) {
        item = ADD(m, 0xe3, 0); /* jrcxz */
    } else {
        item = is_short ? ADD(m, 0xeb, 0) : ADD(m, 0xe9, 0, 0, 0, 0);
    }
    fix(item, SEQ_FIX_REL, item->len - (is_short ? 1u : 4u), is_short ? 1 : 4);
    item->target = target;
}

/* A counter that only goes down bounds every loop, whatever is nested. */
static void add_loop(struct maker *m)
{
    unsigned distance = 1 + diff_dice(m->r, 12);
    uint64_t at = add_word(m, false, diff_dice(m->r, 40));
    uint8_t bytes[] = {0x83, 0x2c, 0x25, 0, 0, 0, 0, 1}; /* sub dword [at], 1 */
    struct seq_item *item;

    if (!at) {
        return;
    }
    distance = distance < m->s->item_count ? distance : m->s->item_count;
    put32(bytes + 3, at);
    (void)add(m, bytes, sizeof(bytes));
    item = ADD(m, 0x0f, 0x89, 0, 0, 0, 0); /* jns */
    fix(item, SEQ_FIX_REL, 2, 4);
    item->target = (uint16_t)(m->s->item_count - 2 - distance);
}

static void add_call(struct maker *m)
{
    struct seq_item *item;

    if (m->call_count == ARRAY_LEN(m->calls)) {
        return;
    }
    if (diff_chance(m->r, 60)) {
        item = ADD(m, 0xe8, 0, 0, 0, 0);
        fix(item, SEQ_FIX_REL, 1, 4);
        m->calls[m->call_count++] = (uint16_t)(m->s->item_count - 1);
    } else { /* mov rax, imm64; call rax */
        item = ADD(m, 0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0);
        fix(item, SEQ_FIX_ITEM, 2, 8);
        m->calls[m->call_count++] = (uint16_t)(m->s->item_count - 1);
        (void)ADD(m, 0xff, 0xd0);
    }
}

/* mov ecx, r; and ecx, 3; jmp [table + rcx * 8], to what follows */
static void add_table(struct maker *m)
{
    uint8_t bytes[] = {0xff, 0x24, 0xcd, 0, 0, 0, 0};
    uint64_t at = 0;

    if (m->s->word_count + 4 > SEQ_WORDS_MAX) {
        return;
    }
    (void)ADD(m, 0x89, (uint8_t)(0xc1 | (diff_chance(m->r, 50) ? 0 : GPR_RDX << 3)));
    (void)ADD(m, 0x83, 0xe1, 3);
    for (unsigned i = 0; i < 4; i++) {
        uint64_t word = add_word(m, true, m->s->item_count + 1 + diff_dice(m->r, 6));

        at = i ? at : word;
    }
    put32(bytes + 3, at);
    (void)add(m, bytes, sizeof(bytes));
}

/* lea rax, [rip + target]; push rax; ret */
static void add_push_ret(struct maker *m)
{
    struct seq_item *item = ADD(m, 0x48, 0x8d, 0x05, 0, 0, 0, 0);

    fix(item, SEQ_FIX_REL, 3, 4);
    item->target = (uint16_t)(m->s->item_count + 2 + diff_dice(m->r, 4));
    (void)ADD(m, 0x50);
    (void)ADD(m, 0xc3);
}

/* push imm32; popf: all that is harmless on the host */
static void add_popf(struct maker *m)
{
    uint8_t bytes[] = {0x68, 0, 0, 0, 0};

    put32(bytes + 1, diff_next(m->r) & (FLAGS_ARITH | FLAG_DF | FLAG_ID));
    (void)add(m, bytes, sizeof(bytes));
    (void)ADD(m, 0x9d);
}

/* pushf, and mostly what takes it off */
static void add_pushf(struct maker *m)
{
    (void)ADD(m, 0x9c);
    if (diff_chance(m->r, 70)) {
        (void)ADD(m, (uint8_t)(0x58 + diff_dice(m->r, 3)));
    }
}

/* --- stores into code --- */

/* op eax, imm32, and a store into its immediate or over its opcode; in either order.  The store
 * defines the flags: those from before it may be out of date in translated code that overwrites
 * itself. */
static void add_code_write(struct maker *m)
{
    static const uint8_t ops[] = {0x05, 0x0d, 0x15, 0x1d, 0x25, 0x2d, 0x35, 0x3d, 0xa9, 0xb8, 0xb9};
    bool is_later = diff_chance(m->r, 50), is_opcode = diff_chance(m->r, 40);
    unsigned distance = diff_dice(m->r, 6), at = m->s->item_count;
    uint8_t op = ops[diff_dice(m->r, sizeof(ops))], next = ops[diff_dice(m->r, sizeof(ops))];
    struct seq_item *item;

    if (!is_later) {
        (void)ADD(m, op, 1, 2, 3, 4);
        for (unsigned i = 0; i < distance; i++) {
            add_plain(m);
        }
    }
    if (is_opcode) { /* xor byte [code], op ^ next */
        item = ADD(m, 0x80, 0x34, 0x25, 0, 0, 0, 0, op ^ next);
    } else if (diff_chance(m->r, 50)) { /* xor dword [code + 1], imm32 */
        item = ADD(m, 0x81, 0x34, 0x25, 0, 0, 0, 0, op, next, 5, 6);
    } else { /* add [code + 1], edx */
        item = ADD(m, 0x01, 0x14, 0x25, 0, 0, 0, 0);
    }
    fix(item, SEQ_FIX_ITEM, 3, 4);
    item->address = !is_opcode;
    item->target = (uint16_t)at;
    if (is_later) {
        unsigned store = m->s->item_count - 1;

        for (unsigned i = 0; i < distance; i++) {
            add_plain(m);
        }
        m->s->items[store].target = (uint16_t)m->s->item_count;
        (void)ADD(m, op, 1, 2, 3, 4);
    }
}

/* --- whole sequences --- */

static void add_something(struct maker *m)
{
    unsigned dice = diff_dice(m->r, 100);

    if (m->writes_code && dice >= 94) {
        add_code_write(m);
    } else if (dice < 8) {
        add_jump(m, 1 + diff_dice(m->r, 8));
    } else if (dice < 12) {
        add_loop(m);
    } else if (dice < 15) {
        add_call(m);
    } else if (dice < 17) {
        add_table(m);
    } else if (dice < 19) {
        add_push_ret(m);
    } else if (dice < 20) {
        add_popf(m);
    } else if (dice < 21) {
        add_pushf(m);
    } else {
        add_plain(m);
    }
}

static void add_functions(struct maker *m)
{
    for (unsigned f = 0; f < FUNCTIONS; f++) {
        unsigned count = 1 + diff_dice(m->r, 5);

        m->function[f] = (uint16_t)m->s->item_count;
        while (count-- && has_room(m)) {
            add_plain(m);
        }
        if (diff_chance(m->r, 20)) {
            (void)ADD(m, 0xc2, 0, 0);
        } else {
            (void)ADD(m, 0xc3);
        }
    }
    for (unsigned i = 0; i < m->call_count; i++) {
        m->s->items[m->calls[i]].target = m->function[diff_dice(m->r, FUNCTIONS)];
    }
}

static void random_start(struct maker *m)
{
    static const uint8_t plain[] = {GPR_RBX, GPR_RSI, GPR_RBP, GPR_R12, GPR_R10, GPR_R14};
    struct diff_random *r = m->r;
    struct diff_state *s = &m->s->start;

    for (unsigned i = 0; i < 16; i++) {
        s->gpr[i] = diff_value(r);
    }
    for (unsigned i = 0; i < sizeof(plain); i++) {
        enum diff_place place = DIFF_PLAIN;

        if (i >= 4 && diff_chance(r, 60)) {
            static const enum diff_place places[] = {DIFF_DEVICE, DIFF_CODED, DIFF_CODED,
                                                     DIFF_READONLY, DIFF_MISSING};

            place = places[diff_dice(r, ARRAY_LEN(places))];
        }
        s->gpr[plain[i]] = DIFF_REGION(place) + 2048 + diff_dice(r, 8192);
        if (!diff_chance(r, 4)) {
            s->gpr[plain[i]] &= ~UINT64_C(63);
        }
    }
    s->gpr[GPR_RSP] = DIFF_REGION(DIFF_PLAIN) + (diff_chance(r, 20) ? 4096 : 6144) +
                      (diff_chance(r, 5) ? diff_dice(r, 64) : 16 * diff_dice(r, 4));
    s->rip = m->s->code_at;
    s->rflags = FLAG_1 | FLAG_IF | (diff_next(r) & FLAGS_ARITH);
    diff_random_fx(r, s->fx);
    if (!diff_chance(r, 10)) { /* mostly with exceptions masked, and a stack that takes pushes */
        store_le16(s->fx + FPU_FCW, 0x37f);
        store_le16(s->fx + FPU_FSW, 0);
        store_le32(s->fx + FPU_MXCSR, 0x1f80);
    }
}

void seq_make(struct seq *s, struct diff_random *r, size_t rows, bool writes_code)
{
    struct maker m = {.s = s, .r = r, .rows = rows, .writes_code = writes_code};
    unsigned count = 1 + diff_dice(r, diff_chance(r, 30) ? 8 : INSNS_MAX);

    memset(s, 0, sizeof(*s));
    s->code_at = DIFF_CODE + (diff_chance(r, 30) ? 3700 + diff_dice(r, 390) : diff_dice(r, 2048));
    for (unsigned i = 0; i < count && s->item_count + 50 < SEQ_ITEMS_MAX; i++) {
        add_something(&m);
    }
    (void)ADD(&m, DIFF_STOP);
    add_functions(&m);
    random_start(&m);
}

/* --- assembling --- */

static bool apply_fix(const struct seq_item *item, const uint64_t *at, unsigned index,
                      uint8_t *code)
{
    uint64_t value = 0, end = at[index] + item->len;
    int64_t distance;

    switch ((enum seq_fix)item->fix) {
    case SEQ_FIX_NONE: return true;
    case SEQ_FIX_ITEM: value = at[item->target] + item->address; break;
    case SEQ_FIX_REL: value = at[item->target] - end; break;
    case SEQ_FIX_RIP: value = item->address - end; break;
    }
    distance = (int64_t)value;
    memcpy(code + item->fix_at, &value, item->fix_len);
    return item->fix_len > 1 || distance == (int8_t)distance;
}

static bool add_words(const struct seq *s, const uint64_t *at, struct diff_batch *b,
                      struct diff_case *c)
{
    struct diff_word *words = diff_batch_alloc(b, s->word_count * sizeof(*words) + 1);

    if (!words) {
        return false;
    }
    for (unsigned i = 0; i < s->word_count; i++) {
        const struct seq_word *w = &s->words[i];

        words[i] = (struct diff_word){w->at, w->is_item ? at[w->value] : w->value};
    }
    c->words = words;
    c->word_count = (uint16_t)s->word_count;
    return true;
}

bool seq_assemble(const struct seq *s, struct diff_batch *b)
{
    struct diff_case *c = &b->cases[b->count];
    uint64_t at[SEQ_ITEMS_MAX + 1], next = s->code_at;
    uint8_t *code;

    for (unsigned i = 0; i < s->item_count; i++) {
        at[i] = next;
        next += s->items[i].len;
    }
    for (unsigned i = s->item_count; i <= SEQ_ITEMS_MAX; i++) {
        at[i] = next;
    }
    code = diff_batch_alloc(b, next - s->code_at + INSN_LEN_MAX);
    if (!code || b->count == DIFF_BATCH || next > DIFF_CODE + DIFF_CODE_BYTES) {
        return false;
    }
    memset(c, 0, sizeof(*c));
    for (unsigned i = 0; i < s->item_count; i++) {
        const struct seq_item *item = &s->items[i];

        memcpy(code + (at[i] - s->code_at), item->bytes, item->len);
        if (!apply_fix(item, at, i, code + (at[i] - s->code_at))) {
            return false;
        }
    }
    c->start = s->start;
    c->code = code;
    c->code_at = s->code_at;
    c->code_len = (uint16_t)(next - s->code_at);
    c->regions = (1u << DIFF_PLACES) - 1;
    if (!add_words(s, at, b, c)) {
        return false;
    }
    b->count++;
    return true;
}

void seq_drop(struct seq *s, unsigned index)
{
    memmove(&s->items[index], &s->items[index + 1],
            (s->item_count - index - 1) * sizeof(s->items[0]));
    s->item_count--;
    for (unsigned i = 0; i < s->item_count; i++) {
        s->items[i].target -= s->items[i].target > index;
    }
    for (unsigned i = 0; i < s->word_count; i++) {
        s->words[i].value -= s->words[i].is_item && s->words[i].value > index;
    }
}
