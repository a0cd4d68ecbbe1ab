/* sys_xsave_test.c — saving and loading x87 and SSE state. */
#include "base/bits.h"
#include "hv/soft/cpu/cpuid.h"
#include "hv/soft/cpu/fpu.h"
#include "hv/soft/cpu/xstate.h"
#include "hv/soft/mmu/mmu.h"
#include "hv/soft/ref/sys.h"
#include "tests/lib/sys_insn.h"
#include "tests/lib/sys_vm.h"
#include "tests/lib/test.h"

/* --- FPU state --- */

static struct insn fp_mem(enum insn_op name, uint8_t size, bool is_wide)
{
    struct insn insn = with_mem(name, 4, size);

    insn.klass = INSN_CLASS_FPSTATE;
    insn.rex = is_wide ? 0x48 : 0;
    return insn;
}

static void fill_fpu(struct vcpu *v)
{
    fpu_reset(v);
    fpu_fninit(v);
    store_le16(v->xsave + FPU_FSW, 6u << 11); /* two registers in use: physical 6 and 7 */
    v->xsave[FPU_FTW] = 0xc0;
    store_le64(v->xsave + FPU_ST0, UINT64_C(0x8000000000000000)); /* 1.0 */
    store_le16(v->xsave + FPU_ST0 + 8, 0x3fff);
    memset(v->xsave + FPU_ST0 + 16, 0, 10); /* 0.0 */
    for (unsigned i = 0; i < 256; i++) {
        v->xsave[FPU_XMM0 + i] = (uint8_t)i;
    }
    store_le32(v->xsave + FPU_MXCSR, 0x1fa0);
}

TEST(sys, fxsave_and_fxrstor_keep_everything)
{
    struct soft_vm vm;
    uint8_t before[FPU_LEGACY_LEN];

    sys_vm_start(&vm);
    fill_fpu(vm.v);
    memcpy(before, vm.v->xsave, sizeof(before));
    vm.v->gpr[GPR_RBX] = SYS_DATA + 16;
    CHECK_INT(run(&vm, fp_mem(INSN_FXSAVE, 0, true)), REF_NEXT);
    fpu_reset(vm.v);
    CHECK_INT(run(&vm, fp_mem(INSN_FXRSTOR, 0, true)), REF_NEXT);
    CHECK_MEM(vm.v->xsave, before, FPU_XMM0 + 256);
    vm.v->gpr[GPR_RBX] = SYS_DATA + 8;
    CHECK_INT(run(&vm, fp_mem(INSN_FXSAVE, 0, true)), RAISED(EXC_GP));
    vm.v->gpr[GPR_RBX] = SYS_DATA + 16;
    mmu_write32(vm.v, SYS_DATA + 16 + FPU_MXCSR, 0x10000);
    CHECK_INT(run(&vm, fp_mem(INSN_FXRSTOR, 0, true)), RAISED(EXC_GP));
    vm.v->cr0 |= CR0_TS;
    CHECK_INT(run(&vm, fp_mem(INSN_FXSAVE, 0, true)), RAISED(EXC_NM));
    sys_vm_stop(&vm);
}

TEST(sys, fxsave_outside_64_bit_mode_touches_eight_registers)
{
    struct soft_vm vm;

    sys_vm_start(&vm);
    fill_fpu(vm.v);
    vm.v->seg[SEG_CS].attr = 0xc09b;
    vcpu_update_mode(vm.v);
    memset(mem_ptr(vm.mem, GPA(SYS_DATA), 1024), 0xee, 1024);
    vm.v->gpr[GPR_RBX] = SYS_DATA;
    CHECK_INT(run(&vm, fp_mem(INSN_FXSAVE, 0, false)), REF_NEXT);
    CHECK_INT(mmu_read8(vm.v, SYS_DATA + FPU_XMM0 + 127), 127);
    CHECK_INT(mmu_read8(vm.v, SYS_DATA + FPU_XMM0 + 128), 0xee);
    sys_vm_stop(&vm);
}

