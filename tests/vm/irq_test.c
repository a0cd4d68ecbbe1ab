/* irq_test.c — interrupts from lines, messages and timers. */
#include <errno.h>
#include <time.h>

#include "tests/vm/guest.h"

/* A 64-bit guest that counts interrupts of vector 40H in R15 and ends after `until` of them. */
static void counting(struct guest *g, uint64_t until)
{
    guest_init(g, 1);
    GUEST_PUT(g, HANDLER_AT, handler_count);
    state_long64(g);
    guest_gate(g, 0x40, HANDLER_AT);
    g_state.gpr[GPR_R14] = until;
}

static void check_counted(struct guest *g, uint64_t count)
{
    CHECK(g->has_exited);
    CHECK_INT(g->exit_code, 1);
    CHECK_INT(g_state.gpr[GPR_R15], count);
    CHECK_INT(g->ticks, count);
    guest_fini(g);
}

TEST(vm, apic_timer_ends_hlt)
{
    struct guest g;

    counting(&g, 1);
    GUEST_PUT(&g, CODE_AT, one_shot_timer);
    CHECK_INT(guest_run(&g), HV_EXIT_KICKED);
    check_counted(&g, 1);
}

TEST(vm, periodic_apic_timer_comes_again)
{
    struct guest g;

    uint64_t count;

    counting(&g, 5);
    GUEST_PUT(&g, CODE_AT, periodic_timer);
    CHECK_INT(guest_run(&g), HV_EXIT_KICKED);
    count = g_state.gpr[GPR_R15];
    CHECK(count >= 5); /* on a slow machine it comes again before the guest has ended */
    check_counted(&g, count);
}

TEST(vm, deadline_timer_ends_hlt)
{
    struct guest g;

    counting(&g, 1);
    GUEST_PUT(&g, CODE_AT, deadline_timer);
    CHECK_INT(guest_run(&g), HV_EXIT_KICKED);
    check_counted(&g, 1);
}

static void *edge(void *arg)
{
    struct guest *g = arg;

    guest_wait_ready(g);
    CHECK_INT(hv_irq_set(g->vm, 4, true), 0);
    CHECK_INT(hv_irq_set(g->vm, 4, true), 0); /* no second edge */
    return NULL;
}

TEST(vm, line_interrupts_once_an_edge)
{
    struct guest g;

    counting(&g, 1);
    GUEST_PUT(&g, CODE_AT, wait_pin4_edge);
    CHECK_INT(guest_run_with(&g, edge), HV_EXIT_KICKED);
    check_counted(&g, 1);
}

static void *raise_level(void *arg)
{
    struct guest *g = arg;

    guest_wait_ready(g);
    CHECK_INT(hv_irq_set(g->vm, 5, true), 0);
    return NULL;
}

static void lower_at_third(struct guest *g)
{
    if (g->ticks == 3) {
        CHECK_INT(hv_irq_set(g->vm, 5, false), 0);
        hv_vcpu_kick(g->cpu[0]); /* let the test look */
    }
}

TEST(vm, level_interrupts_until_it_falls)
{
    struct guest g;

    counting(&g, 1000);
    g.on_tick = lower_at_third;
    GUEST_PUT(&g, CODE_AT, wait_pin5_level);
    CHECK_INT(guest_run_with(&g, raise_level), HV_EXIT_KICKED);
    CHECK(!g.has_exited);
    CHECK_INT(g.ticks, 3);
    guest_fini(&g);
}

#define PULSES 50

/* Each pulse waits until the guest has counted the one before. */
static void *pulse(void *arg)
{
    static const struct timespec nap = {.tv_nsec = 1000000};
    struct guest *g = arg;

    guest_wait_ready(g);
    for (unsigned i = 0; i < PULSES; i++) {
        CHECK_INT(hv_irq_pulse(g->vm, 4), 0);
        while (__atomic_load_n(&g->ticks, __ATOMIC_RELAXED) <= i) {
            (void)nanosleep(&nap, NULL);
        }
    }
    return NULL;
}

TEST(vm, every_pulse_of_another_thread_arrives_in_hlt)
{
    struct guest g;

    counting(&g, PULSES);
    GUEST_PUT(&g, CODE_AT, wait_pin4_edge);
    CHECK_INT(guest_run_with(&g, pulse), HV_EXIT_KICKED);
    check_counted(&g, PULSES);
}

TEST(vm, every_pulse_of_another_thread_arrives_in_a_loop)
{
    struct guest g;

    counting(&g, PULSES);
    GUEST_PUT(&g, CODE_AT, spin_for_pin4);
    CHECK_INT(guest_run_with(&g, pulse), HV_EXIT_KICKED);
    check_counted(&g, PULSES);
}

static void *message(void *arg)
{
    struct guest *g = arg;

    guest_wait_ready(g);
    CHECK(hv_msi(g->vm, 0xfee00000, 0x40) >= 0);
    return NULL;
}

TEST(vm, message_interrupts)
{
    struct guest g;

    counting(&g, 1);
    GUEST_PUT(&g, CODE_AT, wait_msi);
    CHECK_INT(guest_run_with(&g, message), HV_EXIT_KICKED);
    check_counted(&g, 1);
}

static void *nmi(void *arg)
{
    static const struct timespec nap = {.tv_nsec = 20000000};
    struct guest *g = arg;

    (void)nanosleep(&nap, NULL);
    CHECK(hv_msi(g->vm, 0xfee00000, 0x400) >= 0);
    return NULL;
}

TEST(vm, nmi_ends_hlt_with_interrupts_off)
{
    struct guest g;

    guest_init(&g, 1);
    GUEST_PUT(&g, CODE_AT, halt);
    GUEST_PUT(&g, HANDLER_AT, handler_exit);
    state_long64(&g);
    guest_gate(&g, 2, HANDLER_AT);
    CHECK_INT(guest_run_with(&g, nmi), HV_EXIT_KICKED);
    CHECK_INT(g.exit_code, 0x40);
    CHECK(g_state.events.nmi_blocked);
    guest_fini(&g);
}

TEST(vm, lines_that_do_not_exist)
{
    struct guest g;

    guest_init(&g, 1);
    CHECK_INT(hv_irq_set(g.vm, HV_IRQ_LINES, true), -EINVAL);
    CHECK_INT(hv_irq_pulse(g.vm, HV_IRQ_LINES), -EINVAL);
    guest_fini(&g);
}
