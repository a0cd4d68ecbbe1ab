/* sys_test.c — system instructions, called with hand-made struct insn on a small machine. */
#include <stdlib.h>
#include <time.h>

#include "hv/soft/cpu/cpuid.h"
#include "hv/soft/cpu/fpu.h"
#include "hv/soft/mmu/mmu.h"
#include "hv/soft/ref/sys.h"
#include "tests/lib/soft_vm.h"
#include "tests/lib/sys_insn.h"
#include "tests/lib/sys_vm.h"
#include "tests/lib/test.h"
#include "x86/msr.h"

/* cache/ is not here: there are no decoded blocks to drop. */
void code_cache_written(struct vcpu *v, gpa_t gpa, uint64_t len)
{
    (void)v;
    (void)gpa;
    (void)len;
}

void code_store_coming(struct vcpu *v, uint8_t *host, size_t len)
{
    (void)v;
    (void)host;
    (void)len;
}

void code_cache_flush_page(struct vcpu *v, uint64_t la)
{
    (void)v;
    (void)la;
}

void code_cache_flush_lookup(struct vcpu *v, bool is_user_only)
{
    (void)v;
    (void)is_user_only;
}

TEST(sys, privileged_instructions_need_cpl_0)
{
    static const enum insn_op ops[] = {
        INSN_HLT,    INSN_CLTS,   INSN_RDMSR,  INSN_WRMSR, INSN_INVD,
        INSN_WBINVD, INSN_SYSRET, INSN_SWAPGS, INSN_RDPMC, INSN_INVLPG,
    };
    struct soft_vm vm;

    sys_vm_start(&vm);
    vcpu_set_cpl(vm.v, 3);
    for (unsigned i = 0; i < ARRAY_LEN(ops); i++) {
        if (op(&vm, ops[i]) != RAISED(EXC_GP)) {
            print_error("%s\n", insn_op_name(ops[i]));
            fail();
        }
    }
    sys_vm_stop(&vm);
}

TEST(sys, hidden_instructions_are_undefined)
{
    static const enum insn_op ops[] = {INSN_INVPCID,  INSN_MONITOR, INSN_MWAIT,  INSN_STAC,
                                       INSN_CLAC,     INSN_XGETBV,  INSN_XSETBV, INSN_RDFSBASE,
                                       INSN_WRGSBASE, INSN_NOP};
    struct soft_vm vm;

    sys_vm_start(&vm);
    for (unsigned i = 0; i < ARRAY_LEN(ops); i++) {
        CHECK_INT(op(&vm, ops[i]), RAISED(EXC_UD));
    }
    sys_vm_stop(&vm);
}

/* --- system calls --- */

TEST(sys, syscall_and_sysret_swap_the_worlds)
{
    struct soft_vm vm;
    struct vcpu *v;

    sys_vm_start(&vm);
    v = vm.v;
    v->star = (uint64_t)(SYS_KERNEL_CS | (uint64_t)(SYS_USER_CS - 16 + 3) << 16) << 32;
    v->lstar = 0xffffffff81000000;
    v->sfmask = FLAG_IF | FLAG_TF | FLAG_DF;
    sys_vm_user(&vm);
    v->rip = 0x401000;
    vcpu_set_rflags(v, FLAG_1 | FLAG_IF | FLAG_CF | FLAG_DF);
    CHECK_INT(op(&vm, INSN_SYSCALL), REF_JUMP);
    CHECK_INT(v->rip, v->lstar);
    CHECK_INT(v->gpr[GPR_RCX], 0x401002);
    CHECK_INT(v->gpr[GPR_R11], FLAG_1 | FLAG_IF | FLAG_CF | FLAG_DF);
    CHECK_INT(vcpu_rflags(v), FLAG_1 | FLAG_CF);
    CHECK_INT(v->cpl, 0);
    CHECK_INT(v->seg[SEG_CS].selector, SYS_KERNEL_CS);
    CHECK_INT(v->seg[SEG_SS].selector, SYS_KERNEL_CS + 8);
    CHECK(v->tlb_now == &v->tlb[TLB_SUPERVISOR]);
    CHECK_INT(op(&vm, INSN_SYSRET), REF_JUMP);
    CHECK_INT(v->rip, 0x401002);
    CHECK_INT(v->cpl, 3);
    CHECK_INT(v->seg[SEG_CS].selector, SYS_USER_CS | 3);
    CHECK_INT(v->seg[SEG_SS].selector, (SYS_USER_CS - 8) | 3);
    CHECK_INT(vcpu_rflags(v), FLAG_1 | FLAG_IF | FLAG_CF | FLAG_DF);
    v->efer &= ~EFER_SCE;
    CHECK_INT(op(&vm, INSN_SYSCALL), RAISED(EXC_UD));
    sys_vm_stop(&vm);
}

