/* access_test.c — accesses of translated code at every place where a check may go wrong.
 *
 * Short programs with accesses that share a check, or do not, run interpreted and translated at the
 * border of two pages one of which is not plain memory; often enough that checks which fail are
 * given up.  Both must come to the same end.  Then: what drops the window of the stack. */
#include <stdlib.h>

#include "hv/soft/cache/snippet.h"

#define FIRST  (DATA + 0x3000)
#define SECOND (DATA + 0x4000)
#define DEVICE (SOFT_VM_RAM + 0x10000)
#define OTHER  (DATA + 0x1000)
#define AROUND 256u /* bytes that programs may touch */
#define ROUNDS 12u

static const struct {
    const char *name;
    uint8_t code[48];
} programs[] = {
    {"read", {0x48, 0x8b, 0x06, 0xf4}},
    {"write", {0x48, 0x89, 0x06, 0xf4}},
    {"add", {0x48, 0x01, 0x06, 0xf4}},
    /* mov rax, [rsi]; add rax, [rsi+8]; mov cl, [rsi+31] */
    {"reads", {0x48, 0x8b, 0x06, 0x48, 0x03, 0x46, 8, 0x8a, 0x4e, 31, 0xf4}},
    /* mov rax, [rsi]; mov [rsi+16], rax; add dword [rsi+8], 5; mov cl, [rsi+31]; mov [rsi+29], cx
     */
    {"mixed",
     {0x48, 0x8b, 0x06, 0x48, 0x89, 0x46, 16, 0x83, 0x46, 8, 5, 0x8a, 0x4e, 31, 0x66, 0x89, 0x4e,
      29, 0xf4}},
    /* mov eax, [rsi+rcx*4]; mov [rsi+rcx*4+4], eax; movzx edx, byte [rsi+rcx*4+7] */
    {"indexed", {0x8b, 0x04, 0x8e, 0x89, 0x44, 0x8e, 4, 0x0f, 0xb6, 0x54, 0x8e, 7, 0xf4}},
    /* mov al, [rsi]; inc rsi; mov bl, [rsi]; add rsi, 6; mov [rsi], bl; lea rdi, [rsi+4]; mov
       [rdi], al */
    {"walking", {0x8a, 0x06, 0x48, 0xff, 0xc6, 0x8a, 0x1e, 0x48, 0x83, 0xc6,
                 6,    0x88, 0x1e, 0x48, 0x8d, 0x7e, 4,    0x88, 0x07, 0xf4}},
    /* cmp ecx, [rsi]; mov eax, [rsi+4]; sete dl; mov ebx, [rsi+8]; cmovc eax, ebx */
    {"flags", {0x3b, 0x0e, 0x8b, 0x46, 4, 0x0f, 0x94, 0xc2, 0x8b, 0x5e, 8, 0x0f, 0x42, 0xc3, 0xf4}},
    /* mov rsp, rsi; jmp +0; push rax; pop rbx; cmp eax, eax; pushf; sete dl */
    {"flags pushed",
     {0x48, 0x89, 0xf4, 0xeb, 0, 0x50, 0x5b, 0x39, 0xc0, 0x9c, 0x0f, 0x94, 0xc2, 0xf4}},
    /* movaps xmm0, xmm1; mov dword [rsi], 0x1f80; mov ebx, [rsi]; or al, 1; ldmxcsr [rsi]; sete dl
     */
    {"flags and mxcsr", {0x0f, 0x28, 0xc1, 0xc7, 0x06, 0x80, 0x1f, 0,    0,    0x8b,
                         0x1e, 0x0c, 1,    0x0f, 0xae, 0x16, 0x0f, 0x94, 0xc2, 0xf4}},
    /* mov dword [rsi], 7; mov ebx, [rsi]; xor edx, edx; div dword [rsi]; setc bl */
    {"flags and division",
     {0xc7, 0x06, 7, 0, 0, 0, 0x8b, 0x1e, 0x31, 0xd2, 0xf7, 0x36, 0x0f, 0x92, 0xc3, 0xf4}},
    /* mov rsp, rsi; jmp +0; push rax; mul rsp; push rdx; pop rbx */
    {"multiplied", {0x48, 0x89, 0xf4, 0xeb, 0, 0x50, 0x48, 0xf7, 0xe4, 0x52, 0x5b, 0xf4}},
    /* mov rsp, rsi; push rax; push rbx; call f; pop rcx; add rsp, 8; hlt; f: mov rdx, [rsp+8]; ret
     */
    {"stack", {0x48, 0x89, 0xf4, 0xeb, 0, 0x50, 0x53, 0xe8, 6,    0,    0, 0,
               0x59, 0x48, 0x83, 0xc4, 8, 0xf4, 0x48, 0x8b, 0x54, 0x24, 8, 0xc3}},
    /* mov rsp, rsi; jmp +0; push rbp; mov rbp, rsp; sub rsp, 24; mov [rbp-8], eax; mov ecx,
     * [rsp+16]; leave; hlt */
    {"frame", {0x48, 0x89, 0xf4, 0xeb, 0,    0x55, 0x48, 0x89, 0xe5, 0x48, 0x83,
               0xec, 24,   0x89, 0x45, 0xf8, 0x8b, 0x4c, 0x24, 16,   0xc9, 0xf4}},
    /* mov rsp, rsi; jmp +0; pop rax; pop rsp; hlt */
    {"pop rsp", {0x48, 0x89, 0xf4, 0xeb, 0, 0x58, 0x5c, 0xf4}},
    /* mov rsp, rsi; jmp +0; push rsp; pop rbx; mov rsp, rdi; push rax; hlt */
    {"two stacks", {0x48, 0x89, 0xf4, 0xeb, 0, 0x54, 0x5b, 0x48, 0x89, 0xfc, 0x50, 0xf4}},
    /* push [rsi]; push rax; pop rbx: the first may go around the check for all three */
    {"push memory", {0xff, 0x36, 0x50, 0x5b, 0xf4}},
    /* movaps xmm1, [rsi]; addps xmm1, [rsi+16]; movaps [rsi+32], xmm1; movups [rsi+52], xmm1 */
    {"vectors",
     {0x0f, 0x28, 0x0e, 0x0f, 0x58, 0x4e, 16, 0x0f, 0x29, 0x4e, 32, 0x0f, 0x11, 0x4e, 52, 0xf4}},
    /* mov ecx, 40; rep movsb; movsq */
    {"copy", {0xb9, 40, 0, 0, 0, 0xf3, 0xa4, 0x48, 0xa5, 0xf4}},
    /* lea rdi, [rsi+3]; mov ecx, 9; rep movsd, which overlaps; xor ecx, ecx; rep movsb */
    {"spread", {0x48, 0x8d, 0x7e, 3, 0xb9, 9, 0, 0, 0, 0xf3, 0xa5, 0x31, 0xc9, 0xf3, 0xa4, 0xf4}},
    /* mov rdi, rsi; mov ecx, 5; rep stosq; stosw */
    {"fill", {0x48, 0x89, 0xf7, 0xb9, 5, 0, 0, 0, 0xf3, 0x48, 0xab, 0x66, 0xab, 0xf4}},
    /* mov rdi, rsi; std; mov ecx, 7; rep movsw; stosb; cld */
    {"down", {0x48, 0x89, 0xf7, 0xfd, 0xb9, 7, 0, 0, 0, 0xf3, 0x66, 0xa5, 0xaa, 0xfc, 0xf4}},
    /* mov rdi, rsi; mov ecx, 4096; rep stosb */
    {"page", {0x48, 0x89, 0xf7, 0xb9, 0, 0x10, 0, 0, 0xf3, 0xaa, 0xf4}},
    /* lea rdi, [rsi+16]; mov ecx, 30; repe cmpsb; mov rdi, rsi; mov cl, 60; repne scasb; sete dl */
    {"compare", {0x48, 0x8d, 0x7e, 16,   0xb9, 30,   0,    0,    0,    0xf3, 0xa6,
                 0x48, 0x89, 0xf7, 0xb1, 60,   0xf2, 0xae, 0x0f, 0x94, 0xc2, 0xf4}},
};
#define PROGRAM_COUNT (sizeof(programs) / sizeof(programs[0]))

