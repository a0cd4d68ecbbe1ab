/* seq_test.c — random sequences end alike on the host's CPU, interpreted, translated before the
 * first run, translated while they run, and translated in lockstep with the interpreter.
 *
 * EC1_SEQ_CASES sets how many, EC1_SEED repeats a run, EC1_SEQ=n the one sequence that a report
 * names (with the same EC1_SEED).  What fails is made smaller before it is shown: instructions are
 * dropped as long as the failure stays.
 */
#include <time.h>

#include "hv/soft/cache/code_int.h"
#include "hv/soft/cache/diff.h"
#include "hv/soft/cache/seq.h"
#include "hv/soft/cpu/vcpu.h"
#include "tests/lib/test.h"

#define REPORTS_MAX 5u
#define VSYSCALL_PAGE \
    (UINT64_C(0xffffffffff600000) >> 12) /* where the host's kernel answers jumps */
#define HOT_RUNS 4u
#define HOT_HEAT 2u

enum runner { EAGER, HOT, LOCKSTEP, RUNNERS };

struct sequencer {
    struct diff_machine *interpreter, *translator[RUNNERS];
    struct diff_batch *batch, *trial; /* trial: what the shrinker runs */
    uint64_t seed;
    uint64_t seeds[DIFF_BATCH]; /* of the batch's sequences */
    size_t rows;
    bool writes_code;
    unsigned long cases, failed, skipped, faulted, wanted;
    struct diff_result interpreted, translated;
    struct seq seq, smaller;
    char what[256];
};

static const char *const runner_name[RUNNERS] = {"before the first run", "while it runs",
                                                 "in lockstep"};

/* --- one sequence --- */

/* A repeated store over its own bytes: the host may go on with what it has begun, the engine stops
 * where the bytes change. */
static bool overwrites_itself(const struct insn *insn, const struct vcpu *v)
{
    uint64_t mask = insn->addrsize == 4 ? UINT32_MAX : UINT64_MAX;
    uint64_t count = v->gpr[GPR_RCX] & mask, bytes, first, offset;

    if (!insn->rep || (insn->op != INSN_STOS && insn->op != INSN_MOVS)) {
        return false;
    }
    count = count < DIFF_CODE_BYTES ? count : DIFF_CODE_BYTES; /* there is no more to overwrite */
    bytes = count * insn->opsize;
    first = v->gpr[GPR_RDI] & mask;
    if (v->rflags & FLAG_DF) {
        first -= bytes - insn->opsize;
    }
    offset = v->rip - first;
    return offset < bytes || -offset < insn->len;
}

/* Instructions that are no part of sequences, for those that go astray find them: they depend on
 * what is the host's own. */
static bool is_foreign(const struct insn *insn, const struct vcpu *v)
{
    switch (insn->op) {
    case INSN_STOS:
    case INSN_MOVS:
        if (overwrites_itself(insn, v)) {
            return true;
        }
        break;
    case INSN_INS:
    case INSN_OUTS:
    case INSN_RDRAND:
    case INSN_RDSEED:
    case INSN_MASKMOVQ:
    case INSN_VMASKMOVDQU:
    case INSN_MASKMOVDQU:
    case INSN_FNSTENV:
    case INSN_FNSAVE:
    case INSN_FXSAVE:
    case INSN_SHA1NEXTE:
    case INSN_SHA1MSG1:
    case INSN_SHA1MSG2:
    case INSN_SHA1RNDS4:
    case INSN_SHA256RNDS2:
    case INSN_SHA256MSG1:
    case INSN_SHA256MSG2: return true;
    default: break;
    }
    return (insn->klass == INSN_CLASS_SYSTEM && insn->op != INSN_HLT && insn->op != INSN_POPF &&
            insn->op != INSN_PUSHF) ||
           (insn->has_seg_override && insn->seg == SEG_FS) || diff_is_vendor_matter(insn, false);
}

/* The instruction at which it ended, for what is explained of it. */
static void find_last(struct sequencer *s, const struct diff_case *c, struct diff_case *ret_case)
{
    *ret_case = *c;
    if (!diff_decode(s->interpreter, s->interpreted.end.rip, &ret_case->insn)) {
        memset(&ret_case->insn, 0, sizeof(ret_case->insn));
    }
}

