/* litmus_test.c — memory order and atomics between vCPUs are those of x86 (SDM volume 3, 8.2), and
 * code that one changes by the rules is run by another as it was or as it is (8.1.3).
 *
 * Each litmus test runs many rounds; outcomes that the order forbids must never be seen. EC1_LITMUS
 * multiplies the rounds.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "tests/vm/guest.h"

#define CPUS_MAX       4u
#define CELLS_AT       0x80000u
#define CELL_BYTES     256u
#define ROUNDS         4096u
#define TORTURE_ROUNDS 16u
#define REPEATS        10000u /* of litmus.S */
#define SYNC_AT        0x40000u
#define SHARED_AT      0x50000u
#define PIECES_AT      0x20000u
#define PATCHED_AT     0x60ffdu /* across two pages */
#define STACKS_AT      0x70000u

#define LITMUS_LIST(X) \
    X(thread)          \
    X(thread_end)      \
    X(sb_0)            \
    X(sb_1)            \
    X(sb_mfence_0)     \
    X(sb_mfence_1)     \
    X(sb_xchg_0)       \
    X(sb_xchg_1)       \
    X(sb_locked_0)     \
    X(sb_locked_1)     \
    X(mp_0)            \
    X(mp_1)            \
    X(lb_0)            \
    X(lb_1)            \
    X(ww_0)            \
    X(ww_1)            \
    X(s_0)             \
    X(s_1)             \
    X(corr_0)          \
    X(corr_1)          \
    X(iriw_0)          \
    X(iriw_1)          \
    X(iriw_2)          \
    X(iriw_3)          \
    X(repeat)          \
    X(xadd)            \
    X(inc)             \
    X(bts)             \
    X(cmpxchg)         \
    X(cmpxchg16b)      \
    X(caller)          \
    X(patcher)         \
    X(breakpoint)      \
    X(end)
#define X(name) extern const uint8_t litmus_##name[];
LITMUS_LIST(X)
#undef X

/* Where a piece is in the guest: all of them are copied together. */
static uint64_t at(const uint8_t *piece)
{
    return PIECES_AT + (uint64_t)(piece - litmus_thread);
}

static unsigned scale(void)
{
    const char *text = getenv("EC1_LITMUS");
    unsigned long value = text ? strtoul(text, NULL, 0) : 1;

    return value ? (unsigned)value : 1;
}

/* On KVM all this is the host CPU's. */
static void need_engine(void)
{
    if (strcmp(g_ops->name, "soft") != 0) {
        SKIP("it is the host's CPU that is tested here");
    }
}

/* --- machines --- */

struct cpu {
    struct guest *g;
    unsigned index;
    pthread_t thread;
    atomic_bool *stop;
    int result;
};

static void *run_cpu(void *arg)
{
    struct cpu *c = arg;

    while (c->result == 0 && !atomic_load(c->stop)) {
        enum hv_exit why = HV_EXIT_BROKEN;

        c->result = hv_vcpu_run(c->g->cpu[c->index], &why);
        if (c->result == 0 && why != HV_EXIT_KICKED) {
            print_error("CPU %u: exit %d %s\n", c->index, (int)why,
                        hv_vcpu_why(c->g->cpu[c->index]));
            c->result = -1;
        }
    }
    return NULL;
}

static void start(struct guest *g, unsigned cpus)
{
    guest_init(g, cpus);
    guest_put(g, PIECES_AT, litmus_thread, (size_t)(litmus_end - litmus_thread));
}

/* The state of a CPU that begins at `piece`; set by the caller with registers of its own. */
static void state_cpu(struct guest *g, unsigned index, const uint8_t *piece)
{
    state_long64(g);
    g_state.run_state = CPU_RUNNABLE;
    g_state.rip = at(piece);
    g_state.gpr[GPR_RSP] = STACKS_AT + (index + 1) * 0x1000u;
    g_state.gpr[GPR_R14] = SYNC_AT;
}

/* All CPUs from their states until one of them leaves by EXIT_PORT; false if one ended otherwise.
 */
