/* lapic_test.c — local APIC: registers, priorities, IPIs, timer, base MSR, state. */
#include <time.h>

#include "base/bits.h"
#include "base/clock.h"
#include "hv/soft/intc/lapic.h"
#include "tests/lib/test.h"
#include "x86/msr.h"

#define CPUS 3

struct bench {
    struct intc intc;
    struct lapic lapic[CPUS];
    _Atomic uint32_t poll[CPUS];
};

static int write_nowhere(void *owner, uint64_t gpa, const void *data, unsigned len)
{
    (void)owner, (void)gpa, (void)data, (void)len;
    return 0;
}

static void bench_init(struct bench *b)
{
    struct err err = {0};

    memset(b, 0, sizeof(*b));
    CHECK_OK(intc_init(&b->intc, write_nowhere, NULL, NULL, &err), &err);
    for (unsigned i = 0; i < CPUS; i++) {
        lapic_init(&b->lapic[i], &b->intc, i, &b->poll[i]);
    }
}

static uint32_t rd(struct lapic *l, uint32_t offset)
{
    uint32_t value;

    lapic_mmio_read(l, offset, &value, 4);
    return value;
}

static void wr(struct lapic *l, uint32_t offset, uint32_t value)
{
    lapic_mmio_write(l, offset, &value, 4);
}

static bool wrmsr(struct lapic *l, uint32_t index, uint64_t value)
{
    bool fault = false;

    CHECK(lapic_wrmsr(l, index, value, &fault));
    return !fault;
}

static bool rdmsr(struct lapic *l, uint32_t index, uint64_t *ret_value)
{
    bool fault = false;

    CHECK(lapic_rdmsr(l, index, ret_value, &fault));
    return !fault;
}

static void enable_all(struct bench *b)
{
    for (unsigned i = 0; i < CPUS; i++) {
        wr(&b->lapic[i], APIC_SVR, 0x1ff);
    }
}

static void fixed(struct bench *b, uint32_t dest, uint8_t vector, bool is_level)
{
    struct apic_message m = {
        .dest = dest, .delivery = APIC_FIXED, .vector = vector, .is_level = is_level};

    intc_send(&b->intc, &m);
}

TEST(lapic, power_on_registers)
{
    struct bench b;
    static const struct {
        uint32_t offset, value;
    } want[] = {
        {APIC_ID, 1u << 24},       {APIC_VERSION, 0x50014},   {APIC_TPR, 0},
        {APIC_SVR, 0xff},          {APIC_DFR, 0xffffffff},    {APIC_LDR, 0},
        {APIC_LVT_TIMER, 0x10000}, {APIC_LVT_LINT0, 0x10000}, {APIC_LVT_ERROR, 0x10000},
        {APIC_TIMER_CURRENT, 0},   {APIC_TIMER_INITIAL, 0},   {APIC_TIMER_DIVIDE, 0},
        {APIC_ICR_LOW, 0},         {APIC_ICR_HIGH, 0},        {APIC_PPR, 0},
    };

    bench_init(&b);
    for (unsigned i = 0; i < ARRAY_LEN(want); i++) {
        CHECK_INT(rd(&b.lapic[1], want[i].offset), want[i].value);
    }
    intc_fini(&b.intc);
}

TEST(lapic, disabled_by_software_takes_nothing_and_keeps_entries_masked)
{
    struct bench b;

    bench_init(&b);
    fixed(&b, 0, 0x40, false);
    CHECK_INT(lapic_take(&b.lapic[0]), -1);
    wr(&b.lapic[0], APIC_LVT_TIMER, 0x40);
    CHECK_INT(rd(&b.lapic[0], APIC_LVT_TIMER), 0x10040);
    enable_all(&b);
    wr(&b.lapic[0], APIC_LVT_TIMER, 0x40);
    CHECK_INT(rd(&b.lapic[0], APIC_LVT_TIMER), 0x40);
    intc_fini(&b.intc);
}