enum kind { PLAIN, ABSENT, READ_ONLY, MMIO, HAS_CODE, KIND_COUNT };

static void make_page(struct soft_vm *vm, uint64_t page, enum kind kind)
{
    switch (kind) {
    case PLAIN:
    case KIND_COUNT: break;
    case ABSENT: soft_vm_poke(vm, soft_vm_entry(vm, page, 12), 0); break;
    case READ_ONLY: (void)soft_vm_map(vm, page, page, PTE_US); break;
    case MMIO: (void)soft_vm_map(vm, page, DEVICE, PTE_RW | PTE_US); break;
    case HAS_CODE: mmu_code_page_add(vm->v, GPA(page)); break;
    }
}

static void start_tier(struct soft_vm *vm, const char *tier, unsigned program)
{
    char *old = getenv("EC1_SOFT_TIER") ? strdup(getenv("EC1_SOFT_TIER")) : NULL;

    CHECK_INT(setenv("EC1_SOFT_TIER", tier, 1), 0);
    CHECK_INT(setenv("EC1_SOFT_VERIFY", "1", 0), 0);
    start(vm, programs[program].code, sizeof(programs[0].code));
    (void)(old ? setenv("EC1_SOFT_TIER", old, 1) : unsetenv("EC1_SOFT_TIER"));
    free(old);
    vm->mmio_answer = 0x1122334455667788;
}

