/* row.h — one row of the benchmark of the software engine.
 *
 * A row does the same work on every machine: `run` returns a checksum of its results, which must be
 * the same in each sample and on each machine.  So a CPU that computes wrongly fails instead of
 * being fast.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct row {
    const char *name;
    uint64_t ops;                  /* operations in one sample */
    void (*setup)(void);           /* once, before the first sample; may be NULL */
    uint64_t (*run)(uint64_t ops); /* returns the checksum */
    unsigned samples;              /* 0: SAMPLES, after a first one that does not count */
    const char *on_demand;         /* variable of the environment without which it does not run */
};

#define SAMPLES 3

/* Each file's rows; the last has no name. */
extern const struct row rows_sort[], rows_data[], rows_number[], rows_float[], rows_system[],
    rows_process[], rows_memory[], rows_build[];

/* Path of this very program. */
extern const char *g_self;

#ifdef __clang__
#define NOINLINE __attribute__((noinline))
#else
#define NOINLINE __attribute__((noinline, noclone))
#endif

/* Pseudo-random numbers (xorshift64*): the same everywhere. */
static inline uint64_t rng_next(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(0x2545f4914f6cdd1d);
}

static inline uint64_t mix(uint64_t sum, uint64_t value)
{
    return (sum ^ value) * UINT64_C(0x100000001b3) + (sum >> 29);
}

/* Memory in pages of 4 KiB, whatever the kernel would like to give; does not return without it. */
void *pages_new(size_t bytes);
_Noreturn void die(const char *what);