TEST(lapic, higher_vector_first_and_nesting_by_class)
{
    struct bench b;
    struct lapic *l = &b.lapic[0];

    bench_init(&b);
    enable_all(&b);
    fixed(&b, 0, 0x41, false);
    fixed(&b, 0, 0x52, false);
    CHECK(b.poll[0] & POLL_IRQ);
    CHECK_INT(lapic_pending(l), 0x52);
    CHECK_INT(lapic_take(l), 0x52);
    CHECK_INT(rd(l, APIC_PPR), 0x50);
    CHECK_INT(rd(l, APIC_ISR + 0x20), 1u << (0x52 - 0x40));
    CHECK_INT(lapic_take(l), -1); /* 41 is below the one in service */
    fixed(&b, 0, 0x5f, false);
    CHECK_INT(lapic_take(l), -1); /* same class */
    fixed(&b, 0, 0x60, false);
    CHECK_INT(lapic_take(l), 0x60);
    b.poll[0] = 0;
    wr(l, APIC_EOI, 0);
    CHECK_INT(b.poll[0], 0);
    wr(l, APIC_EOI, 0);
    CHECK_INT(b.poll[0], POLL_IRQ); /* 5f became deliverable */
    CHECK_INT(lapic_take(l), 0x5f);
    wr(l, APIC_EOI, 0);
    CHECK_INT(lapic_take(l), 0x41);
    wr(l, APIC_EOI, 0);
    wr(l, APIC_EOI, 0); /* one too many does nothing */
    CHECK_INT(rd(l, APIC_PPR), 0);
    intc_fini(&b.intc);
}

TEST(lapic, task_priority_holds_back_and_cr8_is_its_upper_half)
{
    struct bench b;
    struct lapic *l = &b.lapic[0];

    bench_init(&b);
    enable_all(&b);
    lapic_set_cr8(l, 5);
    CHECK_INT(rd(l, APIC_TPR), 0x50);
    CHECK_INT(lapic_cr8(l), 5);
    fixed(&b, 0, 0x5f, false);
    CHECK_INT(lapic_pending(l), -1);
    b.poll[0] = 0;
    wr(l, APIC_TPR, 0x4f);
    CHECK_INT(b.poll[0], POLL_IRQ);
    CHECK_INT(lapic_take(l), 0x5f);
    intc_fini(&b.intc);
}

TEST(lapic, destinations)
{
    static const struct {
        uint32_t dest;
        bool is_logical, is_wide;
        unsigned hit; /* bit per CPU */
    } t[] = {
        {0, false, false, 1},         {2, false, false, 4},   {0xff, false, false, 7},
        {7, false, false, 0},         {0x02, true, false, 2}, {0x05, true, false, 5},
        {0xff, true, false, 7},       {0x00, true, false, 0}, {0xff, false, true, 0},
        {0xffffffff, false, true, 7},
    };
    struct bench b;

    bench_init(&b);
    for (unsigned i = 0; i < CPUS; i++) {
        wr(&b.lapic[i], APIC_LDR, 0x01000000u << i);
    }
    for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
        struct apic_message m = {
            .dest = t[i].dest, .is_logical = t[i].is_logical, .is_wide = t[i].is_wide};

        for (unsigned cpu = 0; cpu < CPUS; cpu++) {
            CHECK_INT(lapic_matches(&b.lapic[cpu], &m), t[i].hit >> cpu & 1);
        }
    }
    /* cluster model */
    wr(&b.lapic[1], APIC_DFR, 0);
    wr(&b.lapic[1], APIC_LDR, 0x32000000u);
    CHECK(lapic_matches(&b.lapic[1], &(struct apic_message){.dest = 0x36, .is_logical = true}));
    CHECK(!lapic_matches(&b.lapic[1], &(struct apic_message){.dest = 0x26, .is_logical = true}));
    CHECK(!lapic_matches(&b.lapic[1], &(struct apic_message){.dest = 0x3d, .is_logical = true}));
    /* x2APIC: cluster 0, bit 1 */
    CHECK(wrmsr(&b.lapic[1], MSR_APIC_BASE, 0xfee00c00));
    CHECK(lapic_matches(&b.lapic[1], &(struct apic_message){.dest = 2, .is_logical = true}));
    CHECK(!lapic_matches(
        &b.lapic[1], &(struct apic_message){.dest = 0x10002, .is_logical = true, .is_wide = true}));
    intc_fini(&b.intc);
}

TEST(lapic, lowest_priority_reaches_exactly_one)
{
    struct bench b;
    struct apic_message m = {.dest = 0xff, .delivery = APIC_LOWEST, .vector = 0x80};
    unsigned got = 0;

    bench_init(&b);
    enable_all(&b);
    intc_send(&b.intc, &m);
    for (unsigned i = 0; i < CPUS; i++) {
        got += lapic_take(&b.lapic[i]) == 0x80;
    }
    CHECK_INT(got, 1);
    m.dest = 0x77;
    intc_send(&b.intc, &m); /* nobody */
    intc_fini(&b.intc);
}