TEST(sys, sysret_to_compatibility_mode_and_bad_addresses)
{
    struct soft_vm vm;
    struct insn sysretl = {.op = INSN_SYSRET, .opsize = 4};

    sys_vm_start(&vm);
    vm.v->star = (uint64_t)(SYS_USER_CS - 16 + 3) << 48;
    vm.v->gpr[GPR_RCX] = UINT64_C(0x123400401000);
    vm.v->gpr[GPR_R11] = FLAG_IF;
    CHECK_INT(run(&vm, sysretl), REF_JUMP);
    CHECK_INT(vm.v->mode, MODE_COMPAT32);
    CHECK_INT(vm.v->rip, 0x401000);
    CHECK_INT(run(&vm, sysretl), RAISED(EXC_UD)); /* not from here */
    sys_vm_stop(&vm);
    sys_vm_start(&vm);
    vm.v->gpr[GPR_RCX] = UINT64_C(1) << 47;
    CHECK_INT(op(&vm, INSN_SYSRET), cpuid_is_amd(vm.v->cpuid) ? REF_JUMP : RAISED(EXC_GP));
    CHECK_INT(vm.v->cpl, cpuid_is_amd(vm.v->cpuid) ? 3 : 0);
    sys_vm_stop(&vm);
}

TEST(sys, sysenter_and_sysexit_follow_the_vendor)
{
    struct soft_vm vm;
    bool is_amd;

    sys_vm_start(&vm);
    is_amd = cpuid_is_amd(vm.v->cpuid);
    vm.v->sysenter[0] = SYS_KERNEL_CS;
    vm.v->sysenter[1] = SYS_STACK0;
    vm.v->sysenter[2] = 0xffffffff81002000;
    sys_vm_user(&vm);
    CHECK_INT(op(&vm, INSN_SYSENTER), is_amd ? RAISED(EXC_UD) : REF_JUMP);
    if (!is_amd) {
        CHECK_INT(vm.v->rip, 0xffffffff81002000);
        CHECK_INT(vm.v->gpr[GPR_RSP], SYS_STACK0);
    }
    /* legacy protected mode: both vendors */
    vm.v->efer = 0;
    vm.v->cr0 &= ~CR0_PG;
    mmu_mode_changed(vm.v);
    vm.v->cpl = 3;
    vm.v->seg[SEG_CS].attr = 0xc0fb;
    vcpu_update_mode(vm.v);
    vm.v->sysenter[2] = 0x2000;
    CHECK_INT(op(&vm, INSN_SYSENTER), REF_JUMP);
    CHECK_INT(vm.v->cpl, 0);
    CHECK_INT(vm.v->rip, 0x2000);
    CHECK_INT(vm.v->mode, MODE_PROT32);
    vm.v->gpr[GPR_RDX] = 0x3000;
    vm.v->gpr[GPR_RCX] = 0x4000;
    CHECK_INT(run(&vm, (struct insn){.op = INSN_SYSEXIT, .opsize = 4}), REF_JUMP);
    CHECK_INT(vm.v->rip, 0x3000);
    CHECK_INT(vm.v->gpr[GPR_RSP], 0x4000);
    CHECK_INT(vm.v->cpl, 3);
    vm.v->sysenter[0] = 0;
    CHECK_INT(op(&vm, INSN_SYSENTER), RAISED(EXC_GP));
    sys_vm_stop(&vm);
}

TEST(sys, swapgs_exchanges_the_bases)
{
    struct soft_vm vm;

    sys_vm_start(&vm);
    vm.v->seg[SEG_GS].base = 1;
    vm.v->kernel_gs_base = 2;
    CHECK_INT(op(&vm, INSN_SWAPGS), REF_NEXT);
    CHECK_INT(vm.v->seg[SEG_GS].base, 2);
    CHECK_INT(vm.v->kernel_gs_base, 1);
    sys_vm_stop(&vm);
}