TEST(sys, mxcsr_moves_and_its_reserved_bits_fault)
{
    struct soft_vm vm;

    sys_vm_start(&vm);
    vm.v->gpr[GPR_RBX] = SYS_DATA;
    mmu_write32(vm.v, SYS_DATA, 0x9fc0);
    CHECK_INT(run(&vm, fp_mem(INSN_LDMXCSR, 4, false)), REF_NEXT);
    mmu_write32(vm.v, SYS_DATA, 0);
    CHECK_INT(run(&vm, fp_mem(INSN_STMXCSR, 4, false)), REF_NEXT);
    CHECK_INT(mmu_read32(vm.v, SYS_DATA), 0x9fc0);
    mmu_write32(vm.v, SYS_DATA, 0x10000);
    CHECK_INT(run(&vm, fp_mem(INSN_LDMXCSR, 4, false)), RAISED(EXC_GP));
    sys_vm_stop(&vm);
}

TEST(sys, x87_environment_has_full_tags_and_comes_back)
{
    struct soft_vm vm;
    uint8_t before[FPU_XMM0];

    sys_vm_start(&vm);
    fill_fpu(vm.v);
    memcpy(before, vm.v->xsave, sizeof(before));
    vm.v->gpr[GPR_RBX] = SYS_DATA;
    CHECK_INT(run(&vm, fp_mem(INSN_FNSAVE, 108, false)), REF_NEXT);
    CHECK_INT(mmu_read32(vm.v, SYS_DATA), 0xffff037f);
    CHECK_INT(mmu_read16(vm.v, SYS_DATA + 8), 0x4fff); /* valid, zero, six empty */
    CHECK_INT(vm.v->xsave[FPU_FTW], 0);                /* initialised after */
    CHECK_INT(run(&vm, fp_mem(INSN_FRSTOR, 108, false)), REF_NEXT);
    CHECK_MEM(vm.v->xsave, before, FPU_MXCSR);
    CHECK_MEM(vm.v->xsave + FPU_ST0, before + FPU_ST0, 32);
    store_le16(vm.v->xsave + FPU_FCW, 0x37e); /* unmask, and an invalid operation is pending */
    store_le16(vm.v->xsave + FPU_FSW, 0xb081);
    CHECK_INT(run(&vm, fp_mem(INSN_FLDENV, 28, false)), RAISED(EXC_MF));
    CHECK_INT(run(&vm, fp_mem(INSN_FNSTENV, 14, false)), REF_NEXT);
    CHECK_INT(mmu_read16(vm.v, SYS_DATA + 2), 0xb081);
    CHECK_INT(load_le16(vm.v->xsave + FPU_FCW), 0x37f);
    CHECK_INT(load_le16(vm.v->xsave + FPU_FSW), 0x3001);
    CHECK_INT(run(&vm, fp_mem(INSN_FLDENV, 14, false)), REF_NEXT);
    CHECK_INT(load_le16(vm.v->xsave + FPU_FSW), 0xb081);
    sys_vm_stop(&vm);
}

/* --- the XSAVE family --- */

#define ALL (XCR0_X87 | XCR0_AVX512_ALL)

static void start_xstate(struct soft_vm *vm)
{
    sys_vm_start(vm);
    vm->v->features = CPU_HAS_ALL;
    vm->v->cr4 |= CR4_OSXSAVE;
    vm->v->xcr0 = ALL;
    fill_fpu(vm->v);
    for (unsigned i = FPU_YMM_HI; i < FPU_IMAGE_LEN; i++) {
        vm->v->xsave[i] = (uint8_t)(i * 5 + (i >> 7));
    }
    vm->v->gpr[GPR_RBX] = SYS_DATA;
    vm->v->gpr[GPR_RAX] = UINT64_MAX;
    vm->v->gpr[GPR_RDX] = UINT64_MAX;
    memset(mem_ptr(vm->mem, GPA(SYS_DATA), 4096), 0, 4096);
}