static bool run_all(struct guest *g)
{
    struct cpu cpus[CPUS_MAX];
    atomic_bool stop = false;
    bool is_good = true;

    g->has_exited = false;
    for (unsigned i = 0; i < g->cpu_count; i++) {
        cpus[i] = (struct cpu){.g = g, .index = i, .stop = &stop};
    }
    for (unsigned i = 1; i < g->cpu_count; i++) {
        CHECK_INT(pthread_create(&cpus[i].thread, NULL, run_cpu, &cpus[i]), 0);
    }
    while (!g->has_exited && cpus[0].result == 0) {
        enum hv_exit why = HV_EXIT_BROKEN;

        cpus[0].result = hv_vcpu_run(g->cpu[0], &why);
        if (cpus[0].result == 0 && why != HV_EXIT_KICKED) {
            cpus[0].result = -1;
        }
    }
    atomic_store(&stop, true);
    for (unsigned i = 0; i < g->cpu_count; i++) {
        if (i > 0) {
            hv_vcpu_kick(g->cpu[i]);
            CHECK_INT(pthread_join(cpus[i].thread, NULL), 0);
        }
        is_good &= cpus[i].result == 0;
    }
    return is_good;
}

/* --- litmus tests --- */

struct cell {
    uint32_t x, unused1[15], y, unused2[15];
    uint32_t r[32];
};
_Static_assert(sizeof(struct cell) == CELL_BYTES, "as litmus.S has it");

static void run_pieces(struct guest *g, const uint8_t *const *pieces, unsigned rounds,
                       const uint8_t *repeated, uint64_t shared)
{
    void *cells = mem_ptr(g->mem, GPA(CELLS_AT), (uint64_t)ROUNDS * CELL_BYTES);
    void *sync = mem_ptr(g->mem, GPA(SYNC_AT), 4096);

    memset(cells, 0, (size_t)ROUNDS * CELL_BYTES);
    memset(sync, 0, 4096);
    for (unsigned i = 0; i < g->cpu_count; i++) {
        state_cpu(g, i, litmus_thread);
        g_state.gpr[GPR_RDI] = CELLS_AT;
        g_state.gpr[GPR_RSI] = shared;
        g_state.gpr[GPR_R8] = repeated ? at(repeated) : 0;
        g_state.gpr[GPR_RBP] = 77 * i + (unsigned)rand();
        g_state.gpr[GPR_R12] = rounds;
        g_state.gpr[GPR_R13] = at(pieces[i]);
        g_state.gpr[GPR_R15] = g->cpu_count;
        CHECK_INT(hv_vcpu_set(g->cpu[i], &g_state), 0);
    }
    CHECK(run_all(g));
}

/* Rounds with an outcome, of ROUNDS in each of some runs. */
static unsigned long count(unsigned cpus, const uint8_t *const *pieces,
                           bool (*is_it)(const struct cell *c))
{
    static struct guest g;
    unsigned long seen = 0;

    need_engine();
    start(&g, cpus);
    for (unsigned run = 0; run < scale(); run++) {
        unsigned rounds = cpus > 2 ? ROUNDS / 4 : ROUNDS; /* they wait for each other's turn */
        const struct cell *cells = mem_ptr(g.mem, GPA(CELLS_AT), (uint64_t)ROUNDS * CELL_BYTES);

        run_pieces(&g, pieces, rounds, NULL, 0);
        for (unsigned i = 0; i < rounds; i++) {
            seen += is_it(&cells[i]);
        }
    }
    guest_fini(&g);
    return seen;
}

static bool is_both_0(const struct cell *c)
{
    return c->r[0] == 0 && c->r[1] == 0;
}

static bool is_both_1(const struct cell *c)
{
    return c->r[0] == 1 && c->r[1] == 1;
}

static bool is_1_then_0(const struct cell *c)
{
    return c->r[0] == 1 && c->r[1] == 0;
}

static bool has_first_writes(const struct cell *c)
{
    return c->x == 1 && c->y == 1;
}

static bool is_s(const struct cell *c)
{
    return c->x == 2 && c->r[0] == 1;
}

static bool is_iriw(const struct cell *c)
{
    return c->r[0] == 1 && c->r[1] == 0 && c->r[2] == 1 && c->r[3] == 0;
}

#define COUNT(cpus, is_it, ...) count(cpus, (const uint8_t *const[]){__VA_ARGS__}, is_it)

/* The one thing that x86 does let be seen; whether it is, is luck. */
TEST(litmus, a_load_may_pass_an_earlier_store)
{
    print_message("store buffering: seen %lu times\n",
                  COUNT(2, is_both_0, litmus_sb_0, litmus_sb_1));
}