TEST(sys, hypercall_kicks_a_cpu_for_the_kernel_only)
{
    struct soft_vm vm;

    sys_vm_start(&vm);
    vm.v->gpr[GPR_RAX] = 99;
    CHECK_INT(op(&vm, INSN_VMCALL), REF_NEXT);
    CHECK_INT(vm.v->gpr[GPR_RAX], (uint64_t)-1000);
    vm.v->gpr[GPR_RAX] = 5;
    vm.v->gpr[GPR_RCX] = 3;
    CHECK_INT(op(&vm, INSN_VMCALL), REF_NEXT);
    CHECK_INT(vm.v->gpr[GPR_RAX], 0);
    CHECK_INT(vm.unhalted, 3);
    vm.v->cpl = 3;
    vm.v->gpr[GPR_RAX] = 5;
    vm.v->gpr[GPR_RCX] = 2;
    CHECK_INT(op(&vm, INSN_VMMCALL), REF_NEXT);
    CHECK_INT(vm.v->gpr[GPR_RAX], (uint64_t)-1);
    CHECK_INT(vm.unhalted, 3);
    sys_vm_stop(&vm);
}

TEST(sys, hypercall_pairs_wall_clock_and_tsc)
{
    struct soft_vm vm;
    int64_t pairing[8];
    int64_t now_s = (int64_t)time(NULL);

    sys_vm_start(&vm);
    vm.v->gpr[GPR_RAX] = 9;
    vm.v->gpr[GPR_RBX] = 0x5000;
    vm.v->gpr[GPR_RCX] = 0;
    CHECK_INT(op(&vm, INSN_VMCALL), REF_NEXT);
    CHECK_INT(vm.v->gpr[GPR_RAX], 0);
    CHECK_INT(mem_read(vm.v->mem, GPA(0x5000), pairing, sizeof(pairing)), 0);
    CHECK(pairing[0] >= now_s && pairing[0] < now_s + 60);
    CHECK(pairing[1] >= 0 && pairing[1] < 1000000000);
    vm.v->gpr[GPR_RAX] = 9;
    vm.v->gpr[GPR_RCX] = 1; /* no such clock */
    CHECK_INT(op(&vm, INSN_VMCALL), REF_NEXT);
    CHECK_INT(vm.v->gpr[GPR_RAX], (uint64_t)-95);
    vm.v->gpr[GPR_RAX] = 9;
    vm.v->gpr[GPR_RBX] = UINT64_MAX - 8;
    vm.v->gpr[GPR_RCX] = 0;
    CHECK_INT(op(&vm, INSN_VMCALL), REF_NEXT);
    CHECK_INT(vm.v->gpr[GPR_RAX], (uint64_t)-14);
    sys_vm_stop(&vm);
}

/* --- flags --- */

TEST(sys, popf_changes_what_the_privilege_allows)
{
    static const struct {
        unsigned cpl, iopl, size;
        uint64_t old, popped, want;
    } cases[] = {
        {0, 0, 8, 0, 0x3f7fd7, 0x247fd7},
        {3, 0, 8, FLAG_IF, 0, FLAG_IF | FLAG_1},
        {3, 0, 8, 0, 0x3f7fd7, 0x244dd7},
        {3, 3, 8, 0, FLAG_IF, FLAG_IF | 0x3000 | FLAG_1},
        {0, 0, 2, FLAG_AC | FLAG_ID, FLAG_CF, FLAG_AC | FLAG_ID | FLAG_CF | FLAG_1},
    };

    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        struct soft_vm vm;

        sys_vm_start(&vm);
        if (cases[i].cpl) {
            sys_vm_user(&vm);
        }
        vcpu_set_rflags(vm.v, cases[i].old | cases[i].iopl << 12 | FLAG_1);
        ref_push(vm.v, cases[i].popped, cases[i].size);
        (void)run(&vm, (struct insn){.op = INSN_POPF, .opsize = (uint8_t)cases[i].size});
        if (vcpu_rflags(vm.v) != cases[i].want) {
            print_error("case %u: 0x%llx\n", i, (unsigned long long)vcpu_rflags(vm.v));
            fail();
        }
        sys_vm_stop(&vm);
    }
}

