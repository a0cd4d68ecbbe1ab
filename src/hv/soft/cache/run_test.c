/* run_test.c — blocks: running, linking, invalidation, stepping, shadows; code snippets in memory.
 */
#include "hv/soft/cache/code_int.h"
#include "hv/soft/cache/snippet.h"
#include "tests/lib/test.h"

TEST(cache, a_loop_of_linked_blocks_computes_its_sum)
{
    struct soft_vm vm;

    /* mov ecx, 1000; xor eax, eax; l: add eax, ecx; dec ecx; jnz l; hlt */
    START(&vm, 0xb9, 0xe8, 3, 0, 0, 0x31, 0xc0, 0x01, 0xc8, 0xff, 0xc9, 0x75, 0xfa, 0xf4);
    CHECK_INT(run(&vm), -1);
    CHECK_INT(vm.v->gpr[GPR_RAX], 500500);
    CHECK_INT(vm.v->rip, CODE + 14);
    finish(&vm);
}

TEST(cache, calls_returns_and_indirect_branches_find_their_targets)
{
    struct soft_vm vm;

    /* call f; hlt; f: mov eax, 7; lea rcx, g; call rcx; push rcx; call [rsp]; pop rdx; ret 0;
     * g: add eax, 5; ret */
    START(&vm, 0xe8, 1, 0, 0, 0, 0xf4, 0xb8, 7, 0, 0, 0, 0x48, 0x8d, 0x0d, 0x0a, 0, 0, 0, 0xff,
          0xd1, 0x51, 0xff, 0x14, 0x24, 0x5a, 0xc2, 0, 0, 0x83, 0xc0, 5, 0xc3);
    for (int i = 0; i < 3; i++) { /* found, linked, looked up */
        vm.v->rip = CODE;
        CHECK_INT(run(&vm), -1);
        CHECK_INT(vm.v->gpr[GPR_RAX], 17);
        CHECK_INT(vm.v->gpr[GPR_RDX], CODE + 28);
        CHECK_INT(vm.v->gpr[GPR_RSP], STACK);
    }
    finish(&vm);
}

TEST(cache, code_that_overwrites_an_earlier_block_runs_the_new_bytes)
{
    struct soft_vm vm;

    /* mov ecx, 2; l: mov eax, 1; add ebx, eax; mov byte [l+1], 9; dec ecx; jnz l; hlt */
    START(&vm, 0xb9, 2, 0, 0, 0, 0xb8, 1, 0, 0, 0, 0x01, 0xc3, 0xc6, 0x05, 0xf3, 0xff, 0xff, 0xff,
          9, 0xff, 0xc9, 0x75, 0xee, 0xf4);
    CHECK_INT(run(&vm), -1);
    CHECK_INT(vm.v->gpr[GPR_RBX], 10);
    CHECK(vm.v->stats.smc_invalidations > 0);
    finish(&vm);
}

TEST(cache, code_that_overwrites_the_instruction_after_it_runs_the_new_bytes)
{
    struct soft_vm vm;

    /* mov byte [1f+2], 40h; 1: mov eax, 11h; mov byte [2f+1], 5; 2: mov ebx, 1; hlt */
    START(&vm, 0xc6, 0x05, 2, 0, 0, 0, 0x40, 0xb8, 0x11, 0, 0, 0, 0xc6, 0x05, 1, 0, 0, 0, 5, 0xbb,
          1, 0, 0, 0, 0xf4);
    CHECK_INT(run(&vm), -1);
    CHECK_INT(vm.v->gpr[GPR_RAX], 0x4011);
    CHECK_INT(vm.v->gpr[GPR_RBX], 5);
    finish(&vm);
}

TEST(cache, data_writes_on_a_code_page_kill_no_block_and_end_its_watch_when_they_are_many)
{
    struct soft_vm vm;

    /* l: inc dword [CODE + 0x806]; dec ecx; jnz l; hlt */
    START(&vm, 0xff, 0x05, 0x00, 0x08, 0, 0, 0xff, 0xc9, 0x75, 0xf6, 0xf4);
    vm.v->gpr[GPR_RCX] = 20;
    CHECK_INT(run(&vm), -1);
    CHECK_INT(soft_vm_peek(&vm, CODE + 0x806), 20);
    CHECK_INT(vm.v->stats.smc_invalidations, 0);
    CHECK(mem_page_is_flagged(vm.mem, GPA(CODE)));
    vm.v->rip = CODE;
    vm.v->gpr[GPR_RCX] = 1000;
    CHECK_INT(run(&vm), -1);
    CHECK_INT(soft_vm_peek(&vm, CODE + 0x806), 1020);
    finish(&vm);
}

