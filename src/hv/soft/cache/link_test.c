/* link_test.c — from translated block to translated block: links, the xTLB, indirect branches,
 * polls, flags on the way. */
#include <signal.h>
#include <sys/time.h>

#include "hv/soft/cache/code_int.h"
#include "hv/soft/cache/snippet.h"
#include "hv/soft/cpu/regs.h"

#define NEXT_PAGE (CODE + 0x1000)
#define OTHER     (DATA + 0x3000) /* physical page to swap for another one */

static void put(struct soft_vm *vm, uint64_t at, const char *bytes, size_t len)
{
    CHECK_INT(mem_write(vm->mem, GPA(at), bytes, len), 0);
    code_cache_external_write(vm->v, GPA(at), len);
}
#define PUT(vm, at, bytes) put((vm), (at), bytes, sizeof(bytes) - 1)

/* Everything is translated before its first run. */
static void start_eager(struct soft_vm *vm)
{
    const char *tier = getenv("EC1_SOFT_TIER");
    char *old = tier ? strdup(tier) : NULL;

    CHECK_INT(setenv("EC1_SOFT_TIER", "eager", 1), 0);
    start(vm, "", 0);
    CHECK_INT(old ? setenv("EC1_SOFT_TIER", old, 1) : unsetenv("EC1_SOFT_TIER"), 0);
    free(old);
}

static int run_from(struct soft_vm *vm, uint64_t rip)
{
    vm->v->rip = rip;
    return run(vm);
}

static void run_often(struct soft_vm *vm)
{
    for (unsigned i = 0; i < 4; i++) {
        CHECK_INT(run_from(vm, CODE), -1);
    }
}

/* --- links within a page --- */

TEST(link, a_link_leads_to_new_bytes_once_they_are_written)
{
    struct soft_vm vm;

    start_eager(&vm);
    PUT(&vm, CODE, "\xeb\x10");                        /* jmp 12h */
    PUT(&vm, CODE + 0x12, "\xb8\x01\x00\x00\x00\xf4"); /* mov eax, 1; hlt */
    run_often(&vm);
    CHECK_INT(vm.v->gpr[GPR_RAX], 1);
    CHECK(vm.v->stats.links >= 1);
    PUT(&vm, CODE + 0x13, "\x02");
    run_often(&vm);
    CHECK_INT(vm.v->gpr[GPR_RAX], 2);
    finish(&vm);
}

/* --- to other pages --- */

/* Which way the code on CODE reaches NEXT_PAGE, where `mov eax, n; hlt` stands. */
static const struct {
    const char *name, *bytes;
    size_t len;
} ways[] = {
#define WAY(name, bytes)               \
    {                                  \
        name, bytes, sizeof(bytes) - 1 \
    }
    WAY("jmp", "\xe9\xfb\x0f\x00\x00"),
    WAY("jcc", "\x31\xc9\x0f\x84\xf8\x0f\x00\x00\xf4"),
    WAY("call", "\xe8\xfb\x0f\x00\x00"),
    WAY("jmp reg", "\x48\x8d\x0d\xf9\x0f\x00\x00\xff\xe1"),
    WAY("call reg", "\x48\x8d\x0d\xf9\x0f\x00\x00\xff\xd1"),
    WAY("ret", "\x48\x8d\x0d\xf9\x0f\x00\x00\x51\xc3"),
};
#define WAYS (sizeof(ways) / sizeof(ways[0]))

static void start_way(struct soft_vm *vm, unsigned way)
{
    start_eager(vm);
    put(vm, CODE, ways[way].bytes, ways[way].len);
    PUT(vm, NEXT_PAGE, "\xb8\x01\x00\x00\x00\xf4");
    PUT(vm, OTHER, "\xb8\x02\x00\x00\x00\xf4");
    run_often(vm);
    CHECK_INT(vm->v->gpr[GPR_RAX], 1);
}

