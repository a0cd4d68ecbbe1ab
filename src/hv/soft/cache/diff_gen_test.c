/* diff_gen_test.c — make instructions from insn.def, and states in which they do something. */
#include <string.h>

#include "base/bits.h"
#include "hv/soft/cache/diff_gen.h"
#include "hv/soft/cpu/cpuid.h"
#include "hv/soft/cpu/fpu.h"
#include "hv/soft/cpu/vcpu.h"

struct row {
    uint16_t form;
    uint8_t map, opcode;
};

static struct row g_rows[4096];
static size_t g_row_count;
static uint64_t g_features; /* of the host */

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

/* Is `name` in a list separated by commas? */
static bool is_listed(const char *list, const char *name)
{
    size_t len = strlen(name);

    while (list && *list) {
        if (strncmp(list, name, len) == 0 && (list[len] == ',' || !list[len])) {
            return true;
        }
        list = strchr(list, ',');
        list += list != NULL;
    }
    return false;
}

static void add_rows(unsigned map, unsigned opcode, const char *only)
{
    const struct insn_form *form = &insn_form[insn_opcode[map << 8 | opcode].first];

    for (; form->op != INSN_INVALID; form++) {
        if (is_testable(form) && g_row_count < ARRAY_LEN(g_rows) &&
            (!only || is_listed(only, insn_op_name((enum insn_op)form->op)))) {
            g_rows[g_row_count++] =
                (struct row){(uint16_t)(form - insn_form), (uint8_t)map, (uint8_t)opcode};
        }
    }
}

size_t diff_rows_init(const char *only)
{
    unsigned i;

    g_row_count = 0;
    g_features = cpuid_features(NULL);
    for (i = 0; i < INSN_MAP_COUNT * 256; i++) {
        add_rows(i >> 8, i & 0xff, only);
    }
    return g_row_count;
}

/* --- bytes --- */

static void put_mandatory(struct diff_random *r, struct diff_draft *d, const struct insn_form *form)
{
    bool is_any = form->prefix == PREFIX_ANY;

    if (is_any ? diff_chance(r, 25)
               : form->prefix == PREFIX_P66 || (form->prefix == PREFIX_N66 && diff_chance(r, 30))) {
        diff_put(d, 0x66);
    } else if (form->klass == INSN_CLASS_INT && form->prefix & (PREFIX_F3 | PREFIX_F2) &&
               diff_chance(r, 20)) {
        diff_put(d, 0x66); /* operand size beside F3 or F2 */
    }
    if (form->prefix == PREFIX_F3 || (is_any && diff_chance(r, 5))) {
        diff_put(d, 0xf3);
    } else if (form->prefix == PREFIX_F2 || (is_any && diff_chance(r, 5))) {
        diff_put(d, 0xf2);
    } else if (form->klass == INSN_CLASS_STRING && diff_chance(r, 60)) {
        diff_put(d, diff_next(r) & 1 ? 0xf2 : 0xf3);
    }
}

static void put_prefixes(struct diff_random *r, struct diff_draft *d, const struct insn_form *form,
                         bool is_compat)
{
    unsigned rex = 0x40 | (unsigned)(diff_next(r) & 15);

    if (diff_chance(r, 10)) {
        diff_put(d, 0x67);
    }
    if (form->flags & F_LOCKABLE && diff_chance(r, 25)) {
        diff_put(d, 0xf0);
    }
    if (!is_compat && diff_chance(r, 10)) {
        diff_put(d, 0x65);
    } else if (diff_chance(r, 5)) {
        diff_put(d, 0x2e);
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
        diff_put(d, rex);
    }
}

static void put_modrm(struct diff_random *r, struct diff_draft *d, const struct insn_form *form)
{
    unsigned modrm = ((unsigned)diff_next(r) & 0xff & ~form->mask) | (form->value & 0xff);
    bool is_mem = form->mask & KEY_MEM ? form->value & KEY_MEM : diff_next(r) & 1;

    if ((form->mask & 0xff) != 0xff) {
        modrm |= 0xc0;
        if (is_mem) {
            modrm -= 0x40u * (1 + (unsigned)(diff_next(r) % 3));
        }
    }
    diff_put(d, modrm);
    if (modrm < 0xc0 && (modrm & 7) == 4) {
        diff_put(d, (unsigned)diff_next(r) & 0xff);
    }
}

