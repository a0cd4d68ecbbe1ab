/* diff_compare_test.c — where two ends of a case differ, and which differences are explained.
 *
 * docs/soft-engine.md lists them.
 */
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "hv/soft/cache/diff.h"
#include "hv/soft/cpu/fpu.h"
#include "hv/soft/cpu/vcpu.h"

static void hex(char *out, const uint8_t *bytes, size_t count)
{
    size_t i;

    for (i = 0; i < count; i++) {
        (void)snprintf(out + 2 * i, 3, "%02x", bytes[count - 1 - i]);
    }
}

/* Say where two areas differ: up to `size` bytes from the first difference on. */
static void say_bytes(char *out, size_t room, const char *name, unsigned index,
                      const uint8_t *native, const uint8_t *soft, size_t size)
{
    char a[40], b[40];

    hex(a, native, size);
    hex(b, soft, size);
    (void)snprintf(out, room, "%s%u: native %s soft %s", name, index, a, b);
}

static bool differs_gpr(const struct diff_case *c, const struct diff_result *n,
                        const struct diff_result *s, char *out, size_t room)
{
    unsigned i, count = c->is_compat ? 8 : 16;

    for (i = 0; i < count; i++) {
        uint64_t mask = c->is_compat ? UINT32_MAX : UINT64_MAX;

        if ((n->end.gpr[i] ^ s->end.gpr[i]) & mask) {
            (void)snprintf(out, room, "gpr%u: native %lx soft %lx", i, n->end.gpr[i],
                           s->end.gpr[i]);
            return true;
        }
    }
    return false;
}

/* Flags that the manual leaves open and ref/ computes by itself. */
static uint64_t undefined_flags(const struct insn *insn)
{
    switch (insn->op) {
    case INSN_AAA:
    case INSN_AAS: return FLAG_OF | FLAG_SF | FLAG_ZF | FLAG_PF;
    case INSN_AAD:
    case INSN_AAM: return FLAG_OF | FLAG_AF | FLAG_CF;
    case INSN_DAA:
    case INSN_DAS: return FLAG_OF;
    default: return 0;
    }
}

/* Faults whose order, or what they leave behind, is open. */
static bool is_open(const struct diff_case *c, const struct diff_result *n,
                    const struct diff_result *s)
{
    if (n->vector == EXC_AC) { /* POPF has set RFLAGS.AC: the engine has no alignment checks */
        return true;
    }
    switch (c->insn.op) {
    case INSN_MASKMOVQ: /* bytes that are masked off may fault */
    case INSN_VMASKMOVDQU:
    case INSN_MASKMOVDQU: return n->vector >= 0;
    case INSN_UD0: /* vendors differ in how many bytes they want of it */
    case INSN_UD1: return n->vector == EXC_UD && s->vector == EXC_PF;
    case INSN_SHA1NEXTE: /* some CPUs do not insist on alignment */
    case INSN_SHA1MSG1:
    case INSN_SHA1MSG2:
    case INSN_SHA1RNDS4:
    case INSN_SHA256RNDS2:
    case INSN_SHA256MSG1:
    case INSN_SHA256MSG2: return s->vector == EXC_GP && n->vector != EXC_GP;
    case INSN_LDMXCSR:
    case INSN_VLDMXCSR: /* AMD's MXCSR.MM, which is not shown to guests */
    case INSN_FXRSTOR:
        if (load_le32(n->end.fx + FPU_MXCSR) & 0x20000) { /* and a sequence went on */
            return s->vector == EXC_GP;
        }
        break;
    default: break;
    }
    if (n->vector < 0 || s->vector < 0) {
        return false;
    }
    if (c->insn.has_vsib && n->vector == s->vector) {
        return true; /* elements above the one that faulted may be done */
    }
    if (c->insn.klass == INSN_CLASS_FPSTATE && n->vector == EXC_PF && s->vector == EXC_PF) {
        return true; /* the host looks at the last byte of a large area first */
    }
    if (n->vector == EXC_MF && s->vector == EXC_GP) {
        return true; /* pending x87 exception and a segment that is not writable */
    }
    if (n->vector == EXC_GP && s->vector == EXC_SS && c->insn.mem_align) {
        return true; /* neither canonical nor aligned */
    }
    switch (c->insn.op) {
    case INSN_CALL_IND: return n->vector != s->vector; /* bad target and bad stack */
    case INSN_MOVS:                                    /* which of two bad operands */
    case INSN_CMPS: return true;
    case INSN_PUSHA:
    case INSN_ENTER: return n->vector == s->vector; /* the host has pushed some by then */
    case INSN_POPA: return n->vector == s->vector;  /* the host has loaded some registers by then */
    default: return false;
    }
}

