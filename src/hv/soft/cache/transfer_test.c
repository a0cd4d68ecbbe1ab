/* transfer_test.c — system instructions in running code: system calls, returns, flags, shadows.
 *
 * All run three times: found, linked, looked up.  tier_test.c runs this file translated, too. */
#include "hv/soft/cache/code.h"
#include "hv/soft/cpu/fpu.h"
#include "tests/lib/sys_vm.h"
#include "tests/lib/test.h"

#define KERNEL UINT64_C(0x5000)
#define ENTRY  UINT64_C(0x6000) /* of SYSCALL */
#define USER   (SYS_USER + 0x100)
#define DEVICE UINT64_C(0xfee00000) /* a write to it sets POLL_KICK */

static void device_write(struct vcpu *v, gpa_t gpa, void *data, unsigned len, bool is_write)
{
    (void)gpa;
    (void)data;
    (void)len;
    if (is_write) {
        atomic_store(&v->poll, POLL_KICK);
    }
}

static struct vcpu_platform g_platform;

static void start(struct soft_vm *vm)
{
    sys_vm_start(vm);
    g_platform = soft_vm_platform;
    g_platform.mmio = device_write;
    vm->v->platform = &g_platform;
    fpu_reset(vm->v);
    CHECK_INT(code_cache_init(vm->v), 0);
    (void)soft_vm_map(vm, DEVICE, DEVICE, PTE_RW);
    vm->v->gpr[GPR_RDI] = DEVICE;
    vm->v->star = (uint64_t)(SYS_KERNEL_CS | (uint64_t)(SYS_USER_CS - 16 + 3) << 16) << 32;
    vm->v->lstar = ENTRY;
    vm->v->sfmask = FLAG_IF | FLAG_TF | FLAG_DF | FLAGS_ARITH;
}

static void finish(struct soft_vm *vm)
{
    code_cache_fini(vm->v);
    sys_vm_stop(vm);
}

static void put(struct soft_vm *vm, uint64_t at, const char *bytes, size_t len)
{
    CHECK_INT(mem_write(vm->mem, GPA(at), bytes, len), 0);
    code_cache_external_write(vm->v, GPA(at), len);
}
#define PUT(vm, at, bytes) put((vm), (at), (bytes), sizeof(bytes) - 1)

/* Until code_run() comes back: -1, or the vector of the exception that left it. */
static int go(struct soft_vm *vm)
{
    vm->v->halted = 0;
    if (_setjmp(vm->v->unwind)) {
        return vm->v->exc.vector;
    }
    code_run(vm->v);
    return -1;
}

static void to_kernel(struct soft_vm *vm, uint64_t rip, uint64_t rflags)
{
    struct vcpu *v = vm->v;

    v->seg[SEG_CS] = (struct cpu_segment){.limit = UINT32_MAX, .attr = 0xa09b, .selector = 0x10};
    v->seg[SEG_SS] = (struct cpu_segment){.limit = UINT32_MAX, .attr = 0xc093, .selector = 0x18};
    v->cpl = 0;
    vcpu_update_mode(v);
    v->gpr[GPR_RSP] = SYS_STACK0 - 0x100;
    v->rip = rip;
    v->shadow = 0;
    vcpu_set_rflags(v, rflags);
    atomic_store(&v->poll, 0);
}

static void to_user(struct soft_vm *vm, uint64_t rflags)
{
    to_kernel(vm, 0, rflags);
    sys_vm_user(vm);
}

