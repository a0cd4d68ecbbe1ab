/* diff_gen_test.c — make instructions from insn.def, and states in which they do something. */
#include <string.h>

#include "base/bits.h"
#include "hv/soft/cache/diff.h"
#include "hv/soft/cpu/fpu.h"
#include "hv/soft/cpu/vcpu.h"

struct row {
    uint16_t form;
    uint8_t map, opcode;
};

static struct row g_rows[2048];
static size_t g_row_count;
static bool g_is_listed;

static bool is_testable(const struct insn_form *form)
{
    if (form->klass == INSN_CLASS_SYSTEM) {
        return false;
    }
    if (form->klass == INSN_CLASS_FPSTATE) {
        return form->op < INSN_XSAVE || form->op > INSN_XRSTORS; /* XCR0 is not the host's */
    }
    switch (form->op) {
    case INSN_RDRAND: /* not twice the same */
    case INSN_RDSEED:
    case INSN_INS: /* SYSTEM in spirit */
    case INSN_OUTS: return false;
    default: return true;
    }
}

static void add_rows(unsigned map, unsigned opcode)
{
    const struct insn_form *form = &insn_form[insn_opcode[map << 8 | opcode].first];

    for (; form->op != INSN_INVALID; form++) {
        if (is_testable(form) && g_row_count < ARRAY_LEN(g_rows)) {
            g_rows[g_row_count++] =
                (struct row){(uint16_t)(form - insn_form), (uint8_t)map, (uint8_t)opcode};
        }
    }
}

size_t diff_form_count(void)
{
    unsigned i;

    for (i = 0; !g_is_listed && i < INSN_MAP_COUNT * 256; i++) {
        add_rows(i >> 8, i & 0xff);
    }
    g_is_listed = true;
    return g_row_count;
}

/* --- values --- */

static uint64_t corner(struct diff_random *r)
{
    static const uint64_t values[] = {0,
                                      1,
                                      2,
                                      3,
                                      7,
                                      8,
                                      0x0f,
                                      0x10,
                                      0x1f,
                                      0x20,
                                      0x3f,
                                      0x40,
                                      0x7f,
                                      0x80,
                                      0x81,
                                      0xff,
                                      0x100,
                                      0x7fff,
                                      0x8000,
                                      0xffff,
                                      0x10000,
                                      0x7fffffff,
                                      0x80000000,
                                      0xffffffff,
                                      UINT64_C(0x100000000),
                                      UINT64_C(0x7fffffffffffffff),
                                      UINT64_C(0x8000000000000000),
                                      UINT64_C(0x5555555555555555),
                                      UINT64_C(0xaaaaaaaaaaaaaaaa)};
    uint64_t value = values[diff_next(r) % ARRAY_LEN(values)];

    return diff_chance(r, 30) ? 0 - value : value;
}

static uint64_t random_value(struct diff_random *r)
{
    uint64_t value = diff_next(r);

    switch (diff_next(r) & 3) {
    case 0: return corner(r);
    case 1: return value;
    case 2: return value >> (diff_next(r) & 63);
    default: return (value & ~UINT64_C(0xff)) | (corner(r) & 0xff);
    }
}

/* Eight bytes that are interesting as integers or as floating point. */
static uint64_t vector_value(struct diff_random *r)
{
    static const uint32_t singles[] = {0,          0x80000000, 0x3f800000, 0xbf800000, 0x7f800000,
                                       0xff800000, 0x7fc00000, 0x7fa00000, 0x00000001, 0x807fffff,
                                       0x4f000000, 0xcf000000, 0x3f000001, 0x7f7fffff, 0x41200000};
    static const uint64_t doubles[] = {0,
                                       UINT64_C(0x8000000000000000),
                                       UINT64_C(0x3ff0000000000000),
                                       UINT64_C(0xbff8000000000000),
                                       UINT64_C(0x7ff0000000000000),
                                       UINT64_C(0xfff0000000000000),
                                       UINT64_C(0x7ff8000000000000),
                                       UINT64_C(0x7ff4000000000001),
                                       UINT64_C(1),
                                       UINT64_C(0x800fffffffffffff),
                                       UINT64_C(0x41e0000000000000),
                                       UINT64_C(0xc3e0000000000000),
                                       UINT64_C(0x7fefffffffffffff),
                                       UINT64_C(0x4024000000000000)};

    switch (diff_next(r) & 3) {
    case 0: return random_value(r);
    case 1: return doubles[diff_next(r) % ARRAY_LEN(doubles)];
    case 2:
        return singles[diff_next(r) % ARRAY_LEN(singles)] |
               (uint64_t)singles[diff_next(r) % ARRAY_LEN(singles)] << 32;
    default: return diff_next(r);
    }
}