TEST(litmus, a_load_does_not_pass_a_fence_or_a_locked_instruction)
{
    CHECK_INT(COUNT(2, is_both_0, litmus_sb_mfence_0, litmus_sb_mfence_1), 0);
    CHECK_INT(COUNT(2, is_both_0, litmus_sb_xchg_0, litmus_sb_xchg_1), 0);
    CHECK_INT(COUNT(2, is_both_0, litmus_sb_locked_0, litmus_sb_locked_1), 0);
}

TEST(litmus, stores_are_seen_in_order_by_loads_in_order)
{
    CHECK_INT(COUNT(2, is_1_then_0, litmus_mp_0, litmus_mp_1), 0);
    CHECK_INT(COUNT(2, is_1_then_0, litmus_corr_0, litmus_corr_1), 0);
}

TEST(litmus, stores_do_not_pass_earlier_loads)
{
    CHECK_INT(COUNT(2, is_both_1, litmus_lb_0, litmus_lb_1), 0);
    CHECK_INT(COUNT(2, is_s, litmus_s_0, litmus_s_1), 0);
}

TEST(litmus, stores_of_two_cpus_have_one_order)
{
    CHECK_INT(COUNT(2, has_first_writes, litmus_ww_0, litmus_ww_1), 0);
    CHECK_INT(COUNT(4, is_iriw, litmus_iriw_0, litmus_iriw_1, litmus_iriw_2, litmus_iriw_3), 0);
}

/* --- atomics --- */

/* Both CPUs do the piece again and again on one place, `skew` bytes behind the start of a line or
 * page. */
static void torture(const uint8_t *piece, unsigned skew, unsigned page_skew)
{
    static struct guest g;
    const uint8_t *const pieces[] = {litmus_repeat, litmus_repeat};
    uint64_t shared = SHARED_AT + page_skew + skew;
    unsigned runs = scale();

    start(&g, 2);
    for (unsigned run = 0; run < runs; run++) {
        run_pieces(&g, pieces, TORTURE_ROUNDS, piece, shared);
    }
    CHECK_INT(load_le64(mem_ptr(g.mem, GPA(shared), 8)), 2ul * TORTURE_ROUNDS * REPEATS * runs);
    guest_fini(&g);
}

TEST(litmus, locked_instructions_lose_nothing)
{
    static const unsigned skews[] = {0, 1, 61}; /* the last across two lines */

    need_engine();
    for (unsigned i = 0; i < 3; i++) {
        torture(litmus_xadd, skews[i], 0);
        torture(litmus_cmpxchg, skews[i], 0);
    }
    torture(litmus_inc, 0, 0);
    torture(litmus_bts, 0, 0);
    torture(litmus_cmpxchg16b, 0, 0);
}

TEST(litmus, locked_instructions_across_pages_lose_nothing)
{
    need_engine();
    torture(litmus_xadd, 0, 0xffd);
    torture(litmus_inc, 0, 0xff9);
    torture(litmus_cmpxchg, 0, 0xffc);
}

/* --- cross-modifying code --- */

TEST(litmus, code_that_another_cpu_changes_by_the_rules_is_never_torn)
{
    static const uint8_t code[] = {0xb8, 0, 0, 0, 0, 0xc3};
    static struct guest g;
    uint8_t *sync;

    need_engine();
    start(&g, 2);
    for (unsigned i = 0; i < 2; i++) {
        state_cpu(&g, i, i ? litmus_patcher : litmus_caller);
        g_state.gpr[GPR_R12] = 300ul * scale();
        g_state.gpr[GPR_R13] = PATCHED_AT;
        CHECK_INT(hv_vcpu_set(g.cpu[i], &g_state), 0);
    }
    guest_put(&g, PATCHED_AT, code, sizeof(code));
    guest_gate(&g, 3, at(litmus_breakpoint));
    CHECK(run_all(&g));
    sync = mem_ptr(g.mem, GPA(SYNC_AT), 4096);
    print_message("%lu calls, %lu changes, %lu breakpoints\n", load_le64(sync),
                  load_le64(sync + 64), load_le64(sync + 128));
    CHECK_INT(load_le64(sync + 64), 300ul * scale());
    guest_fini(&g);
}
