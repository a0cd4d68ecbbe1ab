/* cpu_test.c — control registers, descriptors, MSRs, CPUID, FPU checks and state of one vCPU. */
#include <errno.h>
#include <stdlib.h>

#include "hv/cpuid.h"
#include "hv/soft/cpu/cpuid.h"
#include "hv/soft/cpu/fpu.h"
#include "hv/soft/cpu/msrs.h"
#include "hv/soft/cpu/regs.h"
#include "hv/soft/cpu/segments.h"
#include "hv/soft/cpu/state.h"
#include "hv/soft/cpu/xstate.h"
#include "tests/lib/soft_vm.h"
#include "tests/lib/test.h"
#include "x86/msr.h"

#define TSC_KHZ 2500000u

static void start_with(struct soft_vm *vm, const struct cpu_template *template)
{
    struct hv_cpuid_vm shape = {.vcpu_count = 4, .template = template};
    struct cpuid_model *model = NULL;
    struct err err = {0};

    soft_vm_init(vm);
    CHECK_OK(cpuid_model_new(&shape, TSC_KHZ, &model, &err), &err);
    vm->v->cpuid = model;
    vcpu_reset(vm->v, false);
}

static void start(struct soft_vm *vm)
{
    start_with(vm, NULL);
}

static void stop(struct soft_vm *vm)
{
    struct cpuid_model *model = NULL;

    memcpy(&model, &vm->v->cpuid, sizeof(model));
    cpuid_model_free(model);
    soft_vm_fini(vm);
}

/* Into 64-bit mode the way a kernel goes there. */
static void enter_long(struct vcpu *v)
{
    unsigned effects;

    CHECK_INT(vcpu_write_cr4(v, CR4_PAE | CR4_PGE), REGS_FLUSH_ALL);
    CHECK(vcpu_write_efer(v, EFER_LME | EFER_NXE, &effects));
    CHECK_INT(effects, REGS_FLUSH_ALL);
    v->cr0 &= ~(CR0_CD | CR0_NW);
    CHECK_INT(vcpu_write_cr0(v, CR0_PE | CR0_PG | CR0_WP), REGS_FLUSH_ALL);
    v->seg[SEG_CS].attr = 0xa09b;
    vcpu_update_mode(v);
}

static bool raises_gp(struct soft_vm *vm, unsigned (*write)(struct vcpu *, uint64_t),
                      uint64_t value)
{
    vm->v->exc.vector = 0;
    return SOFT_VM_RAISES(vm, write(vm->v, value)) && vm->v->exc.vector == EXC_GP &&
           vm->v->exc.has_error && vm->v->exc.error == 0;
}

TEST(cpu, reset_is_the_manuals)
{
    struct soft_vm vm;
    uint32_t fms[4];

    start(&vm);
    cpuid_query(vm.v, 1, 0, fms);
    CHECK_INT(vm.v->rip, 0xfff0);
    CHECK_INT(vm.v->seg[SEG_CS].base, 0xffff0000);
    CHECK_INT(vm.v->gpr[GPR_RDX], fms[0]);
    CHECK_INT(vcpu_rflags(vm.v), FLAG_1);
    CHECK_INT(vm.v->cr0, CR0_CD | CR0_NW | CR0_ET);
    CHECK_INT(vm.v->mode, MODE_REAL);
    CHECK_INT(load_le16(vm.v->xsave + FPU_FCW), 0x40);
    CHECK_INT(load_le32(vm.v->xsave + FPU_MXCSR), 0x1f80);
    CHECK_INT(vm.v->dr[6], 0xffff0ff0);
    /* INIT keeps vector state and CD */
    vm.v->xsave[FPU_XMM0] = 7;
    vm.v->cr0 &= ~CR0_CD;
    vcpu_reset(vm.v, true);
    CHECK_INT(vm.v->xsave[FPU_XMM0], 7);
    CHECK_INT(vm.v->cr0 & CR0_CD, 0);
    vm.v->wait_for_sipi = true;
    vcpu_start_at(vm.v, 0x9a);
    CHECK_INT(vm.v->seg[SEG_CS].base, 0x9a000);
    CHECK_INT(vm.v->seg[SEG_CS].selector, 0x9a00);
    CHECK_INT(vm.v->rip, 0);
    CHECK(!vm.v->wait_for_sipi);
    stop(&vm);
}