TEST(link, a_page_that_is_mapped_elsewhere_is_left_alone_by_links_from_others)
{
    for (unsigned way = 0; way < WAYS; way++) {
        struct soft_vm vm;

        start_way(&vm, way);
        for (unsigned round = 0; round < 6; round++) {
            (void)soft_vm_map(&vm, NEXT_PAGE, round & 1 ? NEXT_PAGE : OTHER, PTE_RW | PTE_US);
            if (round % 3) {
                mmu_flush_page(vm.v, NEXT_PAGE);
            } else {
                mmu_flush_non_global(vm.v);
            }
            run_often(&vm);
            CHECK_INT(vm.v->gpr[GPR_RAX], round & 1 ? 1 : 2);
        }
        finish(&vm);
    }
}

TEST(link, links_to_other_pages_outlive_a_change_of_address_space)
{
    for (unsigned way = 0; way < WAYS; way++) {
        struct soft_vm vm;
        uint64_t links;

        start_way(&vm, way);
        links = vm.v->stats.links;
        for (unsigned i = 0; i < 10; i++) {
            mmu_flush_non_global(vm.v);
            CHECK_INT(run_from(&vm, CODE), -1);
            CHECK_INT(vm.v->gpr[GPR_RAX], 1);
        }
        CHECK_INT(vm.v->stats.links, links);
        finish(&vm);
    }
}

TEST(link, a_page_that_may_no_longer_be_executed_is_not_entered)
{
    for (unsigned way = 0; way < WAYS; way++) {
        struct soft_vm vm;

        start_way(&vm, way);
        (void)soft_vm_map(&vm, NEXT_PAGE, NEXT_PAGE, PTE_RW | PTE_US | PTE_XD);
        mmu_flush_page(vm.v, NEXT_PAGE);
        CHECK_INT(run_from(&vm, CODE), EXC_PF);
        CHECK_INT(vm.v->exc.cr2, NEXT_PAGE);
        CHECK_INT(vm.v->rip, NEXT_PAGE);
        finish(&vm);
    }
}

static void set_cpl(struct vcpu *v, bool is_user)
{
    v->seg[SEG_CS].attr = is_user ? 0xa0fb : 0xa09b;
    v->seg[SEG_SS].attr = is_user ? 0xc0f3 : 0xc093;
    vcpu_set_cpl(v, is_user ? 3 : 0);
    vcpu_update_mode(v);
}

TEST(link, user_code_does_not_enter_the_supervisors_pages_by_what_the_supervisor_left)
{
    for (unsigned way = 0; way < WAYS; way++) {
        struct soft_vm vm;

        start_way(&vm, way);
        (void)soft_vm_map(&vm, NEXT_PAGE, NEXT_PAGE, PTE_RW | PTE_G);
        mmu_flush_page(vm.v, NEXT_PAGE);
        run_often(&vm);
        for (unsigned i = 0; i < 3; i++) {
            set_cpl(vm.v, true);
            CHECK_INT(run_from(&vm, CODE), EXC_PF);
            CHECK_INT(vm.v->exc.cr2, NEXT_PAGE);
            set_cpl(vm.v, false);
            CHECK_INT(run_from(&vm, CODE), -1);
        }
        finish(&vm);
    }
}

TEST(link, targets_that_share_a_slot_of_the_table_are_told_apart)
{
    struct soft_vm vm;

    start_eager(&vm);
    PUT(&vm, CODE, "\xff\xe1"); /* jmp rcx */
    PUT(&vm, CODE + 0x20000, "\xb8\x01\x00\x00\x00\xf4");
    PUT(&vm, CODE + 0x30000, "\xb8\x02\x00\x00\x00\xf4");
    for (unsigned i = 0; i < 10; i++) {
        vm.v->gpr[GPR_RCX] = CODE + (i & 1 ? 0x30000 : 0x20000);
        CHECK_INT(run_from(&vm, CODE), -1);
        CHECK_INT(vm.v->gpr[GPR_RAX], 1 + (i & 1));
    }
    finish(&vm);
}

