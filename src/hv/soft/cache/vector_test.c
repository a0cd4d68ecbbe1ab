/* vector_test.c — vector state in the host's registers: when it may go there, and that it comes
 * back.
 *
 * That instructions compute the right thing there is the business of diff_test.c and seq_test.c. */
#include <stdlib.h>

#include "base/bits.h"
#include "hv/soft/cache/snippet.h"
#include "x86/cr.h"

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