TEST(cache, a_write_by_somebody_else_is_seen_once_it_is_reported)
{
    struct soft_vm vm;
    uint8_t nine = 9;

    /* mov eax, 1; hlt */
    START(&vm, 0xb8, 1, 0, 0, 0, 0xf4);
    CHECK_INT(run(&vm), -1);
    CHECK_INT(mem_write(vm.mem, GPA(CODE + 1), &nine, 1), 0);
    code_cache_external_write(vm.v, GPA(CODE - 10), 100);
    vm.v->rip = CODE;
    CHECK_INT(run(&vm), -1);
    CHECK_INT(vm.v->gpr[GPR_RAX], 9);
    finish(&vm);
}

TEST(cache, other_vcpus_are_told_of_code_pages_and_of_writes_to_them)
{
    struct soft_vm vm;
    uint64_t before;

    /* mov [rdi], rax; mov [CODE + 0x806], rax; hlt */
    START(&vm, 0x48, 0x89, 0x07, 0x48, 0x89, 0x05, 0xfc, 0x07, 0, 0, 0xf4);
    vm.v->gpr[GPR_RDI] = DATA;
    CHECK_INT(run(&vm), -1);
    CHECK_INT(vm.code_event.count, 2); /* a new code page, a write to it */
    CHECK_INT(vm.code_event.gpa, CODE + 0x806);
    CHECK_INT(vm.code_event.len, 8);
    /* another vCPU decodes from DATA, which this one may write without telling */
    mem_page_flag(vm.mem, GPA(DATA), true);
    code_cache_page_shared(vm.v, GPA(DATA));
    CHECK_INT(vm.code_event.count, 3);
    CHECK_INT(vm.code_event.gpa, DATA);
    CHECK_INT(vm.code_event.len, 4096);
    before = vm.code_event.count;
    code_cache_page_shared(vm.v, GPA(DATA)); /* nothing left to drop */
    CHECK_INT(vm.code_event.count, before);
    vm.v->rip = CODE;
    CHECK_INT(run(&vm), -1);
    CHECK_INT(vm.code_event.count, before + 2);
    finish(&vm);
}

TEST(cache, a_changed_mapping_changes_the_code)
{
    struct soft_vm vm;
    static const uint8_t other[] = {0xb8, 2, 0, 0, 0, 0xf4};

    /* mov eax, 1; hlt */
    START(&vm, 0xb8, 1, 0, 0, 0, 0xf4);
    CHECK_INT(run(&vm), -1);
    CHECK_INT(mem_write(vm.mem, GPA(DATA), other, sizeof(other)), 0);
    (void)soft_vm_map(&vm, CODE, DATA, PTE_RW | PTE_US);
    mmu_flush_page(vm.v, CODE);
    vm.v->rip = CODE;
    CHECK_INT(run(&vm), -1);
    CHECK_INT(vm.v->gpr[GPR_RAX], 2);
    finish(&vm);
}

