/* debug_test.c — a debugger's calls of hv.h: where a vCPU stops, and what the guest notices. */
#include <errno.h>

#include "hv/walk.h"
#include "tests/vm/guest.h"
#include "x86/msr.h"
#include "x86/paging.h"

/* Where the guest's memory is once more: an address of a kernel's half. */
#define HIGH       UINT64_C(0xffffff8000000000)
#define HIGH_ENTRY (TABLES_AT + 511 * 8)
#define HOT        5000 /* rounds: more than it takes to be translated */

extern const uint8_t guest_debugged_loop[], guest_debugged_store[], guest_debugged_load[],
    guest_debugged_int3[], guest_debugged_string[];

static struct hv_debug g_debug;

static uint64_t place(const uint8_t *label)
{
    return CODE_AT + (uint64_t)(label - guest_debugged);
}

static void begin(struct guest *g, unsigned rounds)
{
    uint64_t entry = (TABLES_AT + 0x1000) | PTE_P | PTE_RW;

    guest_init(g, 1);
    GUEST_PUT(g, CODE_AT, debugged);
    GUEST_PUT(g, HANDLER_AT, debugged_trap);
    state_long64(g);
    guest_gate(g, 3, HANDLER_AT);
    guest_put(g, HIGH_ENTRY, &entry, 8);
    g_state.gpr[GPR_RBX] = DATA_AT;
    g_state.gpr[GPR_R14] = rounds;
    CHECK_INT(hv_vcpu_set(g->cpu[0], &g_state), 0);
    g_debug.count = 0;
}

static int set(struct guest *g, enum hv_break_kind kind, uint64_t la, uint64_t len)
{
    g_debug.list[g_debug.count++] = (struct hv_break){.kind = kind, .la = la, .len = len};
    return hv_debug_set(g->vm, &g_debug);
}

static void clear(struct guest *g)
{
    g_debug.count = 0;
    CHECK_INT(hv_debug_set(g->vm, &g_debug), 0);
}

static enum hv_exit go(struct guest *g, bool is_step)
{
    enum hv_exit why;

    CHECK_INT(hv_debug_arm(g->vm, is_step), 0);
    why = guest_resume(g);
    hv_debug_disarm(g->vm);
    return why;
}

static void check_stop(struct guest *g, bool is_step, enum hv_stop_why why, uint64_t rip)
{
    CHECK_INT(go(g, is_step), HV_EXIT_DEBUG);
    CHECK_INT(hv_vcpu_stop(g->cpu[0]).why, why);
    CHECK_INT(g_state.rip, rip);
}

static void check_end(struct guest *g)
{
    CHECK_INT(go(g, false), HV_EXIT_KICKED);
    CHECK(g->has_exited);
    CHECK_INT(g->exit_code, 1);
    CHECK_INT(g_state.gpr[GPR_R12], 1); /* its INT3 was its own */
    CHECK_INT(g->ticks, 1);
}

/* qemu emulates AMD's SVM without debug registers of guests and without #BP of an INT3. */
static bool works(enum hv_break_kind kind, uint64_t half)
{
    struct guest g;
    bool is_hit;

    begin(&g, 1);
    g_state.rip += half;
    CHECK_INT(hv_vcpu_set(g.cpu[0], &g_state), 0);
    CHECK_INT(set(&g, kind, half + place(guest_debugged_loop), 1), 0);
    is_hit = strcmp(g_ops->name, "soft") == 0 || go(&g, false) == HV_EXIT_DEBUG;
    guest_fini(&g);
    return is_hit;
}

#define NEED(kind, half)                                          \
    do {                                                          \
        if (!works((kind), (half))) {                             \
            SKIP("this /dev/kvm has no breakpoints of the kind"); \
        }                                                         \
    } while (0)

/* The kind, and the half of the address space. */
static void stop_at(enum hv_break_kind kind, uint64_t half)
{
    uint64_t loop = half + place(guest_debugged_loop);
    uint8_t byte;
    struct guest g;

    NEED(kind, half);
    begin(&g, 3);
    g_state.rip += half;
    CHECK_INT(hv_vcpu_set(g.cpu[0], &g_state), 0);
    CHECK_INT(set(&g, kind, loop, 1), 0);
    check_stop(&g, false, HV_STOP_BREAK, loop);
    CHECK_INT(hv_vcpu_stop(g.cpu[0]).at.la, loop);
    CHECK_INT(hv_vcpu_stop(g.cpu[0]).at.kind, kind);
    CHECK_INT(g_state.gpr[GPR_RAX], 0);
    CHECK_INT(mem_read(g.mem, GPA(loop - half), &byte, 1), 0);
    CHECK_INT(byte, guest_debugged_loop[0]);
    check_stop(&g, false, HV_STOP_BREAK, loop); /* it is still there */
    CHECK_INT(g_state.gpr[GPR_RAX], 0);
    for (unsigned i = 1; i <= 2; i++) {
        clear(&g);
        check_stop(&g, true, HV_STOP_STEP, half + place(guest_debugged_store));
        CHECK_INT(g_state.gpr[GPR_RAX], i);
        CHECK_INT(set(&g, kind, loop, 1), 0);
        check_stop(&g, false, HV_STOP_BREAK, loop);
    }
    clear(&g);
    check_end(&g);
    CHECK_INT(g_state.gpr[GPR_RAX] >> 8, 0);
    guest_fini(&g);
}