TEST(cpu, mode_follows_the_registers)
{
    struct soft_vm vm;
    struct vcpu *v;

    start(&vm);
    v = vm.v;
    v->cr0 &= ~(CR0_CD | CR0_NW);
    CHECK_INT(vcpu_write_cr0(v, CR0_PE), REGS_FLUSH_ALL);
    CHECK_INT(v->mode, MODE_PROT16);
    v->seg[SEG_CS].attr |= SEG_ATTR_DB;
    vcpu_update_mode(v);
    CHECK_INT(v->mode, MODE_PROT32);
    enter_long(v);
    CHECK_INT(v->mode, MODE_LONG64);
    CHECK(v->efer & EFER_LMA);
    v->seg[SEG_CS].attr = 0xc09b;
    vcpu_update_mode(v);
    CHECK_INT(v->mode, MODE_COMPAT32);
    v->seg[SEG_CS].attr = 0x809b;
    vcpu_update_mode(v);
    CHECK_INT(v->mode, MODE_COMPAT16);
    /* paging off leaves long mode */
    (void)vcpu_write_cr0(v, CR0_PE);
    CHECK_INT(v->efer & EFER_LMA, 0);
    CHECK_INT(v->mode, MODE_PROT16);
    vcpu_set_cpl(v, 3);
    CHECK(v->tlb_now == &v->tlb[TLB_USER]);
    vcpu_set_cpl(v, 0);
    CHECK(v->tlb_now == &v->tlb[TLB_SUPERVISOR]);
    stop(&vm);
}

TEST(cpu, impossible_control_register_values_are_refused)
{
    struct soft_vm vm;
    unsigned effects;

    start(&vm);
    CHECK(raises_gp(&vm, vcpu_write_cr0, CR0_PG));
    CHECK(raises_gp(&vm, vcpu_write_cr0, CR0_PE | CR0_NW));
    CHECK(raises_gp(&vm, vcpu_write_cr0, CR0_PE | BIT(32)));
    CHECK(raises_gp(&vm, vcpu_write_cr4, CR4_LA57));
    CHECK(raises_gp(&vm, vcpu_write_cr4, CR4_PCIDE));
    /* LME without PAE */
    CHECK(vcpu_write_efer(vm.v, EFER_LME, &effects));
    CHECK(raises_gp(&vm, vcpu_write_cr0, CR0_PE | CR0_PG));
    enter_long(vm.v);
    CHECK(raises_gp(&vm, vcpu_write_cr0, CR0_PE));  /* from 64-bit code */
    CHECK(raises_gp(&vm, vcpu_write_cr4, CR4_PGE)); /* PAE must stay */
    CHECK(raises_gp(&vm, vcpu_write_cr3, BIT(CPU_PHYS_BITS)));
    CHECK(raises_gp(&vm, vcpu_write_cr3, BIT(63)));
    CHECK_INT(vcpu_write_cr3(vm.v, 0x1234000), REGS_FLUSH_LOCAL);
    CHECK_INT(vm.v->cr3, 0x1234000);
    CHECK(!vcpu_write_efer(vm.v, 0, &effects)); /* LME while paging */
    CHECK(!vcpu_write_efer(vm.v, EFER_LME | BIT(12), &effects));
    CHECK(vcpu_write_efer(vm.v, EFER_LME | EFER_SCE, &effects));
    CHECK_INT(vm.v->efer, EFER_LME | EFER_LMA | EFER_SCE); /* LMA is not writable */
    CHECK_INT(vcpu_write_cr4(vm.v, CR4_PAE), REGS_FLUSH_ALL);
    CHECK_INT(vcpu_write_cr4(vm.v, CR4_PAE | CR4_OSFXSR), 0);
    CHECK(!vcpu_write_xcr0(vm.v, 2));
    CHECK(vcpu_write_xcr0(vm.v, 3));
    stop(&vm);
}

