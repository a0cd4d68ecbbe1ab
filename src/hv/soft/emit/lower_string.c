/* lower_string.c — MOVS and STOS within a page on each side.
 *
 * Theory of operation.  A stub for each form checks that the direction is up and that the whole run
 * lies in one page of the table of reads, or of writes; then the host's own instruction runs on
 * host addresses.  Both operands are translated linearly, so an overlap is the guest's overlap.
 * What the stub refuses, with carry set, the interpreter's op does, page by page. */
#include "hv/soft/emit/emit_int.h"

#define CC_CARRY     0x82
#define CC_NOT_EQUAL 0x85
#define CC_ABOVE     0x87
#define CALL         0xe8

#define PAGE 4096u

/* --- stubs --- */

struct string_stub {
    struct asm_buf *a;
    unsigned priv, shift;
    bool is_rep;
    uint8_t *fail[8];
    unsigned fail_count;
};

static void fail_if(struct string_stub *s, uint8_t condition)
{
    s->fail[s->fail_count++] = asm_jump(s->a, condition);
}

static void land_fails(struct string_stub *s)
{
    while (s->fail_count > 0) {
        asm_land(s->a, s->fail[--s->fail_count], s->a->at);
    }
}

static void compare_imm(struct asm_buf *a, unsigned reg, uint32_t imm)
{
    asm_rr(a, 8, 0x81, 7, reg);
    asm_imm(a, imm, 4);
}

/* The direction, and a count that may be within a page: before anything is pushed. */
static void check_form(struct string_stub *s)
{
    asm_rm(s->a, 4, 0xf7, 0, HOST_VCPU, offsetof(struct vcpu, rflags)); /* test */
    asm_imm(s->a, FLAG_DF, 4);
    fail_if(s, CC_NOT_EQUAL);
    if (s->is_rep) {
        compare_imm(s->a, HOST_RCX, PAGE >> s->shift);
        fail_if(s, CC_ABOVE);
    }
}

/* rdx = bytes */
static void count_bytes(struct string_stub *s)
{
    if (s->is_rep) {
        asm_rm_index(s->a, 8, 0x8d, HOST_RDX, HOST_NONE, HOST_RCX, s->shift, 0);
    } else {
        asm_mov_imm(s->a, HOST_RDX, 1u << s->shift);
    }
}

/* to = host address of the guest's `reg`; rdx bytes from there must be in one page; `slot` and
 * `end` are destroyed. */
static void translate(struct string_stub *s, unsigned reg, enum tlb_access access, unsigned to,
                      unsigned slot, unsigned end)
{
    int32_t table = (int32_t)(offsetof(struct vcpu, tlb) + s->priv * sizeof(struct tlb_set) +
                              (size_t)access * TLB_SLOTS * sizeof(struct tlb_entry));
    struct asm_buf *a = s->a;

    asm_mov(a, to, reg);
    asm_rr(a, 4, 0x89, reg, slot);
    asm_rr(a, 4, 0xc1, 5, slot); /* shr */
    ASM(a, 8);
    asm_rr(a, 4, 0x81, 4, slot); /* and */
    asm_imm(a, (TLB_SLOTS - 1) * sizeof(struct tlb_entry), 4);
    asm_rm_index(a, 8, 0x2b, to, HOST_VCPU, slot, 0,
                 table + (int32_t)offsetof(struct tlb_entry, page));
    compare_imm(a, to, PAGE - 1);
    fail_if(s, CC_ABOVE);
    asm_rm_index(a, 8, 0x8d, end, to, HOST_RDX, 0, 0);
    compare_imm(a, end, PAGE);
    fail_if(s, CC_ABOVE);
    asm_rm_index(a, 8, 0x03, to, HOST_VCPU, slot, 0,
                 table + (int32_t)offsetof(struct tlb_entry, host));
}

static void run_host(struct string_stub *s, uint8_t opcode)
{
    if (s->is_rep) {
        ASM(s->a, 0xf3);
    }
    if (s->shift == 1) {
        ASM(s->a, 0x66);
    } else if (s->shift == 3) {
        ASM(s->a, 0x48);
    }
    ASM(s->a, (uint8_t)(opcode | (s->shift > 0)));
}