TEST(lapic, ipi_shorthands)
{
    static const struct {
        uint32_t shorthand;
        unsigned hit;
    } t[] = {{APIC_SHORTHAND_SELF, 2}, {APIC_SHORTHAND_ALL, 7}, {APIC_SHORTHAND_OTHER, 5}};
    struct bench b;

    bench_init(&b);
    enable_all(&b);
    for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
        wr(&b.lapic[1], APIC_ICR_LOW, t[i].shorthand | 0x70);
        for (unsigned cpu = 0; cpu < CPUS; cpu++) {
            CHECK_INT(lapic_take(&b.lapic[cpu]) == 0x70, t[i].hit >> cpu & 1);
            wr(&b.lapic[cpu], APIC_EOI, 0);
        }
    }
    intc_fini(&b.intc);
}

TEST(lapic, start_of_another_processor_and_nmi)
{
    struct bench b;

    bench_init(&b);
    wr(&b.lapic[0], APIC_ICR_HIGH, 2u << 24);
    wr(&b.lapic[0], APIC_ICR_LOW, 0x0c500); /* INIT, level, assert */
    CHECK_INT(b.poll[2], POLL_INIT);
    wr(&b.lapic[0], APIC_ICR_LOW, 0x08500); /* de-assert */
    CHECK_INT(b.poll[2], POLL_INIT);
    wr(&b.lapic[0], APIC_ICR_LOW, 0x0069a);
    CHECK_INT(b.poll[2], POLL_INIT | POLL_SIPI);
    CHECK_INT(b.lapic[2].sipi_vector, 0x9a);
    wr(&b.lapic[0], APIC_ICR_LOW, 0x00400);
    CHECK_INT(b.poll[2], POLL_INIT | POLL_SIPI | POLL_NMI);
    wr(&b.lapic[0], APIC_ICR_LOW, 0x00200); /* SMI: none here */
    CHECK_INT(b.poll[1], 0);
    intc_fini(&b.intc);
}

TEST(lapic, illegal_vectors_and_registers_show_in_esr)
{
    struct bench b;
    struct lapic *l = &b.lapic[0];

    bench_init(&b);
    enable_all(&b);
    wr(l, APIC_LVT_ERROR, 0xfe);
    wr(l, APIC_ICR_LOW, APIC_SHORTHAND_SELF | 0x0f);
    CHECK_INT(rd(l, APIC_ESR), 0); /* latched by a write */
    wr(l, APIC_ESR, 0);
    CHECK_INT(rd(l, APIC_ESR), APIC_ESR_SEND_VECTOR);
    CHECK_INT(lapic_take(l), 0xfe);
    wr(l, APIC_EOI, 0);
    fixed(&b, 0, 3, false);
    wr(l, 0x3f0, 1);
    (void)rd(l, 0x40);
    wr(l, APIC_ESR, 0);
    CHECK_INT(rd(l, APIC_ESR), APIC_ESR_RECV_VECTOR | APIC_ESR_REGISTER);
    /* an error entry with an illegal vector must not loop */
    wr(l, APIC_LVT_ERROR, 0x01);
    fixed(&b, 0, 3, false);
    lapic_sync(l);
    lapic_sync(l);
    intc_fini(&b.intc);
}

TEST(lapic, odd_accesses_to_the_page)
{
    struct bench b;
    uint8_t byte = 0xee;
    uint64_t wide = UINT64_MAX;

    bench_init(&b);
    lapic_mmio_read(&b.lapic[0], APIC_VERSION + 2, &byte, 1);
    CHECK_INT(byte, 5);
    lapic_mmio_read(&b.lapic[0], APIC_VERSION, &wide, 8);
    CHECK_INT(wide, 0);
    lapic_mmio_write(&b.lapic[0], APIC_TPR, &byte, 1);
    CHECK_INT(rd(&b.lapic[0], APIC_TPR), 0);
    CHECK(lapic_owns(&b.lapic[0], 0xfee00fff));
    CHECK(!lapic_owns(&b.lapic[0], 0xfee01000));
    intc_fini(&b.intc);
}