TEST(sys, pushf_hides_rf_and_cli_sti_need_iopl)
{
    struct soft_vm vm;

    sys_vm_start(&vm);
    vcpu_set_rflags(vm.v, FLAG_1 | FLAG_RF | FLAG_ZF);
    CHECK_INT(op(&vm, INSN_PUSHF), REF_NEXT);
    CHECK_INT(ref_pop(vm.v, 8), FLAG_1 | FLAG_ZF);
    CHECK_INT(op(&vm, INSN_STI), REF_END);
    CHECK(vcpu_has_flag(vm.v, FLAG_IF));
    CHECK_INT(vm.v->shadow, 1);
    vm.v->shadow = 0;
    CHECK_INT(op(&vm, INSN_STI), REF_END);
    CHECK_INT(vm.v->shadow, 0); /* it was set already */
    CHECK_INT(op(&vm, INSN_CLI), REF_NEXT);
    CHECK(!vcpu_has_flag(vm.v, FLAG_IF));
    sys_vm_user(&vm);
    CHECK_INT(op(&vm, INSN_CLI), RAISED(EXC_GP));
    CHECK_INT(op(&vm, INSN_STI), RAISED(EXC_GP));
    vcpu_set_cpl(vm.v, 0);
    CHECK_INT(op(&vm, INSN_HLT), REF_END);
    CHECK(vm.v->halted);
    sys_vm_stop(&vm);
}

/* --- control and debug registers --- */

static int mov_cr(struct soft_vm *vm, bool is_write, uint8_t number)
{
    struct insn insn = {.op = is_write ? INSN_MOV_TO_CR : INSN_MOV_FROM_CR, .opsize = 8};

    insn.operand[is_write ? 0 : 1] = reg(INSN_CREG, number, 8);
    insn.operand[is_write ? 1 : 0] = reg(INSN_GPR, GPR_RAX, 8);
    return run(vm, insn);
}

static int mov_dr(struct soft_vm *vm, bool is_write, uint8_t number)
{
    struct insn insn = {.op = is_write ? INSN_MOV_TO_DR : INSN_MOV_FROM_DR, .opsize = 8};

    insn.operand[is_write ? 0 : 1] = reg(INSN_DREG, number, 8);
    insn.operand[is_write ? 1 : 0] = reg(INSN_GPR, GPR_RAX, 8);
    return run(vm, insn);
}

TEST(sys, control_registers_move_and_flush)
{
    struct soft_vm vm;
    uint64_t flushes;

    sys_vm_start(&vm);
    flushes = vm.v->stats.tlb_flushes;
    CHECK_INT(mov_cr(&vm, false, 3), REF_NEXT);
    CHECK_INT(vm.v->gpr[GPR_RAX], SOFT_VM_PML4);
    CHECK_INT(mov_cr(&vm, true, 3), REF_NEXT);
    CHECK_INT(vm.v->stats.tlb_flushes, flushes + 1);
    CHECK_INT(mov_cr(&vm, false, 0), REF_NEXT);
    vm.v->gpr[GPR_RAX] ^= CR0_WP;
    CHECK_INT(mov_cr(&vm, true, 0), REF_END);
    CHECK_INT(vm.v->stats.tlb_flushes, flushes + 2);
    vm.v->gpr[GPR_RAX] = 7;
    CHECK_INT(mov_cr(&vm, true, 8), REF_NEXT);
    CHECK_INT(vm.cr8, 7);
    vm.v->gpr[GPR_RAX] = 16;
    CHECK_INT(mov_cr(&vm, true, 8), RAISED(EXC_GP));
    CHECK_INT(mov_cr(&vm, true, 2), REF_NEXT);
    CHECK_INT(vm.v->cr2, 16);
    CHECK_INT(mov_cr(&vm, false, 4), REF_NEXT);
    CHECK_INT(mov_cr(&vm, true, 4), REF_END);
    CHECK_INT(mov_cr(&vm, true, 5), RAISED(EXC_UD));
    CHECK_INT(mov_cr(&vm, false, 5), RAISED(EXC_UD));
    vm.v->cr0 |= CR0_TS;
    CHECK_INT(op(&vm, INSN_CLTS), REF_NEXT);
    CHECK_INT(vm.v->cr0 & CR0_TS, 0);
    CHECK_INT(run(&vm, with_rax(INSN_SMSW, 8)), REF_NEXT);
    CHECK_INT(vm.v->gpr[GPR_RAX], vm.v->cr0);
    vm.v->gpr[GPR_RAX] = 0;
    CHECK_INT(run(&vm, with_rax(INSN_LMSW, 2)), REF_END);
    CHECK(vm.v->cr0 & CR0_PE);
    sys_vm_stop(&vm);
}

