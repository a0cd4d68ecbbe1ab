/* deliver_test.c — events through the interrupt tables of each mode, and the way back by IRET. */
#include <stdlib.h>

#include "hv/soft/ref/sys.h"
#include "tests/lib/soft_vm.h"
#include "tests/lib/sys_vm.h"
#include "tests/lib/test.h"

#define RAISED(vector) (-1 - (vector))

/* Deliver an exception as the run loop does; whatever escapes fails the test. */
static void deliver(struct soft_vm *vm, enum exc_vector vector, bool has_error, uint32_t error)
{
    vm->v->exc.vector = (uint8_t)vector;
    vm->v->exc.has_error = has_error;
    vm->v->exc.error = error;
    vm->v->exc.is_soft = false;
    if (_setjmp(vm->v->unwind)) {
        fail_msg("delivery raised %d", vm->v->exc.vector);
    }
    ref_deliver_exception(vm->v);
}

/* INT n: REF_JUMP or the vector it raised. */
static int run_int(struct soft_vm *vm, enum insn_op op, uint8_t vector)
{
    struct insn insn = {.op = op, .len = 2, .imm = vector, .opsize = 8};

    if (_setjmp(vm->v->unwind)) {
        return RAISED(vm->v->exc.vector);
    }
    return (int)ref_system(vm->v, &insn);
}

static int iret(struct soft_vm *vm, uint8_t size)
{
    struct insn insn = {.op = INSN_IRET, .len = 2, .opsize = size};

    if (_setjmp(vm->v->unwind)) {
        return RAISED(vm->v->exc.vector);
    }
    return (int)ref_system(vm->v, &insn);
}

static uint64_t slot(struct soft_vm *vm, unsigned index)
{
    return mmu_sys_read(vm->v, vm->v->gpr[GPR_RSP] + 8 * index, 8);
}

/* Push the five words of an IRETQ frame. */
static void push_frame(struct soft_vm *vm, uint16_t ss, uint64_t rsp, uint64_t flags, uint16_t cs,
                       uint64_t rip)
{
    ref_push(vm->v, ss, 8);
    ref_push(vm->v, rsp, 8);
    ref_push(vm->v, flags, 8);
    ref_push(vm->v, cs, 8);
    ref_push(vm->v, rip, 8);
}

TEST(deliver, exception_from_user_mode_switches_the_stack)
{
    struct soft_vm vm;
    uint64_t handler;
    uint64_t rsp;

    sys_vm_start(&vm);
    handler = sys_vm_gate(&vm, EXC_PF, DESC_INT, 0, 0);
    sys_vm_user(&vm);
    rsp = vm.v->gpr[GPR_RSP];
    vcpu_set_rflags(vm.v, FLAG_1 | FLAG_IF | FLAG_TF | FLAG_NT | FLAG_CF);
    vm.v->exc.cr2 = 0x1234;
    deliver(&vm, EXC_PF, true, 6);
    CHECK_INT(vm.v->rip, handler);
    CHECK_INT(vm.v->cpl, 0);
    CHECK_INT(vm.v->cr2, 0x1234);
    CHECK_INT(vm.v->gpr[GPR_RSP], SYS_STACK0 - 48);
    CHECK_INT(slot(&vm, 0), 6);
    CHECK_INT(slot(&vm, 1), SYS_USER + 0x100);
    CHECK_INT(slot(&vm, 2), SYS_USER_CS | 3);
    CHECK_INT(slot(&vm, 3), FLAG_1 | FLAG_IF | FLAG_TF | FLAG_NT | FLAG_CF | FLAG_RF);
    CHECK_INT(slot(&vm, 4), rsp);
    CHECK_INT(slot(&vm, 5), SYS_USER_DS | 3);
    CHECK_INT(vcpu_rflags(vm.v), FLAG_1 | FLAG_CF);
    CHECK_INT(vm.v->seg[SEG_SS].selector, 0);
    CHECK_INT(vm.v->seg[SEG_CS].selector, SYS_KERNEL_CS);
    CHECK(vm.v->tlb_now == &vm.v->tlb[TLB_SUPERVISOR]);
    (void)ref_pop(vm.v, 8);
    CHECK_INT(iret(&vm, 8), REF_JUMP);
    CHECK_INT(vm.v->cpl, 3);
    CHECK_INT(vm.v->gpr[GPR_RSP], rsp);
    CHECK_INT(vm.v->rip, SYS_USER + 0x100);
    CHECK_INT(vm.v->seg[SEG_SS].selector, SYS_USER_DS | 3);
    sys_vm_stop(&vm);
}