TEST(vm, stops_at_a_breakpoint_each_time)
{
    stop_at(HV_BREAK_SOFT, 0);
}

TEST(vm, stops_at_a_breakpoint_of_the_kernels_half_each_time)
{
    stop_at(HV_BREAK_SOFT, HIGH);
}

TEST(vm, stops_at_a_hardware_breakpoint_each_time)
{
    stop_at(HV_BREAK_HARD, 0);
}

static void kick_soon(struct guest *g)
{
    hv_vcpu_kick(g->cpu[0]);
}

/* Code that is translated and linked by then. */
TEST(vm, a_breakpoint_comes_into_hot_code_and_goes_again)
{
    uint64_t loop = HIGH + place(guest_debugged_loop);
    struct guest g;

    NEED(HV_BREAK_SOFT, HIGH);
    begin(&g, HOT);
    g.on_tick = kick_soon;
    g_state.rip += HIGH;
    CHECK_INT(guest_run(&g), HV_EXIT_KICKED);
    CHECK_INT(g.ticks, 1);
    for (unsigned i = 0; i < 3; i++) {
        g_state.rip = loop;
        g_state.gpr[GPR_RAX] = 0;
        CHECK_INT(hv_vcpu_set_regs(g.cpu[0], &g_state), 0);
        CHECK_INT(set(&g, HV_BREAK_SOFT, HIGH + place(guest_debugged_load), 1), 0);
        check_stop(&g, false, HV_STOP_BREAK, HIGH + place(guest_debugged_load));
        CHECK_INT(g_state.gpr[GPR_RAX], HOT);
        clear(&g);
        CHECK_INT(go(&g, false), HV_EXIT_KICKED);
        CHECK_INT(g.ticks, i + 2);
    }
    guest_fini(&g);
}

static void watch(enum hv_break_kind kind, const uint8_t *behind, unsigned rounds, uint64_t at,
                  uint64_t len)
{
    struct guest g;

    begin(&g, rounds);
    CHECK_INT(set(&g, kind, at, len), 0);
    for (unsigned i = 1; i <= (kind == HV_WATCH_READ ? 1 : 2); i++) {
        uint32_t value;

        CHECK_INT(go(&g, false), HV_EXIT_DEBUG);
        CHECK_INT(hv_vcpu_stop(g.cpu[0]).why, HV_STOP_WATCH);
        CHECK_INT(hv_vcpu_stop(g.cpu[0]).at.la, at);
        CHECK_INT(g_state.rip, place(behind));
        CHECK_INT(mem_read(g.mem, GPA(DATA_AT), &value, 4), 0);
        CHECK_INT(value, kind == HV_WATCH_READ ? rounds : i); /* behind the access */
    }
    clear(&g);
    check_end(&g);
    guest_fini(&g);
}

TEST(vm, stops_behind_a_write_to_watched_memory)
{
    const uint8_t *behind = guest_debugged_store + 2;

    NEED(HV_BREAK_HARD, 0);
    watch(HV_WATCH_WRITE, behind, HOT, DATA_AT, 4);
    watch(HV_WATCH_WRITE, behind, HOT, DATA_AT + 3, 1);
    watch(HV_WATCH_ACCESS, behind, HOT, DATA_AT, 12);
}

TEST(vm, stops_behind_a_read_of_watched_memory)
{
    if (strcmp(g_ops->name, "soft") != 0) {
        SKIP("the CPU stops at writes, too");
    }
    watch(HV_WATCH_READ, guest_debugged_int3, HOT, DATA_AT, 4);
}

TEST(vm, memory_beside_what_is_watched_stops_nothing)
{
    struct guest g;

    begin(&g, HOT);
    CHECK_INT(set(&g, HV_WATCH_ACCESS, DATA_AT + 4, 4), 0);
    CHECK_INT(set(&g, HV_WATCH_ACCESS, DATA_AT - 8, 8), 0);
    check_end(&g);
    guest_fini(&g);
}