TEST(link, a_branch_to_an_address_that_is_not_canonical_faults_where_it_stands)
{
    static const struct {
        const char *bytes;
        size_t len;
        bool is_ret;
    } branches[] = {{"\xff\xe1", 2, false}, {"\xff\xd1", 2, false}, {"\x51\xc2\x10\x00", 4, true}};

    for (unsigned i = 0; i < sizeof(branches) / sizeof(branches[0]); i++) {
        struct soft_vm vm;
        uint64_t stack = STACK - (branches[i].is_ret ? 8 : 0);

        start_eager(&vm);
        put(&vm, CODE, branches[i].bytes, branches[i].len);
        vm.v->gpr[GPR_RCX] = UINT64_C(0x1000000000000) | CODE;
        for (unsigned round = 0; round < 3; round++) {
            vm.v->gpr[GPR_RSP] = STACK;
            CHECK_INT(run_from(&vm, CODE), EXC_GP);
            CHECK_INT(vm.v->rip, CODE + branches[i].is_ret);
            CHECK_INT(vm.v->gpr[GPR_RSP], stack);
        }
        finish(&vm);
    }
}

/* As run_from(), but to what poll wants at the latest. */
static int run_to_poll(struct soft_vm *vm, uint64_t rip)
{
    vm->v->rip = rip;
    if (_setjmp(vm->v->unwind)) {
        return vm->v->exc.vector;
    }
    code_run(vm->v);
    return -1;
}

static void poll_at_access(struct vcpu *v, gpa_t gpa, void *data, unsigned len, bool is_write)
{
    soft_vm_mmio(v, gpa, data, len, is_write);
    atomic_fetch_or(&v->poll, POLL_KICK);
}

/* mov eax, [rdi], which makes poll wait for the end of the block; jmp rcx, or push rcx and ret */
TEST(link, a_branch_to_an_address_that_is_not_canonical_faults_before_anything_is_looked_at)
{
    static const char *const code[] = {"\x8b\x07\xff\xe1\xf4\xf4", "\x51\x8b\x07\xc2\x10\x00"};

    for (unsigned i = 0; i < 2; i++) {
        struct vcpu_platform platform = soft_vm_platform;
        struct soft_vm vm;

        start_eager(&vm);
        platform.mmio = poll_at_access;
        vm.v->platform = &platform;
        (void)soft_vm_map(&vm, DATA, SOFT_VM_RAM + 0x10000, PTE_RW);
        put(&vm, CODE, code[i], 6);
        vm.v->gpr[GPR_RCX] = UINT64_C(0x1000000000000) | CODE;
        vm.v->gpr[GPR_RDI] = DATA;
        for (unsigned round = 0; round < 3; round++) {
            vm.v->gpr[GPR_RSP] = STACK;
            CHECK_INT(run_to_poll(&vm, CODE), EXC_GP);
            CHECK_INT(vm.v->rip, CODE + 2 + i);
            CHECK_INT(vm.v->gpr[GPR_RSP], STACK - 8 * i);
            CHECK_INT(atomic_exchange(&vm.v->poll, 0), POLL_KICK);
        }
        finish(&vm);
    }
}

/* --- polls --- */

static struct vcpu *g_polled;

static void on_alarm(int signal)
{
    (void)signal;
    atomic_fetch_or(&g_polled->poll, POLL_KICK);
}

static void run_until_polled(struct vcpu *v)
{
    struct itimerval timer = {.it_value.tv_usec = 20000};

    g_polled = v;
    CHECK(signal(SIGALRM, on_alarm) != SIG_ERR);
    CHECK_INT(setitimer(ITIMER_REAL, &timer, NULL), 0);
    v->rip = CODE;
    if (_setjmp(v->unwind)) {
        fail();
    }
    code_run(v);
}