TEST(cpu, descriptors_unpack_and_pack)
{
    static const struct {
        uint64_t descriptor, base;
        uint32_t limit, attr;
    } cases[] = {
        {0x00af9b000000ffff, 0, 0xffffffff, 0xa09b},
        {0x00cff3000000ffff, 0, 0xffffffff, 0xc0f3},
        {0x12408956789a2067, 0x1256789a, 0x2067, 0x4089},
        {0x0000820000000fff, 0, 0xfff, 0x82},
    };

    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        struct cpu_segment s = segment_unpack(0x18, cases[i].descriptor);

        CHECK_INT(s.base, cases[i].base);
        CHECK_INT(s.limit, cases[i].limit);
        CHECK_INT(s.attr, cases[i].attr);
        CHECK_INT(s.selector, 0x18);
        CHECK_INT(segment_pack(&s), cases[i].descriptor);
    }
    CHECK_INT(segment_dpl(0xc0f3), 3);
    CHECK(segment_is_code(0xa09b) && !segment_is_data(0xa09b));
    CHECK(segment_is_data(0xc093) && !segment_is_code(0xc093));
    CHECK_INT(segment_null(3).attr, SEG_ATTR_UNUSABLE);
}

TEST(cpu, real_mode_load_changes_the_base_only)
{
    struct soft_vm vm;

    start(&vm);
    vm.v->seg[SEG_DS].limit = UINT32_MAX; /* unreal mode survives */
    segment_load_real(vm.v, SEG_DS, 0x1234);
    CHECK_INT(vm.v->seg[SEG_DS].base, 0x12340);
    CHECK_INT(vm.v->seg[SEG_DS].limit, UINT32_MAX);
    stop(&vm);
}

TEST(cpu, msrs_hold_what_is_written_and_refuse_what_is_not_valid)
{
    static const struct {
        uint32_t index;
        uint64_t value;
        bool ok;
    } cases[] = {
        {MSR_STAR, 0x0023001000000000, true},
        {MSR_LSTAR, 0xffffffff81000000, true},
        {MSR_LSTAR, 0x8000000000000000, false},
        {MSR_CSTAR, 0xffff800000000000, true},
        {MSR_SFMASK, 0x47700, true},
        {MSR_SFMASK, BIT(32), false},
        {MSR_FS_BASE, 0x7ffff7d8a740, true},
        {MSR_GS_BASE, 0xffff888000000000, true},
        {MSR_KERNEL_GS_BASE, 0x0000800000000000, false},
        {MSR_TSC_AUX, 3, true},
        {MSR_TSC_AUX, BIT(40), false},
        {MSR_PAT, 0x0407050600070106, true},
        {MSR_PAT, 0x0207050600070106, false},
        {MSR_MTRR_DEF_TYPE, 0xc00, true},
        {MSR_MTRR_DEF_TYPE, 0xc02, false},
        {MSR_MTRR_FIX4K_C0000 + 7, 0x0505050505050505, true},
        {MSR_MTRR_FIX64K_00000, 0x0705050505050505, false},
        {MSR_MTRR_PHYS_BASE0 + 2, 0xe0000000, true},
        {MSR_MTRR_PHYS_BASE0 + 3, 0x3fffe0000800, true},
        {MSR_MTRR_PHYS_BASE0 + 3, BIT(50), false},
        {MSR_SYSENTER_CS, 0x10, true},
        {MSR_SYSENTER_EIP, 0xffffffff81000000, true},
        {MSR_MISC_ENABLE, 1, true},
        {MSR_EFER, EFER_SCE, true},
        {MSR_EFER, BIT(1), false},
        {0x12345, 0, false},
        {0x40000000, 0, false},
        {MSR_MTRR_CAP, 0, false},
    };
    struct soft_vm vm;
    uint64_t value;
    unsigned effects;

    start(&vm);
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        if (msr_write(vm.v, cases[i].index, cases[i].value, &effects) != cases[i].ok) {
            print_error("case %u\n", i);
            fail();
        }
        if (cases[i].ok) {
            CHECK(msr_read(vm.v, cases[i].index, &value));
            CHECK_INT(value, cases[i].value);
        }
    }
    CHECK(!msr_read(vm.v, 0x12345, &value));
    CHECK(msr_read(vm.v, MSR_MTRR_CAP, &value));
    CHECK_INT(value, 0x508);
    CHECK(msr_read(vm.v, MSR_UCODE_REV, &value));
    CHECK(msr_write(vm.v, MSR_UCODE_REV, 0, &effects));
    /* vendors: each has its own, the other's fault */
    CHECK_INT(msr_read(vm.v, MSR_AMD_HWCR, &value), cpuid_is_amd(vm.v->cpuid));
    CHECK_INT(msr_read(vm.v, MSR_AMD_NB_CFG, &value), cpuid_is_amd(vm.v->cpuid));
    CHECK_INT(msr_read(vm.v, MSR_ARCH_CAPABILITIES, &value), !cpuid_is_amd(vm.v->cpuid));
    CHECK_INT(msr_write(vm.v, MSR_SPEC_CTRL, 1, &effects), !cpuid_is_amd(vm.v->cpuid));
    CHECK_INT(msr_read(vm.v, MSR_FEATURE_CONTROL, &value), !cpuid_is_amd(vm.v->cpuid));
    CHECK_INT(msr_read(vm.v, MSR_PLATFORM_INFO, &value), !cpuid_is_amd(vm.v->cpuid));
    stop(&vm);
}