TEST(sys, debug_registers_keep_their_fixed_bits)
{
    struct soft_vm vm;

    sys_vm_start(&vm);
    vm.v->gpr[GPR_RAX] = 0x12345678;
    CHECK_INT(mov_dr(&vm, true, 0), REF_NEXT);
    vm.v->gpr[GPR_RAX] = 0;
    CHECK_INT(mov_dr(&vm, true, 7), REF_NEXT);
    CHECK_INT(vm.v->dr[7], 0x400);
    CHECK_INT(mov_dr(&vm, true, 4), REF_NEXT); /* DR6 by its old name */
    CHECK_INT(vm.v->dr[6], 0xffff0ff0);
    CHECK_INT(mov_dr(&vm, false, 0), REF_NEXT);
    CHECK_INT(vm.v->gpr[GPR_RAX], 0x12345678);
    vm.v->cr4 |= CR4_DE;
    CHECK_INT(mov_dr(&vm, true, 5), RAISED(EXC_UD));
    vm.v->gpr[GPR_RAX] = UINT64_C(1) << 32;
    CHECK_INT(mov_dr(&vm, true, 6), RAISED(EXC_GP));
    vm.v->dr[7] |= 0x2000;
    CHECK_INT(mov_dr(&vm, false, 0), RAISED(EXC_DB));
    CHECK(vm.v->dr[6] & 0x2000);
    sys_vm_stop(&vm);
}

/* --- tables --- */

TEST(sys, descriptor_tables_load_and_store)
{
    struct soft_vm vm;

    sys_vm_start(&vm);
    vm.v->gpr[GPR_RBX] = SYS_DATA;
    CHECK_INT(run(&vm, with_mem(INSN_SGDT, 8, 10)), REF_NEXT);
    CHECK_INT(mmu_read16(vm.v, SYS_DATA), vm.v->gdt.limit);
    CHECK_INT(mmu_read64(vm.v, SYS_DATA + 2), SYS_GDT);
    mmu_write16(vm.v, SYS_DATA, 0x1ff);
    mmu_write64(vm.v, SYS_DATA + 2, 0xffffffff82000000);
    CHECK_INT(run(&vm, with_mem(INSN_LIDT, 8, 10)), REF_NEXT);
    CHECK_INT(vm.v->idt.base, 0xffffffff82000000);
    CHECK_INT(vm.v->idt.limit, 0x1ff);
    CHECK_INT(run(&vm, with_mem(INSN_SIDT, 8, 10)), REF_NEXT);
    mmu_write64(vm.v, SYS_DATA + 2, UINT64_C(1) << 63);
    CHECK_INT(run(&vm, with_mem(INSN_LGDT, 8, 10)), RAISED(EXC_GP));
    CHECK_INT(vm.v->gdt.base, SYS_GDT);
    sys_vm_stop(&vm);
}