/* Endless loops; the second page holds `back to CODE` of some kind. */
TEST(link, every_loop_is_left_when_something_is_to_be_looked_at)
{
    static const struct {
        const char *here, *there;
        size_t here_len, there_len;
    } loops[] = {
#define LOOP(here, there) {here, there, sizeof(here) - 1, sizeof(there) - 1}
        LOOP("\xeb\xfe", "\xf4"),                             /* jmp $ */
        LOOP("\x90\xeb\x00\xeb\xfb", "\xf4"),                 /* by forward jumps */
        LOOP("\xe9\xfb\x0f\x00\x00", "\xe9\xfb\xef\xff\xff"), /* two pages */
        LOOP("\x48\x8d\x0d\xf9\xff\xff\xff\xff\xe1", "\xf4"), /* jmp rcx */
        LOOP("\xe8\xfb\x0f\x00\x00\xeb\xf9", "\xc3"),         /* call, ret */
        LOOP("\x48\x8d\x0d\xf9\xff\xff\xff\x51\xc3", "\xf4"), /* ret alone */
        LOOP("\x31\xc0\xf9\x73\x00\x72\xf9", "\xf4"),         /* jcc */
        LOOP("\xf9\xeb\x00\x72\xfb", "\xf4"),                 /* into a block that reads flags */
        LOOP("\x83\x04\x24\x01\x72\x00\xeb\xf8", "\xf4"),     /* with an access */
    };

    for (unsigned i = 0; i < sizeof(loops) / sizeof(loops[0]); i++) {
        struct soft_vm vm;

        start_eager(&vm);
        put(&vm, CODE, loops[i].here, loops[i].here_len);
        put(&vm, NEXT_PAGE, loops[i].there, loops[i].there_len);
        run_until_polled(vm.v);
        CHECK_INT(atomic_load(&vm.v->poll), POLL_KICK);
        finish(&vm);
    }
}

/* --- calls and returns --- */

TEST(link, calls_nest_deeper_than_the_host_remembers)
{
    struct soft_vm vm;

    start_eager(&vm);
    /* f: dec ecx; jz 1f; call f; 1: inc eax; ret */
    PUT(&vm, CODE, "\xe8\x01\x00\x00\x00\xf4\xff\xc9\x74\x05\xe8\xf7\xff\xff\xff\xff\xc0\xc3");
    for (unsigned i = 0; i < 3; i++) {
        vm.v->gpr[GPR_RAX] = 0;
        vm.v->gpr[GPR_RCX] = 20000;
        CHECK_INT(run_from(&vm, CODE), -1);
        CHECK_INT(vm.v->gpr[GPR_RAX], 20000);
        CHECK_INT(vm.v->gpr[GPR_RSP], STACK);
    }
    finish(&vm);
}

TEST(link, calls_that_never_return_do_no_harm)
{
    struct soft_vm vm;

    start_eager(&vm);
    /* l: call 1f; 1: pop rax; dec ecx; jnz l; hlt */
    PUT(&vm, CODE, "\xe8\x00\x00\x00\x00\x58\xff\xc9\x75\xf6\xf4");
    vm.v->gpr[GPR_RCX] = 1000000;
    CHECK_INT(run_from(&vm, CODE), -1);
    CHECK_INT(vm.v->gpr[GPR_RCX], 0);
    CHECK_INT(vm.v->gpr[GPR_RAX], CODE + 5);
    finish(&vm);
}

TEST(link, a_return_goes_where_the_stack_says)
{
    struct soft_vm vm;

    start_eager(&vm);
    /* call f; mov bl, 1; hlt; mov bl, 2; hlt; f: add [rsp], rdx; ret */
    PUT(&vm, CODE, "\xe8\x06\x00\x00\x00\xb3\x01\xf4\xb3\x02\xf4\x48\x01\x14\x24\xc3");
    for (unsigned i = 0; i < 12; i++) {
        vm.v->gpr[GPR_RDX] = i % 3 ? 0 : 3;
        vm.v->gpr[GPR_RBX] = 0;
        CHECK_INT(run_from(&vm, CODE), -1);
        CHECK_INT(vm.v->gpr[GPR_RBX], i % 3 ? 1 : 2);
    }
    /* to address 0, which is what an empty stack of calls looks like */
    PUT(&vm, CODE, "\x6a\x00\xc3"); /* push 0; ret */
    for (unsigned i = 0; i < 3; i++) {
        CHECK_INT(run_from(&vm, CODE), EXC_PF);
        CHECK_INT(vm.v->rip, 0);
    }
    finish(&vm);
}

