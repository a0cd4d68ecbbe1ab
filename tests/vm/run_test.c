/* run_test.c — how a vCPU begins and ends, and what it tells its guest about itself. */
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "base/clock.h"
#include "tests/vm/guest.h"
#include "x86/msr.h"

TEST(vm, begins_in_real_mode)
{
    struct guest g;

    guest_init(&g, 1);
    GUEST_PUT(&g, CODE_AT, real);
    state_real();
    CHECK_INT(guest_run(&g), HV_EXIT_KICKED);
    CHECK_INT(g.exit_code, 1);
    CHECK_INT(g_state.gpr[GPR_RBX] & 0xffff, 0x2345);
    CHECK_INT(g_state.gpr[GPR_RCX] & 1, 0);
    guest_fini(&g);
}

TEST(vm, begins_in_protected_mode)
{
    struct guest g;

    guest_init(&g, 1);
    GUEST_PUT(&g, CODE_AT, prot32);
    state_prot32(&g);
    CHECK_INT(guest_run(&g), HV_EXIT_KICKED);
    CHECK_INT(g.exit_code, 2);
    CHECK_INT(g_state.gpr[GPR_RCX], 0x12345678);
    CHECK_INT(g_state.gpr[GPR_RDX] & 0xff, 1);
    guest_fini(&g);
}

TEST(vm, begins_in_long_mode)
{
    struct guest g;

    guest_init(&g, 1);
    GUEST_PUT(&g, CODE_AT, long64);
    state_long64(&g);
    CHECK_INT(guest_run(&g), HV_EXIT_KICKED);
    CHECK_INT(g.exit_code, 3);
    CHECK(g_state.gpr[GPR_R15] == UINT64_C(0x8877665544332211));
    CHECK(g_state.gpr[GPR_RCX] == UINT64_C(0x0123456789abcdef));
    guest_fini(&g);
}

static void *kick(void *arg)
{
    static const struct timespec nap = {.tv_nsec = 20000000};
    struct guest *g = arg;

    (void)nanosleep(&nap, NULL);
    hv_vcpu_kick(g->cpu[0]);
    return NULL;
}

TEST(vm, kick_before_the_first_run)
{
    struct guest g;

    guest_init(&g, 1);
    GUEST_PUT(&g, CODE_AT, spin);
    state_long64(&g);
    hv_vcpu_kick(g.cpu[0]);
    CHECK_INT(guest_run(&g), HV_EXIT_KICKED);
    CHECK_INT(g_state.rip, CODE_AT);
    guest_fini(&g);
}

TEST(vm, kick_ends_a_loop_again_and_again)
{
    struct guest g;

    guest_init(&g, 1);
    GUEST_PUT(&g, CODE_AT, spin);
    state_long64(&g);
    for (unsigned i = 0; i < 10; i++) {
        CHECK_INT(guest_run_with(&g, kick), HV_EXIT_KICKED);
        CHECK_INT(g_state.run_state, CPU_RUNNABLE);
    }
    guest_fini(&g);
}

TEST(vm, kick_reaches_a_thread_that_blocks_signals)
{
    struct guest g;
    sigset_t all, old;

    guest_init(&g, 1);
    GUEST_PUT(&g, CODE_AT, spin);
    state_long64(&g);
    (void)sigfillset(&all);
    (void)sigdelset(&all, SIGALRM);
    CHECK_INT(pthread_sigmask(SIG_SETMASK, &all, &old), 0);
    CHECK_INT(guest_run_with(&g, kick), HV_EXIT_KICKED);
    CHECK_INT(pthread_sigmask(SIG_SETMASK, &old, NULL), 0);
    guest_fini(&g);
}

TEST(vm, kick_ends_hlt)
{
    struct guest g;

    guest_init(&g, 1);
    GUEST_PUT(&g, CODE_AT, halt);
    state_long64(&g);
    CHECK_INT(guest_run_with(&g, kick), HV_EXIT_KICKED);
    CHECK_INT(g_state.run_state, CPU_HALTED);
    guest_fini(&g);
}

/* Without the access being finished the read would be done again, from the same RIP. */
TEST(vm, state_after_a_kick_from_a_callback_is_behind_the_access)
{
    struct guest g;

    guest_init(&g, 1);
    GUEST_PUT(&g, CODE_AT, few);
    state_long64(&g);
    CHECK_INT(guest_run(&g), HV_EXIT_KICKED);
    CHECK_INT(g_state.rip, CODE_AT + 9);
    guest_fini(&g);
}

TEST(vm, triple_fault)
{
    struct guest g;

    guest_init(&g, 1);
    GUEST_PUT(&g, CODE_AT, invalid);
    state_long64(&g);
    g_state.idt.limit = 0;
    CHECK_INT(guest_run(&g), HV_EXIT_TRIPLE_FAULT);
    guest_fini(&g);
}

/* --- CPUID --- */

struct leaf {
    uint32_t eax, ebx, ecx, edx;
};

static struct leaf leaf_of(struct guest *g, uint32_t function, uint32_t index)
{
    GUEST_PUT(g, CODE_AT, cpuid);
    state_long64(g);
    g_state.gpr[GPR_R8] = function;
    g_state.gpr[GPR_R9] = index;
    CHECK_INT(guest_run(g), HV_EXIT_KICKED);
    return (struct leaf){(uint32_t)g_state.gpr[GPR_R8], (uint32_t)g_state.gpr[GPR_RBX],
                         (uint32_t)g_state.gpr[GPR_RCX], (uint32_t)g_state.gpr[GPR_RDX]};
}