static bool differs_event(const struct diff_case *c, const struct diff_result *n,
                          const struct diff_result *s, char *out, size_t room)
{
    uint32_t error_mask;

    if (n->vector != s->vector) {
        (void)snprintf(out, room, "vector: native %d (error %x cr2 %lx) soft %d (error %x cr2 %lx)",
                       n->vector, n->error, n->cr2, s->vector, s->error, s->cr2);
        return true;
    }
    /* addresses of the host's kernel are present there */
    error_mask = n->cr2 >> 63 ? ~1u : ~0u;
    if (n->vector == EXC_PF && (((n->error ^ s->error) & error_mask) || n->cr2 != s->cr2)) {
        (void)snprintf(out, room, "#PF: native %x at %lx soft %x at %lx", n->error, n->cr2,
                       s->error, s->cr2);
        return true;
    }
    if (n->end.rip != s->end.rip) {
        (void)snprintf(out, room, "rip: native %lx soft %lx", n->end.rip, s->end.rip);
        return true;
    }
    if ((n->end.rflags ^ s->end.rflags) & (FLAGS_ARITH | FLAG_DF) & ~undefined_flags(&c->insn)) {
        (void)snprintf(out, room, "flags: native %lx soft %lx",
                       n->end.rflags & (FLAGS_ARITH | FLAG_DF),
                       s->end.rflags & (FLAGS_ARITH | FLAG_DF));
        return true;
    }
    return false;
}

static bool is_dot_product(unsigned op)
{
    return op == INSN_DPPS || op == INSN_DPPD || op == INSN_VDPPS || op == INSN_VDPPD;
}

/* Flags of MXCSR that are not worth having exactly when an exception is raised: whether a result
 * that overflows would have been exact too, and what the steps of a dot product find. */
static uint32_t open_mxcsr(const struct diff_case *c, const struct diff_result *n)
{
    if (n->vector != EXC_XM) {
        return 0;
    }
    return is_dot_product(c->insn.op) ? 0x3f : 0x20;
}

static bool differs_vectors(const struct diff_case *c, const struct diff_result *n,
                            const struct diff_result *s, char *out, size_t room)
{
    unsigned i, at, count = c->is_compat ? 8 : 32;

    for (i = 0; i < count; i++) {
        uint8_t a[64], b[64];

        diff_get_vector(&n->end, i, a);
        diff_get_vector(&s->end, i, b);
        for (at = 0; at < 64; at += 16) {
            if (memcmp(a + at, b + at, 16) != 0) {
                (void)snprintf(out, room, "+%02u ", at);
                say_bytes(out + 4, room - 4, "vector", i, a + at, b + at, 16);
                return true;
            }
        }
    }
    for (i = 0; i < 8; i++) {
        at = FPU_OPMASK + 8 * i;
        if (memcmp(n->end.fx + at, s->end.fx + at, 8) != 0) {
            say_bytes(out, room, "k", i, n->end.fx + at, s->end.fx + at, 8);
            return true;
        }
    }
    return false;
}

static bool differs_fx(const struct diff_case *c, const struct diff_result *n,
                       const struct diff_result *s, char *out, size_t room)
{
    const uint8_t *a = n->end.fx, *b = s->end.fx;
    unsigned i;

    if (memcmp(a, b, FPU_FOP) != 0) {
        say_bytes(out, room, "ftw:fsw:fcw", 0, a, b, FPU_FOP);
        return true;
    }
    if (((load_le32(a + FPU_MXCSR) ^ load_le32(b + FPU_MXCSR)) & ~open_mxcsr(c, n)) != 0) {
        say_bytes(out, room, "mxcsr", 0, a + FPU_MXCSR, b + FPU_MXCSR, 4);
        return true;
    }
    for (i = 0; i < 8; i++) {
        size_t at = FPU_ST0 + 16 * i;

        if (memcmp(a + at, b + at, 10) != 0) {
            say_bytes(out, room, "st", i, a + at, b + at, 10);
            return true;
        }
    }
    return differs_vectors(c, n, s, out, room);
}