TEST(cpu, platform_is_asked_first_for_its_msrs)
{
    struct soft_vm vm;
    uint64_t value;
    unsigned effects;

    start(&vm);
    vm.msr.index = MSR_TSC_DEADLINE;
    CHECK(msr_write(vm.v, MSR_TSC_DEADLINE, 99, &effects));
    CHECK(msr_read(vm.v, MSR_TSC_DEADLINE, &value));
    CHECK_INT(value, 99);
    vm.msr.fault = true;
    CHECK(!msr_read(vm.v, MSR_TSC_DEADLINE, &value));
    CHECK(!msr_write(vm.v, MSR_TSC_DEADLINE, 1, &effects));
    stop(&vm);
}

/* --- CPUID --- */

TEST(cpu, cpuid_announces_what_the_engine_has_and_hides_the_rest)
{
    struct soft_vm vm;
    uint32_t r[4];

    start(&vm);
    cpuid_query(vm.v, 1, 0, r);
    CHECK(r[2] & BIT(21)); /* x2APIC */
    CHECK(r[2] & BIT(24)); /* TSC deadline */
    CHECK(r[2] & BIT(31)); /* hypervisor */
    CHECK(!(r[2] & (BIT(3) | BIT(5) | BIT(17) | BIT(27))));
    CHECK((r[3] & (BIT(0) | BIT(6) | BIT(24) | BIT(25) | BIT(26))) ==
          (BIT(0) | BIT(6) | BIT(24) | BIT(25) | BIT(26)));
    CHECK_INT(r[1] >> 16 & 0xff, 4);
    cpuid_query(vm.v, 7, 0, r);
    CHECK(r[0] <= 1);
    CHECK(!(r[1] & (BIT(4) | BIT(7) | BIT(10) | BIT(11) | BIT(14) | BIT(20))));
    CHECK(!(r[2] & (BIT(2) | BIT(3) | BIT(5) | BIT(7) | BIT(16))));
    cpuid_query(vm.v, 7, 1, r);
    CHECK(!(r[0] & ~BIT(5)));
    CHECK_INT(r[1] | r[2] | r[3], 0);
    cpuid_query(vm.v, 0x80000001, 0, r);
    CHECK((r[3] & (BIT(11) | BIT(20) | BIT(26) | BIT(27) | BIT(29))) ==
          (BIT(11) | BIT(20) | BIT(26) | BIT(27) | BIT(29)));
    CHECK(!(r[2] & BIT(2))); /* SVM */
    cpuid_query(vm.v, 0x80000007, 0, r);
    CHECK_INT(r[3], BIT(8));
    cpuid_query(vm.v, 0x80000008, 0, r);
    CHECK_INT(r[0], 48 << 8 | CPU_PHYS_BITS);
    stop(&vm);
}