TEST(transfer, a_system_call_goes_to_the_kernel_and_comes_back)
{
    struct soft_vm vm;
    struct vcpu *v;

    start(&vm);
    v = vm.v;
    /* kernel: swapgs; mov rbx, gs:[0]; pushfq; pop rdx; sti; cli; swapgs; sysretq */
    PUT(&vm, ENTRY,
        "\x0f\x01\xf8\x65\x48\x8b\x1c\x25\x00\x00\x00\x00\x9c\x5a\xfb\xfa\x0f\x01\xf8"
        "\x48\x0f\x07");
    /* user: stc; mov ecx, 3; l: mov esi, ecx; syscall; mov ecx, esi; dec ecx; jnz l; hlt */
    PUT(&vm, USER, "\xf9\xb9\x03\x00\x00\x00\x89\xce\x0f\x05\x89\xf1\xff\xc9\x75\xf6\xf4");
    soft_vm_poke(&vm, SYS_DATA, 0x1234);
    v->kernel_gs_base = SYS_DATA;
    for (unsigned i = 0; i < 3; i++) {
        to_user(&vm, FLAG_1 | FLAG_IF);
        CHECK_INT(go(&vm), EXC_GP); /* HLT at CPL 3 */
        CHECK_INT(v->rip, USER + 16);
        CHECK_INT(v->cpl, 3);
        CHECK_INT(v->seg[SEG_CS].selector, SYS_USER_CS | 3);
        CHECK_INT(v->gpr[GPR_RBX], 0x1234);
        CHECK_INT(v->gpr[GPR_RDX], FLAG_1);
        CHECK_INT(v->gpr[GPR_R11] & ~(uint64_t)FLAGS_ARITH, FLAG_1 | FLAG_IF);
        CHECK(v->gpr[GPR_R11] & FLAG_CF);
        CHECK(vcpu_has_flag(v, FLAG_IF));
        CHECK_INT(v->seg[SEG_GS].base, 0);
        CHECK_INT(v->kernel_gs_base, SYS_DATA);
    }
    finish(&vm);
}

TEST(transfer, returns_that_open_if_let_a_held_interrupt_in)
{
    struct soft_vm vm;

    start(&vm);
    /* sysretq; iretq: to user code, nop; hlt, which raises */
    PUT(&vm, KERNEL, "\x48\x0f\x07");
    PUT(&vm, KERNEL + 0x100, "\x48\xcf");
    PUT(&vm, USER, "\x90\xf4");
    for (unsigned i = 0; i < 20; i++) {
        bool is_held = i % 10 > 5; /* when the way is known */

        to_kernel(&vm, i < 10 ? KERNEL : KERNEL + 0x100, FLAG_1);
        vm.v->irq_held = is_held;
        vm.v->gpr[GPR_RCX] = USER;
        vm.v->gpr[GPR_R11] = FLAG_1 | FLAG_IF;
        soft_vm_poke(&vm, vm.v->gpr[GPR_RSP], USER);
        soft_vm_poke(&vm, vm.v->gpr[GPR_RSP] + 8, SYS_USER_CS | 3);
        soft_vm_poke(&vm, vm.v->gpr[GPR_RSP] + 16, FLAG_1 | FLAG_IF);
        soft_vm_poke(&vm, vm.v->gpr[GPR_RSP] + 24, SYS_STACK3);
        soft_vm_poke(&vm, vm.v->gpr[GPR_RSP] + 32, SYS_USER_DS | 3);
        CHECK_INT(go(&vm), is_held ? -1 : EXC_GP);
        CHECK_INT(vm.v->rip, is_held ? USER : USER + 1);
        CHECK_INT(vm.v->cpl, 3);
    }
    finish(&vm);
}

TEST(transfer, iret_that_unblocks_nmis_comes_back)
{
    struct soft_vm vm;

    start(&vm);
    PUT(&vm, KERNEL, "\x48\xcf\x90\xf4"); /* iretq; nop; hlt */
    for (unsigned i = 0; i < 10; i++) {
        bool is_blocked = i > 5; /* when the way is known */

        to_kernel(&vm, KERNEL, FLAG_1);
        vm.v->nmi_blocked = is_blocked;
        soft_vm_poke(&vm, vm.v->gpr[GPR_RSP], KERNEL + 2);
        soft_vm_poke(&vm, vm.v->gpr[GPR_RSP] + 8, SYS_KERNEL_CS);
        soft_vm_poke(&vm, vm.v->gpr[GPR_RSP] + 16, FLAG_1);
        soft_vm_poke(&vm, vm.v->gpr[GPR_RSP] + 24, SYS_STACK0);
        soft_vm_poke(&vm, vm.v->gpr[GPR_RSP] + 32, 0);
        CHECK_INT(go(&vm), -1);
        CHECK_INT(vm.v->rip, is_blocked ? KERNEL + 2 : KERNEL + 4);
        CHECK(!vm.v->nmi_blocked);
    }
    finish(&vm);
}