/* Is there a difference?  s->what then says which. */
static bool fails(struct sequencer *s, const struct diff_case *c, const struct diff_result *native)
{
    struct diff_case probe;
    char what[200];

    diff_run_soft(s->interpreter, c, 1, &s->interpreted);
    if (s->interpreted.vector == DIFF_TIMEOUT || s->interpreted.end.rip >> 12 == VSYSCALL_PAGE) {
        return false;
    }
    find_last(s, c, &probe);
    if (!diff_is_crowded(&s->interpreted) &&
        diff_differs_native(&probe, native, &s->interpreted, what, sizeof(what))) {
        (void)snprintf(s->what, sizeof(s->what), "host and interpreter: %s", what);
        return !diff_meets(s->interpreter, c, is_foreign);
    }
    for (unsigned i = 0; i < RUNNERS; i++) {
        diff_run_soft(s->translator[i], c, i == HOT ? HOT_RUNS : 1, &s->translated);
        if (diff_differs_tiers(&probe, &s->interpreted, &s->translated, what, sizeof(what))) {
            (void)snprintf(s->what, sizeof(s->what), "translated %s: %s", runner_name[i], what);
            return true;
        }
    }
    return false;
}

/* --- making it smaller --- */

static bool still_fails(struct sequencer *s, const struct seq *seq)
{
    struct diff_batch *b = s->trial;

    b->count = 0;
    b->arena_used = 0;
    if (!seq_assemble(seq, b) || diff_run_native(b) < 0 || b->native[0].vector <= DIFF_DIED) {
        return false;
    }
    return fails(s, &b->cases[0], &b->native[0]);
}

static bool drop_some(struct sequencer *s, unsigned from, unsigned count)
{
    s->smaller = s->seq;
    for (unsigned i = 0; i < count; i++) {
        seq_drop(&s->smaller, from);
    }
    if (!still_fails(s, &s->smaller)) {
        return false;
    }
    s->seq = s->smaller;
    return true;
}

static void shrink(struct sequencer *s)
{
    bool has_shrunk = true;

    memcpy(s->trial->image, s->batch->image, sizeof(s->trial->image));
    while (has_shrunk) {
        has_shrunk = false;
        for (unsigned step = 16; step > 0; step /= 2) {
            for (unsigned i = s->seq.item_count; i-- > 0;) {
                if (i + step <= s->seq.item_count) {
                    has_shrunk |= drop_some(s, i, step);
                }
            }
        }
    }
    if (!still_fails(s, &s->seq)) { /* for s->what */
        (void)snprintf(s->what, sizeof(s->what), "fails now and then");
    }
}

/* --- reports --- */

static void show_code(const struct diff_case *c)
{
    char text[96];
    struct insn insn;
    unsigned at = 0;

    while (at < c->code_len &&
           insn_decode(c->code + at, c->code_len - at, INSN_MODE_64, &insn) == INSN_OK) {
        print_error("  %lx  ", c->code_at + at);
        for (unsigned i = 0; i < insn.len; i++) {
            print_error("%02x", c->code[at + i]);
        }
        print_error("  %s\n", insn_print(&insn, c->code_at + at, text));
        at += insn.len;
    }
}

static void report(struct sequencer *s, uint64_t seed)
{
    const struct diff_case *c = &s->trial->cases[0];

    if (s->failed++ >= REPORTS_MAX) {
        return;
    }
    print_error("EC1_SEED=%lu EC1_SEQ=%lu%s: %s\n", s->seed, seed,
                s->writes_code ? " (writes code)" : "", s->what);
    diff_machine_begin(s->interpreter, s->batch);
    s->seq = (struct seq){0};
    {
        struct diff_random r = diff_seeded(seed);

        seq_make(&s->seq, &r, s->rows, s->writes_code);
    }
    shrink(s);
    print_error(" as small as it gets: %s\n", s->what);
    show_code(c);
    for (unsigned i = 0; i < 16; i++) {
        print_error("%s r%u %lx", i % 4 ? "" : "\n ", i, c->start.gpr[i]);
    }
    print_error(" flags %lx; ends at %lx, vector %d (host %d)\n", c->start.rflags,
                s->interpreted.end.rip, s->interpreted.vector, s->trial->native[0].vector);
}

/* --- the loop --- */

