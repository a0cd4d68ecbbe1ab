/* sweep_test.c — memory of blocks that hardly ran is used again, and nothing leads to them. */
#include <stdlib.h>

#include "hv/soft/cache/code_int.h"
#include "hv/soft/cache/snippet.h"

#define PIECES      4000u
#define ARENA_TEST  (2u << 20)
#define CALLS       60000u
#define CALL_BYTES  9u
#define CALLS_AT    (CODE + 0x1000)
#define LIMIT_TEST  (4u << 20)
#define LIMIT_SLACK (1u << 20)

static uint64_t g_seed = 0x2545f4914f6cdd1d;

static uint64_t next_random(void)
{
    g_seed ^= g_seed << 13;
    g_seed ^= g_seed >> 7;
    g_seed ^= g_seed << 17;
    return g_seed;
}

struct piece {
    uint8_t *at;
    size_t size;
    uint8_t fill;
};

static void check_and_free(struct arena *a, struct piece *p)
{
    for (size_t i = 0; i < p->size; i++) {
        CHECK_INT(p->at[i], p->fill);
    }
    arena_free(a, p->at, p->size);
    p->at = NULL;
}

/* Until it is full; each piece is filled with a number of its own. */
static size_t fill_arena(struct arena *a, struct piece *pieces)
{
    size_t count = 0;

    for (unsigned i = 0; i < PIECES; i++) {
        struct piece *p = &pieces[i];

        if (!p->at && !arena_is_full(a, ARENA_TEST, 8192)) { /* large ones may go above */
            *p = (struct piece){.size = 1 + next_random() % (next_random() % 8 ? 600 : 3000),
                                .fill = (uint8_t)next_random()};
            p->at = arena_alloc(a, p->size);
            CHECK(p->at && (uintptr_t)p->at % 16 == 0);
            memset(p->at, p->fill, p->size);
            count++;
        }
    }
    return count;
}

TEST(sweep, freed_pieces_are_used_again_and_others_are_left_alone)
{
    struct piece *pieces = calloc(PIECES, sizeof(*pieces));
    struct arena a;
    size_t first, again = 0;

    CHECK_INT(arena_init(&a, (size_t)2 * ARENA_TEST), 0);
    first = fill_arena(&a, pieces);
    CHECK(first > 1000);
    for (unsigned round = 0; round < 50; round++) {
        for (unsigned i = 0; i < PIECES; i++) {
            if (pieces[i].at && next_random() % 2) {
                check_and_free(&a, &pieces[i]);
            }
        }
        arena_rewind(&a);
        again += fill_arena(&a, pieces);
        CHECK(a.top <= ARENA_TEST + ARENA_TEST / 2 && a.in_use <= a.top);
    }
    CHECK(again > 50 * first / 4);
    for (unsigned i = 0; i < PIECES; i++) {
        if (pieces[i].at) {
            check_and_free(&a, &pieces[i]);
        }
    }
    CHECK_INT(a.in_use, 0);
    arena_fini(&a);
    free(pieces);
}

TEST(sweep, an_arena_that_is_full_says_so)
{
    struct arena a;
    void *p;

    CHECK_INT(arena_init(&a, ARENA_TEST), 0);
    CHECK(arena_alloc(&a, ARENA_TEST + 1) == NULL);
    p = arena_alloc(&a, ARENA_TEST);
    CHECK(p != NULL && arena_alloc(&a, 1) == NULL);
    CHECK(arena_is_full(&a, ARENA_TEST, 1));
    arena_free(&a, p, ARENA_TEST);
    CHECK(arena_alloc(&a, 1) == NULL); /* not before the next round */
    arena_rewind(&a);
    CHECK(!arena_is_full(&a, ARENA_TEST, 1));
    CHECK(arena_alloc(&a, 16) == a.base && arena_alloc(&a, 1) == a.base + 16);
    arena_reset(&a);
    CHECK(arena_alloc(&a, 1) == a.base);
    arena_fini(&a);
}

/* CODE: add ebx, 1; ret.  Then, often: inc eax; fnop; call CODE.  In the end hlt. */
static void write_calls(struct soft_vm *vm)
{
    uint8_t *bytes = malloc(CALLS * CALL_BYTES + 1);

    for (unsigned i = 0; i < CALLS; i++) {
        uint8_t *at = bytes + (size_t)i * CALL_BYTES;
        uint64_t after = CALLS_AT + (uint64_t)(i + 1) * CALL_BYTES;

        memcpy(at, "\xff\xc0\xd9\xd0\xe8", 5);
        store_le32(at + 5, (uint32_t)(CODE - after));
    }
    bytes[CALLS * CALL_BYTES] = 0xf4;
    CHECK_INT(mem_write(vm->mem, GPA(CALLS_AT), bytes, CALLS * CALL_BYTES + 1), 0);
    free(bytes);
}

TEST(sweep, code_that_runs_once_needs_little_memory)
{
    struct soft_vm vm;

    START(&vm, 0x83, 0xc3, 1, 0xc3);
    if (!vm.v->emit) { /* EC1_SOFT_TIER=interp */
        finish(&vm);
        return;
    }
    write_calls(&vm);
    vm.v->code->limit = LIMIT_TEST;
    vm.v->code->heat = 32;
    for (unsigned pass = 1; pass <= 3; pass++) {
        vm.v->rip = CALLS_AT;
        CHECK_INT(run(&vm), -1);
        CHECK_INT(vm.v->gpr[GPR_RAX], pass * CALLS);
        CHECK_INT(vm.v->gpr[GPR_RBX], pass * CALLS);
    }
    CHECK_INT(vm.v->stats.cache_clears, 0);
    CHECK(vm.v->stats.cache_sweeps >= 3 && vm.v->stats.blocks_swept > 2 * CALLS);
    CHECK_INT(vm.v->stats.blocks_translated, 1); /* what is called: it stayed */
    CHECK(vm.v->code->arena.top <= LIMIT_TEST + LIMIT_SLACK);
    CHECK_INT(vm.v->code->limit, LIMIT_TEST);
    finish(&vm);
}

TEST(sweep, code_that_stays_raises_the_limit)
{
    struct soft_vm vm;

    START(&vm, 0x83, 0xc3, 1, 0xc3);
    if (!vm.v->emit) {
        finish(&vm);
        return;
    }
    write_calls(&vm);
    vm.v->code->limit = LIMIT_TEST;
    vm.v->code->heat = 1; /* all is translated at once */
    vm.v->rip = CALLS_AT;
    CHECK_INT(run(&vm), -1);
    CHECK_INT(vm.v->gpr[GPR_RAX], CALLS);
    CHECK(vm.v->code->limit > LIMIT_TEST && vm.v->code->limit <= vm.v->code->arena.bytes);
    CHECK_INT(vm.v->stats.cache_clears, 0);
    finish(&vm);
}
