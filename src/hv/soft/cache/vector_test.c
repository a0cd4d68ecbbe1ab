/* vector_test.c — single instructions, interpreted and translated: the same end.
 *
 * The cases are those of the differential test (diff_gen_test.c), which holds the interpreter
 * against the host's CPU but steps, and so never sees translated code.  Here the instruction is a
 * block, or the middle of one, that ends in an HLT, which is #GP at CPL 3.  Operands cross pages,
 * are misaligned, or fault; vector registers and MXCSR are random, exceptions unmasked in some.
 *
 * EC1_SEED repeats a run, EC1_VECTOR_CASES sets how many cases, EC1_DIFF_OP takes one operation.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/bits.h"
#include "hv/soft/cache/code_int.h"
#include "hv/soft/cache/diff.h"
#include "hv/soft/cache/snippet.h"
#include "hv/soft/cpu/regs.h"
#include "x86/cr.h"

#define PHYS_CODE     UINT64_C(0x10000)
#define PHYS_DATA     UINT64_C(0x20000)
#define PHYS_READONLY UINT64_C(0x30000)

static const uint8_t before[] = {0x0f, 0x28, 0xc0}; /* movaps xmm0, xmm0 */
static const uint8_t hlt = 0xf4;

static void machine_start(struct soft_vm *vm, const char *tier)
{
    CHECK_INT(setenv("EC1_SOFT_TIER", tier, 1), 0);
    soft_vm_init(vm);
    vm->v->cpuid = NULL;
    (void)soft_vm_map(vm, DIFF_CODE, PHYS_CODE, PTE_RW | PTE_US);
    soft_vm_map_range(vm, DIFF_DATA, PHYS_DATA, DIFF_BYTES, PTE_RW | PTE_US);
    (void)soft_vm_map(vm, DIFF_READONLY, PHYS_READONLY, PTE_US);
    mmu_init(vm->v);
    CHECK_INT(code_cache_init(vm->v), 0);
    CHECK(!vm->v->emit == !strcmp(tier, "interp"));
    fpu_reset(vm->v);
}

static void machine_stop(struct soft_vm *vm)
{
    code_cache_fini(vm->v);
    soft_vm_fini(vm);
}

static void enter_user_mode(struct vcpu *v)
{
    for (unsigned i = 0; i < SEG_TR; i++) {
        v->seg[i] = (struct cpu_segment){.limit = UINT32_MAX, .attr = 0xc0f3, .selector = 0x2b};
    }
    v->seg[SEG_CS].attr = 0xa0fb;
    v->seg[SEG_CS].selector = 0x33;
    v->seg[SEG_GS].base = DIFF_GS_BASE;
    vcpu_set_cpl(v, 3);
    vcpu_update_mode(v);
}

static void load(struct soft_vm *vm, const struct diff_case *c, bool with_before)
{
    struct vcpu *v = vm->v;
    uint64_t skip = with_before ? sizeof(before) : 0;
    uint64_t code = PHYS_CODE + (c->start.rip - DIFF_CODE);
    uint8_t data[DIFF_BYTES];

    enter_user_mode(v);
    diff_fill_case(c, data);
    (void)mem_write(vm->mem, GPA(PHYS_DATA), data, sizeof(data));
    (void)mem_write(vm->mem, GPA(code - skip), before, skip);
    (void)mem_write(vm->mem, GPA(code), c->code, c->insn.len);
    (void)mem_write(vm->mem, GPA(code + c->insn.len), &hlt, 1);
    code_cache_external_write(v, GPA(code - skip), skip + c->insn.len + 1);
    memcpy(v->gpr, c->start.gpr, sizeof(v->gpr));
    v->rip = c->start.rip - skip;
    vcpu_set_rflags(v, c->start.rflags & ~(uint64_t)FLAG_IF);
    memcpy(v->xsave, c->start.fx, FPU_LEGACY_LEN);
}

static int run_case(struct vcpu *v)
{
    v->exc.error = 0;
    v->exc.cr2 = 0;
    v->halted = 0;
    if (_setjmp(v->unwind)) {
        return v->exc.vector;
    }
    code_run(v);
    return -1;
}