void diff_fill(uint64_t seed, uint8_t *data, size_t size)
{
    struct diff_random r = {seed * 2 + 1};
    size_t i;
    uint64_t value = 0;

    for (i = 0; i + 8 <= size; i += 8) {
        /* mostly one stride, with interesting values here and there: this runs for every case */
        value = value * 0x9e3779b97f4a7c15 + r.state;
        if ((value >> 60) < 3) {
            uint64_t special = vector_value(&r);

            store_le64(data + i, special);
        } else {
            store_le64(data + i, value);
        }
    }
}

void diff_fill_case(const struct diff_case *c, uint8_t *data)
{
    uint64_t at = c->patch_at - DIFF_DATA;

    diff_fill(c->memory_seed, data, DIFF_BYTES);
    if (c->patch_at && at <= DIFF_BYTES - sizeof(c->patch)) {
        store_le32(data + at, c->patch);
    }
}

static void random_st(struct diff_random *r, uint8_t *st)
{
    static const uint16_t exponents[] = {0, 0x3fff, 0xbfff, 0x7fff, 0xffff,
                                         1, 0x401e, 0x403e, 0x8000, 0x4002};
    uint64_t mantissa = vector_value(r);
    uint16_t exponent = exponents[diff_next(r) % ARRAY_LEN(exponents)];

    if (exponent & 0x7fff && !diff_chance(r, 10)) {
        mantissa |= UINT64_C(1) << 63; /* else unnormal: invalid */
    }
    memset(st, 0, 16);
    store_le64(st, mantissa);
    store_le16(st + 8, exponent);
}

static void random_fx(struct diff_random *r, uint8_t *fx)
{
    static const uint16_t control[] = {0x037f, 0x037f, 0x037f, 0x027f, 0x0f7f,
                                       0x007f, 0x077f, 0x0b7f, 0x0340, 0x035f};
    uint16_t status = (uint16_t)(diff_next(r) & 0x7f00);
    uint32_t mxcsr = 0x1f80;
    unsigned i;

    memset(fx, 0, DIFF_FX_BYTES);
    store_le16(fx + FPU_FCW, control[diff_next(r) % ARRAY_LEN(control)]);
    if (diff_chance(r, 5)) {
        status |= diff_next(r) & 0x7f;
    }
    if (status & ~load_le16(fx + FPU_FCW) & 0x3f) {
        status |= 0x8080; /* an unmasked exception is pending */
    }
    store_le16(fx + FPU_FSW, status);
    fx[FPU_FTW] = diff_chance(r, 50) ? 0xff : (uint8_t)diff_next(r);
    if (diff_chance(r, 40)) {
        mxcsr |= diff_next(r) & 0xe040; /* rounding, FTZ, DAZ */
    }
    if (diff_chance(r, 15)) {
        mxcsr &= ~(uint32_t)(diff_next(r) & 0x1f80); /* unmask */
    }
    if (diff_chance(r, 20)) {
        mxcsr |= diff_next(r) & 0x3f;
    }
    store_le32(fx + FPU_MXCSR, mxcsr);
    store_le32(fx + FPU_MXCSR_MASK, 0xffff);
    for (i = 0; i < 8; i++) {
        random_st(r, fx + FPU_ST0 + 16 * i);
    }
    for (i = 0; i < 32; i++) {
        store_le64(fx + FPU_XMM0 + 8 * i, vector_value(r));
    }
}

/* --- bytes --- */

struct draft {
    uint8_t bytes[32];
    unsigned len;
};

static void put(struct draft *d, unsigned byte)
{
    d->bytes[d->len++] = (uint8_t)byte;
}