TEST(vm, cpuid_says_hypervisor_kvm_and_deadline_timer)
{
    struct guest g;
    struct leaf l;

    guest_init(&g, 1);
    l = leaf_of(&g, 1, 0);
    CHECK(l.ecx >> 31 & 1);        /* hypervisor */
    CHECK(l.ecx >> 24 & 1);        /* TSC deadline */
    CHECK(l.edx >> 9 & 1);         /* APIC */
    CHECK_INT(l.ebx >> 24, 0);     /* its id */
    CHECK_INT(l.edx >> 28 & 1, 0); /* one CPU */
    l = leaf_of(&g, 0x40000000, 0);
    CHECK_MEM(&l.ebx, "KVMKVMKVM\0\0\0", 12);
    CHECK(l.eax >= 0x40000001);
    l = leaf_of(&g, 0x40000001, 0);
    CHECK(l.eax >> 3 & 1); /* kvm-clock with the new MSRs */
    l = leaf_of(&g, 0x80000001, 0);
    CHECK(l.edx >> 29 & 1); /* long mode */
    guest_fini(&g);
}

TEST(vm, cpuid_says_one_package_with_a_core_for_each_cpu)
{
    struct guest g;
    struct leaf l;

    guest_init(&g, 5);
    l = leaf_of(&g, 1, 0);
    CHECK_INT(l.ebx >> 16 & 0xff, 8); /* a power of two */
    CHECK(l.edx >> 28 & 1);
    if (leaf_of(&g, 0, 0).eax >= 0xb) {
        l = leaf_of(&g, 0xb, 0);
        CHECK_INT(l.eax & 31, 0); /* one thread */
        CHECK_INT(l.ebx & 0xffff, 1);
        CHECK_INT(l.ecx >> 8 & 0xff, 1);
        CHECK_INT(l.edx, 0);
        l = leaf_of(&g, 0xb, 1);
        CHECK_INT(l.eax & 31, 5); /* room for 32 CPUs, always */
        CHECK_INT(l.ebx & 0xffff, 5);
        CHECK_INT(l.ecx >> 8 & 0xff, 2);
        l = leaf_of(&g, 0xb, 2);
        CHECK_INT(l.ebx & 0xffff, 0);
        CHECK_INT(l.ecx >> 8 & 0xff, 0);
    }
    guest_fini(&g);
}

/* --- MSRs and clocks --- */

/* SYSENTER_EIP in 32 bits: more of it KVM keeps only on Intel's CPUs. */
TEST(vm, guest_reads_the_msrs_it_wrote)
{
    static const struct cpu_msr msrs[] = {
        {MSR_STAR, 0x0023001000000000},
        {MSR_LSTAR, 0xffffffff81000000},
        {MSR_SFMASK, 0x47700},
        {MSR_KERNEL_GS_BASE, 0xffff888000001000},
        {MSR_FS_BASE, 0x7fff12345000},
        {MSR_GS_BASE, 0xffff888000002000},
        {MSR_SYSENTER_CS, 0x10},
        {MSR_SYSENTER_EIP, 0x81000100},
        {MSR_PAT, 0x0407050600070106},
        {MSR_MTRR_DEF_TYPE, 0xc06},
        {MSR_MTRR_FIX4K_C0000, 0x0606060606060606},
        {MSR_MTRR_PHYS_BASE0, 0xc0000000},
    };
    struct guest g;

    guest_init(&g, 1);
    GUEST_PUT(&g, CODE_AT, msr);
    for (size_t i = 0; i < ARRAY_LEN(msrs); i++) {
        state_long64(&g);
        g_state.gpr[GPR_R8] = msrs[i].value;
        g_state.gpr[GPR_R9] = msrs[i].index;
        g.has_exited = false;
        CHECK_INT(guest_run(&g), HV_EXIT_KICKED);
        CHECK(g.has_exited);
        if (g_state.gpr[GPR_R10] != msrs[i].value) {
            print_error("MSR %x: %llx\n", msrs[i].index, (unsigned long long)g_state.gpr[GPR_R10]);
            fail();
        }
        if (msrs[i].index != MSR_FS_BASE && msrs[i].index != MSR_GS_BASE) {
            const struct cpu_msr *got = state_msr(&g_state, msrs[i].index);

            if (!got || got->value != msrs[i].value) {
                print_error("MSR %x is %s the state\n", msrs[i].index, got ? "wrong in" : "not in");
                fail();
            }
        }
    }
    guest_fini(&g);
}

TEST(vm, kvm_clock_tells_the_time)
{
    struct guest g;
    uint8_t page[32];
    int64_t wall;

    guest_init(&g, 1);
    GUEST_PUT(&g, CODE_AT, clock);
    state_long64(&g);
    CHECK_INT(guest_run(&g), HV_EXIT_KICKED);
    CHECK(g_state.gpr[GPR_RDI] > g_state.gpr[GPR_RSI]);
    CHECK_INT(mem_read(g.mem, GPA(0x20000), page, sizeof(page)), 0);
    CHECK(load_le32(page) != 0 && !(load_le32(page) & 1)); /* version: even when at rest */
    CHECK(load_le32(page + 24) != 0);                      /* scale of the TSC */
    CHECK_INT(mem_read(g.mem, GPA(0x20040), page, 12), 0);
    wall = (int64_t)load_le32(page + 4); /* when the VM began */
    CHECK(wall <= clock_wall_ns() / NS_PER_S);
    CHECK(wall >= clock_wall_ns() / NS_PER_S - 60);
    guest_fini(&g);
}