TEST(sys, ltr_marks_busy_and_lldt_takes_sixteen_byte_descriptors)
{
    struct soft_vm vm;

    sys_vm_start(&vm);
    vm.v->gpr[GPR_RAX] = SYS_TSS;
    CHECK_INT(run(&vm, with_rax(INSN_LTR, 2)), REF_NEXT);
    CHECK_INT(vm.v->seg[SEG_TR].base, SYS_TSS_LA);
    CHECK_INT(vm.v->seg[SEG_TR].attr & 15, DESC_TSS_BUSY);
    CHECK_INT(soft_vm_peek(&vm, SYS_GDT + SYS_TSS) >> 40 & 15, DESC_TSS_BUSY);
    CHECK_INT(run(&vm, with_rax(INSN_LTR, 2)), RAISED(EXC_GP)); /* busy now */
    CHECK_INT(run(&vm, with_rax(INSN_STR, 4)), REF_NEXT);
    CHECK_INT(vm.v->gpr[GPR_RAX], SYS_TSS);
    vm.v->gpr[GPR_RAX] = 0;
    CHECK_INT(run(&vm, with_rax(INSN_LTR, 2)), RAISED(EXC_GP));
    CHECK_INT(run(&vm, with_rax(INSN_LLDT, 2)), REF_NEXT);
    CHECK(vm.v->seg[SEG_LDTR].attr & SEG_ATTR_UNUSABLE);
    vm.v->gpr[GPR_RAX] = SYS_LDT;
    CHECK_INT(run(&vm, with_rax(INSN_LLDT, 2)), REF_NEXT);
    CHECK_INT(vm.v->seg[SEG_LDTR].base, SYS_DATA);
    mmu_write64(vm.v, SYS_DATA + 8, 0x00cff3000000ffff);
    ref_load_segment(vm.v, SEG_ES, 8 | 4 | 3);
    CHECK_INT(vm.v->seg[SEG_ES].attr, 0xc0f3);
    CHECK_INT(run(&vm, with_rax(INSN_SLDT, 2)), REF_NEXT);
    CHECK_INT(vm.v->gpr[GPR_RAX] & 0xffff, SYS_LDT);
    vm.v->gpr[GPR_RAX] = SYS_KERNEL_DS;
    CHECK_INT(run(&vm, with_rax(INSN_LLDT, 2)), RAISED(EXC_GP));
    sys_vm_stop(&vm);
}

TEST(sys, questions_about_selectors_answer_in_zf)
{
    static const struct {
        enum insn_op op;
        uint16_t selector;
        unsigned cpl;
        bool want;
        uint64_t value;
    } cases[] = {
        {INSN_LAR, SYS_KERNEL_DS, 0, true, 0xc09300},
        {INSN_LAR, SYS_KERNEL_DS, 3, false, 0},
        {INSN_LAR, SYS_USER_DS | 3, 3, true, 0xc0f300},
        {INSN_LAR, 0, 0, false, 0},
        {INSN_LAR, 0xfff8, 0, false, 0},
        {INSN_LAR, SYS_TSS, 0, true, 0x008900},
        {INSN_LSL, SYS_TSS, 0, true, 0x67},
        {INSN_LSL, SYS_USER_DS | 3, 3, true, 0xffffffff},
        {INSN_VERR, SYS_USER_CS | 3, 3, true, 0},
        {INSN_VERW, SYS_USER_CS | 3, 3, false, 0},
        {INSN_VERW, SYS_KERNEL_DS, 0, true, 0},
        {INSN_VERR, SYS_TSS, 0, false, 0},
    };

    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        struct soft_vm vm;
        struct insn insn = with_rax(cases[i].op, 4);
        bool has_value = cases[i].op == INSN_LAR || cases[i].op == INSN_LSL;

        sys_vm_start(&vm);
        insn.operand[has_value ? 1 : 0] = reg(INSN_GPR, GPR_RCX, 2);
        vm.v->gpr[GPR_RCX] = cases[i].selector;
        vm.v->gpr[GPR_RAX] = 0;
        vcpu_set_cpl(vm.v, cases[i].cpl);
        vcpu_set_rflags(vm.v, FLAG_1 | (cases[i].want ? 0 : FLAG_ZF));
        CHECK_INT(run(&vm, insn), REF_NEXT);
        if (((vcpu_rflags(vm.v) & FLAG_ZF) != 0) != cases[i].want ||
            (has_value && vm.v->gpr[GPR_RAX] != cases[i].value)) {
            print_error("case %u: rax 0x%llx\n", i, (unsigned long long)vm.v->gpr[GPR_RAX]);
            fail();
        }
        sys_vm_stop(&vm);
    }
}

TEST(sys, arpl_raises_the_rpl)
{
    struct soft_vm vm;
    struct insn insn = with_rax(INSN_ARPL, 2);

    sys_vm_start(&vm);
    insn.operand[1] = reg(INSN_GPR, GPR_RCX, 2);
    vm.v->gpr[GPR_RAX] = 0x10;
    vm.v->gpr[GPR_RCX] = 3;
    CHECK_INT(run(&vm, insn), REF_NEXT);
    CHECK_INT(vm.v->gpr[GPR_RAX], 0x13);
    CHECK(vcpu_rflags(vm.v) & FLAG_ZF);
    CHECK_INT(run(&vm, insn), REF_NEXT);
    CHECK(!(vcpu_rflags(vm.v) & FLAG_ZF));
    sys_vm_stop(&vm);
}