static void put_mandatory(struct diff_random *r, struct draft *d, const struct insn_form *form)
{
    bool is_any = form->prefix == PREFIX_ANY;

    if (is_any ? diff_chance(r, 25)
               : form->prefix == PREFIX_P66 || (form->prefix == PREFIX_N66 && diff_chance(r, 30))) {
        put(d, 0x66);
    } else if (form->klass == INSN_CLASS_INT && form->prefix & (PREFIX_F3 | PREFIX_F2) &&
               diff_chance(r, 20)) {
        put(d, 0x66); /* operand size beside F3 or F2 */
    }
    if (form->prefix == PREFIX_F3 || (is_any && diff_chance(r, 5))) {
        put(d, 0xf3);
    } else if (form->prefix == PREFIX_F2 || (is_any && diff_chance(r, 5))) {
        put(d, 0xf2);
    } else if (form->klass == INSN_CLASS_STRING && diff_chance(r, 60)) {
        put(d, diff_next(r) & 1 ? 0xf2 : 0xf3);
    }
}

static void put_prefixes(struct diff_random *r, struct draft *d, const struct insn_form *form,
                         bool is_compat)
{
    unsigned rex = 0x40 | (unsigned)(diff_next(r) & 15);

    if (diff_chance(r, 10)) {
        put(d, 0x67);
    }
    if (form->flags & F_LOCKABLE && diff_chance(r, 25)) {
        put(d, 0xf0);
    }
    if (!is_compat && diff_chance(r, 10)) {
        put(d, 0x65);
    } else if (diff_chance(r, 5)) {
        put(d, 0x2e);
    }
    put_mandatory(r, d, form);
    if (is_compat) {
        return;
    }
    if (form->mask & KEY_W) {
        rex = (rex & ~8u) | (form->value & KEY_W ? 8 : 0);
    }
    if (form->mask & KEY_B) {
        rex &= ~1u;
    }
    if (diff_chance(r, 60) || (form->mask & KEY_W && rex & 8)) {
        put(d, rex);
    }
}

static void put_modrm(struct diff_random *r, struct draft *d, const struct insn_form *form)
{
    unsigned modrm = ((unsigned)diff_next(r) & 0xff & ~form->mask) | (form->value & 0xff);
    bool is_mem = form->mask & KEY_MEM ? form->value & KEY_MEM : diff_next(r) & 1;

    if ((form->mask & 0xff) != 0xff) {
        modrm |= 0xc0;
        if (is_mem) {
            modrm -= 0x40u * (1 + (unsigned)(diff_next(r) % 3));
        }
    }
    put(d, modrm);
    if (modrm < 0xc0 && (modrm & 7) == 4) {
        put(d, (unsigned)diff_next(r) & 0xff);
    }
}

static void put_instruction(struct diff_random *r, struct draft *d, const struct row *row,
                            bool is_compat)
{
    const struct insn_form *form = &insn_form[row->form];

    put_prefixes(r, d, form, is_compat);
    if (row->map) {
        put(d, 0x0f);
    }
    if (row->map >= 2) {
        put(d, row->map == 2 ? 0x38 : 0x3a);
    }
    put(d, row->opcode);
    if (insn_opcode[row->map << 8 | row->opcode].has_modrm) {
        put_modrm(r, d, form);
    }
    while (d->len < INSN_LEN_MAX) {
        uint64_t value = diff_chance(r, 50) ? corner(r) : diff_next(r);

        put(d, (unsigned)value & 0xff);
    }
}

/* --- addresses --- */

static unsigned memory_size(const struct insn *insn)
{
    unsigned i;

    if (insn->op == INSN_FXSAVE || insn->op == INSN_FXRSTOR) {
        return 512;
    }
    for (i = 0; i < insn->operand_count; i++) {
        if (insn->operand[i].kind == INSN_MEM && insn->operand[i].size) {
            return insn->operand[i].size;
        }
    }
    return 8;
}

/* Where an operand of `size` bytes shall be. */
static uint64_t choose_target(struct diff_random *r, unsigned size, unsigned align)
{
    uint64_t end = DIFF_DATA + DIFF_BYTES;
    uint64_t at = DIFF_DATA + 256 + diff_next(r) % (DIFF_BYTES - 512);
    unsigned dice = (unsigned)(diff_next(r) % 100);

    if (dice < 12) {
        at = DIFF_DATA + 4096 - diff_next(r) % (size + 1); /* across the page boundary */
    } else if (dice < 16) {
        at = end - diff_next(r) % (size + 1); /* into nothing */
    } else if (dice < 18) {
        at = DIFF_DATA - diff_next(r) % (size + 1);
    } else if (dice < 22) {
        at = DIFF_READONLY + diff_next(r) % 4000;
    }
    if (align && !diff_chance(r, 10)) {
        at &= ~(uint64_t)(align - 1);
    }
    return at;
}