TEST(cache, a_changed_mapping_is_seen_whatever_has_taken_the_place_of_its_page)
{
    static const uint8_t one[] = {0xb8, 1, 0, 0, 0, 0xc3}; /* mov eax, 1; ret */
    static const uint8_t two[] = {0xb8, 2, 0, 0, 0, 0xc3};
    uint64_t page = CODE + 0x1000, alias = page + XTLB_SLOTS * 4096, copy = CODE + 0x2000;
    struct soft_vm vm;

    /* call rbx; call rcx; call rbx; hlt */
    START(&vm, 0xff, 0xd3, 0xff, 0xd1, 0xff, 0xd3, 0xf4);
    CHECK_INT(mem_write(vm.mem, GPA(page), one, sizeof(one)), 0);
    CHECK_INT(mem_write(vm.mem, GPA(copy), two, sizeof(two)), 0);
    (void)soft_vm_map(&vm, alias, page, PTE_RW | PTE_US);
    for (unsigned i = 0; i < 100; i++) {
        unsigned is_other = i / 5 & 1;

        (void)soft_vm_map(&vm, page, is_other ? copy : page, PTE_RW | PTE_US);
        mmu_flush_page(vm.v, page);
        vm.v->rip = CODE;
        vm.v->gpr[GPR_RBX] = i & 1 ? page : alias;
        vm.v->gpr[GPR_RCX] = i & 1 ? alias : page;
        CHECK_INT(run(&vm), -1);
        CHECK_INT(vm.v->gpr[GPR_RAX], i & 1 && is_other ? 2 : 1);
        vm.v->rip = CODE + 2;
        vm.v->gpr[GPR_RBX] = page;
        CHECK_INT(run(&vm), -1);
        CHECK_INT(vm.v->gpr[GPR_RAX], is_other ? 2 : 1);
    }
    finish(&vm);
}

/* mov eax, 0x04030201 with two bytes on the first page, then hlt on the second. */
static void start_crossing(struct soft_vm *vm)
{
    static const uint8_t code[] = {0xb8, 1, 2, 3, 4, 0xf4};

    start(vm, code, 0);
    CHECK_INT(mem_write(vm->mem, GPA(CODE + 0xffe), code, sizeof(code)), 0);
    vm->v->rip = CODE + 0xffe;
}

TEST(cache, an_instruction_on_two_pages_runs_and_follows_both)
{
    struct soft_vm vm;
    uint8_t x = 0x55;
    static const uint8_t other[] = {7, 7, 7, 0xf4};

    start_crossing(&vm);
    CHECK_INT(run(&vm), -1);
    CHECK_INT(vm.v->gpr[GPR_RAX], 0x04030201);
    /* bytes on the second page */
    CHECK_INT(mem_write(vm.mem, GPA(CODE + 0x1001), &x, 1), 0);
    code_cache_external_write(vm.v, GPA(CODE + 0x1001), 1);
    vm.v->rip = CODE + 0xffe;
    CHECK_INT(run(&vm), -1);
    CHECK_INT(vm.v->gpr[GPR_RAX], 0x04550201);
    /* another second page */
    CHECK_INT(mem_write(vm.mem, GPA(DATA), other, sizeof(other)), 0);
    (void)soft_vm_map(&vm, CODE + 0x1000, DATA, PTE_RW | PTE_US);
    mmu_flush_page(vm.v, CODE + 0x1000);
    vm.v->rip = CODE + 0xffe;
    CHECK_INT(run(&vm), -1);
    CHECK_INT(vm.v->gpr[GPR_RAX], 0x07070701);
    finish(&vm);
}

TEST(cache, a_loop_through_an_instruction_on_two_pages_sees_another_second_page)
{
    /* l: add eax, 1; stc; adc eax, 10h (its last byte on the second page); dec ecx; jnz l; hlt */
    static const uint8_t first[] = {0x83, 0xc0, 1, 0xf9, 0x15, 0x10, 0, 0};
    static const uint8_t second[] = {0, 0xff, 0xc9, 0x75, 0xf3, 0xf4};
    static const uint8_t other[] = {1, 0xff, 0xc9, 0x75, 0xf3, 0xf4};
    struct soft_vm vm;

    start(&vm, first, 0);
    CHECK_INT(mem_write(vm.mem, GPA(CODE + 0xff8), first, sizeof(first)), 0);
    CHECK_INT(mem_write(vm.mem, GPA(CODE + 0x1000), second, sizeof(second)), 0);
    CHECK_INT(mem_write(vm.mem, GPA(DATA), other, sizeof(other)), 0);
    for (unsigned i = 0; i < 6; i++) {
        (void)soft_vm_map(&vm, CODE + 0x1000, i & 1 ? DATA : CODE + 0x1000, PTE_RW | PTE_US);
        mmu_flush_page(vm.v, CODE + 0x1000);
        vm.v->rip = CODE + 0xff8;
        vm.v->gpr[GPR_RAX] = 0;
        vm.v->gpr[GPR_RCX] = 100;
        CHECK_INT(run(&vm), -1);
        CHECK_INT(vm.v->gpr[GPR_RAX], 100 * (i & 1 ? 0x1000012 : 0x12));
    }
    finish(&vm);
}

