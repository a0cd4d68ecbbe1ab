/* state_test.c — struct cpu_state in and out, and from one VM into another. */
#include "tests/vm/guest.h"
#include "x86/msr.h"

static struct cpu_state g_other;

TEST(vm, state_comes_back_as_it_was_set)
{
    struct guest g;

    guest_init(&g, 1);
    state_long64(&g);
    for (unsigned i = 0; i < GPR_COUNT; i++) {
        g_state.gpr[i] = UINT64_C(0x1111111111111111) * i + i;
    }
    g_state.rip = 0x123456;
    g_state.rflags = 0xad7;
    g_state.cr2 = 0xdeadbeef000;
    g_state.cr8 = 3;
    g_state.dr[0] = 0x1234;
    g_state.seg[SEG_FS].base = 0x7fff00001000;
    g_state.run_state = CPU_HALTED;
    for (unsigned i = 0; i < 16; i++) { /* XMM0 */
        g_state.xsave[160 + i] = (uint8_t)(i + 1);
    }
    CHECK_INT(hv_vcpu_set(g.cpu[0], &g_state), 0);
    CHECK_INT(hv_vcpu_get(g.cpu[0], &g_other), 0);
    CHECK_MEM(g_other.gpr, g_state.gpr, sizeof(g_state.gpr));
    for (unsigned i = 0; i < SEG_COUNT; i++) {
        CHECK(g_other.seg[i].base == g_state.seg[i].base);
        CHECK_INT(g_other.seg[i].limit, g_state.seg[i].limit);
        CHECK_INT(g_other.seg[i].attr, g_state.seg[i].attr);
        CHECK_INT(g_other.seg[i].selector, g_state.seg[i].selector);
    }
    CHECK_INT(g_other.rip, 0x123456);
    CHECK_INT(g_other.rflags, 0xad7);
    CHECK(g_other.cr0 == g_state.cr0 && g_other.cr2 == g_state.cr2 && g_other.cr3 == g_state.cr3);
    CHECK(g_other.cr4 == g_state.cr4 && g_other.efer == g_state.efer);
    CHECK_INT(g_other.cr8, 3);
    CHECK_INT(g_other.dr[0], 0x1234);
    CHECK_INT(g_other.run_state, CPU_HALTED);
    CHECK_MEM(g_other.xsave + 160, g_state.xsave + 160, 16);
    CHECK(g_other.gdt.base == GDT_AT && g_other.idt.base == IDT_AT);
    CHECK_INT(g_other.idt.limit, 0xfff);
    guest_fini(&g);
}

TEST(vm, instructions_change_what_they_should)
{
    struct guest g;

    guest_init(&g, 1);
    GUEST_PUT(&g, CODE_AT, few);
    state_long64(&g);
    g_state.gpr[GPR_RAX] = 40;
    g_state.gpr[GPR_RBX] = 2;
    g_state.gpr[GPR_RCX] = 7;
    g_state.gpr[GPR_RDX] = 8;
    memcpy(&g_other, &g_state, sizeof(g_other));
    CHECK_INT(guest_run(&g), HV_EXIT_KICKED);
    CHECK_INT(g.exit_code, 42);
    g_other.gpr[GPR_RAX] = 42;
    g_other.gpr[GPR_RCX] = 8;
    g_other.gpr[GPR_RDX] = 7;
    CHECK_MEM(g_state.gpr, g_other.gpr, sizeof(g_other.gpr));
    CHECK_INT(g_state.rflags & 0x8d5, 0x001); /* the carry, nothing else */
    CHECK(g_state.cr3 == g_other.cr3 && g_state.efer == g_other.efer);
    guest_fini(&g);
}

static struct cpu_msr *find_msr(struct cpu_state *state, uint32_t index)
{
    return (struct cpu_msr *)(uintptr_t)state_msr(state, index);
}

static void copy_memory(struct guest *to, const struct guest *from)
{
    const struct mem_range *range = mem_range_at(from->mem, 0);

    guest_put(to, 0, range->host, range->len);
}

static void *kick_soon(void *arg)
{
    struct guest *g = arg;
    const volatile uint64_t *count = mem_ptr(g->mem, GPA(DATA_AT), 8);
    uint64_t first = *count;

    while (*count == first) { /* the guest counts in its memory */
    }
    hv_vcpu_kick(g->cpu[0]);
    return NULL;
}