/* What one extension needs of others, and of the leaf that describes the state it has. */
TEST(cpu, cpuid_is_consistent_about_extensions)
{
    struct soft_vm vm;
    uint64_t shown, mask;
    uint32_t r[4];

    start(&vm);
    shown = cpuid_features(vm.v->cpuid);
    mask = cpuid_xcr0_allowed(vm.v->cpuid);
    CHECK(!(shown & ~cpuid_features(NULL)));
    CHECK(!(shown & CPU_NEEDS_AVX) || shown & CPU_HAS(AVX));
    CHECK(!(shown & CPU_NEEDS_AVX512) || (shown & CPU_AVX512) == CPU_AVX512);
    CHECK(!(shown & CPU_HAS(AVX)) == !(mask & XCR0_AVX));
    CHECK(!(shown & CPU_HAS(AVX512F)) == !(mask & XCR0_OPMASK));
    CHECK(!(shown & CPU_HAS(XSAVE)) == !(cpuid_cr4_allowed(vm.v->cpuid) & CR4_OSXSAVE));
    cpuid_query(vm.v, 0xd, 0, r);
    CHECK_INT(r[0], shown & CPU_HAS(XSAVE) ? mask : 0);
    if (shown & CPU_HAS(XSAVE)) {
        vm.v->xcr0 = 3;
        cpuid_query(vm.v, 0xd, 0, r);
        CHECK_INT(r[1], 576);
        CHECK_INT(r[2], xstate_standard_size(cpuid_xstate(vm.v->cpuid), mask));
        vm.v->xcr0 = mask;
        cpuid_query(vm.v, 0xd, 0, r);
        CHECK_INT(r[1], r[2]);
        cpuid_query(vm.v, 1, 0, r);
        CHECK(!(r[2] & BIT(27)));
        vm.v->cr4 |= CR4_OSXSAVE;
        cpuid_query(vm.v, 1, 0, r);
        CHECK(r[2] & BIT(27));
    }
    stop(&vm);
}

TEST(cpu, areas_have_the_sizes_and_offsets_of_the_manual)
{
    /* two parts packed, then one that begins at a multiple of 64 */
    static const struct xstate_layout x = {
        .mask = 0xe7, .offset = {[2] = 576, [5] = 1088, [6] = 1152, [7] = 1664}, .aligned = 0xc0};

    CHECK_INT(xstate_standard_size(&x, 3), 576);
    CHECK_INT(xstate_standard_size(&x, 7), 832);
    CHECK_INT(xstate_standard_size(&x, 0xe7), 2688);
    CHECK_INT(xstate_compact_size(&x, 3), 576);
    CHECK_INT(xstate_compact_size(&x, 0xe7), 2432);
    CHECK_INT(xstate_compact_offset(&x, 0xe7, 7), 1408);
    CHECK_INT(xstate_compact_offset(&x, 0x23, 5), 576);
    CHECK_INT(xstate_compact_offset(&x, 0x63, 6), 640);
}

TEST(cpu, xcr0_takes_only_what_the_manual_allows)
{
    struct soft_vm vm;
    uint64_t mask;

    start(&vm);
    mask = cpuid_xcr0_allowed(vm.v->cpuid);
    CHECK(vcpu_write_xcr0(vm.v, 1));
    CHECK(vcpu_write_xcr0(vm.v, mask));
    CHECK(!vcpu_write_xcr0(vm.v, 0));
    CHECK(!vcpu_write_xcr0(vm.v, 2));
    CHECK(!vcpu_write_xcr0(vm.v, 5));
    CHECK(!vcpu_write_xcr0(vm.v, mask | BIT(9)));
    CHECK(!vcpu_write_xcr0(vm.v, 0x27));
    CHECK(!vcpu_write_xcr0(vm.v, 0xe3));
    CHECK_INT(vm.v->xcr0, mask);
    stop(&vm);
}