static void make_batch(struct sequencer *s, struct diff_random *seeds, size_t count, uint64_t only)
{
    struct diff_batch *b = s->batch;

    b->count = 0;
    b->arena_used = 0;
    for (unsigned tries = 0; b->count < count && tries < 4 * DIFF_BATCH; tries++) {
        uint64_t seed = only ? only : diff_next(seeds);
        struct diff_random r = diff_seeded(seed);

        s->seeds[b->count] = seed;
        seq_make(&s->seq, &r, s->rows, s->writes_code);
        (void)seq_assemble(&s->seq, b);
    }
}

static void compare_batch(struct sequencer *s, struct diff_random *r)
{
    struct diff_batch *b = s->batch;

    CHECK_INT(diff_run_native(b), 0);
    diff_machine_begin(s->interpreter, b);
    for (unsigned i = 0; i < RUNNERS; i++) {
        diff_machine_begin(s->translator[i], b);
    }
    for (size_t i = 0; i < b->count; i++) {
        s->cases++;
        if (b->native[i].vector <= DIFF_DIED) {
            s->skipped++;
            continue;
        }
        s->faulted += b->native[i].vector >= 0;
        diff_perturb(s->translator[EAGER], r);
        diff_perturb(s->translator[HOT], r);
        diff_perturb(s->translator[LOCKSTEP], r);
        if (fails(s, &b->cases[i], &b->native[i])) {
            report(s, s->seeds[i]);
        }
    }
    diff_progress("sequences", s->cases, s->wanted);
}

static void run_sequences(bool writes_code, unsigned long fallback)
{
    struct sequencer *s = calloc(1, sizeof(*s));
    unsigned long failed;
    uint64_t only = diff_number("EC1_SEQ", 0);
    struct diff_random seeds, perturb;
    clock_t start = clock();

    CHECK(s);
    s->seed = diff_number("EC1_SEED", (unsigned long)time(NULL));
    print_message("EC1_SEED=%lu\n", s->seed);
    seeds = diff_seeded(s->seed + writes_code);
    perturb = diff_seeded(s->seed);
    s->writes_code = writes_code;
    s->wanted = diff_number("EC1_SEQ_CASES", fallback);
    s->rows = diff_rows_init(getenv("EC1_DIFF_OP"));
    s->batch = diff_batch_new();
    s->trial = diff_batch_new();
    CHECK(s->batch && s->trial && s->rows);
    diff_batch_begin(s->batch, s->seed);
    s->interpreter = diff_machine_new("interp", 0);
    s->translator[EAGER] = diff_machine_new("eager", 0);
    s->translator[HOT] = diff_machine_new("hot", HOT_HEAT);
    CHECK_INT(setenv("EC1_SOFT_LOCKSTEP", "1", 1), 0);
    s->translator[LOCKSTEP] = diff_machine_new("eager", 0);
    CHECK_INT(unsetenv("EC1_SOFT_LOCKSTEP"), 0);
    if (writes_code) { /* and things happen all the time: inject.c */
        code_cache_clear(diff_machine_vcpu(s->translator[HOT]));
        code_inject_seed(diff_machine_vcpu(s->translator[HOT]), s->seed * 2 + 1);
    }
    do {
        unsigned long left = only ? 1 : s->wanted - s->cases;

        make_batch(s, &seeds, left < DIFF_BATCH ? left : DIFF_BATCH, only);
        compare_batch(s, &perturb);
    } while (!only && s->cases < s->wanted && s->failed < REPORTS_MAX);
    print_message(
        "%lu sequences, %lu ended by an exception, %lu left out, %lu failed; %.1f us each\n",
        s->cases, s->faulted, s->skipped, s->failed,
        (double)(clock() - start) / (double)(s->cases + !s->cases));
    print_message("%lu translations compared in lockstep, %lu not\n",
                  diff_machine_vcpu(s->translator[LOCKSTEP])->stats.lockstep_compared,
                  diff_machine_vcpu(s->translator[LOCKSTEP])->stats.lockstep_skipped);
    failed = s->failed;
    diff_machine_free(s->interpreter);
    diff_machine_free(s->translator[EAGER]);
    diff_machine_free(s->translator[HOT]);
    diff_machine_free(s->translator[LOCKSTEP]);
    diff_batch_free(s->batch);
    diff_batch_free(s->trial);
    free(s);
    CHECK_INT(failed, 0);
}

TEST(seq, sequences_end_as_on_the_host)
{
    run_sequences(false, 6000);
}

TEST(seq, sequences_that_write_their_own_code_end_as_on_the_host)
{
    run_sequences(true, 3000);
}