TEST(transfer, iret_faults_where_it_must)
{
    struct soft_vm vm;

    start(&vm);
    PUT(&vm, KERNEL, "\x48\xcf");
    for (unsigned i = 0; i < 6; i++) {
        to_kernel(&vm, KERNEL, FLAG_1 | (i & 1 ? FLAG_NT : 0));
        soft_vm_poke(&vm, vm.v->gpr[GPR_RSP], i & 1 ? USER : UINT64_C(1) << 47);
        soft_vm_poke(&vm, vm.v->gpr[GPR_RSP] + 8, SYS_USER_CS | 3);
        soft_vm_poke(&vm, vm.v->gpr[GPR_RSP] + 16, FLAG_1);
        soft_vm_poke(&vm, vm.v->gpr[GPR_RSP] + 24, SYS_STACK3);
        soft_vm_poke(&vm, vm.v->gpr[GPR_RSP] + 32, SYS_USER_DS | 3);
        CHECK_INT(go(&vm), EXC_GP);
        CHECK_INT(vm.v->exc.error, 0);
        CHECK_INT(vm.v->rip, KERNEL);
        CHECK_INT(vm.v->cpl, 0);
        CHECK_INT(vm.v->gpr[GPR_RSP], SYS_STACK0 - 0x100);
    }
    finish(&vm);
}

TEST(transfer, sysret_to_a_stepping_program_traps_before_its_first_instruction)
{
    struct soft_vm vm;

    start(&vm);
    PUT(&vm, KERNEL, "\x48\x0f\x07");
    PUT(&vm, USER, "\x90\x90\x90\x90\xf4");
    for (unsigned i = 0; i < 10; i++) {
        bool is_stepping = i > 5; /* when the way is known */

        to_kernel(&vm, KERNEL, FLAG_1);
        vm.v->gpr[GPR_RCX] = USER + 1;
        vm.v->gpr[GPR_R11] = FLAG_1 | (is_stepping ? FLAG_TF : 0);
        CHECK_INT(go(&vm), is_stepping ? EXC_DB : EXC_GP);
        CHECK_INT(vm.v->rip, is_stepping ? USER + 1 : USER + 4);
    }
    finish(&vm);
}

TEST(transfer, sysret_to_compatibility_mode_and_to_no_address_at_all)
{
    struct soft_vm vm;
    bool is_amd;

    start(&vm);
    is_amd = cpuid_is_amd(vm.v->cpuid);
    PUT(&vm, KERNEL, "\x0f\x07");             /* sysretl */
    PUT(&vm, KERNEL + 0x100, "\x48\x0f\x07"); /* sysretq */
    PUT(&vm, USER, "\x48\x90\xf4");           /* 32-bit code: dec eax; nop; hlt */
    soft_vm_poke(&vm, SYS_GDT + SYS_USER_CS - 16, 0x00cffb000000ffff);
    for (unsigned i = 0; i < 3; i++) {
        to_kernel(&vm, KERNEL, FLAG_1);
        vm.v->gpr[GPR_RCX] = USER;
        vm.v->gpr[GPR_R11] = FLAG_1;
        vm.v->gpr[GPR_RAX] = 7;
        CHECK_INT(go(&vm), EXC_GP);
        CHECK_INT(vm.v->rip, USER + 2);
        CHECK_INT(vm.v->mode, MODE_COMPAT32);
        CHECK_INT(vm.v->gpr[GPR_RAX], 6);
        to_kernel(&vm, KERNEL + 0x100, FLAG_1);
        vm.v->gpr[GPR_RCX] = UINT64_C(1) << 47;
        CHECK_INT(go(&vm), EXC_GP);
        CHECK_INT(vm.v->cpl, is_amd ? 3 : 0);
        CHECK_INT(vm.v->rip, is_amd ? UINT64_C(1) << 47 : KERNEL + 0x100);
    }
    finish(&vm);
}