TEST(cpu, cpuid_has_the_hypervisor_leaves_of_kvm)
{
    struct soft_vm vm;
    uint32_t r[4];

    start(&vm);
    cpuid_query(vm.v, 0x40000000, 0, r);
    CHECK_MEM(&r[1], "KVMKVMKVM\0\0\0", 12);
    CHECK_INT(r[0], 0x40000010);
    cpuid_query(vm.v, 0x40000001, 0, r);
    CHECK_INT(r[0], BIT(1) | BIT(3) | BIT(7) | BIT(24)); /* four vCPUs: PV unhalt, too */
    cpuid_query(vm.v, 0x40000010, 0, r);
    CHECK_INT(r[0], TSC_KHZ);
    CHECK_INT(r[1], CPUID_APIC_KHZ);
    stop(&vm);
}

TEST(cpu, a_template_hides_features_with_their_state)
{
    static const struct cpu_template_reg regs[] = {
        {0xd, 0, 1, CPUID_EAX, 0xe4, 0},    /* YMM, opmasks, ZMM */
        {0x7, 0, 1, CPUID_EBX, 1 << 9, 0},  /* ERMS */
        {0x1, 0, 0, CPUID_ECX, 0, 1 << 20}, /* SSE4.2, which is there */
    };
    static const struct cpu_template_msr msrs[] = {{MSR_AMD_DE_CFG, 2, 0},
                                                   {MSR_PLATFORM_INFO, 0xff00, 0x1200}};
    static const struct cpu_template template = {
        .regs = regs, .reg_count = 3, .msrs = msrs, .msr_count = 2};
    struct soft_vm vm;
    uint64_t value = 0;
    uint32_t r[4];

    start_with(&vm, &template);
    CHECK(!(cpuid_features(vm.v->cpuid) & CPU_NEEDS_AVX));
    CHECK_INT(cpuid_xcr0_allowed(vm.v->cpuid) & ~UINT64_C(3), 0);
    cpuid_query(vm.v, 0xd, 2, r);
    CHECK_INT(r[0] | r[1] | r[2] | r[3], 0);
    cpuid_query(vm.v, 7, 0, r);
    CHECK_INT(r[1] & (1 << 9 | 1 << 5), 0);
    if (cpuid_is_amd(vm.v->cpuid)) {
        CHECK(msr_read(vm.v, MSR_AMD_DE_CFG, &value));
        CHECK_INT(value, 0);
    } else {
        CHECK(msr_read(vm.v, MSR_PLATFORM_INFO, &value));
        CHECK_INT(value, 0x1200);
    }
    stop(&vm);
}

TEST(cpu, cpuid_gives_each_vcpu_its_place)
{
    struct soft_vm vm;
    uint32_t r[4];

    start(&vm);
    vm.v->index = 3;
    cpuid_query(vm.v, 1, 0, r);
    CHECK_INT(r[1] >> 24, 3);
    cpuid_query(vm.v, 0xb, 0, r);
    CHECK_INT(r[0], 0);
    CHECK_INT(r[1], 1);
    CHECK_INT(r[2], 0x100);
    CHECK_INT(r[3], 3);
    cpuid_query(vm.v, 0xb, 1, r);
    CHECK_INT(r[0], 5);
    CHECK_INT(r[1], 4);
    CHECK_INT(r[2], 0x201);
    cpuid_query(vm.v, 0xb, 2, r);
    CHECK_INT(r[1], 0);
    CHECK_INT(r[2], 2);
    CHECK_INT(r[3], 3);
    stop(&vm);
}