TEST(lapic, base_transitions)
{
    static const struct {
        uint64_t from, to;
        bool ok;
    } t[] = {
        {0xfee00800, 0xfee00c00, true},  {0xfee00c00, 0xfee00800, false},
        {0xfee00c00, 0xfee00000, true},  {0xfee00000, 0xfee00c00, false},
        {0xfee00800, 0xfee00400, false}, {0xfee00000, 0xfee00800, true},
        {0xfee00800, 0xfee00801, false}, {0xfee00800, UINT64_C(1) << 60 | 0x800, false},
        {0xfee00800, 0xd0000800, true},
    };
    struct bench b;

    bench_init(&b);
    for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
        uint64_t now;

        b.lapic[1].base = t[i].from;
        CHECK_INT(wrmsr(&b.lapic[1], MSR_APIC_BASE, t[i].to), t[i].ok);
        CHECK(rdmsr(&b.lapic[1], MSR_APIC_BASE, &now));
        CHECK_INT(now, t[i].ok ? t[i].to : t[i].from);
    }
    CHECK(lapic_owns(&b.lapic[1], 0xd0000010));
    intc_fini(&b.intc);
}

TEST(lapic, x2apic_registers_fault_where_there_are_none)
{
    static const struct {
        uint32_t msr;
        uint64_t value;
        bool can_read, can_write;
    } t[] = {
        {0x802, 0, true, false},      {0x803, 0, true, false},      {0x808, 0x20, true, true},
        {0x808, 0x100, true, false},  {0x80a, 0, true, false},      {0x80b, 0, false, true},
        {0x80b, 1, false, false},     {0x80d, 0, true, false},      {0x80e, 0, false, false},
        {0x80f, 0x1ff, true, true},   {0x80f, 0x200, true, false},  {0x810, 0, true, false},
        {0x820, 0, true, false},      {0x827, 0, true, false},      {0x828, 0, true, true},
        {0x828, 1, true, false},      {0x82f, 0, false, false},     {0x830, 0x40030, true, true},
        {0x831, 0, false, false},     {0x832, 0x700ff, true, true}, {0x832, 0x100000, true, false},
        {0x837, 0x100ff, true, true}, {0x838, 5, true, true},       {0x839, 0, true, false},
        {0x83e, 0xb, true, true},     {0x83e, 4, true, false},      {0x83f, 0x33, false, true},
        {0x83f, 0x100, false, false}, {0x800, 0, false, false},     {0x804, 0, false, false},
    };
    struct bench b;
    struct lapic *l = &b.lapic[2];
    uint64_t value;

    bench_init(&b);
    CHECK(!rdmsr(l, 0x802, &value)); /* xAPIC mode: none at all */
    CHECK(!wrmsr(l, 0x808, 0));
    CHECK(wrmsr(l, MSR_APIC_BASE, 0xfee00c00));
    CHECK(!lapic_owns(l, 0xfee00000));
    for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
        if (rdmsr(l, t[i].msr, &value) != t[i].can_read ||
            wrmsr(l, t[i].msr, t[i].value) != t[i].can_write) {
            print_error("MSR 0x%x\n", t[i].msr);
            fail();
        }
    }
    CHECK(rdmsr(l, 0x802, &value));
    CHECK_INT(value, 2);
    CHECK(rdmsr(l, 0x80d, &value));
    CHECK_INT(value, 4);
    intc_fini(&b.intc);
}

TEST(lapic, x2apic_icr_is_one_register)
{
    struct bench b;
    uint64_t value;

    bench_init(&b);
    enable_all(&b);
    CHECK(wrmsr(&b.lapic[0], MSR_APIC_BASE, 0xfee00d00));
    CHECK(wrmsr(&b.lapic[0], 0x830, UINT64_C(2) << 32 | 0x77));
    CHECK(rdmsr(&b.lapic[0], 0x830, &value));
    CHECK(value == (UINT64_C(2) << 32 | 0x77));
    CHECK_INT(lapic_take(&b.lapic[2]), 0x77);
    CHECK(wrmsr(&b.lapic[0], 0x83f, 0x44));
    CHECK_INT(lapic_take(&b.lapic[0]), 0x44);
    CHECK(wrmsr(&b.lapic[0], 0x80b, 0));
    CHECK_INT(lapic_take(&b.lapic[1]), -1);
    CHECK(wrmsr(&b.lapic[0], 0x83f, 0x4));
    CHECK(wrmsr(&b.lapic[0], 0x828, 0));
    CHECK(rdmsr(&b.lapic[0], 0x828, &value));
    CHECK_INT(value, APIC_ESR_SEND_VECTOR);
    intc_fini(&b.intc);
}