TEST(transfer, an_announced_event_waits_for_the_instruction_after_sti)
{
    struct soft_vm vm;
    uint64_t end = KERNEL + 0xfff; /* STI is the last byte of the page */

    start(&vm);
    /* mov [rdi], eax; sti; inc ebx; l: jmp l */
    PUT(&vm, KERNEL, "\x89\x07\xfb\xff\xc3\xeb\xfe");
    PUT(&vm, end - 2, "\x89\x07\xfb\xff\xc3\xeb\xfe");
    for (unsigned i = 0; i < 6; i++) {
        to_kernel(&vm, i < 3 ? KERNEL : end - 2, FLAG_1);
        vm.v->gpr[GPR_RBX] = 0;
        CHECK_INT(go(&vm), -1);
        CHECK_INT(vm.v->gpr[GPR_RBX], 1);
        CHECK_INT(vm.v->shadow, 0);
        CHECK(vcpu_has_flag(vm.v, FLAG_IF));
    }
    finish(&vm);
}

TEST(transfer, a_window_between_sti_and_cli_is_closed_again_before_anybody_looks)
{
    struct soft_vm vm;

    start(&vm);
    /* mov [rdi], eax; sti; cli; l: jmp l */
    PUT(&vm, KERNEL, "\x89\x07\xfb\xfa\xeb\xfe");
    for (unsigned i = 0; i < 3; i++) {
        to_kernel(&vm, KERNEL, FLAG_1);
        CHECK_INT(go(&vm), -1);
        CHECK(!vcpu_has_flag(vm.v, FLAG_IF));
    }
    finish(&vm);
}

TEST(transfer, cli_and_sti_obey_iopl)
{
    struct soft_vm vm;

    start(&vm);
    PUT(&vm, KERNEL, "\x90\xfa\x90\xf4");         /* nop; cli; nop; hlt */
    PUT(&vm, KERNEL + 0x100, "\x90\xfb\x90\xf4"); /* nop; sti; nop; hlt */
    for (unsigned i = 0; i < 12; i++) {
        bool is_allowed = i & 1, is_sti = i & 2;

        to_kernel(&vm, is_sti ? KERNEL + 0x100 : KERNEL,
                  FLAG_1 | (is_allowed ? 1u << 12 : 0) | (is_sti ? 0 : FLAG_IF));
        vm.v->cpl = 1; /* runs the supervisor's blocks */
        CHECK_INT(go(&vm), EXC_GP);
        CHECK_INT(vm.v->rip, (is_sti ? KERNEL + 0x100 : KERNEL) + (is_allowed ? 3 : 1));
        CHECK_INT(vcpu_has_flag(vm.v, FLAG_IF), is_allowed == is_sti);
    }
    finish(&vm);
}

TEST(transfer, control_registers_and_swapgs_are_for_cpl_0)
{
    struct soft_vm vm;

    start(&vm);
    /* mov r10, cr2; mov rsi, cr3; mov rdx, cr0; swapgs; hlt */
    PUT(&vm, KERNEL, "\x41\x0f\x20\xd2\x0f\x20\xde\x0f\x20\xc2\x0f\x01\xf8\xf4");
    for (unsigned i = 0; i < 6; i++) {
        to_kernel(&vm, KERNEL, FLAG_1);
        vm.v->cpl = i & 1;
        vm.v->cr2 = 0x123456;
        vm.v->seg[SEG_GS].base = 1;
        vm.v->kernel_gs_base = 2;
        vm.v->gpr[GPR_R10] = 0;
        CHECK_INT(go(&vm), i & 1 ? EXC_GP : -1);
        CHECK_INT(vm.v->gpr[GPR_R10], i & 1 ? 0 : 0x123456);
        CHECK_INT(vm.v->seg[SEG_GS].base, i & 1 ? 1 : 2);
        if (!(i & 1)) {
            CHECK_INT(vm.v->gpr[GPR_RSI], vm.v->cr3);
            CHECK_INT(vm.v->gpr[GPR_RDX], vm.v->cr0);
        }
    }
    finish(&vm);
}