/* reg is a host address that began as `from`; the guest's register was `old`. */
static void advance(struct asm_buf *a, unsigned reg, unsigned from, unsigned old)
{
    asm_rr(a, 8, 0x29, from, reg);
    asm_rr(a, 8, 0x01, old, reg);
}

static void end_stub(struct string_stub *s, struct string_stub *pushed)
{
    static const uint8_t done[] = {0x58, 0x5a, 0xf8, 0xc3}; /* pop rax; pop rdx; clc; ret */

    asm_bytes(s->a, done, sizeof(done));
    land_fails(pushed);
    ASM(s->a, 0x58, 0x5a);
    land_fails(s);
    ASM(s->a, 0xf9, 0xc3); /* stc; ret */
}

static void movs_stub(struct asm_buf *a, unsigned priv, unsigned shift, bool is_rep)
{
    struct string_stub s = {.a = a, .priv = priv, .shift = shift, .is_rep = is_rep}, pushed = s;

    check_form(&s);
    ASM(a, 0x52, 0x50); /* push rdx; push rax */
    count_bytes(&s);
    translate(&pushed, HOST_RSI, TLB_READ, HOST_T1, HOST_T2, HOST_RAX);
    translate(&pushed, HOST_RDI, TLB_WRITE, HOST_T2, HOST_RAX, HOST_RDX);
    asm_mov(a, HOST_RAX, HOST_RSI);
    asm_mov(a, HOST_RDX, HOST_RDI);
    asm_mov(a, HOST_RSI, HOST_T1);
    asm_mov(a, HOST_RDI, HOST_T2);
    run_host(&s, 0xa4);
    advance(a, HOST_RSI, HOST_T1, HOST_RAX);
    advance(a, HOST_RDI, HOST_T2, HOST_RDX);
    end_stub(&s, &pushed);
}

static void stos_stub(struct asm_buf *a, unsigned priv, unsigned shift, bool is_rep)
{
    struct string_stub s = {.a = a, .priv = priv, .shift = shift, .is_rep = is_rep}, pushed = s;

    check_form(&s);
    ASM(a, 0x52, 0x50); /* push rdx; push rax */
    count_bytes(&s);
    translate(&pushed, HOST_RDI, TLB_WRITE, HOST_T1, HOST_T2, HOST_RDX);
    asm_mov(a, HOST_RDX, HOST_RDI);
    asm_mov(a, HOST_RDI, HOST_T1);
    run_host(&s, 0xaa);
    advance(a, HOST_RDI, HOST_T1, HOST_RDX);
    end_stub(&s, &pushed);
}

void emit_string_stubs(struct emit_cache *e)
{
    for (unsigned i = 0; i < STRING_STUBS; i++) {
        unsigned priv = i & 1, shift = i >> 1 & 3;
        bool is_rep = i >> 3 & 1;

        e->movs[i] = e->buf.at;
        movs_stub(&e->buf, priv, shift, is_rep);
        e->stos[i] = e->buf.at;
        stos_stub(&e->buf, priv, shift, is_rep);
    }
}

/* --- the instructions --- */

_Static_assert(TLB_SUPERVISOR == 0 && TLB_USER == 1, "bit 0 of a stub's number");

bool emit_lower_string(struct translation *t, const struct insn *insn)
{
    bool is_movs = insn->op == INSN_MOVS;
    bool has_base = insn->seg == SEG_FS || insn->seg == SEG_GS;
    unsigned i;

    if ((!is_movs && insn->op != INSN_STOS) || insn->addrsize != 8 || (is_movs && has_base)) {
        return false;
    }
    i = (t->v->cpl == 3) | (unsigned)__builtin_ctz(insn->opsize) << 1 | (insn->rep ? 8u : 0);
    emit_flags_give_up(t, emit_flags_use(insn));
    asm_jump_to(t->a, CALL, is_movs ? t->e->movs[i] : t->e->stos[i]);
    (void)emit_miss(t, asm_jump(t->a, CC_CARRY));
    return true;
}