/* Let the memory operand be at `target`: by its base, its index, or the displacement. */
static void aim(struct diff_random *r, struct diff_case *c, uint64_t target)
{
    const struct insn *insn = &c->insn;
    uint64_t *gpr = c->start.gpr;
    uint64_t base_seg = insn->has_seg_override && insn->seg == SEG_GS ? DIFF_GS_BASE : 0;
    uint64_t want = target - base_seg - (uint64_t)insn->disp;
    uint64_t upper = insn->addrsize == 4 && !c->is_compat ? diff_next(r) << 32 : 0;
    uint32_t disp32;

    if (insn->base < 16 && insn->index < 16 && insn->base == insn->index) {
        gpr[insn->base] =
            (insn->addrsize == 4 ? (uint32_t)want : want) / (1u + insn->scale) + upper;
    } else if (insn->base < 16) {
        want -= insn->index < 16 ? gpr[insn->index] * insn->scale : 0;
        gpr[insn->base] = insn->addrsize == 4 ? (uint32_t)want + upper : want;
    } else if (insn->index < 16) {
        gpr[insn->index] = (insn->addrsize == 4 ? (uint32_t)want : want) / insn->scale + upper;
    } else if (insn->disp_len >= 4) {
        want = target - base_seg - (insn->base == INSN_REG_RIP ? c->start.rip + insn->len : 0);
        disp32 = (uint32_t)want;
        memcpy(c->code + insn->disp_at, &disp32, 4);
        if (insn->disp_len == 8) {
            memcpy(c->code + insn->disp_at, &want, 8);
        }
    }
}

static bool has_memory(const struct insn *insn)
{
    unsigned i;

    for (i = 0; i < insn->operand_count; i++) {
        if (insn->operand[i].kind == INSN_MEM) {
            return true;
        }
    }
    return false;
}

/* Registers that an instruction uses as pointers or counts without naming them. */
static void set_implied(struct diff_random *r, struct diff_case *c)
{
    const struct insn *insn = &c->insn;
    uint64_t *gpr = c->start.gpr;
    uint64_t upper = insn->addrsize == 4 && !c->is_compat ? diff_next(r) << 32 : 0;

    switch (insn->op) {
    case INSN_XLAT: gpr[GPR_RBX] = choose_target(r, 1, 0) - (gpr[GPR_RAX] & 0xff); break;
    case INSN_MASKMOVQ:
    case INSN_MASKMOVDQU: gpr[GPR_RDI] = choose_target(r, 16, 0); break;
    case INSN_LEAVE:
    case INSN_ENTER: gpr[GPR_RBP] = choose_target(r, 8, 0); break;
    default: break;
    }
    if (insn->klass == INSN_CLASS_STRING) {
        gpr[GPR_RSI] = choose_target(r, 64, 0);
        gpr[GPR_RDI] =
            diff_chance(r, 30) ? gpr[GPR_RSI] + diff_next(r) % 33 - 16 : choose_target(r, 64, 0);
        gpr[GPR_RCX] = diff_chance(r, 20) ? 0 : diff_next(r) % 70;
        if (insn->has_seg_override && insn->seg == SEG_GS) {
            gpr[GPR_RSI] -= DIFF_GS_BASE;
        }
        gpr[GPR_RSI] += upper;
        gpr[GPR_RDI] += upper;
        gpr[GPR_RCX] +=
            gpr[GPR_RCX] ? upper : 0; /* vendors differ in what 0 does to the upper half */
    }
}