TEST(deliver, kernel_stack_is_aligned_and_kept)
{
    struct soft_vm vm;

    sys_vm_start(&vm);
    (void)sys_vm_gate(&vm, 0x30, DESC_INT, 0, 0);
    vm.v->gpr[GPR_RSP] = SYS_STACK0 - 0x109;
    vm.v->halted = 1;
    vcpu_set_rflags(vm.v, FLAG_1 | FLAG_IF);
    ref_deliver_interrupt(vm.v, 0x30);
    CHECK_INT(vm.v->gpr[GPR_RSP], SYS_STACK0 - 0x110 - 40);
    CHECK_INT(slot(&vm, 0), 0x5000);
    CHECK_INT(slot(&vm, 2), FLAG_1 | FLAG_IF); /* no RF for an interrupt */
    CHECK_INT(slot(&vm, 3), SYS_STACK0 - 0x109);
    CHECK_INT(slot(&vm, 4), 0x18);
    CHECK(!vm.v->halted);
    CHECK(!vcpu_has_flag(vm.v, FLAG_IF));
    sys_vm_stop(&vm);
}

TEST(deliver, ist_is_used_whatever_the_privilege)
{
    struct soft_vm vm;

    sys_vm_start(&vm);
    (void)sys_vm_gate(&vm, EXC_NMI, DESC_INT, 0, 1);
    ref_deliver_nmi(vm.v);
    CHECK_INT(vm.v->gpr[GPR_RSP], SYS_IST1 - 40);
    CHECK(vm.v->nmi_blocked);
    CHECK_INT(iret(&vm, 8), REF_JUMP);
    CHECK(!vm.v->nmi_blocked);
    CHECK_INT(vm.v->gpr[GPR_RSP], SYS_STACK0 - 0x100);
    sys_vm_stop(&vm);
}

TEST(deliver, trap_gates_leave_if_alone)
{
    struct soft_vm vm;

    sys_vm_start(&vm);
    (void)sys_vm_gate(&vm, EXC_BP, DESC_TRAP, 3, 0);
    vcpu_set_rflags(vm.v, FLAG_1 | FLAG_IF);
    sys_vm_user(&vm);
    CHECK_INT(run_int(&vm, INSN_INT3, 0), REF_JUMP);
    CHECK(vcpu_has_flag(vm.v, FLAG_IF));
    CHECK_INT(slot(&vm, 0), SYS_USER + 0x102); /* after the instruction */
    sys_vm_stop(&vm);
}

TEST(deliver, int_n_needs_the_gates_dpl)
{
    struct soft_vm vm;

    sys_vm_start(&vm);
    (void)sys_vm_gate(&vm, 0x80, DESC_INT, 3, 0);
    (void)sys_vm_gate(&vm, 0x81, DESC_INT, 0, 0);
    (void)sys_vm_gate(&vm, EXC_DB, DESC_INT, 0, 0);
    (void)sys_vm_gate(&vm, EXC_OF, DESC_INT, 3, 0);
    sys_vm_user(&vm);
    CHECK_INT(run_int(&vm, INSN_INT, 0x81), RAISED(EXC_GP));
    CHECK_INT(vm.v->exc.error, 0x81 * 8 + 2);
    CHECK_INT(vm.v->rip, SYS_USER + 0x100);
    CHECK_INT(vm.v->cpl, 3);
    CHECK_INT(run_int(&vm, INSN_INT, 0x82), RAISED(EXC_GP)); /* no gate at all */
    CHECK_INT(run_int(&vm, INSN_INT, 0x80), REF_JUMP);
    CHECK_INT(vm.v->cpl, 0);
    sys_vm_user(&vm);
    CHECK_INT(run_int(&vm, INSN_INT1, 0), REF_JUMP); /* ignores the DPL */
    sys_vm_user(&vm);
    CHECK_INT(run_int(&vm, INSN_INTO, 0), REF_NEXT);
    vcpu_set_rflags(vm.v, FLAG_1 | FLAG_OF);
    CHECK_INT(run_int(&vm, INSN_INTO, 0), REF_JUMP);
    sys_vm_stop(&vm);
}

