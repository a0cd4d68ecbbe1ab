/* sys_xsave_test.c — saving and loading x87 and SSE state. */
#include "base/bits.h"
#include "hv/soft/cpu/fpu.h"
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

TEST(sys, xsave_family_round_trips_and_checks_its_header)
{
    static const enum insn_op saves[] = {INSN_XSAVE, INSN_XSAVEOPT, INSN_XSAVEC};

    for (unsigned i = 0; i < ARRAY_LEN(saves); i++) {
        struct soft_vm vm;
        uint8_t before[FPU_LEGACY_LEN];

        sys_vm_start(&vm);
        CHECK_INT(run(&vm, fp_mem(saves[i], 0, true)), RAISED(EXC_UD));
        vm.v->cr4 |= CR4_OSXSAVE;
        vm.v->xcr0 = 3;
        fill_fpu(vm.v);
        memcpy(before, vm.v->xsave, sizeof(before));
        vm.v->gpr[GPR_RBX] = SYS_DATA;
        vm.v->gpr[GPR_RAX] = UINT64_MAX;
        vm.v->gpr[GPR_RDX] = UINT64_MAX;
        CHECK_INT(run(&vm, fp_mem(saves[i], 0, true)), REF_NEXT);
        CHECK_INT(mmu_read64(vm.v, SYS_DATA + FPU_XSTATE_BV), 3);
        fpu_reset(vm.v);
        CHECK_INT(run(&vm, fp_mem(INSN_XRSTOR, 0, true)), REF_NEXT);
        CHECK_MEM(vm.v->xsave, before, FPU_XMM0 + 256);
        mmu_write64(vm.v, SYS_DATA + FPU_XSTATE_BV, 0); /* all in initial state */
        CHECK_INT(run(&vm, fp_mem(INSN_XRSTOR, 0, true)), REF_NEXT);
        CHECK_INT(vm.v->xsave[FPU_XMM0 + 9], 0);
        CHECK_INT(load_le16(vm.v->xsave + FPU_FCW), 0x37f);
        mmu_write64(vm.v, SYS_DATA + FPU_XSTATE_BV, 4);
        CHECK_INT(run(&vm, fp_mem(INSN_XRSTOR, 0, true)), RAISED(EXC_GP));
        CHECK_INT(run(&vm, fp_mem(INSN_XSAVES, 0, true)), RAISED(EXC_UD));
        sys_vm_stop(&vm);
    }
}