TEST(cache, a_missing_second_page_faults_at_its_start)
{
    struct soft_vm vm;

    start_crossing(&vm);
    soft_vm_poke(&vm, soft_vm_entry(&vm, CODE + 0x1000, 12), 0);
    CHECK_INT(run(&vm), EXC_PF);
    CHECK_INT(vm.v->exc.cr2, CODE + 0x1000);
    CHECK_INT(vm.v->rip, CODE + 0xffe);
    finish(&vm);
}

TEST(cache, a_block_does_not_touch_the_next_page_before_it_gets_there)
{
    struct soft_vm vm;
    static const uint8_t code[] = {0xb8, 1, 0, 0, 0, 0xff, 0xc0};

    start(&vm, code, 0);
    CHECK_INT(mem_write(vm.mem, GPA(CODE + 0xff9), code, sizeof(code)), 0);
    soft_vm_poke(&vm, soft_vm_entry(&vm, CODE + 0x1000, 12), 0);
    vm.v->rip = CODE + 0xff9;
    CHECK_INT(run(&vm), EXC_PF);
    CHECK_INT(vm.v->rip, CODE + 0x1000);
    CHECK_INT(vm.v->gpr[GPR_RAX], 2);
    finish(&vm);
}

TEST(cache, a_fault_leaves_rip_at_its_instruction_and_earlier_work_done)
{
    struct soft_vm vm;

    /* mov [rdi], rax; mov eax, 1; mov rbx, [rsi]; mov eax, 2; hlt */
    START(&vm, 0x48, 0x89, 0x07, 0xb8, 1, 0, 0, 0, 0x48, 0x8b, 0x1e, 0xb8, 2, 0, 0, 0, 0xf4);
    vm.v->gpr[GPR_RAX] = 77;
    vm.v->gpr[GPR_RDI] = DATA;
    vm.v->gpr[GPR_RSI] = 0x123456;
    CHECK_INT(run(&vm), EXC_PF);
    CHECK_INT(vm.v->exc.cr2, 0x123456);
    CHECK_INT(vm.v->rip, CODE + 8);
    CHECK_INT(vm.v->gpr[GPR_RAX], 1);
    CHECK_INT(soft_vm_peek(&vm, DATA), 77);
    vm.v->gpr[GPR_RSI] = UINT64_C(0x8000000000000000);
    CHECK_INT(run(&vm), EXC_GP);
    CHECK_INT(vm.v->rip, CODE + 8);
    finish(&vm);
}

TEST(cache, undefined_and_too_long_instructions_raise_at_their_place)
{
    static const uint8_t undefined[] = {0x90, 0x0f, 0x0b};
    uint8_t too_long[17];
    struct soft_vm vm;

    start(&vm, undefined, sizeof(undefined));
    CHECK_INT(run(&vm), EXC_UD);
    CHECK_INT(vm.v->rip, CODE + 1);
    finish(&vm);
    memset(too_long, 0x66, sizeof(too_long));
    start(&vm, too_long, sizeof(too_long));
    CHECK_INT(run(&vm), EXC_GP);
    CHECK_INT(vm.v->exc.error, 0);
    CHECK_INT(vm.v->rip, CODE);
    finish(&vm);
}

TEST(cache, branches_to_addresses_that_are_not_canonical_are_refused)
{
    struct soft_vm vm;

    /* jmp rax */
    START(&vm, 0xff, 0xe0);
    vm.v->gpr[GPR_RAX] = UINT64_C(0x1234000000000000);
    CHECK_INT(run(&vm), EXC_GP);
    CHECK_INT(vm.v->rip, CODE);
    finish(&vm);
}

/* A compare, a conditional jump over a HLT, NOP, HLT.  Returns the length of the compare. */
static size_t put_branch(struct soft_vm *vm, uint64_t at, const uint8_t *compare, unsigned cond)
{
    uint8_t code[16];
    size_t len = compare[0];

    memcpy(code, compare + 1, len);
    memcpy(code + len, (uint8_t[]){(uint8_t)(0x70 | cond), 1, 0xf4, 0x90, 0xf4}, 5);
    CHECK_INT(mem_write(vm->mem, GPA(at), code, len + 5), 0);
    return len;
}