TEST(transfer, code_behind_a_change_of_its_own_mapping_is_the_new_one)
{
    static const char page[] = "\xbb\x02\x00\x00\x00\xf4"; /* mov ebx, 2; hlt */
    struct soft_vm vm;
    uint64_t entry, other = 0x17000;

    start(&vm);
    /* mov [rsi], rax; invlpg [0x7000]; jmp 0x7000 — once more with mov cr3, rdx */
    PUT(&vm, KERNEL, "\x48\x89\x06\x0f\x01\x3c\x25\x00\x70\x00\x00\xe9\xf0\x1f\x00\x00");
    PUT(&vm, KERNEL + 0x100, "\x48\x89\x06\x0f\x22\xda\xe9\xf5\x1e\x00\x00");
    PUT(&vm, 0x7000, "\xbb\x01\x00\x00\x00\xf4"); /* mov ebx, 1; hlt */
    put(&vm, other, page, sizeof(page) - 1);
    entry = soft_vm_entry(&vm, 0x7000, 12);
    (void)soft_vm_map(&vm, 0x8000, entry & ~UINT64_C(0xfff), PTE_RW);
    for (unsigned i = 0; i < 12; i++) {
        uint64_t page_now = i & 1 ? 0x7000 : other;

        to_kernel(&vm, i & 2 ? KERNEL : KERNEL + 0x100, FLAG_1);
        vm.v->gpr[GPR_RSI] = 0x8000 + (entry & 0xfff);
        vm.v->gpr[GPR_RAX] = page_now | PTE_P | PTE_RW;
        vm.v->gpr[GPR_RDX] = vm.v->cr3;
        CHECK_INT(go(&vm), -1);
        CHECK_INT(vm.v->gpr[GPR_RBX], i & 1 ? 1 : 2);
    }
    finish(&vm);
}

static uint64_t host_tsc(void)
{
    return __builtin_ia32_rdtsc();
}

TEST(transfer, the_time_stamp_counter_is_the_hosts_and_an_offset)
{
    struct soft_vm vm;

    start(&vm);
    /* stc; rdtsc; sbb ebx, ebx; hlt */
    PUT(&vm, KERNEL, "\xf9\x0f\x31\x19\xdb\xf4");
    PUT(&vm, USER, "\x0f\x31\xf4");
    vm.tsc = host_tsc();
    vm.v->has_host_tsc = true;
    for (unsigned i = 0; i < 3; i++) {
        uint64_t offset = i ? (uint64_t)i << 40 : 0, from = host_tsc() + offset, value;

        vm.tsc = from; /* what the interpreter shows */
        vm.v->tsc_offset = offset;
        to_kernel(&vm, KERNEL, FLAG_1);
        vm.v->gpr[GPR_RAX] = vm.v->gpr[GPR_RDX] = UINT64_MAX;
        CHECK_INT(go(&vm), -1);
        value = vm.v->gpr[GPR_RDX] << 32 | vm.v->gpr[GPR_RAX];
        CHECK(value >= from && value <= host_tsc() + offset);
        CHECK(!(vm.v->gpr[GPR_RAX] >> 32) && !(vm.v->gpr[GPR_RDX] >> 32));
        CHECK_INT(vm.v->gpr[GPR_RBX], UINT32_MAX);
        vm.v->cr4 |= CR4_TSD;
        to_user(&vm, FLAG_1);
        CHECK_INT(go(&vm), EXC_GP);
        CHECK_INT(vm.v->rip, USER);
        vm.v->cr4 &= ~CR4_TSD;
    }
    finish(&vm);
}

TEST(transfer, cld_and_std_change_df_alone)
{
    struct soft_vm vm;

    start(&vm);
    /* stc; std; pushfq; pop rax; cld; pushfq; pop rcx; hlt */
    PUT(&vm, KERNEL, "\xf9\xfd\x9c\x58\xfc\x9c\x59\xf4");
    for (unsigned i = 0; i < 3; i++) {
        to_kernel(&vm, KERNEL, FLAG_1 | FLAG_IF | FLAG_ZF | FLAG_OF | FLAG_AF);
        CHECK_INT(go(&vm), -1);
        CHECK_INT(vm.v->gpr[GPR_RAX],
                  FLAG_1 | FLAG_IF | FLAG_ZF | FLAG_OF | FLAG_AF | FLAG_CF | FLAG_DF);
        CHECK_INT(vm.v->gpr[GPR_RCX], FLAG_1 | FLAG_IF | FLAG_ZF | FLAG_OF | FLAG_AF | FLAG_CF);
    }
    finish(&vm);
}
