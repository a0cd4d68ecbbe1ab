/* segload_test.c — segment register loads and far transfers. */
#include "hv/soft/cpu/regs.h"
#include "hv/soft/mmu/mmu.h"
#include "hv/soft/ref/sys.h"
#include "tests/lib/sys_insn.h"
#include "tests/lib/sys_vm.h"
#include "tests/lib/test.h"

/* --- segments --- */

/* Vector, or -1 if it worked. */
static int load(struct soft_vm *vm, enum cpu_seg seg, uint16_t selector)
{
    vm->v->exc.error = 0;
    if (_setjmp(vm->v->unwind)) {
        return vm->v->exc.vector;
    }
    ref_load_segment(vm->v, seg, selector);
    return -1;
}

TEST(sys, segment_loads_check_type_privilege_and_presence)
{
    static const struct {
        enum cpu_seg seg;
        uint16_t selector;
        unsigned cpl;
        int want; /* vector, -1 for success */
        uint32_t error;
    } cases[] = {
        {SEG_DS, SYS_KERNEL_DS, 0, -1, 0},
        {SEG_DS, SYS_USER_DS | 3, 0, -1, 0},
        {SEG_DS, 0, 0, -1, 0},
        {SEG_DS, 3, 3, -1, 0},
        {SEG_SS, 0, 0, -1, 0},
        {SEG_SS, 3, 3, EXC_GP, 0},
        {SEG_SS, SYS_KERNEL_DS | 3, 0, EXC_GP, SYS_KERNEL_DS},
        {SEG_SS, SYS_KERNEL_CS, 0, EXC_GP, SYS_KERNEL_CS},
        {SEG_SS, SYS_USER_DS | 3, 0, EXC_GP, SYS_USER_DS},
        {SEG_SS, SYS_USER_DS | 3, 3, -1, 0},
        {SEG_SS, SYS_ABSENT, 0, EXC_SS, SYS_ABSENT},
        {SEG_ES, SYS_ABSENT, 0, EXC_NP, SYS_ABSENT},
        {SEG_ES, SYS_KERNEL_DS, 3, EXC_GP, SYS_KERNEL_DS},
        {SEG_ES, SYS_TSS, 0, EXC_GP, SYS_TSS},
        {SEG_ES, 0xfff8, 0, EXC_GP, 0xfff8},
        {SEG_ES, SYS_KERNEL_DS | 4, 0, EXC_GP, SYS_KERNEL_DS | 4}, /* no LDT */
        {SEG_FS, SYS_KERNEL_CS, 0, -1, 0},                         /* readable code */
    };

    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        struct soft_vm vm;
        int got;

        sys_vm_start(&vm);
        vcpu_set_cpl(vm.v, cases[i].cpl);
        got = load(&vm, cases[i].seg, cases[i].selector);
        if (got < 0) {
            CHECK_INT(vm.v->seg[cases[i].seg].selector, cases[i].selector);
        }
        if (got != cases[i].want || vm.v->exc.error != cases[i].error) {
            print_error("case %u: %d error 0x%x\n", i, got, vm.v->exc.error);
            fail();
        }
        sys_vm_stop(&vm);
    }
}

TEST(sys, loading_a_segment_marks_it_accessed)
{
    struct soft_vm vm;

    sys_vm_start(&vm);
    CHECK_INT(soft_vm_peek(&vm, SYS_GDT + SYS_FRESH_DS) >> 40 & 1, 0);
    ref_load_segment(vm.v, SEG_DS, SYS_FRESH_DS);
    CHECK_INT(soft_vm_peek(&vm, SYS_GDT + SYS_FRESH_DS) >> 40 & 1, 1);
    CHECK_INT(vm.v->seg[SEG_DS].base, 0x123000);
    ref_load_segment(vm.v, SEG_DS, 0);
    CHECK_INT(vm.v->seg[SEG_DS].base, 0);
    CHECK(vm.v->seg[SEG_DS].attr & SEG_ATTR_UNUSABLE);
    sys_vm_stop(&vm);
}