TEST(cache, a_compare_fused_with_its_branch_acts_as_the_two_do_when_stepped)
{
    /* length, then bytes: cmp and test of al/eax/rax with cl/ecx/rcx or an immediate */
    static const uint8_t compares[][9] = {
        {2, 0x38, 0xc8},
        {2, 0x39, 0xc8},
        {3, 0x48, 0x39, 0xc8},
        {3, 0x80, 0xf8, 0x80},
        {6, 0x81, 0xf8, 0, 0, 0, 0x80},
        {7, 0x48, 0x81, 0xf8, 0, 0, 0, 0x80},
        {2, 0x84, 0xc8},
        {2, 0x85, 0xc8},
        {3, 0x48, 0x85, 0xc8},
        {3, 0xf6, 0xc0, 0x80},
        {6, 0xf7, 0xc0, 0, 0, 0, 0x80},
        {7, 0x48, 0xf7, 0xc0, 0, 0, 0, 0x80},
    };
    static const uint64_t values[] = {
        0, 1, 0x7f, 0x80, 0xff, 0x7fffffff, 0x80000000, UINT64_C(0x8000000000000000), UINT64_MAX};
    struct soft_vm vm;
    uint64_t at = CODE;

    START(&vm, 0xf4);
    for (unsigned i = 0; i < 12 * 16; i++, at += 16) {
        size_t len = put_branch(&vm, at, compares[i / 16], i % 16);

        for (unsigned k = 0; k < 81; k++) {
            uint64_t flags, stop;

            vm.v->gpr[GPR_RAX] = values[k / 9];
            vm.v->gpr[GPR_RCX] = values[k % 9];
            vm.v->rip = at;
            code_step(vm.v);
            flags = vcpu_rflags(vm.v);
            code_step(vm.v);
            stop = vm.v->rip == at + len + 2 ? at + len + 3 : at + len + 5;
            vm.v->rip = at;
            vcpu_set_rflags(vm.v, 0);
            CHECK_INT(run(&vm), -1);
            CHECK_INT(vm.v->rip, stop);
            CHECK_INT(vcpu_rflags(vm.v), flags);
        }
    }
    finish(&vm);
}

TEST(cache, poll_stops_an_endless_loop_at_a_block_boundary)
{
    struct soft_vm vm;

    /* l: inc eax; mov [rdi], eax; jmp l */
    START(&vm, 0xff, 0xc0, 0x89, 0x07, 0xeb, 0xfa);
    vm.v->gpr[GPR_RDI] = (uintptr_t)0xfee00000; /* a device: its callback sets poll */
    (void)soft_vm_map(&vm, 0xfee00000, 0xfee00000, PTE_RW);
    atomic_store(&vm.v->poll, POLL_KICK);
    if (!_setjmp(vm.v->unwind)) {
        code_run(vm.v);
    }
    CHECK_INT(vm.v->gpr[GPR_RAX], 0);
    for (unsigned i = 1; i < 4; i++) {
        code_step(vm.v);
        code_step(vm.v);
        code_step(vm.v);
        CHECK_INT(vm.v->gpr[GPR_RAX], i);
        CHECK_INT(vm.mmio.value, i);
        CHECK_INT(vm.v->rip, CODE);
    }
    finish(&vm);
}

TEST(cache, single_stepping_traps_after_each_instruction_from_the_second_on)
{
    struct soft_vm vm;

    /* pushfq; pop rax; or eax, 100h; push rax; popfq; nop; nop; hlt */
    START(&vm, 0x9c, 0x58, 0x0d, 0, 1, 0, 0, 0x50, 0x9d, 0x90, 0x90, 0xf4);
    CHECK_INT(run(&vm), EXC_DB);
    CHECK_INT(vm.v->rip, CODE + 10);
    CHECK(vm.v->dr[6] & 0x4000);
    CHECK_INT(run(&vm), EXC_DB);
    CHECK_INT(vm.v->rip, CODE + 11);
    vcpu_set_rflags(vm.v, 0);
    CHECK_INT(run(&vm), -1);
    finish(&vm);
}