TEST(cpu, cpuid_beyond_the_range_answers_as_the_vendor_does)
{
    struct soft_vm vm;
    uint32_t r[4];
    uint32_t top[4];

    start(&vm);
    cpuid_query(vm.v, 0, 0, r);
    cpuid_query(vm.v, r[0], 5, top);
    cpuid_query(vm.v, 0x12345, 5, r);
    if (cpuid_is_amd(vm.v->cpuid)) {
        memset(top, 0, sizeof(top));
    }
    CHECK_MEM(r, top, sizeof(r));
    stop(&vm);
}

/* --- FPU --- */

static int fpu_outcome(struct soft_vm *vm, void (*check)(struct vcpu *), uint64_t cr0, uint64_t cr4)
{
    vm->v->cr0 = cr0;
    vm->v->cr4 = cr4;
    return SOFT_VM_RAISES(vm, check(vm->v)) ? vm->v->exc.vector : -1;
}

TEST(cpu, fpu_use_is_checked_against_cr0_and_cr4)
{
    struct soft_vm vm;

    start(&vm);
    CHECK_INT(fpu_outcome(&vm, fpu_check_x87, 0, 0), -1);
    CHECK_INT(fpu_outcome(&vm, fpu_check_x87, CR0_TS, 0), EXC_NM);
    CHECK_INT(fpu_outcome(&vm, fpu_check_x87, CR0_EM, 0), EXC_NM);
    CHECK_INT(fpu_outcome(&vm, fpu_check_mmx, CR0_EM, 0), EXC_UD);
    CHECK_INT(fpu_outcome(&vm, fpu_check_mmx, CR0_TS, 0), EXC_NM);
    CHECK_INT(fpu_outcome(&vm, fpu_check_sse, 0, 0), EXC_UD);
    CHECK_INT(fpu_outcome(&vm, fpu_check_sse, CR0_TS, CR4_OSFXSR), EXC_NM);
    CHECK_INT(fpu_outcome(&vm, fpu_check_sse, 0, CR4_OSFXSR), -1);
    CHECK_INT(fpu_outcome(&vm, fpu_check_wait, CR0_TS, 0), -1);
    CHECK_INT(fpu_outcome(&vm, fpu_check_wait, CR0_TS | CR0_MP, 0), EXC_NM);
    fpu_fninit(vm.v);
    CHECK(!fpu_is_pending(vm.v));
    store_le16(vm.v->xsave + FPU_FSW, 1);
    CHECK(!fpu_is_pending(vm.v));
    store_le16(vm.v->xsave + FPU_FCW, 0x37e);
    CHECK(fpu_is_pending(vm.v));
    stop(&vm);
}

/* --- state --- */

