/* diff_test.c — every user-mode instruction form does on a vCPU what it does on the host's CPU.
 *
 * EC1_DIFF_CASES sets how many cases per mode, EC1_SEED repeats a run, EC1_DIFF_OP=ADD keeps to
 * one operation.
 */
#include <stdlib.h>
#include <time.h>

#include "hv/soft/cache/code.h"
#include "hv/soft/cache/diff.h"
#include "hv/soft/cpu/cpuid.h"
#include "hv/soft/cpu/fpu.h"
#include "hv/soft/cpu/regs.h"
#include "hv/soft/mmu/mmu.h"
#include "tests/lib/soft_vm.h"
#include "tests/lib/test.h"

#define BATCH         256u
#define REPORTS_MAX   25u
#define PHYS_CODE     UINT64_C(0x200000)
#define PHYS_DATA     UINT64_C(0x210000)
#define PHYS_READONLY UINT64_C(0x220000)

struct differ {
    struct soft_vm vm;
    struct diff_random random;
    unsigned long cases, failed;
    unsigned op_failed[INSN_OP_COUNT];
    struct diff_case batch[BATCH];
    struct diff_result native[BATCH];
    struct diff_result soft;
};

/* --- the vCPU's side --- */

static void machine_start(struct soft_vm *vm)
{
    uint8_t data[4096];

    soft_vm_init(vm);
    vm->v->cpuid = NULL;
    (void)soft_vm_map(vm, DIFF_CODE, PHYS_CODE, PTE_RW | PTE_US);
    soft_vm_map_range(vm, DIFF_DATA, PHYS_DATA, DIFF_BYTES, PTE_RW | PTE_US);
    (void)soft_vm_map(vm, DIFF_READONLY, PHYS_READONLY, PTE_US);
    diff_fill(1, data, sizeof(data));
    (void)mem_write(vm->mem, GPA(PHYS_READONLY), data, sizeof(data));
    mmu_init(vm->v);
    CHECK_INT(code_cache_init(vm->v), 0);
    fpu_reset(vm->v);
}

static void machine_stop(struct soft_vm *vm)
{
    code_cache_fini(vm->v);
    soft_vm_fini(vm);
}

static void enter_user_mode(struct vcpu *v, bool is_compat)
{
    unsigned i;

    for (i = 0; i < SEG_TR; i++) {
        v->seg[i] = (struct cpu_segment){.limit = UINT32_MAX, .attr = 0xc0f3, .selector = 0x2b};
    }
    v->seg[SEG_CS].attr = is_compat ? 0xc0fb : 0xa0fb;
    v->seg[SEG_CS].selector = is_compat ? 0x23 : 0x33;
    v->seg[SEG_GS].base = DIFF_GS_BASE;
    v->cr0 |= CR0_MP | CR0_NE;
    vcpu_set_cpl(v, 3);
    vcpu_update_mode(v);
}

static void load_soft(struct soft_vm *vm, const struct diff_case *c)
{
    struct vcpu *v = vm->v;
    uint64_t code = PHYS_CODE + (c->start.rip - DIFF_CODE);
    uint8_t data[DIFF_BYTES];

    enter_user_mode(v, c->is_compat);
    diff_fill_case(c, data);
    (void)mem_write(vm->mem, GPA(PHYS_DATA), data, sizeof(data));
    (void)mem_write(vm->mem, GPA(code), c->code, c->insn.len);
    code_cache_external_write(v, GPA(code), c->insn.len);
    memcpy(v->gpr, c->start.gpr, sizeof(v->gpr));
    v->rip = c->start.rip;
    vcpu_set_rflags(v, c->start.rflags);
    memcpy(v->xsave, c->start.fx, FPU_LEGACY_LEN);
}