static const char *difference(struct soft_vm *a, struct soft_vm *b)
{
    static uint8_t x[DIFF_BYTES], y[DIFF_BYTES];
    static char text[160];
    const struct vcpu *v = a->v, *w = b->v;

    for (unsigned i = 0; i < GPR_COUNT; i++) {
        if (v->gpr[i] != w->gpr[i]) {
            (void)snprintf(text, sizeof(text), "r%u: %lx, translated %lx", i, v->gpr[i], w->gpr[i]);
            return text;
        }
    }
    if (v->rip != w->rip || v->exc.error != w->exc.error || v->exc.cr2 != w->exc.cr2) {
        (void)snprintf(text, sizeof(text), "rip %lx, translated %lx", v->rip, w->rip);
        return text;
    }
    if (vcpu_rflags(v) != vcpu_rflags(w)) {
        (void)snprintf(text, sizeof(text), "flags: %lx, translated %lx", vcpu_rflags(v),
                       vcpu_rflags(w));
        return text;
    }
    for (unsigned i = 0; i < FPU_LEGACY_LEN; i += 4) {
        if (load_le32(v->xsave + i) != load_le32(w->xsave + i)) {
            (void)snprintf(text, sizeof(text), "image at %u: %x, translated %x", i,
                           load_le32(v->xsave + i), load_le32(w->xsave + i));
            return text;
        }
    }
    (void)mem_read(a->mem, GPA(PHYS_DATA), x, sizeof(x));
    (void)mem_read(b->mem, GPA(PHYS_DATA), y, sizeof(y));
    return memcmp(x, y, sizeof(x)) ? "memory" : NULL;
}

static void report(const struct diff_case *c, const char *what)
{
    char text[96];

    print_error("%s\n   %s\n   ", insn_print(&c->insn, c->start.rip, text), what);
    for (unsigned i = 0; i < c->insn.len; i++) {
        print_error("%02x%s", c->code[i], i + 1 < c->insn.len ? " " : "\n");
    }
}

/* Not those that give something else each time, or may run for ever. */
static bool is_wanted(const struct insn *insn)
{
    const char *only = getenv("EC1_DIFF_OP");

    if (only && strcmp(only, insn_op_name((enum insn_op)insn->op)) != 0) {
        return false;
    }
    if (insn->op >= INSN_JMP && insn->op <= INSN_JRCXZ) {
        return false;
    }
    return insn->klass != INSN_CLASS_SYSTEM && insn->op != INSN_RDRAND && insn->op != INSN_RDSEED;
}

static bool is_same(struct soft_vm *vms, const struct diff_case *c, bool with_before)
{
    const char *what = NULL;
    int vector;

    for (unsigned round = 0; round < 2 && !what; round++) { /* with an empty TLB, with a full one */
        load(&vms[0], c, with_before);
        load(&vms[1], c, with_before);
        vector = run_case(vms[0].v);
        what = run_case(vms[1].v) != vector ? "vector" : difference(&vms[0], &vms[1]);
        CHECK_INT(vms[1].v->vec_live, 0);
    }
    if (what) {
        report(c, what);
    }
    return !what;
}

static unsigned long number_from(const char *name, unsigned long fallback)
{
    const char *text = getenv(name);

    return text ? strtoul(text, NULL, 0) : fallback;
}

TEST(vector, translated_instructions_do_what_interpreted_ones_do)
{
    unsigned long count = number_from("EC1_VECTOR_CASES", 6000), failed = 0;
    unsigned long seed = number_from("EC1_SEED", (unsigned long)time(NULL)), made = 0;
    struct diff_random r = {.state = seed * UINT64_C(0x9e3779b97f4a7c15) | 1};
    struct soft_vm vms[2];
    struct diff_case c;

    print_message("EC1_SEED=%lu\n", seed);
    machine_start(&vms[0], "interp");
    machine_start(&vms[1], "eager");
    for (unsigned long i = 0; made < count && failed < 10 && i < 400 * count; i++) {
        if (!diff_generate(&r, diff_next(&r) % diff_form_count(), false, &c) ||
            !is_wanted(&c.insn)) {
            continue;
        }
        made++;
        failed += !is_same(vms, &c, diff_chance(&r, 50));
    }
    machine_stop(&vms[0]);
    machine_stop(&vms[1]);
    CHECK_INT(failed, 0);
}

