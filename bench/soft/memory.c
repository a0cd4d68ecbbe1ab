/* memory.c — bandwidth: `rep movsb` of pages, memcpy() of more than the caches hold. */
#include <string.h>

#include "bench/soft/row.h"

#define BLOCK_BYTES  (UINT64_C(64) * 1024)
#define LARGE_BYTES  (UINT64_C(8) * 1024 * 1024)
#define SAMPLE_EVERY 4093

static uint8_t *g_from, *g_to;

static void memory_setup(void)
{
    uint64_t seed = 12;

    if (g_from) {
        return;
    }
    g_from = pages_new(LARGE_BYTES);
    g_to = pages_new(LARGE_BYTES);
    for (uint64_t i = 0; i < LARGE_BYTES; i += 8) {
        uint64_t r = rng_next(&seed);

        memcpy(g_from + i, &r, 8);
    }
}

static uint64_t look(const uint8_t *p, uint64_t len)
{
    uint64_t sum = 0;

    for (uint64_t i = 0; i < len; i += SAMPLE_EVERY) {
        sum = mix(sum, p[i]);
    }
    return mix(sum, p[len - 1]);
}

static uint64_t rep_movs_run(uint64_t ops)
{
    uint64_t sum = 0;

    for (uint64_t n = 0; n < ops; n++) {
        void *to = g_to + n % 16;
        const void *from = g_from + n * 512 % BLOCK_BYTES;
        uint64_t len = BLOCK_BYTES;

        __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(len)::"memory");
        sum = mix(sum, look(g_to + n % 16, BLOCK_BYTES));
    }
    return sum;
}

static uint64_t memcpy_run(uint64_t ops)
{
    uint64_t sum = 0;

    for (uint64_t n = 0; n < ops; n++) {
        g_from[n * 999] ^= 0x5a;
        memcpy(g_to, g_from, LARGE_BYTES);
        sum = mix(sum, look(g_to, LARGE_BYTES));
    }
    for (uint64_t n = 0; n < ops; n++) { /* as it was */
        g_from[n * 999] ^= 0x5a;
    }
    return sum;
}

const struct row rows_memory[] = {
    {.name = "repmovs", .ops = 600, .setup = memory_setup, .run = rep_movs_run},
    {.name = "memcpy", .ops = 8, .setup = memory_setup, .run = memcpy_run},
    {0},
};
