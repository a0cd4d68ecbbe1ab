/* data.c — integer kernels that walk through memory: hash tables, pointer chase, objects, bytes. */
#include <stddef.h>

#include "bench/soft/row.h"

/* --- hash tables: small, and far larger than any TLB reaches in small pages --- */

#define SMALL_SLOTS (UINT64_C(128) * 1024 / 8)
#define LARGE_SLOTS (UINT64_C(8) * 1024 * 1024 / 8)

static uint64_t *g_table;

static void table_setup(void)
{
    if (!g_table) {
        g_table = pages_new(LARGE_SLOTS * 8);
    }
}

/* Open addressing: count keys, half of which come again. */
static NOINLINE uint64_t hash_run(uint64_t *table, uint64_t slots, uint64_t ops)
{
    uint64_t limit = slots / 2;
    uint64_t seed = 3;
    uint64_t sum = 0;
    unsigned shift = 64 - (unsigned)__builtin_ctzll(slots);

    for (uint64_t i = 0; i < slots; i++) {
        table[i] = 0;
    }
    for (uint64_t n = 0; n < ops; n++) {
        uint64_t key = (rng_next(&seed) >> 20) % limit + 1;
        uint64_t at = key * UINT64_C(0x9e3779b97f4a7c15) >> shift;

        while (table[at] && table[at] >> 32 != key) {
            at = (at + 1) & (slots - 1);
        }
        table[at] = (key << 32 | (uint32_t)table[at]) + 1;
        sum += (uint32_t)table[at] + at;
    }
    return sum;
}

static uint64_t hash_small_run(uint64_t ops)
{
    return hash_run(g_table, SMALL_SLOTS, ops);
}

static uint64_t hash_large_run(uint64_t ops)
{
    return hash_run(g_table, LARGE_SLOTS, ops);
}

/* Loads and stores that hit a page at random each time. */
static uint64_t random_run(uint64_t ops)
{
    uint64_t seed = 4;
    uint64_t sum = 0;

    for (uint64_t i = 0; i < LARGE_SLOTS; i++) {
        g_table[i] = i;
    }
    for (uint64_t n = 0; n < ops; n++) {
        uint64_t r = rng_next(&seed);

        sum += g_table[r % LARGE_SLOTS];
        g_table[(r >> 32) % LARGE_SLOTS] += sum;
    }
    return sum;
}

/* --- pointer chase in the first-level cache --- */

#define CHASE_COUNT 2048

static void *g_chase[CHASE_COUNT];

static void chase_setup(void)
{
    static uint16_t order[CHASE_COUNT];
    uint64_t seed = 5;

    for (unsigned i = 0; i < CHASE_COUNT; i++) {
        order[i] = (uint16_t)i;
    }
    for (unsigned i = CHASE_COUNT - 1; i > 0; i--) {
        unsigned j = (unsigned)(rng_next(&seed) % (i + 1));
        uint16_t t = order[i];

        order[i] = order[j];
        order[j] = t;
    }
    for (unsigned i = 0; i < CHASE_COUNT; i++) {
        g_chase[order[i]] = &g_chase[order[(i + 1) % CHASE_COUNT]];
    }
}

static uint64_t chase_run(uint64_t ops)
{
    void **p = g_chase;

    for (uint64_t n = 0; n < ops; n += 4) {
        p = ***(void ****)p;
        p = *p;
    }
    return (uint64_t)((char *)p - (char *)g_chase);
}

/* --- linked objects with several fields each --- */

#define OBJECT_COUNT 1024

struct object {
    struct object *next, *other;
    uint64_t weight, value;
    uint32_t visits, flags;
    uint16_t small;
    uint8_t kind, state;
};

static struct object g_object[OBJECT_COUNT];

static void object_reset(void)
{
    uint64_t seed = 6;

    for (unsigned i = 0; i < OBJECT_COUNT; i++) {
        uint64_t r = rng_next(&seed);

        g_object[i] = (struct object){.next = &g_object[(i + 389) % OBJECT_COUNT],
                                      .other = &g_object[r % OBJECT_COUNT],
                                      .weight = r >> 40,
                                      .kind = (uint8_t)(r >> 20 & 3)};
    }
}

static NOINLINE struct object *object_visit(struct object *o, uint64_t n)
{
    struct object *other = o->other;

    o->visits++;
    o->value += o->weight + other->value;
    o->small = (uint16_t)(o->small + o->visits);
    switch (o->kind) {
    case 0: other->flags |= o->visits & 0xff; break;
    case 1: other->weight += n & 3; break;
    case 2: o->state ^= other->state + 1; break;
    default: other->value ^= o->flags; break;
    }
    return o->next;
}

static uint64_t object_run(uint64_t ops)
{
    struct object *o = g_object;
    uint64_t sum = 0;

    object_reset();
    for (uint64_t n = 0; n < ops; n++) {
        o = object_visit(o, n);
    }
    for (unsigned i = 0; i < OBJECT_COUNT; i++) {
        sum = mix(sum, g_object[i].value + g_object[i].visits + g_object[i].flags +
                           g_object[i].small + g_object[i].state);
    }
    return sum;
}

/* --- bytes: checksum, length, copy --- */

#define TEXT_BYTES 16384

static uint8_t g_text[TEXT_BYTES + 1], g_copy[TEXT_BYTES + 1];
static uint32_t g_crc_table[256];

static void bytes_setup(void)
{
    uint64_t seed = 7;

    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;

        for (unsigned k = 0; k < 8; k++) {
            c = c & 1 ? c >> 1 ^ 0xedb88320u : c >> 1;
        }
        g_crc_table[i] = c;
    }
    for (unsigned i = 0; i < TEXT_BYTES; i++) {
        g_text[i] = (uint8_t)(rng_next(&seed) >> 30 | 1);
    }
}

static NOINLINE uint32_t crc32(const uint8_t *p, size_t len)
{
    uint32_t c = UINT32_MAX;

    for (size_t i = 0; i < len; i++) {
        c = g_crc_table[(c ^ p[i]) & 0xff] ^ c >> 8;
    }
    return ~c;
}

static NOINLINE size_t length(const uint8_t *p)
{
    const uint8_t *start = p;

    while (*p) {
        p++;
    }
    return (size_t)(p - start);
}

static NOINLINE void copy(uint8_t *to, const uint8_t *from)
{
    while ((*to++ = *from++)) {
    }
}

static uint64_t bytes_run(uint64_t ops)
{
    uint64_t sum = 0;

    bytes_setup();
    for (uint64_t n = 0; n < ops; n++) {
        copy(g_copy, g_text);
        sum = mix(sum, crc32(g_copy, length(g_copy)));
        g_text[n % TEXT_BYTES] ^= 0x80;
        g_text[n % TEXT_BYTES] |= 1;
    }
    return sum;
}

const struct row rows_data[] = {
    {.name = "hash128k", .ops = 3000000, .setup = table_setup, .run = hash_small_run},
    {.name = "chase", .ops = 8000000, .setup = chase_setup, .run = chase_run},
    {.name = "objects", .ops = 6000000, .run = object_run},
    {.name = "bytes", .ops = 400, .run = bytes_run},
    {.name = "hash8m", .ops = 1000000, .setup = table_setup, .run = hash_large_run},
    {.name = "random8m", .ops = 3000000, .setup = table_setup, .run = random_run},
    {0},
};