static const struct xstate_layout *layout(const struct soft_vm *vm)
{
    return cpuid_xstate(vm->v->cpuid);
}

/* Does the host have all parts?  Without, there are no offsets to test with. */
static bool has_parts(const struct soft_vm *vm)
{
    return layout(vm)->offset[7] != 0;
}

TEST(sys, xsave_family_round_trips)
{
    static const enum insn_op saves[] = {INSN_XSAVE, INSN_XSAVEOPT, INSN_XSAVEC};

    for (unsigned i = 0; i < ARRAY_LEN(saves); i++) {
        struct soft_vm vm;
        uint8_t before[FPU_IMAGE_LEN];

        start_xstate(&vm);
        if (!has_parts(&vm)) {
            sys_vm_stop(&vm);
            SKIP("the host has no AVX-512");
        }
        vm.v->cr4 &= ~CR4_OSXSAVE;
        CHECK_INT(run(&vm, fp_mem(saves[i], 0, true)), RAISED(EXC_UD));
        vm.v->cr4 |= CR4_OSXSAVE;
        memcpy(before, vm.v->xsave, sizeof(before));
        CHECK_INT(run(&vm, fp_mem(saves[i], 0, true)), REF_NEXT);
        CHECK_INT(mmu_read64(vm.v, SYS_DATA + FPU_XSTATE_BV), ALL);
        fpu_reset(vm.v);
        CHECK_INT(run(&vm, fp_mem(INSN_XRSTOR, 0, true)), REF_NEXT);
        CHECK_MEM(vm.v->xsave, before, FPU_XMM0 + 256);
        CHECK_MEM(vm.v->xsave + FPU_YMM_HI, before + FPU_YMM_HI, FPU_IMAGE_LEN - FPU_YMM_HI);
        sys_vm_stop(&vm);
    }
}

TEST(sys, xrstor_of_nothing_in_use_is_the_initial_state)
{
    struct soft_vm vm;

    start_xstate(&vm);
    mmu_write32(vm.v, SYS_DATA + FPU_MXCSR, 0x1fa0);
    CHECK_INT(run(&vm, fp_mem(INSN_XRSTOR, 0, true)), REF_NEXT);
    CHECK_INT(vm.v->xsave[FPU_XMM0 + 9], 0);
    CHECK_INT(load_le16(vm.v->xsave + FPU_FCW), 0x37f);
    CHECK_INT(load_le32(vm.v->xsave + FPU_MXCSR), 0x1fa0); /* the standard format always has it */
    CHECK_INT(sys_xstate_in_use(vm.v), 0);
    fill_fpu(vm.v);
    mmu_write64(vm.v, SYS_DATA + FPU_XCOMP_BV, UINT64_C(1) << 63 | ALL);
    CHECK_INT(run(&vm, fp_mem(INSN_XRSTOR, 0, true)), REF_NEXT);
    CHECK_INT(load_le32(vm.v->xsave + FPU_MXCSR), 0x1f80);
    sys_vm_stop(&vm);
}

TEST(sys, xsave_writes_only_what_is_asked_for)
{
    struct soft_vm vm;
    uint8_t *area;

    start_xstate(&vm);
    area = mem_ptr(vm.mem, GPA(SYS_DATA), 4096);
    memset(area, 0xee, 512);
    vm.v->gpr[GPR_RAX] = XCR0_AVX;
    CHECK_INT(run(&vm, fp_mem(INSN_XSAVE, 0, true)), REF_NEXT);
    CHECK_INT(area[FPU_FCW], 0xee);
    CHECK_INT(area[FPU_XMM0], 0xee);
    CHECK_INT(load_le32(area + FPU_MXCSR), 0x1fa0);
    CHECK_INT(load_le64(area + FPU_XSTATE_BV), XCR0_AVX);
    /* what is not in use, XSAVE writes as zero and XSAVEOPT not at all */
    memset(vm.v->xsave + FPU_XMM0, 0, 256);
    vm.v->gpr[GPR_RAX] = XCR0_SSE;
    CHECK_INT(run(&vm, fp_mem(INSN_XSAVEOPT, 0, true)), REF_NEXT);
    CHECK_INT(area[FPU_XMM0], 0xee);
    CHECK_INT(load_le64(area + FPU_XSTATE_BV), XCR0_AVX);
    CHECK_INT(run(&vm, fp_mem(INSN_XSAVE, 0, true)), REF_NEXT);
    CHECK_INT(area[FPU_XMM0], 0);
    CHECK_INT(load_le64(area + FPU_XSTATE_BV), XCR0_AVX);
    /* XSAVEC takes an MXCSR of its own for SSE in use */
    CHECK_INT(run(&vm, fp_mem(INSN_XSAVEC, 0, true)), REF_NEXT);
    CHECK_INT(load_le64(area + FPU_XSTATE_BV), XCR0_SSE);
    CHECK_INT(load_le64(area + FPU_XCOMP_BV), UINT64_C(1) << 63 | XCR0_SSE);
    sys_vm_stop(&vm);
}