/* Where the x87 pointers, or what else is the host's own, go in memory. */
static bool is_open_byte(const struct diff_case *c, uint64_t address)
{
    uint64_t at = address - c->target;
    unsigned size = c->insn.operand[0].size;

    switch (c->insn.op) {
    case INSN_FNSTENV:
    case INSN_FNSAVE: return size == 14 || size == 94 ? at >= 6 && at < 14 : at >= 12 && at < 28;
    case INSN_FXSAVE:
        return (at >= FPU_FOP && at < FPU_MXCSR) || (at >= FPU_MXCSR_MASK && at < FPU_ST0);
    default: return false;
    }
}

/* May these two words at an address differ?  NULL: one that did not change. */
static bool is_open_word(const struct diff_case *c, uint64_t at, const struct diff_word *a,
                         const struct diff_word *b)
{
    bool has_open = false, has_closed = false;
    unsigned i;

    for (i = 0; i < 8; i++) {
        bool differs = !a || !b || (uint8_t)(a->value >> 8 * i) != (uint8_t)(b->value >> 8 * i);
        bool is_open = is_open_byte(c, at + i);

        has_open |= is_open;
        has_closed |= differs && !is_open;
    }
    return a && b ? !has_closed : has_open;
}

static bool differs_memory(const struct diff_case *c, const struct diff_result *n,
                           const struct diff_result *s, char *out, size_t room)
{
    unsigned i = 0, j = 0;

    while (i < n->word_count && j < s->word_count && i < DIFF_WORDS_MAX && j < DIFF_WORDS_MAX) {
        const struct diff_word *a = &n->words[i], *b = &s->words[j];
        bool has_a = a->at <= b->at, has_b = b->at <= a->at;

        if (!is_open_word(c, has_a ? a->at : b->at, has_a ? a : NULL, has_b ? b : NULL)) {
            (void)snprintf(out, room, "memory: native %lx at %lx soft %lx at %lx", a->value, a->at,
                           b->value, b->at);
            return true;
        }
        i += has_a;
        j += has_b;
    }
    if (n->word_count - i != s->word_count - j) {
        (void)snprintf(out, room, "memory: native changed %u words, soft %u", n->word_count,
                       s->word_count);
        return true;
    }
    return false;
}

bool diff_differs_native(const struct diff_case *c, const struct diff_result *n,
                         const struct diff_result *s, char *out, size_t room)
{
    if (is_open(c, n, s)) {
        return false;
    }
    return differs_event(c, n, s, out, room) || differs_gpr(c, n, s, out, room) ||
           differs_fx(c, n, s, out, room) || differs_memory(c, n, s, out, room);
}

/* The translator promises flags only where a case comes to its end. */
bool diff_differs_tiers(const struct diff_case *c, const struct diff_result *i,
                        const struct diff_result *t, char *out, size_t room)
{
    uint64_t open_flags = i->vector == DIFF_NONE ? 0 : FLAGS_ARITH;
    unsigned words = i->word_count < DIFF_WORDS_MAX ? i->word_count : DIFF_WORDS_MAX;

    if (i->vector != t->vector || i->error != t->error || i->cr2 != t->cr2) {
        (void)snprintf(out, room,
                       "vector: interpreted %d (error %x cr2 %lx) translated %d (error %x cr2 %lx)",
                       i->vector, i->error, i->cr2, t->vector, t->error, t->cr2);
    } else if (i->end.rip != t->end.rip) {
        (void)snprintf(out, room, "rip: interpreted %lx translated %lx", i->end.rip, t->end.rip);
    } else if ((i->end.rflags ^ t->end.rflags) & ~open_flags) {
        (void)snprintf(out, room, "flags: interpreted %lx translated %lx", i->end.rflags,
                       t->end.rflags);
    } else if (memcmp(i->end.fx, t->end.fx, sizeof(i->end.fx)) != 0) {
        if (!differs_fx(c, i, t, out, room)) {
            (void)snprintf(out, room, "vector state that only a debugger sees");
        }
    } else if (i->word_count != t->word_count ||
               memcmp(i->words, t->words, words * sizeof(i->words[0])) != 0) {
        (void)snprintf(out, room, "memory: ");
        (void)differs_memory(c, i, t, out, room);
    } else {
        return differs_gpr(c, i, t, out, room);
    }
    return true;
}