TEST(sys, mov_and_pop_of_ss_shadow_interrupts)
{
    struct soft_vm vm;
    struct insn mov = {.op = INSN_MOV_TO_SREG,
                       .opsize = 8,
                       .operand_count = 2,
                       .operand = {reg(INSN_SREG, SEG_SS, 2), reg(INSN_GPR, GPR_RAX, 2)}};
    struct insn pop = {.op = INSN_POP_SREG,
                       .opsize = 8,
                       .operand_count = 1,
                       .operand = {reg(INSN_SREG, SEG_FS, 2)}};
    uint64_t rsp;

    sys_vm_start(&vm);
    vm.v->gpr[GPR_RAX] = SYS_KERNEL_DS;
    CHECK_INT(run(&vm, mov), REF_END);
    CHECK_INT(vm.v->shadow, 2);
    mov.operand[0].reg = SEG_CS;
    CHECK_INT(run(&vm, mov), RAISED(EXC_UD));
    rsp = vm.v->gpr[GPR_RSP];
    ref_push(vm.v, SYS_ABSENT, 8);
    CHECK_INT(run(&vm, pop), RAISED(EXC_NP));
    CHECK_INT(vm.v->gpr[GPR_RSP], rsp - 8); /* unchanged by the fault */
    (void)ref_pop(vm.v, 8);
    ref_push(vm.v, SYS_KERNEL_DS, 8);
    CHECK_INT(run(&vm, pop), REF_NEXT);
    CHECK_INT(vm.v->gpr[GPR_RSP], rsp);
    CHECK_INT(vm.v->seg[SEG_FS].selector, SYS_KERNEL_DS);
    pop.op = INSN_PUSH_SREG;
    CHECK_INT(run(&vm, pop), REF_NEXT);
    CHECK_INT(ref_pop(vm.v, 8), SYS_KERNEL_DS);
    mov = (struct insn){.op = INSN_MOV_FROM_SREG,
                        .opsize = 4,
                        .operand = {reg(INSN_GPR, GPR_RAX, 4), reg(INSN_SREG, SEG_FS, 2)}};
    vm.v->gpr[GPR_RAX] = UINT64_MAX;
    CHECK_INT(run(&vm, mov), REF_NEXT);
    CHECK_INT(vm.v->gpr[GPR_RAX], SYS_KERNEL_DS);
    sys_vm_stop(&vm);
}

TEST(sys, far_pointer_loads_set_register_and_segment)
{
    struct soft_vm vm;
    struct insn insn = with_mem(INSN_LFS, 8, 10);

    sys_vm_start(&vm);
    insn.operand[1] = insn.operand[0];
    insn.operand[0] = reg(INSN_GPR, GPR_RCX, 8);
    vm.v->gpr[GPR_RBX] = SYS_DATA;
    mmu_write64(vm.v, SYS_DATA, 0x1122334455667788);
    mmu_write16(vm.v, SYS_DATA + 8, SYS_USER_DS | 3);
    CHECK_INT(run(&vm, insn), REF_NEXT);
    CHECK_INT(vm.v->gpr[GPR_RCX], 0x1122334455667788);
    CHECK_INT(vm.v->seg[SEG_FS].selector, SYS_USER_DS | 3);
    insn.op = INSN_LSS;
    CHECK_INT(run(&vm, insn), RAISED(EXC_GP));
    sys_vm_stop(&vm);
}

/* --- far transfers --- */

static struct insn far_to(enum insn_op name, uint16_t selector, uint64_t offset)
{
    return (struct insn){.op = name,
                         .opsize = 8,
                         .imm = (int64_t)offset,
                         .imm2 = selector,
                         .operand_count = 1,
                         .operand = {{.kind = INSN_FAR}}};
}