/* --- MSRs, time, CPUID --- */

TEST(sys, msrs_travel_in_edx_eax)
{
    struct soft_vm vm;

    sys_vm_start(&vm);
    vm.v->gpr[GPR_RCX] = MSR_LSTAR | UINT64_C(0xdead00000000);
    vm.v->gpr[GPR_RAX] = 0xffffffff81000000;
    vm.v->gpr[GPR_RDX] = UINT64_C(0xffffffffffffffff);
    CHECK_INT(op(&vm, INSN_WRMSR), REF_NEXT);
    CHECK_INT(vm.v->lstar, 0xffffffff81000000);
    CHECK_INT(op(&vm, INSN_RDMSR), REF_NEXT);
    CHECK_INT(vm.v->gpr[GPR_RAX], 0x81000000);
    CHECK_INT(vm.v->gpr[GPR_RDX], 0xffffffff);
    vm.v->gpr[GPR_RCX] = 0x12345;
    CHECK_INT(op(&vm, INSN_RDMSR), RAISED(EXC_GP));
    CHECK_INT(op(&vm, INSN_WRMSR), RAISED(EXC_GP));
    sys_vm_stop(&vm);
}

TEST(sys, time_and_identity_can_be_read)
{
    struct soft_vm vm;

    sys_vm_start(&vm);
    vm.tsc = UINT64_C(0x1234567890);
    vm.v->tsc_aux = 3;
    sys_vm_user(&vm);
    CHECK_INT(op(&vm, INSN_RDTSCP), REF_NEXT);
    CHECK_INT(vm.v->gpr[GPR_RAX], 0x34567890);
    CHECK_INT(vm.v->gpr[GPR_RDX], 0x12);
    CHECK_INT(vm.v->gpr[GPR_RCX], 3);
    vm.v->cr4 |= CR4_TSD;
    CHECK_INT(op(&vm, INSN_RDTSC), RAISED(EXC_GP));
    vm.v->gpr[GPR_RAX] = 0x40000000;
    CHECK_INT(op(&vm, INSN_CPUID), REF_NEXT);
    CHECK_INT(vm.v->gpr[GPR_RBX], 0x4b4d564b);
    vm.v->cr4 |= CR4_FSGSBASE;
    vm.v->gpr[GPR_RAX] = 0x123456789;
    CHECK_INT(run(&vm, with_rax(INSN_WRFSBASE, 8)), REF_NEXT);
    CHECK_INT(vm.v->seg[SEG_FS].base, 0x123456789);
    CHECK_INT(run(&vm, with_rax(INSN_RDFSBASE, 4)), REF_NEXT);
    CHECK_INT(vm.v->gpr[GPR_RAX], 0x23456789);
    vm.v->gpr[GPR_RAX] = UINT64_C(1) << 50;
    CHECK_INT(run(&vm, with_rax(INSN_WRGSBASE, 8)), RAISED(EXC_GP));
    sys_vm_stop(&vm);
}

TEST(sys, xcr0_can_be_read_once_the_os_enabled_it)
{
    struct soft_vm vm;

    sys_vm_start(&vm);
    vm.v->cr4 |= CR4_OSXSAVE;
    vm.v->xcr0 = 1;
    vm.v->gpr[GPR_RCX] = 0;
    vm.v->gpr[GPR_RAX] = 3;
    vm.v->gpr[GPR_RDX] = 0;
    CHECK_INT(op(&vm, INSN_XSETBV), REF_END);
    CHECK_INT(op(&vm, INSN_XGETBV), REF_NEXT);
    CHECK_INT(vm.v->gpr[GPR_RAX], 3);
    vm.v->gpr[GPR_RAX] = 2;
    CHECK_INT(op(&vm, INSN_XSETBV), RAISED(EXC_GP));
    vm.v->gpr[GPR_RCX] = 1;
    CHECK_INT(op(&vm, INSN_XGETBV), RAISED(EXC_GP));
    sys_vm_stop(&vm);
}