TEST(cpu, state_comes_back_as_it_was_taken)
{
    struct soft_vm vm;
    struct cpu_state *a = calloc(1, sizeof(*a));
    struct cpu_state *b = calloc(1, sizeof(*b));

    start(&vm);
    enter_long(vm.v);
    for (unsigned i = 0; i < GPR_COUNT; i++) {
        vm.v->gpr[i] = UINT64_C(0x1111111111111111) * i;
    }
    vm.v->rip = 0xffffffff81000000;
    vcpu_set_rflags(vm.v, FLAG_1 | FLAG_ZF | FLAG_IF);
    vm.v->lstar = 0xffffffff81001000;
    vm.v->kernel_gs_base = 0x7000;
    vm.v->pat = 0x0606060606060606;
    vm.v->xsave[FPU_XMM0 + 5] = 0x55;
    vm.v->xsave[FPU_ST0 + 3] = 0x66;
    vm.v->seg[SEG_SS].attr = 0xc0f3;
    vm.v->halted = 1;
    vm.v->shadow = 1;
    vm.cr8 = 5;
    if (cpuid_xcr0_allowed(vm.v->cpuid) & XCR0_OPMASK) {
        vm.v->xcr0 = XCR0_X87 | XCR0_AVX512_ALL;
        vm.v->xsave[FPU_YMM_HI + 7] = 0x77;
        vm.v->xsave[FPU_OPMASK + 8] = 0x88;
        vm.v->xsave[FPU_ZMM_HI + 9] = 0x99;
        vm.v->xsave[FPU_HI_ZMM + 1023] = 0xaa;
    }
    vcpu_state_get(vm.v, a);
    CHECK_INT(a->run_state, CPU_HALTED);
    CHECK_INT(a->cr8, 5);
    vcpu_reset(vm.v, false);
    vm.cr8 = 0;
    CHECK_INT(vcpu_state_set(vm.v, a), 0);
    vcpu_state_get(vm.v, b);
    CHECK_MEM(a->gpr, b->gpr, sizeof(a->gpr));
    CHECK_MEM(a->xsave, b->xsave, sizeof(a->xsave));
    CHECK_MEM(a->seg, b->seg, sizeof(a->seg));
    CHECK_INT(a->msr_count, b->msr_count);
    CHECK_MEM(a->msr, b->msr, a->msr_count * sizeof(a->msr[0]));
    CHECK_INT(b->rip, 0xffffffff81000000);
    CHECK_INT(b->rflags, a->rflags);
    CHECK_INT(b->efer, a->efer);
    CHECK_INT(b->xcr0, a->xcr0);
    CHECK_INT(b->events.interrupt_shadow, 1);
    CHECK_INT(vm.v->mode, MODE_LONG64);
    CHECK_INT(vm.v->cpl, 3);
    CHECK_INT(vm.cr8, 5);
    free(a);
    free(b);
    stop(&vm);
}

TEST(cpu, impossible_states_are_refused)
{
    struct soft_vm vm;
    struct cpu_state *s = calloc(1, sizeof(*s));

    start(&vm);
    vcpu_state_get(vm.v, s);
    s->cr0 = CR0_PG;
    CHECK_INT(vcpu_state_set(vm.v, s), -EINVAL);
    s->cr0 = CR0_PE | CR0_PG;
    s->efer = EFER_LME;
    CHECK_INT(vcpu_state_set(vm.v, s), -EINVAL);
    s->efer = EFER_LME | EFER_LMA;
    CHECK_INT(vcpu_state_set(vm.v, s), -EINVAL); /* PAE */
    s->cr4 = CR4_PAE;
    CHECK_INT(vcpu_state_set(vm.v, s), 0);
    s->cr4 |= CR4_VMXE;
    CHECK_INT(vcpu_state_set(vm.v, s), -EINVAL);
    s->cr4 = CR4_PAE;
    s->msr_count = CPU_MSR_MAX + 1;
    CHECK_INT(vcpu_state_set(vm.v, s), -EINVAL);
    s->msr_count = 1;
    s->msr[0] = (struct cpu_msr){.index = 0x12345};
    CHECK_INT(vcpu_state_set(vm.v, s), -EINVAL);
    s->msr_count = 0;
    vm.msr.index = MSR_APIC_BASE;
    vm.msr.fault = true;
    s->apic_base = 1;
    CHECK_INT(vcpu_state_set(vm.v, s), -EINVAL);
    free(s);
    stop(&vm);
}

TEST(cpu, waiting_and_pending_survive_in_the_state)
{
    struct soft_vm vm;
    struct cpu_state *s = calloc(1, sizeof(*s));

    start(&vm);
    vm.v->wait_for_sipi = true;
    vm.v->nmi_blocked = true;
    atomic_store(&vm.v->poll, POLL_NMI);
    vcpu_state_get(vm.v, s);
    CHECK_INT(s->run_state, CPU_WAIT_FOR_SIPI);
    CHECK(s->events.nmi_pending && s->events.nmi_blocked);
    vm.v->wait_for_sipi = vm.v->nmi_blocked = false;
    atomic_store(&vm.v->poll, 0);
    CHECK_INT(vcpu_state_set(vm.v, s), 0);
    CHECK(vm.v->wait_for_sipi);
    CHECK(vm.v->nmi_blocked);
    CHECK_INT(vcpu_poll(vm.v), POLL_NMI);
    free(s);
    stop(&vm);
}
