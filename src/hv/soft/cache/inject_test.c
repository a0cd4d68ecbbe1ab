/* inject_test.c — tables that inject.c keeps small are, and polls come for nothing. */
#include <stdlib.h>

#include "hv/soft/cache/code_int.h"
#include "hv/soft/cache/snippet.h"

#define JUMPS      200u
#define TINY       (1u << TINY_LOG2_MAX)
#define HASH_MAX   1024u
#define TURNS_MAX  100000u
#define INDIRECTS  64u
#define ANY_OBJECT 16 /* nobody looks at it */

static unsigned used_lookups(const struct vcpu *v)
{
    unsigned count = 0;

    for (unsigned i = 0; i < BLOCK_SLOTS; i++) {
        count += v->lookup[i].to != NULL;
    }
    return count;
}

static unsigned used_indirects(const struct vcpu *v, const void *unused)
{
    unsigned count = 0;

    for (unsigned i = 0; i < INDIRECT_SLOTS; i++) {
        count += v->indirect[TLB_SUPERVISOR][i] != unused;
    }
    return count;
}

/* jmp +0, often, and hlt */
static void write_jumps(struct soft_vm *vm)
{
    for (unsigned i = 0; i < JUMPS; i++) {
        CHECK_INT(mem_write(vm->mem, GPA(CODE + 2 * (uint64_t)i), "\xeb\x00", 2), 0);
    }
    CHECK_INT(mem_write(vm->mem, GPA(CODE + (uint64_t)2 * JUMPS), "\xf4", 1), 0);
}

TEST(inject, tables_are_tiny)
{
    for (uint64_t seed = 1; seed <= 8; seed++) {
        struct soft_vm vm;

        START(&vm, 0xf4);
        write_jumps(&vm);
        code_inject_seed(vm.v, seed);
        CHECK(vm.v->code->bucket_mask < HASH_MAX);
        for (unsigned round = 0; round < 8; round++) {
            vm.v->rip = CODE;
            CHECK_INT(run(&vm), -1);
            CHECK(used_lookups(vm.v) <= TINY);
        }
        finish(&vm);
    }
}

/* lea rax, [rip+2]; jmp rax: one after the other */
TEST(inject, few_indirect_branches_are_known_at_a_time)
{
    static const uint8_t jump[] = {0x48, 0x8d, 0x05, 2, 0, 0, 0, 0xff, 0xe0};
    const void *unused;
    struct soft_vm vm;

    START(&vm, 0xf4);
    if (!vm.v->emit) { /* EC1_SOFT_TIER=interp */
        finish(&vm);
        return;
    }
    vm.v->code->inject = 0; /* whatever the environment says */
    unused = vm.v->indirect[TLB_SUPERVISOR][0];
    for (unsigned i = 0; i < INDIRECTS; i++) {
        CHECK_INT(mem_write(vm.mem, GPA(CODE + i * sizeof(jump)), jump, sizeof(jump)), 0);
    }
    CHECK_INT(mem_write(vm.mem, GPA(CODE + INDIRECTS * sizeof(jump)), "\xf4", 1), 0);
    vm.v->code->heat = 1;
    for (unsigned pass = 0; pass < 2; pass++) {
        for (unsigned round = 0; round < 8; round++) {
            vm.v->rip = CODE;
            CHECK_INT(run(&vm), -1);
        }
        CHECK(pass == 0 ? used_indirects(vm.v, unused) > TINY
                        : used_indirects(vm.v, unused) <= TINY);
        code_cache_clear(vm.v);
        code_inject_seed(vm.v, 3);
    }
    finish(&vm);
}

TEST(inject, polls_come_for_nothing_where_somebody_serves_them)
{
    static uint64_t lapic[ANY_OBJECT];
    struct soft_vm vm;
    uint32_t seen = 0;

    START(&vm, 0xf4);
    vm.v->lapic = (void *)lapic;
    code_inject_seed(vm.v, 1);
    for (unsigned i = 0; i < TURNS_MAX && seen != (POLL_IRQ | POLL_SMC | POLL_STOP | POLL_KICK);
         i++) {
        (void)code_inject(vm.v);
        seen |= atomic_exchange(&vm.v->poll, 0);
    }
    CHECK_INT(seen, POLL_IRQ | POLL_SMC | POLL_STOP | POLL_KICK);
    vm.v->lapic = NULL;
    finish(&vm);
}