/* The supervisor calls, and leaves for user code that returns to the place behind that call. */
TEST(link, user_code_does_not_return_from_the_supervisors_calls)
{
    struct soft_vm vm;

    start_eager(&vm);
    (void)soft_vm_map(&vm, CODE, CODE, PTE_RW);
    mmu_flush_page(vm.v, CODE);
    vm.v->star = UINT64_C(0x23) << 48 | UINT64_C(0x10) << 32;
    PUT(&vm, CODE, "\xe8\x1b\x00\x00\x00\xf4");
    PUT(&vm, CODE + 0x20, "\xb9\x00\x10\x40\x00\x41\xbb\x02\x00\x00\x00\x48\x0f\x07");
    PUT(&vm, NEXT_PAGE, "\x68\x05\x00\x40\x00\xc3"); /* push CODE + 5; ret */
    PUT(&vm, NEXT_PAGE + 0x20, "\xc3");
    for (unsigned i = 0; i < 4; i++) {
        set_cpl(vm.v, false);
        vm.v->gpr[GPR_RSP] = STACK;
        CHECK_INT(run_from(&vm, CODE), EXC_PF);
        CHECK_INT(vm.v->cpl, 3);
        CHECK_INT(vm.v->rip, CODE + 5);
        CHECK_INT(vm.v->exc.cr2, CODE + 5);
    }
    finish(&vm);
}

static struct soft_vm *g_remapped;

/* The caller's page becomes another one. */
static void remap(struct vcpu *v, uint16_t port, void *data, unsigned len, bool is_write)
{
    (void)port;
    (void)data;
    (void)len;
    (void)is_write;
    (void)soft_vm_map(g_remapped, CODE, OTHER, PTE_RW | PTE_US);
    mmu_flush_page(v, CODE);
}

TEST(link, a_return_to_a_page_that_was_remapped_meanwhile_finds_the_new_one)
{
    struct vcpu_platform platform = soft_vm_platform;
    struct soft_vm vm;

    start_eager(&vm);
    platform.pio = remap;
    vm.v->platform = &platform;
    g_remapped = &vm;
    PUT(&vm, CODE, "\xe8\xfb\x0f\x00\x00\xb3\x01\xf4"); /* call NEXT_PAGE; mov bl, 1; hlt */
    PUT(&vm, OTHER, "\xe8\xfb\x0f\x00\x00\xb3\x02\xf4");
    PUT(&vm, NEXT_PAGE, "\xe6\x10\xc3"); /* out 10h, al; ret */
    for (unsigned i = 0; i < 4; i++) {
        (void)soft_vm_map(&vm, CODE, CODE, PTE_RW | PTE_US);
        mmu_flush_page(vm.v, CODE);
        CHECK_INT(run_from(&vm, CODE), -1);
        CHECK_INT(vm.v->gpr[GPR_RBX] & 0xff, 2);
    }
    finish(&vm);
}

/* --- several blocks in one translation --- */

/* sum of [rsi .. rsi + 8 * ecx), 100 more for each odd element; what is behind `jz` is the second
 * part of a translation. */
#define SUM_LOOP                                                                             \
    "\x48\x8b\x16\xf6\xc2\x01\x74\x04\x48\x83\xc0\x64\x48\x03\x06\x48\x83\xc6\x08\xff\xc9"   \
    "\x75\xe9\xf4" /* l: mov rdx, [rsi]; test dl, 1; jz 1f; add rax, 100; 1: add rax, [rsi]; \
                       add rsi, 8; dec ecx; jnz l; hlt */

static int run_sum(struct soft_vm *vm, unsigned count)
{
    vm->v->gpr[GPR_RAX] = 0;
    vm->v->gpr[GPR_RSI] = DATA;
    vm->v->gpr[GPR_RCX] = count;
    return run_from(vm, CODE);
}