TEST(cache, stepping_a_repeated_instruction_does_one_element)
{
    struct soft_vm vm;

    /* rep stosq; hlt */
    START(&vm, 0xf3, 0x48, 0xab, 0xf4);
    vm.v->gpr[GPR_RDI] = DATA;
    vm.v->gpr[GPR_RCX] = 3;
    vcpu_set_rflags(vm.v, FLAG_TF);
    CHECK_INT(run(&vm), EXC_DB);
    CHECK_INT(vm.v->gpr[GPR_RCX], 2);
    CHECK_INT(vm.v->rip, CODE);
    vcpu_set_rflags(vm.v, 0);
    CHECK_INT(run(&vm), -1);
    CHECK_INT(vm.v->gpr[GPR_RDI], DATA + 24);
    finish(&vm);
}

TEST(cache, sti_lets_one_more_instruction_pass_and_then_comes_back)
{
    struct soft_vm vm;

    /* sti; mov eax, 1; mov ebx, 2; hlt */
    START(&vm, 0xfb, 0xb8, 1, 0, 0, 0, 0xbb, 2, 0, 0, 0, 0xf4);
    for (unsigned i = 0; i < 3; i++) {
        vm.v->rip = CODE;
        vm.v->gpr[GPR_RBX] = 0;
        vm.v->irq_held = true;
        vm.v->halted = 0;
        vcpu_set_rflags(vm.v, 0);
        if (!_setjmp(vm.v->unwind)) {
            code_run(vm.v);
        }
        CHECK_INT(vm.v->rip, CODE + 6);
        CHECK_INT(vm.v->gpr[GPR_RAX], 1);
        CHECK_INT(vm.v->gpr[GPR_RBX], 0);
        CHECK_INT(vm.v->shadow, 0);
        vm.v->irq_held = false;
        CHECK_INT(run(&vm), -1);
        CHECK_INT(vm.v->gpr[GPR_RBX], 2);
    }
    finish(&vm);
}

TEST(cache, code_where_nothing_answers_is_undefined)
{
    struct soft_vm vm;

    /* mov eax, 7; jmp rdi */
    START(&vm, 0xb8, 7, 0, 0, 0, 0xff, 0xe7);
    (void)soft_vm_map(&vm, DATA, UINT64_C(0xfee00000), PTE_RW);
    for (unsigned i = 0; i < 3; i++) {
        vm.v->rip = CODE;
        vm.v->gpr[GPR_RDI] = DATA + 0x123;
        CHECK_INT(run(&vm), EXC_UD);
        CHECK_INT(vm.v->rip, DATA + 0x123);
        CHECK_INT(vm.v->gpr[GPR_RAX], 7);
        CHECK_INT(vm.mmio.count, 0);
    }
    finish(&vm);
}

TEST(cache, an_audit_that_finds_something_stops_the_vcpu)
{
    struct soft_vm vm;
    struct tlb_entry *e;

    /* mov [rdi], eax; hlt */
    START(&vm, 0x89, 0x07, 0xf4);
    vm.v->gpr[GPR_RDI] = DATA;
    CHECK_INT(run(&vm), -1);
    e = &vm.v->tlb[TLB_SUPERVISOR].slot[TLB_WRITE][MMU_SLOT(DATA)];
    e->host += SOFT_VM_RAM;
    vm.v->code->runs_to_audit = 2;
    vm.v->rip = CODE + 2;
    CHECK_INT(run(&vm), -1);
    vm.v->rip = CODE;
    code_run(vm.v);
    CHECK(vm.v->broken);
    CHECK(strstr(vm.v->why, "audit: the TLB entry for 0x600000 ") == vm.v->why);
    CHECK_INT(vm.v->rip, CODE);
    finish(&vm);
}

TEST(cache, a_full_arena_starts_anew)
{
    struct soft_vm vm;

    /* mov eax, 1; hlt */
    START(&vm, 0xb8, 1, 0, 0, 0, 0xf4);
    CHECK_INT(run(&vm), -1);
    code_cache_clear(vm.v);
    CHECK(!mem_page_is_flagged(vm.mem, GPA(CODE)));
    vm.v->rip = CODE;
    vm.v->gpr[GPR_RAX] = 0;
    CHECK_INT(run(&vm), -1);
    CHECK_INT(vm.v->gpr[GPR_RAX], 1);
    finish(&vm);
}