/* --- the way in --- */

/* addps xmm1, xmm2; hlt: twice, so that the second run finds translated code. */
static int run_addps(struct soft_vm *vm)
{
    vm->v->rip = CODE;
    return run(vm) < 0 ? (int)vm->v->xsave[FPU_XMM0 + 16 + 3] : -vm->v->exc.vector;
}

static void set_ones(struct vcpu *v)
{
    static const float one = 1;

    memcpy(v->xsave + FPU_XMM0 + 16, &one, 4);
    memcpy(v->xsave + FPU_XMM0 + 32, &one, 4);
}

TEST(vector, control_registers_close_the_way_at_once)
{
    static const struct {
        uint64_t cr0, cr4; /* bits that change */
        int result;
    } cases[] = {
        {0, 0, 0x40}, /* 2.0f */
        {CR0_TS, 0, -EXC_NM},
        {CR0_EM, 0, -EXC_UD},
        {0, CR4_OSFXSR, -EXC_UD},
    };
    struct soft_vm vm;

    CHECK_INT(setenv("EC1_SOFT_TIER", "eager", 1), 0);
    START(&vm, 0x0f, 0x58, 0xca, 0xf4);
    for (unsigned i = 0; i < 3 * sizeof(cases) / sizeof(cases[0]); i++) {
        unsigned which = i % (sizeof(cases) / sizeof(cases[0]));
        uint64_t cr0 = vm.v->cr0, cr4 = vm.v->cr4;

        set_ones(vm.v);
        vm.v->cr0 ^= cases[which].cr0;
        vm.v->cr4 ^= cases[which].cr4;
        CHECK_INT(run_addps(&vm), cases[which].result);
        vm.v->cr0 = cr0;
        vm.v->cr4 = cr4;
    }
    finish(&vm);
}

/* divss xmm1, xmm2 by zero, hlt: after an LDMXCSR in the same block. */
TEST(vector, an_exception_unmasked_within_a_block_is_raised)
{
    static const uint32_t masks[] = {0x1f80, 0x1f80 & ~0x200u, 0x1f80};
    struct soft_vm vm;

    CHECK_INT(setenv("EC1_SOFT_TIER", "eager", 1), 0);
    START(&vm, 0x0f, 0x58, 0xc0, 0x0f, 0xae, 0x16, 0xf3, 0x0f, 0x5e, 0xca, 0x0f, 0xae, 0x1e, 0xf4);
    vm.v->cr4 |= CR4_OSXMMEXCPT;
    for (unsigned i = 0; i < sizeof(masks) / sizeof(masks[0]); i++) {
        bool is_masked = masks[i] == 0x1f80;

        set_ones(vm.v);
        memset(vm.v->xsave + FPU_XMM0 + 32, 0, 16);
        store_le32(vm.v->xsave + FPU_MXCSR, 0x1f80);
        soft_vm_poke(&vm, DATA, masks[i]);
        vm.v->gpr[GPR_RSI] = DATA;
        vm.v->rip = CODE;
        CHECK_INT(run(&vm), is_masked ? -1 : EXC_XM);
        CHECK_INT(vm.v->rip, is_masked ? CODE + 14 : CODE + 6);
        CHECK_INT(load_le32(vm.v->xsave + FPU_MXCSR), masks[i] | 4);
        CHECK_INT((uint32_t)soft_vm_peek(&vm, DATA), is_masked ? masks[i] | 4 : masks[i]);
        CHECK_INT(__builtin_ia32_stmxcsr() & 0xffc0, 0x1f80);
    }
    finish(&vm);
}