/* Wait for a poll bit, at most 2 s. */
static void await(_Atomic uint32_t *poll)
{
    struct timespec ms = {.tv_nsec = 1000000};

    for (unsigned i = 0; i < 2000 && !(*poll & POLL_IRQ); i++) {
        (void)nanosleep(&ms, NULL);
    }
    CHECK(atomic_exchange(poll, 0) & POLL_IRQ);
}

TEST(lapic, one_shot_timer_fires_once)
{
    struct bench b;
    struct lapic *l = &b.lapic[0];
    int64_t start = clock_mono_ns();

    bench_init(&b);
    enable_all(&b);
    wr(l, APIC_LVT_TIMER, 0xec);
    wr(l, APIC_TIMER_DIVIDE, 0x3); /* by 16 */
    b.poll[0] = 0;
    wr(l, APIC_TIMER_INITIAL, 5000000 / 16);
    CHECK(rd(l, APIC_TIMER_CURRENT) > 0);
    CHECK(rd(l, APIC_TIMER_CURRENT) <= 5000000 / 16);
    CHECK(lapic_due_ns(l) != DEADLINE_NEVER);
    await(&b.poll[0]);
    CHECK(clock_mono_ns() - start >= 5000000);
    CHECK_INT(lapic_take(l), 0xec);
    CHECK_INT(rd(l, APIC_TIMER_CURRENT), 0);
    CHECK_INT(lapic_due_ns(l) == DEADLINE_NEVER, 1);
    intc_fini(&b.intc);
}

TEST(lapic, periodic_timer_fires_again_until_stopped)
{
    struct bench b;
    struct lapic *l = &b.lapic[1];

    bench_init(&b);
    enable_all(&b);
    b.poll[1] = 0;
    wr(l, APIC_LVT_TIMER, APIC_TIMER_PERIODIC | 0x31);
    wr(l, APIC_TIMER_DIVIDE, 0xb); /* by 1 */
    wr(l, APIC_TIMER_INITIAL, 1000000);
    for (unsigned i = 0; i < 3; i++) {
        int vector;

        do { /* taking one sets the bit once more */
            await(&b.poll[1]);
            vector = lapic_take(l);
        } while (vector < 0);
        CHECK_INT(vector, 0x31);
        wr(l, APIC_EOI, 0);
    }
    wr(l, APIC_TIMER_INITIAL, 0);
    CHECK(lapic_due_ns(l) == DEADLINE_NEVER);
    intc_fini(&b.intc);
}

TEST(lapic, deadline_timer)
{
    struct bench b;
    struct lapic *l = &b.lapic[0];
    uint64_t value;

    bench_init(&b);
    enable_all(&b);
    CHECK(wrmsr(l, MSR_TSC_DEADLINE, 1)); /* not in deadline mode: ignored */
    CHECK(rdmsr(l, MSR_TSC_DEADLINE, &value));
    CHECK_INT(value, 0);
    wr(l, APIC_LVT_TIMER, APIC_TIMER_DEADLINE | 0x50);
    wr(l, APIC_TIMER_INITIAL, 1000); /* ignored in this mode */
    CHECK_INT(rd(l, APIC_TIMER_INITIAL), 0);
    CHECK(wrmsr(l, MSR_TSC_DEADLINE, 1)); /* in the past: at once */
    CHECK_INT(lapic_take(l), 0x50);
    wr(l, APIC_EOI, 0);
    b.poll[0] = 0;
    CHECK(wrmsr(l, MSR_TSC_DEADLINE, lapic_tsc(l) + b.intc.tsc.hz / 200));
    CHECK(rdmsr(l, MSR_TSC_DEADLINE, &value));
    CHECK(value != 0);
    CHECK_INT(lapic_pending(l), -1);
    await(&b.poll[0]);
    CHECK_INT(lapic_take(l), 0x50);
    CHECK(lapic_tsc(l) >= value);
    CHECK(rdmsr(l, MSR_TSC_DEADLINE, &value));
    CHECK_INT(value, 0);
    wr(l, APIC_EOI, 0);
    /* disarmed by 0, and by a change of mode */
    CHECK(wrmsr(l, MSR_TSC_DEADLINE, UINT64_MAX));
    CHECK(lapic_due_ns(l) != DEADLINE_NEVER);
    CHECK(wrmsr(l, MSR_TSC_DEADLINE, 0));
    CHECK(lapic_due_ns(l) == DEADLINE_NEVER);
    CHECK(wrmsr(l, MSR_TSC_DEADLINE, UINT64_MAX));
    wr(l, APIC_LVT_TIMER, 0x50);
    CHECK(lapic_due_ns(l) == DEADLINE_NEVER);
    /* a jump of the TSC over the deadline fires it */
    wr(l, APIC_LVT_TIMER, APIC_TIMER_DEADLINE | 0x50);
    CHECK(wrmsr(l, MSR_TSC_DEADLINE, lapic_tsc(l) + 1000 * b.intc.tsc.hz));
    CHECK(wrmsr(l, MSR_TSC, lapic_tsc(l) + 2000 * b.intc.tsc.hz));
    CHECK_INT(lapic_take(l), 0x50);
    intc_fini(&b.intc);
}