TEST(link, blocks_in_one_translation_do_what_each_does)
{
    struct soft_vm vm;
    uint64_t sum = 0;

    start_eager(&vm);
    vm.v->code->heat = 4;
    PUT(&vm, CODE, SUM_LOOP);
    for (unsigned i = 0; i < 500; i++) {
        soft_vm_poke(&vm, DATA + 8 * i, i * i);
        sum += i * i + (i & 1 ? 100 : 0);
    }
    for (unsigned round = 0; round < 3; round++) {
        CHECK_INT(run_sum(&vm, 500), -1);
        CHECK_INT(vm.v->gpr[GPR_RAX], sum);
    }
    finish(&vm);
}

TEST(link, what_a_translation_refers_to_is_not_swept)
{
    struct soft_vm vm;
    const uint8_t *host;

    start_eager(&vm);
    vm.v->code->heat = 4;
    PUT(&vm, CODE, SUM_LOOP);
    host = mem_ptr(vm.mem, GPA(CODE + 8), 1);
    soft_vm_poke(&vm, DATA, 1);
    CHECK_INT(run_sum(&vm, 20), -1);
    CHECK(code_find(vm.v->code, host, CODE + 8, block_mode_key(vm.v)) != NULL);
    code_sweep(vm.v);
    CHECK(code_find(vm.v->code, host, CODE + 8, block_mode_key(vm.v)) != NULL);
    CHECK_INT(run_sum(&vm, 20), -1);
    CHECK_INT(vm.v->gpr[GPR_RAX], 101);
    finish(&vm);
}

TEST(link, a_write_to_any_block_of_a_translation_changes_it)
{
    static const struct {
        unsigned at;
        char from, to;
        unsigned more; /* for each of 100 odd elements */
    } writes[] = {{11, 0x64, 0x65, 1}, {5, 1, 0, 0}, {10, (char)0xc0, (char)0xe8, 0}};

    for (unsigned i = 0; i < sizeof(writes) / sizeof(writes[0]); i++) {
        struct soft_vm vm;
        uint64_t sum;

        start_eager(&vm);
        vm.v->code->heat = 4;
        PUT(&vm, CODE, SUM_LOOP);
        for (unsigned j = 0; j < 100; j++) {
            soft_vm_poke(&vm, DATA + 8 * j, 3);
        }
        CHECK_INT(run_sum(&vm, 100), -1);
        sum = vm.v->gpr[GPR_RAX];
        CHECK_INT(sum, 100 * 103);
        put(&vm, CODE + writes[i].at, &writes[i].to, 1);
        CHECK_INT(run_sum(&vm, 100), -1);
        CHECK_INT(vm.v->gpr[GPR_RAX], i == 0 ? 100 * 104 : i == 1 ? 100 * 3 : (uint64_t)-97 * 100);
        put(&vm, CODE + writes[i].at, &writes[i].from, 1);
        CHECK_INT(run_sum(&vm, 100), -1);
        CHECK_INT(vm.v->gpr[GPR_RAX], sum);
        finish(&vm);
    }
}

/* add rax, 64h, behind a store and two branches, ecx times. */
#define STORE_LOOP                                                           \
    "\x85\xc9\x78\x0f\x40\x88\x3b\x85\xc9\x78\x08\x48\x83\xc0\x64\xff\xc9"   \
    "\x75\xed\xf4" /* l: test ecx, ecx; js e; mov [rbx], dil; test ecx, ecx; \
                       js e; add rax, 100; dec ecx; jnz l; e: hlt */

TEST(link, a_block_of_a_translation_that_changes_the_next_is_left)
{
    struct soft_vm vm;

    start_eager(&vm);
    vm.v->code->heat = 4;
    PUT(&vm, CODE, STORE_LOOP);
    vm.v->gpr[GPR_RBX] = DATA;
    CHECK_INT(run_sum(&vm, 100), -1);
    CHECK_INT(vm.v->gpr[GPR_RAX], 100 * 100);
    vm.v->gpr[GPR_RBX] = CODE + 14;
    for (unsigned to = 0x65; to < 0x70; to++) {
        vm.v->gpr[GPR_RDI] = to;
        CHECK_INT(run_sum(&vm, 100), -1);
        CHECK_INT(vm.v->gpr[GPR_RAX], 100 * to);
    }
    finish(&vm);
}