/* --- TLB --- */

TEST(sys, invlpg_makes_a_new_mapping_visible)
{
    struct soft_vm vm;

    sys_vm_start(&vm);
    (void)soft_vm_map(&vm, 0x700000, 0x300000, PTE_RW | PTE_G);
    CHECK_INT(mmu_read8(vm.v, 0x700000), 0);
    (void)soft_vm_map(&vm, 0x700000, 0x301000, PTE_RW | PTE_G);
    soft_vm_poke(&vm, 0x301000, 9);
    vm.v->gpr[GPR_RBX] = 0x700010;
    CHECK_INT(run(&vm, with_mem(INSN_INVLPG, 8, 0)), REF_NEXT);
    CHECK_INT(mmu_read8(vm.v, 0x700000), 9);
    CHECK_INT(op(&vm, INSN_WBINVD), REF_NEXT);
    sys_vm_stop(&vm);
}

/* --- ports --- */

static struct insn in_dx(uint8_t size)
{
    return (struct insn){.op = INSN_IN,
                         .opsize = size,
                         .operand_count = 2,
                         .operand = {reg(INSN_GPR, GPR_RAX, size), reg(INSN_GPR, GPR_RDX, 2)}};
}

TEST(sys, ports_reach_the_platform)
{
    struct soft_vm vm;
    struct insn out = {.op = INSN_OUT,
                       .opsize = 2,
                       .imm = 0x80,
                       .operand_count = 2,
                       .operand = {{.kind = INSN_IMM, .size = 1}, reg(INSN_GPR, GPR_RAX, 2)}};

    sys_vm_start(&vm);
    vm.pio_answer = 0xaabbccdd;
    vm.v->gpr[GPR_RDX] = 0xffff03f8;
    vm.v->gpr[GPR_RAX] = UINT64_MAX;
    CHECK_INT(run(&vm, in_dx(1)), REF_END);
    CHECK_INT(vm.pio.address, 0x3f8);
    CHECK_INT(vm.v->gpr[GPR_RAX], 0xffffffffffffffdd);
    CHECK_INT(run(&vm, in_dx(4)), REF_END);
    CHECK_INT(vm.v->gpr[GPR_RAX], 0xaabbccdd);
    CHECK_INT(run(&vm, out), REF_END);
    CHECK_INT(vm.pio.address, 0x80);
    CHECK_INT(vm.pio.len, 2);
    CHECK_INT(vm.pio.value, 0xccdd);
    CHECK(vm.pio.is_write);
    sys_vm_stop(&vm);
}

TEST(sys, user_ports_follow_iopl_and_the_bitmap)
{
    struct soft_vm vm;
    uint16_t map = 0x68;

    sys_vm_start(&vm);
    sys_vm_user(&vm);
    vm.v->gpr[GPR_RDX] = 0x3f;
    mmu_sys_write(vm.v, SYS_TSS_LA + 0x66, map, 2);
    CHECK_INT(run(&vm, in_dx(1)), RAISED(EXC_GP)); /* the TSS ends before its bitmap */
    vcpu_set_rflags(vm.v, FLAG_1 | 0x3000);
    CHECK_INT(run(&vm, in_dx(1)), REF_END);
    vcpu_set_rflags(vm.v, FLAG_1);
    vm.v->seg[SEG_TR].limit = 0x68 + 8;
    mmu_sys_write(vm.v, SYS_TSS_LA + map, UINT64_MAX, 8);
    mmu_sys_write(vm.v, SYS_TSS_LA + map + 8, 0xff, 1);
    CHECK_INT(run(&vm, in_dx(1)), RAISED(EXC_GP));
    mmu_sys_write(vm.v, SYS_TSS_LA + map + 7, 0x7f, 1); /* port 0x3f */
    CHECK_INT(run(&vm, in_dx(1)), REF_END);
    CHECK_INT(run(&vm, in_dx(2)), RAISED(EXC_GP)); /* 0x40 is not allowed */
    vm.v->gpr[GPR_RDX] = 0x1000;
    CHECK_INT(run(&vm, in_dx(1)), RAISED(EXC_GP));
    sys_vm_stop(&vm);
}