TEST(sys, xrstor_refuses_bad_headers)
{
    static const struct {
        unsigned at;
        uint64_t value;
    } bad[] = {{FPU_XSTATE_BV, 8},    {FPU_XSTATE_BV, UINT64_C(1) << 63},
               {FPU_XCOMP_BV, 1},     {FPU_XCOMP_BV, UINT64_C(1) << 63 | 8},
               {FPU_XCOMP_BV + 8, 1}, {FPU_MXCSR, 0x10000}};
    struct soft_vm vm;

    start_xstate(&vm);
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        memset(mem_ptr(vm.mem, GPA(SYS_DATA), 4096), 0, 4096);
        CHECK_INT(run(&vm, fp_mem(INSN_XRSTOR, 0, true)), REF_NEXT);
        mmu_write64(vm.v, SYS_DATA + bad[i].at, bad[i].value);
        CHECK_INT(run(&vm, fp_mem(INSN_XRSTOR, 0, true)), RAISED(EXC_GP));
    }
    /* in use but not in the format */
    memset(mem_ptr(vm.mem, GPA(SYS_DATA), 4096), 0, 4096);
    mmu_write64(vm.v, SYS_DATA + FPU_XCOMP_BV, UINT64_C(1) << 63 | 1);
    mmu_write64(vm.v, SYS_DATA + FPU_XSTATE_BV, 2);
    CHECK_INT(run(&vm, fp_mem(INSN_XRSTOR, 0, true)), RAISED(EXC_GP));
    vm.v->gpr[GPR_RBX] = SYS_DATA + 32;
    CHECK_INT(run(&vm, fp_mem(INSN_XRSTOR, 0, true)), RAISED(EXC_GP));
    CHECK_INT(run(&vm, fp_mem(INSN_XSAVES, 0, true)), RAISED(EXC_UD));
    vm.v->cr0 |= CR0_TS;
    CHECK_INT(run(&vm, fp_mem(INSN_XRSTOR, 0, true)), RAISED(EXC_NM));
    sys_vm_stop(&vm);
}

TEST(sys, xgetbv_tells_what_is_in_use)
{
    struct soft_vm vm;

    start_xstate(&vm);
    vm.v->gpr[GPR_RCX] = 1;
    memset(vm.v->xsave + FPU_ZMM_HI, 0, 512);
    CHECK_INT(run(&vm, (struct insn){.op = INSN_XGETBV}), REF_NEXT);
    CHECK_INT(vm.v->gpr[GPR_RAX], ALL & ~XCR0_ZMM_HI);
    vm.v->features = 0;
    CHECK_INT(run(&vm, (struct insn){.op = INSN_XGETBV}), RAISED(EXC_GP));
    vm.v->gpr[GPR_RCX] = 0;
    CHECK_INT(run(&vm, (struct insn){.op = INSN_XGETBV}), REF_NEXT);
    CHECK_INT(vm.v->gpr[GPR_RAX], ALL);
    sys_vm_stop(&vm);
}