/* Whatever the kicks interrupt, the three counts agree at the end. */
TEST(vm, guest_goes_on_in_another_vm)
{
    const unsigned moves = 5;
    struct guest g[2];
    unsigned at = 0;
    uint64_t until;

    guest_init(&g[0], 1);
    GUEST_PUT(&g[0], CODE_AT, counter);
    state_long64(&g[0]);
    g_state.gpr[GPR_R14] = UINT64_MAX;
    for (unsigned i = 0; i < moves; i++) {
        CHECK_INT(guest_run_with(&g[at], kick_soon), HV_EXIT_KICKED);
        memcpy(&g_other, &g_state, sizeof(g_other));
        guest_init(&g[!at], 1);
        copy_memory(&g[!at], &g[at]);
        guest_fini(&g[at]);
        at = !at;
        CHECK_INT(hv_vcpu_set(g[at].cpu[0], &g_other), 0);
        CHECK_INT(hv_vcpu_get(g[at].cpu[0], &g_state), 0);
        CHECK_MEM(g_state.gpr, g_other.gpr, sizeof(g_other.gpr));
        CHECK(g_state.rip == g_other.rip && g_state.rflags == g_other.rflags);
    }
    until = g_state.gpr[GPR_R15] + 1000;
    g_state.gpr[GPR_R14] = until;
    CHECK_INT(guest_run(&g[at]), HV_EXIT_KICKED);
    CHECK_INT(g[at].exit_code, 1);
    CHECK(g_state.gpr[GPR_R15] == until);
    CHECK(g_state.gpr[GPR_RBX] == until);
    CHECK_MEM(mem_ptr(g[at].mem, GPA(DATA_AT), 8), &until, 8);
    guest_fini(&g[at]);
}

/* A timer that is armed, in the state that moves. */
TEST(vm, armed_deadline_moves_along)
{
    struct guest g;
    struct cpu_msr *tsc;

    guest_init(&g, 1);
    GUEST_PUT(&g, CODE_AT, armed_timer);
    state_long64(&g);
    CHECK_INT(guest_run(&g), HV_EXIT_KICKED);
    CHECK_INT(g.exit_code, 1);
    memcpy(&g_other, &g_state, sizeof(g_other));
    guest_fini(&g);
    tsc = find_msr(&g_other, MSR_TSC);
    CHECK(tsc != NULL && find_msr(&g_other, MSR_TSC_DEADLINE) != NULL);
    /* far in the future for this TSC; time goes on as if it had come near */
    CHECK(find_msr(&g_other, MSR_TSC_DEADLINE)->value > tsc->value);
    tsc->value = find_msr(&g_other, MSR_TSC_DEADLINE)->value - 1000000;

    guest_init(&g, 1);
    GUEST_PUT(&g, CODE_AT, armed_timer);
    GUEST_PUT(&g, HANDLER_AT, handler_exit);
    state_long64(&g);
    guest_gate(&g, 0x40, HANDLER_AT);
    memcpy(&g_state, &g_other, sizeof(g_state));
    CHECK_INT(guest_run(&g), HV_EXIT_KICKED);
    CHECK_INT(g.exit_code, 0x40);
    guest_fini(&g);
}

TEST(vm, injected_exception_comes_first)
{
    struct guest g;

    guest_init(&g, 1);
    GUEST_PUT(&g, CODE_AT, long64);
    GUEST_PUT(&g, HANDLER_AT, handler_exit);
    state_long64(&g);
    guest_gate(&g, 13, HANDLER_AT);
    g_state.events.exception_pending = 1;
    g_state.events.exception_vector = 13;
    g_state.events.exception_has_error = 1;
    CHECK_INT(guest_run(&g), HV_EXIT_KICKED);
    CHECK_INT(g.exit_code, 0x40);
    CHECK(!g_state.events.exception_pending);
    guest_fini(&g);
}

/* The vCPU was told of the interrupt, but has not begun with it: it is in the state, one way or the
 * other. */
TEST(vm, waiting_interrupt_moves_along)
{
    struct guest g;

    guest_init(&g, 1);
    GUEST_PUT(&g, CODE_AT, masked);
    state_long64(&g);
    CHECK_INT(guest_run(&g), HV_EXIT_KICKED); /* APIC on, interrupts off */
    CHECK(hv_msi(g.vm, 0xfee00000, 0x40) >= 0);
    CHECK_INT(hv_vcpu_get(g.cpu[0], &g_other), 0);
    guest_fini(&g);

    guest_init(&g, 1);
    GUEST_PUT(&g, CODE_AT, masked);
    GUEST_PUT(&g, HANDLER_AT, handler_exit);
    state_long64(&g);
    guest_gate(&g, 0x40, HANDLER_AT);
    memcpy(&g_state, &g_other, sizeof(g_state));
    CHECK_INT(guest_run(&g), HV_EXIT_KICKED);
    CHECK_INT(g.exit_code, 0x40);
    guest_fini(&g);
}