TEST(deliver, gate_that_is_not_present_raises_np_with_its_index)
{
    struct soft_vm vm;
    uint64_t low;

    sys_vm_start(&vm);
    (void)sys_vm_gate(&vm, 0x20, DESC_INT, 3, 0);
    low = soft_vm_peek(&vm, SYS_IDT + 0x20 * 16);
    soft_vm_poke(&vm, SYS_IDT + 0x20 * 16, low & ~(UINT64_C(1) << 47));
    CHECK_INT(run_int(&vm, INSN_INT, 0x20), RAISED(EXC_NP));
    CHECK_INT(vm.v->exc.error, 0x20 * 8 + 2);
    soft_vm_poke(&vm, SYS_IDT + 0x20 * 16, low ^ (UINT64_C(8) << 40)); /* a 16-bit gate */
    CHECK_INT(run_int(&vm, INSN_INT, 0x20), RAISED(EXC_GP));
    soft_vm_poke(&vm, SYS_IDT + 0x20 * 16,
                 low ^ ((uint64_t)(SYS_KERNEL_CS ^ SYS_KERNEL_CS32) << 16));
    CHECK_INT(run_int(&vm, INSN_INT, 0x20), RAISED(EXC_GP));
    CHECK_INT(vm.v->exc.error, SYS_KERNEL_CS32);
    vm.v->idt.limit = 0x20f;
    CHECK_INT(run_int(&vm, INSN_INT, 0x21), RAISED(EXC_GP));
    sys_vm_stop(&vm);
}

TEST(deliver, fault_during_delivery_follows_the_double_fault_table)
{
    static const struct {
        enum exc_vector first;
        bool breaks_gate; /* #GP while delivering, else #PF on the stack */
        enum exc_vector want;
    } cases[] = {
        {EXC_GP, true, EXC_DF}, {EXC_PF, true, EXC_DF},  {EXC_UD, true, EXC_GP},
        {EXC_DE, true, EXC_DF}, {EXC_GP, false, EXC_PF}, {EXC_PF, false, EXC_DF},
        {EXC_BP, true, EXC_GP},
    };

    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        struct soft_vm vm;
        uint64_t want;

        sys_vm_start(&vm);
        (void)sys_vm_gate(&vm, EXC_DF, DESC_INT, 0, 1);
        (void)sys_vm_gate(&vm, EXC_GP, DESC_INT, 0, 1);
        (void)sys_vm_gate(&vm, EXC_PF, DESC_INT, 0, 1);
        want = 0x8000 + cases[i].want * 16;
        if (cases[i].breaks_gate) {
            soft_vm_poke(&vm, SYS_IDT + cases[i].first * 16, 0);
        } else {
            (void)sys_vm_gate(&vm, cases[i].first, DESC_INT, 0, 0);
            vm.v->gpr[GPR_RSP] = 0x600000; /* not mapped */
        }
        deliver(&vm, cases[i].first, cases[i].first != EXC_UD && cases[i].first != EXC_DE, 0);
        if (vm.v->rip != want || vm.v->triple_fault) {
            print_error("case %u: rip 0x%llx\n", i, (unsigned long long)vm.v->rip);
            fail();
        }
        CHECK_INT(slot(&vm, 1), 0x5000);
        if (cases[i].want == EXC_GP) {
            CHECK_INT(slot(&vm, 0), cases[i].first * 8 + 3); /* IDT, external */
        } else if (cases[i].want == EXC_PF) {
            CHECK_INT(vm.v->cr2, 0x600000 - 48);
        } else {
            CHECK_INT(slot(&vm, 0), 0);
        }
        sys_vm_stop(&vm);
    }
}

TEST(deliver, fault_of_the_double_fault_shuts_down)
{
    struct soft_vm vm;

    sys_vm_start(&vm);
    vm.v->idt.limit = 0;
    deliver(&vm, EXC_UD, false, 0);
    CHECK(vm.v->triple_fault);
    CHECK_INT(vm.v->rip, 0x5000);
    sys_vm_stop(&vm);
}

