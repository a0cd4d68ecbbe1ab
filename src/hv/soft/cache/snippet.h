/* snippet.h — for tests: a few bytes of code in a small machine, run until HLT. */
#pragma once

#include "hv/soft/cache/code.h"
#include "hv/soft/cpu/fpu.h"
#include "hv/soft/mmu/mmu.h"
#include "tests/lib/soft_vm.h"
#include "tests/lib/test.h"

#define CODE  UINT64_C(0x400000)
#define DATA  UINT64_C(0x600000)
#define STACK UINT64_C(0x7f0000)

static inline void start(struct soft_vm *vm, const void *code, size_t len)
{
    soft_vm_init(vm);
    mmu_init(vm->v);
    fpu_reset(vm->v);
    CHECK_INT(code_cache_init(vm->v), 0);
    soft_vm_map_range(vm, CODE, CODE, 0x400000, PTE_RW | PTE_US);
    vm->v->rip = CODE;
    vm->v->gpr[GPR_RSP] = STACK;
    CHECK_INT(mem_write(vm->mem, GPA(CODE), code, len), 0);
}

static inline void finish(struct soft_vm *vm)
{
    code_cache_fini(vm->v);
    soft_vm_fini(vm);
}

/* Run until HLT; -1, or the vector of the exception that stopped it. */
static inline int run(struct soft_vm *vm)
{
    vm->v->halted = 0;
    if (_setjmp(vm->v->unwind)) {
        return vm->v->exc.vector;
    }
    while (!vm->v->halted && !vm->v->broken) {
        code_run(vm->v);
    }
    if (vm->v->broken) {
        fail_msg("%s", vm->v->why);
    }
    return -1;
}

#define START(vm, ...)                                \
    do {                                              \
        static const uint8_t code_[] = {__VA_ARGS__}; \
        start((vm), code_, sizeof(code_));            \
    } while (0)