TEST(sys, far_jumps_calls_and_returns_switch_modes)
{
    struct soft_vm vm;
    struct insn retf = {.op = INSN_RETF, .opsize = 8};
    uint64_t rsp;

    sys_vm_start(&vm);
    rsp = vm.v->gpr[GPR_RSP];
    vm.v->rip = 0x5000;
    CHECK_INT(run(&vm, far_to(INSN_CALL_FAR, SYS_KERNEL_CS, 0x6000)), REF_JUMP);
    CHECK_INT(vm.v->rip, 0x6000);
    CHECK_INT(vm.v->gpr[GPR_RSP], rsp - 16);
    CHECK_INT(run(&vm, retf), REF_JUMP);
    CHECK_INT(vm.v->rip, 0x5002);
    CHECK_INT(vm.v->gpr[GPR_RSP], rsp);
    CHECK_INT(vm.v->mode, MODE_LONG64);
    CHECK_INT(run(&vm, far_to(INSN_JMP_FAR, SYS_KERNEL_CS32, 0x7000)), REF_JUMP);
    CHECK_INT(vm.v->mode, MODE_COMPAT32);
    CHECK_INT(vm.v->seg[SEG_CS].selector, SYS_KERNEL_CS32);
    CHECK_INT(run(&vm, far_to(INSN_JMP_FAR, SYS_KERNEL_CS, 0x8000)), REF_JUMP);
    CHECK_INT(vm.v->mode, MODE_LONG64);
    CHECK_INT(run(&vm, far_to(INSN_JMP_FAR, SYS_USER_CS | 3, 0x8000)), RAISED(EXC_GP));
    CHECK_INT(run(&vm, far_to(INSN_JMP_FAR, SYS_TSS, 0x8000)), RAISED(EXC_GP));
    CHECK_INT(run(&vm, far_to(INSN_JMP_FAR, 0, 0x8000)), RAISED(EXC_GP));
    CHECK_INT(run(&vm, far_to(INSN_JMP_FAR, SYS_KERNEL_CS, UINT64_C(1) << 60)), RAISED(EXC_GP));
    CHECK_INT(vm.v->rip, 0x8000);
    sys_vm_stop(&vm);
}

TEST(sys, far_return_to_user_mode_pops_the_stack)
{
    struct soft_vm vm;
    struct insn retf = {.op = INSN_RETF,
                        .opsize = 8,
                        .imm = 16,
                        .operand_count = 1,
                        .operand = {{.kind = INSN_IMM, .size = 2}}};

    sys_vm_start(&vm);
    ref_load_segment(vm.v, SEG_DS, SYS_KERNEL_DS);
    ref_push(vm.v, SYS_USER_DS | 3, 8);
    ref_push(vm.v, SYS_STACK3, 8);
    ref_push(vm.v, 0, 8);
    ref_push(vm.v, 0, 8);
    ref_push(vm.v, SYS_USER_CS | 3, 8);
    ref_push(vm.v, 0x401000, 8);
    CHECK_INT(run(&vm, retf), REF_JUMP);
    CHECK_INT(vm.v->cpl, 3);
    CHECK_INT(vm.v->rip, 0x401000);
    CHECK_INT(vm.v->gpr[GPR_RSP], SYS_STACK3 + 16);
    CHECK_INT(vm.v->seg[SEG_SS].selector, SYS_USER_DS | 3);
    CHECK_INT(vm.v->seg[SEG_DS].selector, 0); /* a kernel segment does not go along */
    sys_vm_stop(&vm);
}

TEST(sys, trampoline_goes_from_real_to_protected_mode)
{
    struct soft_vm vm;
    struct insn jmp = far_to(INSN_JMP_FAR, SYS_KERNEL_CS32, 0x1234);
    struct insn real = far_to(INSN_JMP_FAR, 0x9000, 0x10);

    sys_vm_start(&vm);
    vcpu_reset(vm.v, true);
    vm.v->gdt = (struct cpu_table){.base = SYS_GDT, .limit = 0xff};
    real.opsize = 2;
    CHECK_INT(run(&vm, real), REF_JUMP);
    CHECK_INT(vm.v->seg[SEG_CS].base, 0x90000);
    CHECK_INT(vm.v->rip, 0x10);
    vm.v->gpr[GPR_RAX] = 1;
    CHECK_INT(run(&vm, with_rax(INSN_LMSW, 2)), REF_END);
    CHECK_INT(vm.v->mode, MODE_PROT16);
    jmp.opsize = 4;
    CHECK_INT(run(&vm, jmp), REF_JUMP);
    CHECK_INT(vm.v->mode, MODE_PROT32);
    CHECK_INT(vm.v->rip, 0x1234);
    CHECK_INT(vm.v->seg[SEG_CS].base, 0);
    sys_vm_stop(&vm);
}