TEST(deliver, stack_that_is_not_canonical_is_a_stack_fault)
{
    struct soft_vm vm;

    sys_vm_start(&vm);
    (void)sys_vm_gate(&vm, 0x40, DESC_INT, 0, 0);
    (void)sys_vm_gate(&vm, EXC_SS, DESC_INT, 0, 1);
    vm.v->gpr[GPR_RSP] = UINT64_C(0x800000000000) + 16;
    ref_deliver_interrupt(vm.v, 0x40);
    CHECK_INT(vm.v->rip, 0x8000 + EXC_SS * 16);
    CHECK_INT(slot(&vm, 0), 1);
    vm.v->seg[SEG_TR].limit = 0x20;
    CHECK_INT(run_int(&vm, INSN_INT, EXC_SS), RAISED(EXC_TS));
    CHECK_INT(vm.v->exc.error, SYS_TSS);
    sys_vm_stop(&vm);
}

/* --- IRET --- */

TEST(deliver, iretq_checks_what_it_pops)
{
    static const struct {
        uint16_t ss, cs;
        uint64_t rip;
        int want;
        uint32_t error;
    } cases[] = {
        {SYS_KERNEL_DS, SYS_KERNEL_CS, 0x6000, REF_JUMP, 0},
        {0, SYS_KERNEL_CS, 0x6000, REF_JUMP, 0},
        {SYS_USER_DS | 3, SYS_USER_CS | 3, 0x401000, REF_JUMP, 0},
        {0, SYS_USER_CS | 3, 0x401000, RAISED(EXC_GP), 0},
        {SYS_KERNEL_DS, 0, 0x6000, RAISED(EXC_GP), 0},
        {SYS_KERNEL_DS, SYS_USER_CS | 3, 0x6000, RAISED(EXC_GP), SYS_KERNEL_DS},
        {SYS_KERNEL_DS, SYS_KERNEL_DS, 0x6000, RAISED(EXC_GP), SYS_KERNEL_DS},
        {SYS_KERNEL_DS, SYS_KERNEL_CS, UINT64_C(1) << 50, RAISED(EXC_GP), 0},
        {SYS_ABSENT, SYS_KERNEL_CS, 0x6000, RAISED(EXC_SS), SYS_ABSENT},
        {SYS_KERNEL_DS, 0xfff8, 0x6000, RAISED(EXC_GP), 0xfff8},
    };

    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        struct soft_vm vm;
        uint64_t rsp;
        int got;

        sys_vm_start(&vm);
        push_frame(&vm, cases[i].ss, 0x401800, FLAG_IF, cases[i].cs, cases[i].rip);
        rsp = vm.v->gpr[GPR_RSP];
        vm.v->nmi_blocked = true;
        got = iret(&vm, 8);
        if (got != cases[i].want) {
            print_error("case %u: %d\n", i, got);
            fail();
        }
        CHECK(!vm.v->nmi_blocked); /* even where it faulted */
        if (got == REF_JUMP) {
            CHECK_INT(vm.v->rip, cases[i].rip);
            CHECK_INT(vm.v->gpr[GPR_RSP], 0x401800);
            CHECK_INT(vm.v->cpl, cases[i].cs & 3);
            CHECK(vcpu_has_flag(vm.v, FLAG_IF));
        } else {
            CHECK_INT(vm.v->exc.error, cases[i].error);
            CHECK_INT(vm.v->gpr[GPR_RSP], rsp);
            CHECK_INT(vm.v->rip, 0x5000);
        }
        sys_vm_stop(&vm);
    }
}

TEST(deliver, iret_keeps_flags_that_the_privilege_does_not_own)
{
    struct soft_vm vm;

    sys_vm_start(&vm);
    sys_vm_user(&vm);
    vcpu_set_rflags(vm.v, FLAG_1 | FLAG_IF);
    push_frame(&vm, SYS_USER_DS | 3, SYS_STACK3 - 8, FLAG_IOPL | FLAG_CF | FLAG_RF, SYS_USER_CS | 3,
               0x401000);
    CHECK_INT(iret(&vm, 8), REF_JUMP);
    CHECK_INT(vcpu_rflags(vm.v), FLAG_1 | FLAG_IF | FLAG_CF);
    vcpu_set_rflags(vm.v, FLAG_1 | FLAG_NT);
    CHECK_INT(iret(&vm, 8), RAISED(EXC_GP));
    sys_vm_stop(&vm);
}