static void put_instruction(struct diff_random *r, struct diff_draft *d, const struct row *row,
                            bool is_compat)
{
    const struct insn_form *form = &insn_form[row->form];

    if (row->map >= INSN_MAP_VEX) {
        diff_put_avx(r, d, form, row->map, is_compat);
    } else {
        put_prefixes(r, d, form, is_compat);
    }
    if (row->map && row->map < INSN_MAP_VEX) {
        diff_put(d, 0x0f);
    }
    if (row->map >= 2 && row->map < INSN_MAP_VEX) {
        diff_put(d, row->map == 2 ? 0x38 : 0x3a);
    }
    diff_put(d, row->opcode);
    if (insn_opcode[row->map << 8 | row->opcode].has_modrm) {
        put_modrm(r, d, form);
    }
    while (d->len < INSN_LEN_MAX) {
        uint64_t value = diff_chance(r, 50) ? diff_corner(r) : diff_next(r);

        diff_put(d, (unsigned)value & 0xff);
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

/* Where an operand of `size` bytes shall be: about each of the region's page boundaries. */
static uint64_t choose_target(struct diff_random *r, enum diff_place place, unsigned size,
                              unsigned align)
{
    uint64_t base = DIFF_REGION(place), at = base + 256 + diff_dice(r, DIFF_REGION_BYTES - 1024);
    unsigned dice = diff_dice(r, 100);

    if (dice < 30) {
        at = base + 4096 - diff_dice(r, size + 1); /* into the middle page */
    } else if (dice < 45) {
        at = base + 8192 - diff_dice(r, size + 1); /* out of it */
    } else if (dice < 55) {
        at = base + 4096 + diff_dice(r, 4096 - 600); /* in it */
    } else if (dice < 58) {
        at = base + DIFF_REGION_BYTES - diff_dice(r, size + 1); /* into nothing */
    } else if (dice < 60) {
        at = base - diff_dice(r, size + 1);
    }
    if (align && !diff_chance(r, 10)) {
        at &= ~(uint64_t)(align - 1);
    }
    return at;
}

static enum diff_place choose_place(struct diff_random *r)
{
    static const enum diff_place places[] = {
        DIFF_PLAIN,    DIFF_PLAIN,    DIFF_PLAIN,  DIFF_PLAIN,  DIFF_PLAIN, DIFF_MISSING,
        DIFF_READONLY, DIFF_READONLY, DIFF_DEVICE, DIFF_DEVICE, DIFF_CODED, DIFF_CODED};

    return places[diff_dice(r, ARRAY_LEN(places))];
}

/* --- a case in the making --- */

struct making {
    struct diff_random *r;
    struct diff_case *c;
    enum diff_place place;
    uint8_t *bytes;
};

/* Let the memory operand be at `target`: by its base, its index, or the displacement. */
static void aim(struct making *m, uint64_t target)
{
    const struct insn *insn = &m->c->insn;
    uint64_t *gpr = m->c->start.gpr;
    uint64_t base_seg = insn->has_seg_override && insn->seg == SEG_GS ? DIFF_GS_BASE : 0;
    uint64_t want = target - base_seg - (uint64_t)insn->disp;
    uint64_t upper = insn->addrsize == 4 && !m->c->is_compat ? diff_next(m->r) << 32 : 0;
    unsigned index = insn->has_vsib ? INSN_NO_REG : insn->index;
    uint32_t disp32;

    if (insn->base < 16 && index < 16 && insn->base == index) {
        gpr[insn->base] =
            (insn->addrsize == 4 ? (uint32_t)want : want) / (1u + insn->scale) + upper;
    } else if (insn->base < 16) {
        want -= index < 16 ? gpr[index] * insn->scale : 0;
        gpr[insn->base] = insn->addrsize == 4 ? (uint32_t)want + upper : want;
    } else if (index < 16) {
        gpr[index] = (insn->addrsize == 4 ? (uint32_t)want : want) / insn->scale + upper;
    } else if (insn->disp_len >= 4) {
        want = target - base_seg - (insn->base == INSN_REG_RIP ? m->c->start.rip + insn->len : 0);
        disp32 = (uint32_t)want;
        memcpy(m->bytes + insn->disp_at, &disp32, 4);
        if (insn->disp_len == 8) {
            memcpy(m->bytes + insn->disp_at, &want, 8);
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

static void set_string(struct making *m)
{
    struct diff_random *r = m->r;
    const struct insn *insn = &m->c->insn;
    uint64_t *gpr = m->c->start.gpr;
    uint64_t upper = insn->addrsize == 4 && !m->c->is_compat ? diff_next(r) << 32 : 0;

    gpr[GPR_RSI] = choose_target(r, m->place, 64, 0);
    gpr[GPR_RDI] = diff_chance(r, 30) ? gpr[GPR_RSI] + diff_next(r) % 33 - 16
                                      : choose_target(r, m->place, 64, 0);
    gpr[GPR_RCX] = diff_chance(r, 20) ? 0 : diff_next(r) % 70;
    if (insn->has_seg_override && insn->seg == SEG_GS) {
        gpr[GPR_RSI] -= DIFF_GS_BASE;
    }
    gpr[GPR_RSI] += upper;
    gpr[GPR_RDI] += upper;
    gpr[GPR_RCX] += gpr[GPR_RCX] ? upper : 0; /* vendors differ in what 0 does to the upper half */
}

/* Registers that an instruction uses as pointers or counts without naming them. */
static void set_implied(struct making *m)
{
    uint64_t *gpr = m->c->start.gpr;

    switch (m->c->insn.op) {
    case INSN_XLAT:
        gpr[GPR_RBX] = choose_target(m->r, m->place, 1, 0) - (gpr[GPR_RAX] & 0xff);
        break;
    case INSN_MASKMOVQ:
    case INSN_VMASKMOVDQU:
    case INSN_MASKMOVDQU: gpr[GPR_RDI] = choose_target(m->r, m->place, 16, 0); break;
    case INSN_LEAVE:
    case INSN_ENTER: gpr[GPR_RBP] = choose_target(m->r, m->place, 8, 0); break;
    default: break;
    }
    if (m->c->insn.klass == INSN_CLASS_STRING) {
        set_string(m);
    }
}

/* Bit strings: the register moves the address, so it stays small. */
static void set_bit_index(struct making *m)
{
    const struct insn *insn = &m->c->insn;
    unsigned reg = insn->operand[1].reg;

    if (insn->op != INSN_BT && insn->op != INSN_BTS && insn->op != INSN_BTR &&
        insn->op != INSN_BTC) {
        return;
    }
    if (insn->operand[0].kind == INSN_MEM && insn->operand[1].kind == INSN_GPR &&
        reg != insn->base && reg != insn->index) {
        m->c->start.gpr[reg] = diff_next(m->r) % 1024 - 512;
        if (m->c->is_compat) {
            m->c->start.gpr[reg] &= 0xffffffff;
        }
    }
}

/* Random bytes are hardly ever an MXCSR that loads: the eight that hold it become a word of the
 * case, where it does not cross them. */
static bool set_mxcsr(struct making *m, struct diff_batch *b)
{
    struct diff_case *c = m->c;
    uint64_t at = c->target + (c->insn.op == INSN_FXRSTOR ? FPU_MXCSR : 0);
    uint64_t offset = (at & ~UINT64_C(7)) - DIFF_REGION(m->place);
    struct diff_word *word;
    uint8_t bytes[8];

    if ((c->insn.op != INSN_LDMXCSR && c->insn.op != INSN_VLDMXCSR && c->insn.op != INSN_FXRSTOR) ||
        !diff_chance(m->r, 85) || (at & 7) > 4 || offset >= DIFF_REGION_BYTES ||
        (offset / 4096 == 1 && (m->place == DIFF_MISSING || m->place == DIFF_READONLY))) {
        return true;
    }
    word = diff_batch_alloc(b, sizeof(*word));
    if (!word) {
        return false;
    }
    memcpy(bytes, b->image + offset, 8);
    store_le32(bytes + (at & 7), (uint32_t)diff_next(m->r) & 0xffff);
    *word = (struct diff_word){at & ~UINT64_C(7), load_le64(bytes)};
    c->words = word;
    c->word_count = 1;
    return true;
}

/* Mostly within the first page of code; also across to the second, and up to the missing third. */
static uint64_t choose_rip(struct diff_random *r, unsigned len)
{
    unsigned dice = diff_dice(r, 100);

    if (dice < 6) {
        return DIFF_CODE + 4096 - diff_dice(r, len + 1);
    }
    if (dice < 9) {
        return DIFF_CODE + 8192 - 1 - diff_dice(r, len);
    }
    return DIFF_CODE + 16 + diff_dice(r, 4000);
}

static void random_start(struct making *m)
{
    struct diff_state *s = &m->c->start;
    struct diff_random *r = m->r;
    unsigned i;

    for (i = 0; i < 16; i++) {
        s->gpr[i] = diff_value(r);
    }
    s->gpr[GPR_RSP] = choose_target(r, m->place, 8, 8);
    s->rip = choose_rip(r, m->c->insn.len);
    s->rflags =
        FLAG_1 | FLAG_IF | (diff_next(r) & FLAGS_ARITH) | (diff_chance(r, 25) ? FLAG_DF : 0);
    diff_random_fx(r, s->fx);
}

static void narrow(struct diff_case *c)
{
    unsigned i;

    for (i = 0; i < 16; i++) {
        c->start.gpr[i] = i < 8 ? (uint32_t)c->start.gpr[i] : 0;
    }
    memset(c->start.fx + FPU_XMM0 + 128, 0, 128);
    memset(c->start.fx + FPU_YMM_HI + 128, 0, 128);
    memset(c->start.fx + FPU_ZMM_HI + 256, 0, FPU_IMAGE_LEN - FPU_ZMM_HI - 256);
}

/* Not into itself: that may never come to an end. */
static void lead_away(struct making *m)
{
    const struct insn *insn = &m->c->insn;

    if (insn->operand_count && insn->operand[0].kind == INSN_REL &&
        (uint64_t)insn->imm + insn->len < insn->len) {
        memset(m->bytes + insn->imm_at, 0x11, insn->imm_len);
    }
}

bool diff_is_vendor_matter(const struct insn *insn, bool is_compat)
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
    /* and refuses VPINSRQ and VPEXTRQ of VEX outside 64-bit mode */
    if (insn->encoding == INSN_VEX && is_compat &&
        (insn->op == INSN_VPINSRD || insn->op == INSN_VPEXTRD)) {
        return true;
    }
    /* and has no 0F 0D with a register */
    return !insn->encoding && insn->map == 1 && insn->opcode == 0x0d && insn->modrm >= 0xc0;
}

bool diff_draft(struct diff_random *r, size_t row, bool is_compat, uint8_t *bytes,
                struct insn *ret_insn)
{
    struct diff_draft d = {.len = 0};

    put_instruction(r, &d, &g_rows[row], is_compat);
    memcpy(bytes, d.bytes, INSN_LEN_MAX);
    return insn_decode(bytes, INSN_LEN_MAX, is_compat ? INSN_MODE_32 : INSN_MODE_64, ret_insn) ==
               INSN_OK &&
           insn_gate(ret_insn, g_features) && ret_insn->op == insn_form[g_rows[row].form].op &&
           !(ret_insn->has_seg_override && ret_insn->seg == SEG_FS) && /* the C library's */
           !diff_is_vendor_matter(ret_insn, is_compat) && !(is_compat && ret_insn->addrsize == 2);
}

static bool finish(struct making *m, struct diff_batch *b)
{
    struct diff_case *c = m->c;

    random_start(m);
    if (c->is_compat) {
        narrow(c);
    }
    set_implied(m);
    set_bit_index(m);
    if (has_memory(&c->insn)) {
        c->target = choose_target(m->r, m->place, memory_size(&c->insn), c->insn.mem_align);
        if (c->insn.has_vsib) {
            diff_set_indices(m->r, c);
        }
        aim(m, c->target);
        if (!set_mxcsr(m, b)) {
            return false;
        }
    }
    lead_away(m);
    if (c->is_compat) {
        narrow(c);
    }
    c->code_at = c->start.rip;
    c->code_len = c->insn.len;
    return insn_decode(m->bytes, INSN_LEN_MAX, c->is_compat ? INSN_MODE_32 : INSN_MODE_64,
                       &c->insn) == INSN_OK;
}

bool diff_generate(struct diff_random *r, size_t row, bool is_compat, struct diff_batch *b)
{
    struct making m = {.r = r, .c = &b->cases[b->count], .place = choose_place(r)};
    struct diff_case *c = m.c;

    c->is_compat = is_compat;
    c->form = g_rows[row].form;
    c->words = NULL;
    c->word_count = 0;
    c->target = 0;
    c->regions = (uint8_t)(1u << m.place);
    m.bytes = diff_batch_alloc(b, INSN_LEN_MAX + 1);
    if (!m.bytes || !diff_draft(r, row, is_compat, m.bytes, &c->insn)) {
        return false;
    }
    c->is_step = !(c->insn.klass == INSN_CLASS_STRING && c->insn.rep);
    c->code = m.bytes;
    if (!finish(&m, b)) {
        return false;
    }
    b->count++;
    return true;
}
