/* diff_test.c — every user-mode instruction form does, interpreted and translated, what it does on
 * the host's CPU.
 *
 * EC1_DIFF_CASES sets how many cases per mode, EC1_SEED repeats a run, EC1_DIFF_OP=ADD,SUB keeps to
 * some operations.  EC1_PROGRESS names a file that says how far it is.
 */
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "hv/soft/cache/diff.h"
#include "hv/soft/cpu/vcpu.h"
#include "tests/lib/test.h"

#define REPORTS_MAX 25u

struct differ {
    struct diff_machine *interpreter, *translator; /* the second only in 64-bit mode */
    struct diff_random random;
    struct diff_batch *batch;
    size_t rows, row;
    bool is_compat;
    unsigned long cases, failed, wanted;
    unsigned op_failed[INSN_OP_COUNT];
    struct diff_result interpreted, translated;
};

/* --- batches --- */

struct diff_batch *diff_batch_new(void)
{
    void *p = mmap(NULL, sizeof(struct diff_batch), PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

void diff_batch_free(struct diff_batch *b)
{
    if (b) {
        (void)munmap(b, sizeof(*b));
    }
}

void diff_batch_begin(struct diff_batch *b, uint64_t seed)
{
    struct diff_random r = diff_seeded(seed);

    b->count = 0;
    b->arena_used = 0;
    diff_fill(&r, b->image, sizeof(b->image));
}

void *diff_batch_alloc(struct diff_batch *b, size_t size)
{
    size_t bytes = (size + 15) & ~(size_t)15;

    if (bytes > sizeof(b->arena) - b->arena_used) {
        return NULL;
    }
    b->arena_used += bytes;
    return b->arena + b->arena_used - bytes;
}

void diff_progress(const char *what, unsigned long done, unsigned long wanted)
{
    const char *path = getenv("EC1_PROGRESS");
    FILE *file = path ? fopen(path, "w") : NULL;

    if (file) {
        (void)fprintf(file, "%lu of %lu %s\n", done, wanted, what);
        (void)fclose(file);
    }
}

/* --- reports --- */

static void report(struct differ *d, const struct diff_case *c, const struct diff_result *n,
                   const char *what)
{
    char text[96], bytes[40];
    unsigned i, seen = d->op_failed[c->insn.op]++;

    if (d->failed++ >= REPORTS_MAX || seen >= 3) {
        return;
    }
    for (i = 0; i < c->insn.len; i++) {
        (void)snprintf(bytes + 2 * i, 3, "%02x", c->code[i]);
    }
    print_error("%s: %s  %s\n   %s\n", c->is_compat ? "32" : "64", bytes,
                insn_print(&c->insn, c->start.rip, text), what);
    print_error("   start: rip %lx regions %x native vector %d flags %lx mxcsr %x fcw %x",
                c->start.rip, c->regions, n->vector, c->start.rflags,
                *(const uint32_t *)(const void *)(c->start.fx + 24),
                *(const uint16_t *)(const void *)c->start.fx);
    for (i = 0; i < 16; i++) {
        print_error("%s r%u %lx", i % 4 ? "" : "\n  ", i, c->start.gpr[i]);
    }
    print_error("\n");
}

static void sum_up(const struct differ *d)
{
    unsigned op;

    for (op = 0; op < INSN_OP_COUNT; op++) {
        if (d->op_failed[op]) {
            print_error("%s: %u\n", insn_op_name((enum insn_op)op), d->op_failed[op]);
        }
    }
    print_message("%lu instructions, %s, %lu failed\n", d->cases,
                  d->is_compat ? "32-bit: host and interpreter"
                               : "64-bit: host, interpreter and translator",
                  d->failed);
}

/* --- the loop --- */

/* Fewer cases only if there are no forms in this mode. */
static void make_batch(struct differ *d)
{
    size_t tries = 0, count = d->wanted - d->cases < DIFF_BATCH ? d->wanted - d->cases : DIFF_BATCH;

    diff_batch_begin(d->batch, diff_next(&d->random));
    while (d->batch->count < count && tries++ < 50 * count + 100 * d->rows) {
        d->row = (d->row + 1) % d->rows;
        (void)diff_generate(&d->random, d->row, d->is_compat, d->batch);
    }
}

static void compare(struct differ *d, const struct diff_case *c, const struct diff_result *native)
{
    char what[200];

    diff_perturb(d->interpreter, &d->random);
    diff_run_soft(d->interpreter, c, 1, &d->interpreted);
    d->cases++;
    if (!diff_is_crowded(&d->interpreted) &&
        diff_differs_native(c, native, &d->interpreted, what, sizeof(what))) {
        report(d, c, native, what);
        return;
    }
    if (d->translator) {
        diff_perturb(d->translator, &d->random);
        diff_run_soft(d->translator, c, 1, &d->translated);
        if (diff_differs_tiers(c, &d->interpreted, &d->translated, what, sizeof(what))) {
            report(d, c, native, what);
        }
    }
}

static void compare_batch(struct differ *d)
{
    size_t i;

    CHECK_INT(diff_run_native(d->batch), 0);
    diff_machine_begin(d->interpreter, d->batch);
    if (d->translator) {
        diff_machine_begin(d->translator, d->batch);
    }
    for (i = 0; i < d->batch->count; i++) {
        compare(d, &d->batch->cases[i], &d->batch->native[i]);
    }
    diff_progress("instructions", d->cases, d->wanted);
}

static void run_cases(bool is_compat)
{
    struct differ *d = calloc(1, sizeof(*d));
    unsigned long seed = diff_number("EC1_SEED", (unsigned long)time(NULL)), failed;
    clock_t start = clock();

    CHECK(d);
    print_message("EC1_SEED=%lu\n", seed);
    d->random = diff_seeded(seed);
    d->is_compat = is_compat;
    d->wanted = diff_number("EC1_DIFF_CASES", 40000);
    d->rows = diff_rows_init(getenv("EC1_DIFF_OP"));
    CHECK(d->rows > 0);
    d->row = diff_next(&d->random) % d->rows;
    d->batch = diff_batch_new();
    CHECK(d->batch);
    d->interpreter = diff_machine_new("interp", 0);
    d->translator = is_compat ? NULL : diff_machine_new("eager", 0);
    do {
        make_batch(d);
        compare_batch(d);
    } while (d->cases < d->wanted && d->batch->count);
    sum_up(d);
    print_message("%.1f us each\n", (double)(clock() - start) / (double)(d->cases + !d->cases));
    failed = d->failed;
    diff_machine_free(d->interpreter);
    diff_machine_free(d->translator);
    diff_batch_free(d->batch);
    free(d);
    CHECK_INT(failed, 0);
}

TEST(soft, instructions_do_what_the_host_does_in_64_bit_mode)
{
    run_cases(false);
}

TEST(soft, instructions_do_what_the_host_does_in_32_bit_mode)
{
    run_cases(true);
}