static void run_soft(struct soft_vm *vm, const struct diff_case *c, struct diff_result *r)
{
    struct vcpu *v = vm->v;

    load_soft(vm, c);
    r->vector = -1;
    if (_setjmp(v->unwind)) {
        r->vector = v->exc.vector;
        r->error = v->exc.has_error ? v->exc.error : 0;
        r->cr2 = v->exc.cr2;
    } else {
        code_step(v);
    }
    memcpy(r->end.gpr, v->gpr, sizeof(v->gpr));
    r->end.rip = v->rip;
    r->end.rflags = vcpu_rflags(v);
    memcpy(r->end.fx, v->xsave, FPU_LEGACY_LEN);
    (void)mem_read(vm->mem, GPA(PHYS_DATA), r->memory, sizeof(r->memory));
}

/* --- comparing --- */

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
    switch (c->insn.op) {
    case INSN_MASKMOVQ: /* bytes that are masked off may fault */
    case INSN_MASKMOVDQU: return n->vector >= 0;
    case INSN_SHA1NEXTE: /* some CPUs do not insist on alignment */
    case INSN_SHA1MSG1:
    case INSN_SHA1MSG2:
    case INSN_SHA1RNDS4:
    case INSN_SHA256RNDS2:
    case INSN_SHA256MSG1:
    case INSN_SHA256MSG2: return s->vector == EXC_GP && n->vector != EXC_GP;
    default: break;
    }
    if (n->vector < 0 || s->vector < 0) {
        return false;
    }
    if (c->insn.klass == INSN_CLASS_FPSTATE && n->vector == EXC_PF && s->vector == EXC_PF) {
        return true; /* the host looks at the last byte of a large area first */
    }
    if (n->vector == EXC_MF && s->vector == EXC_GP) {
        return true; /* pending x87 exception and a segment that is not writable */
    }
    switch (c->insn.op) {
    case INSN_CALL_IND: return n->vector != s->vector; /* bad target and bad stack */
    case INSN_CMPS:                                    /* which of two bad operands */
    case INSN_ENTER:                                   /* and pushed */
    case INSN_POPA: return n->vector == s->vector; /* the host has loaded some registers by then */
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

/* Flags of MXCSR that are not worth having exactly when an exception is raised: whether a result
 * that overflows would have been exact too, and what the steps of a dot product find. */
static uint32_t open_mxcsr(const struct diff_case *c, const struct diff_result *n)
{
    if (n->vector != EXC_XM) {
        return 0;
    }
    return c->insn.op == INSN_DPPS || c->insn.op == INSN_DPPD ? 0x3f : 0x20;
}

static bool differs_fx(const struct diff_case *c, const struct diff_result *n,
                       const struct diff_result *s, char *out, size_t room)
{
    const uint8_t *a = n->end.fx, *b = s->end.fx;
    unsigned i, xmm_count = c->is_compat ? 8 : 16;

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
    for (i = 0; i < xmm_count; i++) {
        size_t at = FPU_XMM0 + 16 * i;

        if (memcmp(a + at, b + at, 16) != 0) {
            say_bytes(out, room, "xmm", i, a + at, b + at, 16);
            return true;
        }
    }
    return false;
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

static bool differs_memory(const struct diff_case *c, const struct diff_result *n,
                           const struct diff_result *s, char *out, size_t room)
{
    unsigned i;

    for (i = 0; i < DIFF_BYTES; i++) {
        if (n->memory[i] != s->memory[i] && !is_open_byte(c, DIFF_DATA + i)) {
            (void)snprintf(out, room, "memory at %lx: native %02x soft %02x", DIFF_DATA + i,
                           n->memory[i], s->memory[i]);
            return true;
        }
    }
    return false;
}

static bool differs(const struct diff_case *c, const struct diff_result *n,
                    const struct diff_result *s, char *out, size_t room)
{
    if (is_open(c, n, s)) {
        return false;
    }
    return differs_event(c, n, s, out, room) || differs_gpr(c, n, s, out, room) ||
           differs_fx(c, n, s, out, room) || differs_memory(c, n, s, out, room);
}

static void report(struct differ *d, const struct diff_case *c, const struct diff_result *n,
                   const char *what)
{
    char text[96], bytes[40];
    unsigned i, seen = d->op_failed[c->insn.op]++;

    if (d->failed++ >= REPORTS_MAX || seen >= 3) {
        return;
    }
    for (i = 0; i < c->insn.len; i++) {
        (void)snprintf(bytes + 2 * i, 3, "%02x", c->code[i]);
    }
    print_error("%s: %s  %s\n   %s\n", c->is_compat ? "32" : "64", bytes,
                insn_print(&c->insn, c->start.rip, text), what);
    print_error(
        "   start: rax %lx rcx %lx rdx %lx rbx %lx rsp %lx rbp %lx rsi %lx rdi %lx flags %lx, "
        "native vector %d\n",
        c->start.gpr[0], c->start.gpr[1], c->start.gpr[2], c->start.gpr[3], c->start.gpr[4],
        c->start.gpr[5], c->start.gpr[6], c->start.gpr[7], c->start.rflags, n->vector);
}

/* --- the loop --- */

static const char *g_only; /* EC1_DIFF_OP */

/* Fewer than BATCH cases only if the operation asked for has no form in this mode. */
static size_t make_batch(struct differ *d, bool is_compat, size_t *form)
{
    size_t made = 0, tries = 0, count = diff_form_count();

    while (made < BATCH && tries < 20 * count + 20 * made * count) {
        struct diff_case *c = &d->batch[made];

        tries++;
        *form = (*form + 1) % count;
        if (diff_generate(&d->random, *form, is_compat, c) &&
            (!g_only || strcmp(g_only, insn_op_name((enum insn_op)c->insn.op)) == 0)) {
            made++;
        }
    }
    return made;
}

static void compare_batch(struct differ *d, size_t count)
{
    char what[200];
    size_t i;

    CHECK_INT(diff_run_native(d->batch, d->native, count), 0);
    for (i = 0; i < count; i++) {
        run_soft(&d->vm, &d->batch[i], &d->soft);
        d->cases++;
        if (differs(&d->batch[i], &d->native[i], &d->soft, what, sizeof(what))) {
            report(d, &d->batch[i], &d->native[i], what);
        }
    }
}

static void sum_up(const struct differ *d)
{
    unsigned op;

    for (op = 0; op < INSN_OP_COUNT; op++) {
        if (d->op_failed[op]) {
            print_error("%s: %u\n", insn_op_name((enum insn_op)op), d->op_failed[op]);
        }
    }
    print_message("%lu cases, %lu failed\n", d->cases, d->failed);
}

static unsigned long number_from(const char *name, unsigned long fallback)
{
    const char *text = getenv(name);

    return text ? strtoul(text, NULL, 0) : fallback;
}

static void run_cases(bool is_compat)
{
    struct differ *d = calloc(1, sizeof(*d));
    unsigned long count = number_from("EC1_DIFF_CASES", 12000), failed;
    uint64_t seed = number_from("EC1_SEED", (unsigned long)time(NULL));
    size_t form, made;

    CHECK(d);
    g_only = getenv("EC1_DIFF_OP");
    print_message("EC1_SEED=%lu\n", (unsigned long)seed);
    d->random.state = seed * UINT64_C(0x9e3779b97f4a7c15) | 1;
    form = (size_t)(diff_next(&d->random) % diff_form_count());
    machine_start(&d->vm);
    while (d->cases < count && (made = make_batch(d, is_compat, &form)) > 0) {
        compare_batch(d, made);
    }
    sum_up(d);
    failed = d->failed;
    machine_stop(&d->vm);
    free(d);
    CHECK_INT(failed, 0);
}

TEST(soft, instructions_do_what_the_host_does_in_64_bit_mode)
{
    run_cases(false);
}

TEST(soft, instructions_do_what_the_host_does_in_32_bit_mode)
{
    run_cases(true);
}