static int go(struct soft_vm *vm, uint64_t at)
{
    struct vcpu *v = vm->v;

    for (unsigned i = 0; i < GPR_COUNT; i++) {
        v->gpr[i] = UINT64_C(0x0123456789abcdef) * (i + 3);
    }
    for (uint64_t o = 0; o < AROUND; o += 8) {
        soft_vm_poke(vm, SECOND - AROUND / 2 + o, at * (o + 3));
    }
    v->gpr[GPR_RSI] = at;
    v->gpr[GPR_RDI] = OTHER + 8;
    v->gpr[GPR_RCX] = 2;
    v->gpr[GPR_RSP] = STACK;
    v->rip = CODE;
    v->exc.error = 0;
    v->exc.cr2 = 0;
    vcpu_set_rflags(v, FLAG_1);
    return run(vm);
}

static bool is_same(struct soft_vm *a, struct soft_vm *b)
{
    bool is_equal = memcmp(a->v->gpr, b->v->gpr, sizeof(a->v->gpr)) == 0 &&
                    a->v->rip == b->v->rip && a->v->exc.error == b->v->exc.error &&
                    a->v->exc.cr2 == b->v->exc.cr2 && a->mmio.count == b->mmio.count &&
                    a->mmio.address == b->mmio.address && a->mmio.value == b->mmio.value;

    for (uint64_t o = 0; o < AROUND; o += 8) {
        is_equal &=
            soft_vm_peek(a, SECOND - AROUND / 2 + o) == soft_vm_peek(b, SECOND - AROUND / 2 + o);
        is_equal &= soft_vm_peek(a, OTHER + o) == soft_vm_peek(b, OTHER + o);
    }
    return is_equal;
}

/* One program, the special page first or second, at all distances from the border. */
static unsigned differences(unsigned program, enum kind kind, bool is_second)
{
    struct soft_vm vms[2];
    unsigned count = 0;

    start_tier(&vms[0], "interp", program);
    start_tier(&vms[1], "eager", program);
    for (unsigned i = 0; i < 2; i++) {
        make_page(&vms[i], is_second ? SECOND : FIRST, kind);
    }
    for (int64_t back = -24; back <= 40; back++) {
        for (unsigned round = 0; round < ROUNDS; round++) {
            int vector = go(&vms[0], SECOND - (uint64_t)back);
            bool is_right = go(&vms[1], SECOND - (uint64_t)back) == vector;

            if (!is_right || !is_same(&vms[0], &vms[1])) {
                print_error("%s: kind %u, second %d, %d bytes ahead, round %u\n",
                            programs[program].name, kind, is_second, (int)back, round);
                count++;
                break;
            }
        }
    }
    finish(&vms[0]);
    finish(&vms[1]);
    return count;
}

TEST(access, at_the_border_of_two_pages_translated_code_does_what_the_interpreter_does)
{
    unsigned failed = 0;

    for (unsigned program = 0; program < PROGRAM_COUNT; program++) {
        for (unsigned kind = 0; kind < KIND_COUNT; kind++) {
            failed += differences(program, (enum kind)kind, false);
            failed += differences(program, (enum kind)kind, true);
        }
    }
    CHECK_INT(failed, 0);
}

/* --- the window --- */

static const uint8_t push_twice[] = {0x50, 0x53, 0xf4};

static void fill_window(struct soft_vm *vm)
{
    for (unsigned i = 0; i < 3; i++) {
        vm->v->rip = CODE;
        vm->v->gpr[GPR_RSP] = STACK;
        CHECK_INT(run(vm), -1);
    }
}

static void start_eager(struct soft_vm *vm)
{
    CHECK_INT(setenv("EC1_SOFT_TIER", "eager", 1), 0);
    start(vm, push_twice, sizeof(push_twice));
    fill_window(vm);
    CHECK(vm->v->window[TLB_SUPERVISOR].limit[0] > 0);
    CHECK_INT(vm->v->window[TLB_USER].limit[0], 0);
}

TEST(access, every_flush_drops_the_window_of_the_stack)
{
    static void (*const flushes[])(struct vcpu * v) = {
        mmu_flush_all,
        mmu_flush_non_global,
        mmu_mode_changed,
    };
    struct soft_vm vm;

    start_eager(&vm);
    for (unsigned i = 0; i < sizeof(flushes) / sizeof(flushes[0]); i++) {
        fill_window(&vm);
        CHECK(vm.v->window[TLB_SUPERVISOR].limit[0] > 0);
        flushes[i](vm.v);
        CHECK_INT(vm.v->window[TLB_SUPERVISOR].limit[0], 0);
    }
    finish(&vm);
}