/* l: test cl, 1; jnz o; add rax, 1; jmp t; nop x 4; o: add rax, 10h; t: dec ecx; jnz l; hlt */
#define JUMP_LOOP                                                                          \
    "\xf6\xc1\x01\x75\x0a\x48\x83\xc0\x01\xeb\x08\x90\x90\x90\x90\x48\x83\xc0\x10\xff\xc9" \
    "\x75\xe9\xf4"

TEST(link, a_translation_goes_on_where_its_branches_lead)
{
    struct soft_vm vm;

    start_eager(&vm);
    vm.v->code->heat = 4;
    PUT(&vm, CODE, JUMP_LOOP);
    for (unsigned i = 0; i < 3; i++) {
        CHECK_INT(run_sum(&vm, 100), -1);
        CHECK_INT(vm.v->gpr[GPR_RAX], 50 * 0x11);
    }
    put(&vm, CODE + 8, "\x02", 1);
    put(&vm, CODE + 18, "\x20", 1);
    CHECK_INT(run_sum(&vm, 100), -1);
    CHECK_INT(vm.v->gpr[GPR_RAX], 50 * 0x22);
    finish(&vm);
}

TEST(link, a_fault_in_a_later_block_of_a_translation_is_at_its_instruction)
{
    struct soft_vm vm;

    start_eager(&vm);
    vm.v->code->heat = 4;
    PUT(&vm, CODE, SUM_LOOP);
    PUT(&vm, CODE + 8, "\x48\x03\x03\x90"); /* add rax, [rbx]; nop */
    for (unsigned j = 0; j < 100; j++) {
        soft_vm_poke(&vm, DATA + 8 * j, 1);
    }
    vm.v->gpr[GPR_RBX] = DATA;
    CHECK_INT(run_sum(&vm, 50), -1);
    CHECK_INT(vm.v->gpr[GPR_RAX], 100);
    vm.v->gpr[GPR_RBX] = 0x1000;
    for (unsigned i = 0; i < 3; i++) {
        CHECK_INT(run_sum(&vm, 50), EXC_PF);
        CHECK_INT(vm.v->rip, CODE + 8);
        CHECK_INT(vm.v->exc.cr2, 0x1000);
        CHECK_INT(vm.v->gpr[GPR_RAX], 0);
        CHECK_INT(vm.v->gpr[GPR_RDX], 1);
    }
    finish(&vm);
}

/* --- flags --- */

/* Code on CODE makes flags and goes on to NEXT_PAGE or CODE + 40h, where they are read: RBX = CF,
 * ZF, SF, PF, OF as SETcc gives them. */
#define READ_FLAGS                                                                          \
    "\x0f\x92\xc3\x0f\x94\xc7\x0f\x98\xc1\x0f\x9a\xc5\x0f\x90\xc2\xf4" /* setc bl; setz bh; \
                                                                          sets cl; setp ch; \
                                                                          seto dl; hlt */

static void check_flags(struct soft_vm *vm, const char *how)
{
    /* 0x80000000 + 0x80000000: CF, ZF, PF, OF */
    for (unsigned i = 0; i < 4; i++) {
        vm->v->gpr[GPR_RSI] = UINT64_C(0x80000000);
        vm->v->gpr[GPR_RSP] = STACK;
        vm->v->gpr[GPR_RBX] = vm->v->gpr[GPR_RCX] = vm->v->gpr[GPR_RDX] = 0;
        if (i == 2) {
            mmu_flush_non_global(vm->v); /* the test of the page fails */
        }
        CHECK_INT(run_from(vm, CODE), -1);
        if ((vm->v->gpr[GPR_RBX] & 0xffff) != 0x101 || (vm->v->gpr[GPR_RCX] & 0xffff) != 0x100 ||
            (vm->v->gpr[GPR_RDX] & 0xff) != 1) {
            print_error("%s, round %u\n", how, i);
            fail();
        }
    }
}