TEST(lapic, tsc_and_its_adjustment_move_together)
{
    struct bench b;
    struct lapic *l = &b.lapic[0];
    uint64_t before, adjust, after;

    bench_init(&b);
    CHECK(rdmsr(l, MSR_TSC, &before));
    CHECK(before < b.intc.tsc.hz * 10);
    CHECK(wrmsr(l, MSR_TSC, before + (UINT64_C(1) << 50)));
    CHECK(rdmsr(l, MSR_TSC_ADJUST, &adjust));
    CHECK(adjust <= UINT64_C(1) << 50 && adjust > (UINT64_C(1) << 50) - 10 * b.intc.tsc.hz);
    CHECK(wrmsr(l, MSR_TSC_ADJUST, 0));
    CHECK(rdmsr(l, MSR_TSC, &after));
    CHECK(after >= before && after < before + 10 * b.intc.tsc.hz);
    lapic_set_tsc(l, 12345);
    CHECK(lapic_tsc(l) >= 12345 && lapic_tsc(l) < 12345 + 10 * b.intc.tsc.hz);
    intc_fini(&b.intc);
}

TEST(lapic, foreign_msrs_are_left_to_others)
{
    struct bench b;
    uint64_t value = 0;
    bool fault = false;

    bench_init(&b);
    CHECK(!lapic_rdmsr(&b.lapic[0], MSR_EFER, &value, &fault));
    CHECK(!lapic_wrmsr(&b.lapic[0], MSR_EFER, 0, &fault));
    CHECK(!fault);
    intc_fini(&b.intc);
}

TEST(lapic, saved_state_comes_back)
{
    struct bench b;
    static struct cpu_state saved, again;
    struct lapic *l = &b.lapic[0];

    bench_init(&b);
    enable_all(&b);
    wr(l, APIC_LVT_TIMER, APIC_TIMER_PERIODIC | 0x31);
    wr(l, APIC_TIMER_DIVIDE, 0xb);
    wr(l, APIC_TIMER_INITIAL, 0xf0000000);
    wr(l, APIC_LDR, 0x04000000);
    wr(l, APIC_TPR, 0x12);
    fixed(&b, 0, 0x90, true);
    fixed(&b, 0, 0xa0, false);
    CHECK_INT(lapic_take(l), 0xa0);
    lapic_save(l, &saved);
    lapic_load(&b.lapic[0], &saved);
    lapic_save(l, &again);
    store_le32(saved.lapic + APIC_TIMER_CURRENT, 0);
    CHECK(load_le32(again.lapic + APIC_TIMER_CURRENT) > 0xe0000000);
    store_le32(again.lapic + APIC_TIMER_CURRENT, 0);
    CHECK_MEM(saved.lapic, again.lapic, sizeof(saved.lapic));
    CHECK_INT(again.cr8, 1);
    CHECK(b.poll[0] & POLL_IRQ);
    wr(l, APIC_EOI, 0);
    CHECK_INT(lapic_take(l), 0x90);
    /* a fresh saved has no register page: power-on values */
    cpu_state_reset(&saved);
    lapic_load(l, &saved);
    CHECK_INT(rd(l, APIC_SVR), 0xff);
    CHECK_INT(lapic_take(l), -1);
    CHECK(l->base & APIC_BASE_BSP);
    intc_fini(&b.intc);
}