/* Bit strings: the register moves the address, so it stays small. */
static void set_bit_index(struct diff_random *r, struct diff_case *c)
{
    const struct insn *insn = &c->insn;
    unsigned reg = insn->operand[1].reg;

    if (insn->op != INSN_BT && insn->op != INSN_BTS && insn->op != INSN_BTR &&
        insn->op != INSN_BTC) {
        return;
    }
    if (insn->operand[0].kind == INSN_MEM && insn->operand[1].kind == INSN_GPR &&
        reg != insn->base && reg != insn->index) {
        c->start.gpr[reg] = diff_next(r) % 1024 - 512;
        if (c->is_compat) {
            c->start.gpr[reg] &= 0xffffffff;
        }
    }
}

/* Random bytes are hardly ever an MXCSR that loads. */
static void set_mxcsr(struct diff_random *r, struct diff_case *c)
{
    if ((c->insn.op == INSN_LDMXCSR || c->insn.op == INSN_FXRSTOR) && diff_chance(r, 85)) {
        c->patch_at = c->target + (c->insn.op == INSN_FXRSTOR ? FPU_MXCSR : 0);
        c->patch = (uint32_t)diff_next(r) & 0xffff;
    }
}

static void random_start(struct diff_random *r, struct diff_case *c)
{
    struct diff_state *s = &c->start;
    unsigned i;

    for (i = 0; i < 16; i++) {
        s->gpr[i] = random_value(r);
    }
    s->gpr[GPR_RSP] = choose_target(r, 8, 8);
    s->rip = DIFF_CODE + 16 + diff_next(r) % 4000;
    s->rflags =
        FLAG_1 | FLAG_IF | (diff_next(r) & FLAGS_ARITH) | (diff_chance(r, 25) ? FLAG_DF : 0);
    random_fx(r, s->fx);
    c->memory_seed = diff_next(r);
}

static void narrow(struct diff_case *c)
{
    unsigned i;

    for (i = 0; i < 16; i++) {
        c->start.gpr[i] = i < 8 ? (uint32_t)c->start.gpr[i] : 0;
    }
    memset(c->start.fx + FPU_XMM0 + 128, 0, 128);
}

/* What the host's CPU does otherwise than we mean to. */
static bool is_vendor_matter(const struct insn *insn, bool is_compat)
{
    /* AMD honours 66 on near branches in 64-bit mode */
    if (!is_compat && insn->has_66) {
        switch (insn->op) {
        case INSN_JMP:
        case INSN_JCC:
        case INSN_CALL:
        case INSN_JMP_IND:
        case INSN_CALL_IND:
        case INSN_RET:
        case INSN_LOOP:
        case INSN_LOOPE:
        case INSN_LOOPNE:
        case INSN_JRCXZ: return true;
        default: break;
        }
    }
    /* and lets F2 and F3 turn LOOPE and LOOPNE into each other */
    if (insn->rep && (insn->op == INSN_LOOPE || insn->op == INSN_LOOPNE)) {
        return true;
    }
    /* and has no 0F 0D with a register */
    return insn->map == 1 && insn->opcode == 0x0d && insn->modrm >= 0xc0;
}

bool diff_generate(struct diff_random *r, size_t index, bool is_compat, struct diff_case *ret_case)
{
    const struct row *row = &g_rows[index];
    enum insn_mode mode = is_compat ? INSN_MODE_32 : INSN_MODE_64;
    struct diff_case *c = ret_case;
    struct draft d = {.len = 0};

    put_instruction(r, &d, row, is_compat);
    memset(c, 0, sizeof(*c));
    memcpy(c->code, d.bytes, INSN_LEN_MAX);
    if (insn_decode(c->code, INSN_LEN_MAX, mode, &c->insn) != INSN_OK ||
        c->insn.op != insn_form[row->form].op || is_vendor_matter(&c->insn, is_compat) ||
        (is_compat && c->insn.addrsize == 2)) {
        return false;
    }
    c->is_compat = is_compat;
    c->form = row->form;
    c->is_repeated = c->insn.klass == INSN_CLASS_STRING && c->insn.rep;
    random_start(r, c);
    if (is_compat) {
        narrow(c);
    }
    set_implied(r, c);
    set_bit_index(r, c);
    if (has_memory(&c->insn)) {
        c->target = choose_target(r, memory_size(&c->insn), c->insn.mem_align);
        aim(r, c, c->target);
        set_mxcsr(r, c);
    }
    if (is_compat) {
        narrow(c);
    }
    return insn_decode(c->code, INSN_LEN_MAX, mode, &c->insn) == INSN_OK;
}