TEST(access, invlpg_drops_the_window_of_its_large_page_only)
{
    struct soft_vm vm;

    start_eager(&vm);
    mmu_flush_page(vm.v, (STACK - 8) ^ (UINT64_C(1) << 21));
    CHECK(vm.v->window[TLB_SUPERVISOR].limit[0] > 0);
    mmu_flush_page(vm.v, (STACK - 8) ^ (UINT64_C(1) << 20));
    CHECK_INT(vm.v->window[TLB_SUPERVISOR].limit[0], 0);
    fill_window(&vm);
    soft_vm_poke(&vm, soft_vm_entry(&vm, UINT64_C(7) << 30, 30), PTE_P | PTE_RW | PTE_PS);
    (void)mmu_read8(vm.v, UINT64_C(7) << 30);
    mmu_flush_page(vm.v, (STACK - 8) ^ (UINT64_C(1) << 29));
    CHECK(vm.v->window[TLB_SUPERVISOR].limit[0] > 0);
    finish(&vm);
}

TEST(access, the_stack_follows_a_page_that_was_mapped_elsewhere)
{
    struct soft_vm vm;

    start_eager(&vm);
    (void)soft_vm_map(&vm, STACK - 0x1000, DATA, PTE_RW | PTE_US);
    mmu_flush_page(vm.v, STACK - 8);
    vm.v->gpr[GPR_RAX] = 0x77;
    fill_window(&vm);
    CHECK_INT(soft_vm_peek(&vm, DATA + 0xff8), 0x77);
    CHECK(soft_vm_peek(&vm, STACK - 8) != 0x77);
    finish(&vm);
}

TEST(access, pushes_onto_a_page_that_now_holds_code_are_noticed)
{
    struct soft_vm vm;

    start_eager(&vm);
    mmu_code_page_add(vm.v, GPA(STACK - 0x1000));
    vm.code_event.count = 0;
    fill_window(&vm);
    CHECK_INT(vm.code_event.count, 6);
    CHECK_INT(vm.code_event.gpa, STACK - 16);
    finish(&vm);
}

/* Another vCPU asks whether this one may have written: the table has forgotten the page. */
TEST(access, a_window_counts_as_a_writer_when_its_entry_is_gone)
{
    struct soft_vm vm;

    start_eager(&vm);
    (void)soft_vm_map(&vm, STACK - 0x1000 + TLB_SLOTS * UINT64_C(4096), DATA, PTE_RW | PTE_US);
    mmu_write8(vm.v, STACK - 0x1000 + TLB_SLOTS * UINT64_C(4096), 1);
    CHECK(!mmu_hit(vm.v, TLB_WRITE, STACK - 8, 8));
    CHECK(mmu_code_page_drop_writers(vm.v, GPA(STACK - 0x1000)));
    CHECK(!mmu_code_page_drop_writers(vm.v, GPA(STACK - 0x1000)));
    finish(&vm);
}

/* A miss of the first access of an instruction goes on behind it, past the check of the second:
 * what comes after must not rely on that.  Here the window still is on another page of the stack.
 */
TEST(access, a_check_that_a_miss_leaves_out_does_not_count)
{
    /* push rax; push rax; jmp next; next: mov rsp, rdi; jmp last; last: push [rsi]; push rax;
     * push rax; hlt */
    static const uint8_t code[] = {0x50, 0x50, 0xeb, 0x00, 0x48, 0x89, 0xfc,
                                   0xeb, 0x00, 0xff, 0x36, 0x50, 0x50, 0xf4};
    struct soft_vm vm;

    CHECK_INT(setenv("EC1_SOFT_TIER", "eager", 1), 0);
    start(&vm, code, sizeof(code));
    (void)soft_vm_map(&vm, STACK - 0x10000, DATA + 0x10000, PTE_RW | PTE_US);
    vm.v->gpr[GPR_RDI] = STACK - 0x10000 + 0x800;
    vm.v->gpr[GPR_RSI] = DATA;
    vm.v->gpr[GPR_RAX] = 0x1234;
    soft_vm_poke(&vm, DATA, 0x5678);
    CHECK_INT(run(&vm), -1);
    CHECK_INT(soft_vm_peek(&vm, DATA + 0x10000 + 0x7f8), 0x5678);
    CHECK_INT(soft_vm_peek(&vm, DATA + 0x10000 + 0x7f0), 0x1234);
    CHECK_INT(soft_vm_peek(&vm, DATA + 0x10000 + 0x7e8), 0x1234);
    CHECK_INT(soft_vm_peek(&vm, STACK - 0x10000 + 0x7f0), 0);
    finish(&vm);
}