TEST(link, flags_pass_from_block_to_block)
{
    /* add esi, esi, perhaps an access, which destroys them on the host, then a branch */
    static const struct {
        const char *name, *bytes;
        size_t len;
    } edges[] = {
        WAY("jmp near", "\x01\xf6\xeb\x3c"),
        WAY("access, jmp near", "\x01\xf6\x48\x8b\x04\x24\xeb\x38"),
        WAY("jmp far", "\x01\xf6\xe9\xf9\x0f\x00\x00"),
        WAY("access, jmp far", "\x01\xf6\x48\x8b\x04\x24\xe9\xf5\x0f\x00\x00"),
        WAY("jcc near", "\x01\xf6\x72\x3c\xf4"),
        WAY("jcc far", "\x01\xf6\x0f\x82\xf8\x0f\x00\x00\xf4"),
        WAY("call far", "\x01\xf6\xe8\xf9\x0f\x00\x00"),
        WAY("jmp reg", "\x48\x8d\x05\xf9\x0f\x00\x00\x01\xf6\xff\xe0"),
        WAY("call reg", "\x48\x8d\x05\xf9\x0f\x00\x00\x01\xf6\xff\xd0"),
        WAY("ret", "\x48\x8d\x05\xf9\x0f\x00\x00\x50\x01\xf6\xc3"),
    };

    for (unsigned i = 0; i < sizeof(edges) / sizeof(edges[0]); i++) {
        for (unsigned padded = 0; padded < 2; padded++) { /* a block that passes them through */
            struct soft_vm vm;

            start_eager(&vm);
            put(&vm, CODE, edges[i].bytes, edges[i].len);
            for (unsigned at = 0; at < 2; at++) {
                uint64_t to = at ? NEXT_PAGE : CODE + 0x40;

                if (padded) { /* mov rax, [rsp]; jmp +2 */
                    PUT(&vm, to, "\x48\x8b\x04\x24\xeb\x02\xf4\xf4" READ_FLAGS);
                } else {
                    PUT(&vm, to, READ_FLAGS);
                }
            }
            check_flags(&vm, edges[i].name);
            finish(&vm);
        }
    }
}

/* The block relied on what stood behind its jump. */
TEST(link, a_block_keeps_flags_once_the_code_it_leads_to_reads_them)
{
    struct soft_vm vm;

    start_eager(&vm);
    PUT(&vm, CODE, "\x01\xf6\x48\x8b\x04\x24\xeb\x38"); /* add esi, esi; mov rax, [rsp]; jmp 40h */
    PUT(&vm, CODE + 0x40, "\x90\x31\xdb\xf4");          /* nop; xor ebx, ebx; hlt */
    vm.v->gpr[GPR_RSI] = 1;
    run_often(&vm);
    PUT(&vm, CODE + 0x41, READ_FLAGS);
    check_flags(&vm, "by another");
    /* the same by the code itself: mov dword [CODE + 40h], eax */
    PUT(&vm, CODE + 0x40, "\x90\x31\xdb\xf4");
    run_often(&vm);
    PUT(&vm, CODE + 0x80, "\x89\x05\xba\xff\xff\xff\xeb\x00\xe9\x73\xff\xff\xff");
    vm.v->gpr[GPR_RAX] = 0xc3920f90; /* nop; setc bl */
    PUT(&vm, CODE + 0x44, "\x0f\x94\xc7\x0f\x98\xc1\x0f\x9a\xc5\x0f\x90\xc2\xf4");
    vm.v->gpr[GPR_RSI] = UINT64_C(0x80000000);
    CHECK_INT(run_from(&vm, CODE + 0x80), -1);
    CHECK_INT(vm.v->gpr[GPR_RBX] & 0xffff, 0x101);
    check_flags(&vm, "by itself");
    finish(&vm);
}

TEST(link, instructions_are_counted_one_by_one_if_asked_for)
{
    struct soft_vm vm;

    start_eager(&vm);
    vm.v->count_runs = true;
    PUT(&vm, CODE, "\xb9\xe8\x03\x00\x00\xff\xc9\x75\xfc\xf4"); /* mov ecx, 1000; l: dec; jnz l */
    CHECK_INT(run_from(&vm, CODE), -1);
    CHECK_INT(vm.v->stats.insns, 2002);
    finish(&vm);
}