TEST(deliver, iret_to_user_mode_drops_kernel_data_segments)
{
    struct soft_vm vm;

    sys_vm_start(&vm);
    ref_load_segment(vm.v, SEG_ES, SYS_KERNEL_DS);
    ref_load_segment(vm.v, SEG_DS, SYS_USER_DS | 3);
    ref_load_segment(vm.v, SEG_FS, 0);
    vm.v->seg[SEG_FS].base = 0x12345; /* by MSR: stays */
    push_frame(&vm, SYS_USER_DS | 3, SYS_STACK3, 0, SYS_USER_CS | 3, 0x401000);
    CHECK_INT(iret(&vm, 8), REF_JUMP);
    CHECK_INT(vm.v->seg[SEG_ES].selector, 0);
    CHECK_INT(vm.v->seg[SEG_DS].selector, SYS_USER_DS | 3);
    CHECK_INT(vm.v->seg[SEG_FS].base, 0x12345);
    sys_vm_stop(&vm);
}

/* --- other modes --- */

TEST(deliver, real_mode_uses_the_vector_table)
{
    struct soft_vm vm;

    sys_vm_start(&vm);
    vcpu_reset(vm.v, true);
    mmu_mode_changed(vm.v);
    vm.v->idt.limit = 0x3ff;
    soft_vm_poke(&vm, 0x21 * 4, 0x12345678);
    segment_load_real(vm.v, SEG_SS, 0x1000);
    segment_load_real(vm.v, SEG_CS, 0x2000);
    vm.v->gpr[GPR_RSP] = 0x1000;
    vm.v->rip = 0x40;
    vcpu_set_rflags(vm.v, FLAG_1 | FLAG_IF | FLAG_CF);
    CHECK_INT(run_int(&vm, INSN_INT, 0x21), REF_JUMP);
    CHECK_INT(vm.v->seg[SEG_CS].base, 0x12340);
    CHECK_INT(vm.v->rip, 0x5678);
    CHECK_INT(vm.v->gpr[GPR_RSP], 0xffa);
    CHECK_INT(vcpu_rflags(vm.v), FLAG_1 | FLAG_CF);
    CHECK_INT(mmu_read16(vm.v, 0x10ffa), 0x42);
    CHECK_INT(mmu_read16(vm.v, 0x10ffc), 0x2000);
    CHECK_INT(iret(&vm, 2), REF_JUMP);
    CHECK_INT(vm.v->rip, 0x42);
    CHECK_INT(vm.v->seg[SEG_CS].base, 0x20000);
    CHECK(vcpu_has_flag(vm.v, FLAG_IF));
    CHECK_INT(vm.v->gpr[GPR_RSP], 0x1000);
    vm.v->idt.limit = 3;
    deliver(&vm, EXC_UD, false, 0);
    CHECK(vm.v->triple_fault);
    sys_vm_stop(&vm);
}

/* 32-bit protected mode without paging; user code has CPL 3 and a 32-bit stack. */
static void start_protected(struct soft_vm *vm)
{
    static const uint64_t user_cs32 = 0x00cffb000000ffff;

    sys_vm_start(vm);
    soft_vm_poke(vm, SYS_GDT + SYS_USER_CS, user_cs32);
    vm->v->cr0 &= ~CR0_PG;
    vm->v->efer = 0;
    mmu_mode_changed(vm->v);
    vm->v->seg[SEG_CS] = segment_unpack(SYS_KERNEL_CS32, 0x00cf9b000000ffff);
    vm->v->seg[SEG_SS] = segment_unpack(SYS_KERNEL_DS, 0x00cf93000000ffff);
    vcpu_update_mode(vm->v);
    soft_vm_poke(vm, SYS_TSS_LA + 4, SYS_STACK0 | (uint64_t)SYS_KERNEL_DS << 32);
}

static void gate32(struct soft_vm *vm, unsigned vector, unsigned type, unsigned dpl)
{
    soft_vm_poke(vm, SYS_IDT + vector * 8,
                 0x9000 | (uint64_t)SYS_KERNEL_CS32 << 16 |
                     (uint64_t)(0x80 | dpl << 5 | type) << 40);
}

