/* vector_test.c — vector state in the host's registers: when it may go there, and that it comes
 * back.
 *
 * That instructions compute the right thing there is the business of diff_test.c and seq_test.c. */
#include <stdlib.h>

#include "base/bits.h"
#include "hv/soft/cache/snippet.h"
#include "x86/cr.h"
#include "x86/feature.h"

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

/* --- AVX --- */

static bool host_has_avx512(const struct vcpu *v)
{
    return (v->features & CPU_AVX512) == CPU_AVX512;
}

static void fill(struct vcpu *v, int32_t offset, unsigned count)
{
    static const float one = 1;

    for (unsigned i = 0; i < count; i++) {
        memcpy(v->xsave + offset + (size_t)4 * i, &one, 4);
    }
}

/* vaddps xmm1, xmm1, xmm2; hlt */
TEST(vector, xcr0_closes_the_way_of_avx)
{
    static const struct {
        uint64_t cr0, cr4, xcr0; /* bits that change */
        int result;
    } cases[] = {
        {0, 0, 0, 0x40}, /* 2.0f */
        {0, 0, XCR0_AVX, -EXC_UD}, {0, CR4_OSXSAVE, 0, -EXC_UD},
        {CR0_TS, 0, 0, -EXC_NM},   {CR0_EM, CR4_OSFXSR, 0, 0x40}, /* of legacy SSE only */
    };
    struct soft_vm vm;

    CHECK_INT(setenv("EC1_SOFT_TIER", "eager", 1), 0);
    START(&vm, 0xc5, 0xf0, 0x58, 0xca, 0xf4);
    for (unsigned i = 0; i < 3 * sizeof(cases) / sizeof(cases[0]) && vm.v->features & CPU_HAS(AVX);
         i++) {
        unsigned which = i % (sizeof(cases) / sizeof(cases[0]));
        uint64_t cr0 = vm.v->cr0, cr4 = vm.v->cr4;

        set_ones(vm.v);
        vm.v->cr0 ^= cases[which].cr0;
        vm.v->cr4 = (cr4 | CR4_OSXSAVE) ^ cases[which].cr4;
        vm.v->xcr0 = (XCR0_X87 | XCR0_AVX_ALL) ^ cases[which].xcr0;
        CHECK_INT(run_addps(&vm), cases[which].result);
        vm.v->cr0 = cr0;
        vm.v->cr4 = cr4;
    }
    finish(&vm);
}

/* vrcp14ps xmm0, xmm1; hlt.  FTZ counts although underflow is not masked: it raises nothing. */
TEST(vector, a_tiny_approximation_is_flushed_to_zero)
{
    static const struct {
        uint32_t mxcsr, result;
    } cases[] = {{0x1f80, 0x3fff80}, {0x9f80, 0}, {0x9780, 0}};
    struct soft_vm vm;

    START(&vm, 0x62, 0xf2, 0x7d, 0x08, 0x4c, 0xc1, 0xf4);
    for (unsigned i = 0; i < 3 && host_has_avx512(vm.v); i++) {
        vm.v->cr4 |= CR4_OSXSAVE;
        vm.v->xcr0 = XCR0_X87 | XCR0_AVX512_ALL;
        store_le32(vm.v->xsave + FPU_MXCSR, cases[i].mxcsr);
        store_le64(vm.v->xsave + FPU_XMM0 + 16, UINT64_C(0x7f0000017f000001));
        vm.v->rip = CODE;
        CHECK_INT(run(&vm), -1);
        CHECK_INT(load_le32(vm.v->xsave + FPU_XMM0), cases[i].result);
        CHECK_INT(load_le32(vm.v->xsave + FPU_XMM0 + 4), cases[i].result);
    }
    finish(&vm);
}

/* addps xmm1, xmm2; vaddps ymm3, ymm1, ymm1; addps xmm3, xmm1; hlt */
TEST(vector, upper_parts_follow_once_they_are_needed)
{
    static const uint8_t zero[32];
    struct soft_vm vm;
    bool has_zmm;

    CHECK_INT(setenv("EC1_SOFT_TIER", "eager", 1), 0);
    START(&vm, 0x0f, 0x58, 0xca, 0xc5, 0xf4, 0x58, 0xd9, 0x0f, 0x58, 0xd9, 0xf4);
    has_zmm = host_has_avx512(vm.v);
    for (unsigned i = 0; i < 3 && vm.v->features & CPU_HAS(AVX); i++) {
        uint8_t *image = vm.v->xsave;

        vm.v->cr4 |= CR4_OSXSAVE;
        vm.v->xcr0 = has_zmm ? XCR0_X87 | XCR0_AVX512_ALL : XCR0_X87 | XCR0_AVX_ALL;
        fill(vm.v, FPU_XMM0, 16 * 4);
        fill(vm.v, FPU_YMM_HI, 16 * 4);
        fill(vm.v, FPU_ZMM_HI, 16 * 8);
        fill(vm.v, FPU_HI_ZMM, 16 * 16);
        vm.v->rip = CODE;
        CHECK_INT(run(&vm), -1);
        CHECK_INT(image[FPU_XMM0 + 16 + 3], 0x40);               /* 1 + 1 */
        CHECK_INT(load_le32(image + FPU_XMM0 + 48), 0x40c00000); /* 2 + 2 + 2 */
        CHECK_INT(load_le32(image + FPU_YMM_HI + 16), 0x3f800000);
        CHECK_INT(load_le32(image + FPU_YMM_HI + 48), 0x40000000);
        CHECK_INT(load_le32(image + FPU_ZMM_HI + 32), 0x3f800000);
        CHECK_INT(load_le32(image + FPU_HI_ZMM + 1020), 0x3f800000);
        if (has_zmm) {
            CHECK_MEM(image + FPU_ZMM_HI + 96, zero, 32);
        }
    }
    finish(&vm);
}