/* The instruction that stores 8 bytes is one, and stops once. */
TEST(vm, steps_go_from_instruction_to_instruction)
{
    static const uint8_t lens[] = {5, 7, 1, 2, 2};
    uint64_t rip = place(guest_debugged_string);
    struct guest g;

    begin(&g, 1);
    g_state.rip = rip;
    g_state.gpr[GPR_R12] = 1; /* its trap is behind it */
    g.ticks = 1;
    CHECK_INT(hv_vcpu_set(g.cpu[0], &g_state), 0);
    for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
        rip += lens[i];
        do {
            CHECK_INT(go(&g, true), HV_EXIT_DEBUG);
            CHECK_INT(hv_vcpu_stop(g.cpu[0]).why, HV_STOP_STEP);
        } while (i == 3 && g_state.rip != rip); /* KVM: each byte */
        CHECK_INT(g_state.rip, rip);
    }
    check_end(&g);
    guest_fini(&g);
}

TEST(vm, an_int3_of_the_guest_stays_its_own)
{
    struct guest g;

    begin(&g, 1);
    CHECK_INT(set(&g, HV_BREAK_SOFT, HIGH + place(guest_debugged_load), 1), 0);
    check_end(&g);
    guest_fini(&g);
}

/* Nothing is mapped there; KVM has no room for a fifth. */
TEST(vm, takes_breakpoints_where_nothing_is_mapped_yet)
{
    struct guest g;

    begin(&g, 1);
    for (unsigned i = 0; i < 4; i++) {
        CHECK_INT(set(&g, HV_BREAK_SOFT, UINT64_C(0xffffffff81000000) + i, 1), 0);
    }
    if (strcmp(g_ops->name, "kvm") == 0) {
        CHECK_INT(set(&g, HV_BREAK_HARD, CODE_AT, 1), -ENOSPC);
        CHECK_INT(set(&g, HV_WATCH_WRITE, DATA_AT, 64), -ENOSPC);
    }
    check_end(&g);
    guest_fini(&g);
}

TEST(vm, a_debugger_changes_registers)
{
    struct cpu_state *s = &g_state;
    struct guest g;

    begin(&g, 1);
    check_stop(&g, true, HV_STOP_STEP, CODE_AT + 2);
    s->rip = place(guest_debugged_store);
    s->gpr[GPR_RAX] = 7;
    s->gpr[GPR_R14] = 8;
    s->xsave[160] = 0x5a; /* XMM0 */
    s->seg[SEG_FS].base = 0x123456789a;
    ((struct cpu_msr *)(uintptr_t)state_msr(s, MSR_KERNEL_GS_BASE))->value = 0x4711;
    CHECK_INT(hv_vcpu_set_regs(g.cpu[0], s), 0);
    memset(s, 0, sizeof(*s));
    CHECK_INT(hv_vcpu_get(g.cpu[0], s), 0);
    CHECK_INT(s->gpr[GPR_RAX], 7);
    CHECK_INT(s->xsave[160], 0x5a);
    CHECK_INT(s->seg[SEG_FS].base, 0x123456789a);
    CHECK_INT(state_msr(s, MSR_KERNEL_GS_BASE)->value, 0x4711);
    check_stop(&g, true, HV_STOP_STEP, place(guest_debugged_store) + 2);
    CHECK_INT(*(uint32_t *)mem_ptr(g.mem, GPA(DATA_AT), 4), 7);
    check_end(&g);
    guest_fini(&g);
}

TEST(vm, page_tables_are_walked_as_the_guest_has_them)
{
    struct walk_root root;
    struct guest g;
    gpa_t gpa;

    begin(&g, 1);
    root = walk_root_of(&g_state);
    CHECK_INT(walk_linear(g.mem, &root, 0x12345, &gpa), 0);
    CHECK_INT(gpa.v, 0x12345);
    CHECK_INT(walk_linear(g.mem, &root, HIGH + 0x12345, &gpa), 0);
    CHECK_INT(gpa.v, 0x12345);
    CHECK_INT(walk_linear(g.mem, &root, UINT64_C(0x8000000000), &gpa), -EFAULT);
    CHECK_INT(walk_linear(g.mem, &root, UINT64_C(0x800000000000), &gpa), -EFAULT);
    root.cr3 = UINT64_C(0x7fffffff000);
    CHECK_INT(walk_linear(g.mem, &root, 0x12345, &gpa), -EFAULT);
    guest_fini(&g);
}