TEST(deliver, protected_mode_keeps_the_stack_within_a_privilege)
{
    struct soft_vm vm;

    start_protected(&vm);
    gate32(&vm, EXC_GP, DESC_INT, 0);
    deliver(&vm, EXC_GP, true, 0x18);
    CHECK_INT(vm.v->rip, 0x9000);
    CHECK_INT(vm.v->gpr[GPR_RSP], SYS_STACK0 - 0x100 - 16);
    CHECK_INT(mmu_read32(vm.v, vm.v->gpr[GPR_RSP]), 0x18);
    CHECK_INT(mmu_read32(vm.v, vm.v->gpr[GPR_RSP] + 4), 0x5000);
    CHECK_INT(mmu_read32(vm.v, vm.v->gpr[GPR_RSP] + 8), SYS_KERNEL_CS32);
    vm.v->gpr[GPR_RSP] += 4;
    CHECK_INT(iret(&vm, 4), REF_JUMP);
    CHECK_INT(vm.v->rip, 0x5000);
    CHECK_INT(vm.v->gpr[GPR_RSP], SYS_STACK0 - 0x100);
    gate32(&vm, 0x31, DESC_TRAP16, 0);
    CHECK_INT(run_int(&vm, INSN_INT, 0x31), REF_JUMP);
    CHECK_INT(vm.v->gpr[GPR_RSP], SYS_STACK0 - 0x100 - 6);
    gate32(&vm, 0x32, DESC_TASK_GATE, 0);
    CHECK_INT(run_int(&vm, INSN_INT, 0x32), RAISED(EXC_GP));
    sys_vm_stop(&vm);
}

TEST(deliver, protected_mode_takes_the_inner_stack_from_the_tss)
{
    struct soft_vm vm;

    start_protected(&vm);
    gate32(&vm, 0x80, DESC_INT, 3);
    ref_push(vm.v, SYS_USER_DS | 3, 4);
    ref_push(vm.v, SYS_STACK3, 4);
    ref_push(vm.v, FLAG_IF, 4);
    ref_push(vm.v, SYS_USER_CS | 3, 4);
    ref_push(vm.v, 0x401000, 4);
    CHECK_INT(iret(&vm, 4), REF_JUMP);
    CHECK_INT(vm.v->cpl, 3);
    CHECK_INT(vm.v->gpr[GPR_RSP], SYS_STACK3);
    CHECK_INT(run_int(&vm, INSN_INT, 0x80), REF_JUMP);
    CHECK_INT(vm.v->cpl, 0);
    CHECK_INT(vm.v->seg[SEG_SS].selector, SYS_KERNEL_DS);
    CHECK_INT(vm.v->gpr[GPR_RSP], SYS_STACK0 - 20);
    CHECK_INT(mmu_read32(vm.v, SYS_STACK0 - 8), SYS_STACK3);
    CHECK_INT(mmu_read32(vm.v, SYS_STACK0 - 4), SYS_USER_DS | 3);
    CHECK_INT(iret(&vm, 4), REF_JUMP);
    /* a stack segment of the wrong privilege in the TSS */
    soft_vm_poke(&vm, SYS_TSS_LA + 4, SYS_STACK0 | (uint64_t)SYS_USER_DS << 32);
    CHECK_INT(run_int(&vm, INSN_INT, 0x80), RAISED(EXC_TS));
    CHECK_INT(vm.v->exc.error, SYS_USER_DS);
    soft_vm_poke(&vm, SYS_TSS_LA + 4, SYS_STACK0);
    CHECK_INT(run_int(&vm, INSN_INT, 0x80), RAISED(EXC_TS));
    CHECK_INT(vm.v->exc.error, 0);
    sys_vm_stop(&vm);
}

TEST(deliver, compatibility_mode_is_entered_and_left)
{
    struct soft_vm vm;

    sys_vm_start(&vm);
    soft_vm_poke(&vm, SYS_GDT + SYS_USER_CS, 0x00cffb000000ffff); /* 32-bit user code */
    (void)sys_vm_gate(&vm, 0x80, DESC_INT, 3, 0);
    push_frame(&vm, SYS_USER_DS | 3, SYS_STACK3, FLAG_IF, SYS_USER_CS | 3, 0x401000);
    CHECK_INT(iret(&vm, 8), REF_JUMP);
    CHECK_INT(vm.v->mode, MODE_COMPAT32);
    CHECK_INT(vm.v->cpl, 3);
    CHECK_INT(run_int(&vm, INSN_INT, 0x80), REF_JUMP);
    CHECK_INT(vm.v->mode, MODE_LONG64);
    CHECK_INT(vm.v->gpr[GPR_RSP], SYS_STACK0 - 40);
    CHECK_INT(slot(&vm, 0), 0x401002);
    sys_vm_stop(&vm);
}
