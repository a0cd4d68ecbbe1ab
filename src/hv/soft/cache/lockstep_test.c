/* lockstep_test.c — translations in lockstep with the interpreter: what is compared, what is left
 * out, and that a translation which is wrong is found. */
#include <stdlib.h>

#include "hv/soft/cache/code_int.h"
#include "hv/soft/cache/snippet.h"
#include "hv/soft/emit/emit_int.h"

#define DEVICE UINT64_C(0xfee00000)
#define SPLIT  UINT64_C(0x10000000) /* for what crosses a page */

#define START_LOCKSTEP(vm, ...)                            \
    do {                                                   \
        CHECK_INT(setenv("EC1_SOFT_LOCKSTEP", "1", 1), 0); \
        START((vm), __VA_ARGS__);                          \
        CHECK_INT(unsetenv("EC1_SOFT_LOCKSTEP"), 0);       \
        (vm)->v->code->heat = (vm)->v->emit ? 1 : 0;       \
        if (!(vm)->v->emit) { /* EC1_SOFT_TIER=interp */   \
            CHECK(!(vm)->v->is_lockstep);                  \
            finish(vm);                                    \
            return;                                        \
        }                                                  \
    } while (0)

/* The number that the translation of the block at CODE holds becomes another one. */
static void corrupt(struct soft_vm *vm, const void *is, const void *becomes, size_t len)
{
    const struct block *b =
        code_find(vm->v->code, mem_ptr(vm->mem, GPA(CODE), 1), CODE, block_mode_key(vm->v));
    uint8_t *at;

    CHECK(b && b->code);
    at = memmem(b->code->body, 256, is, len);
    CHECK(at);
    memcpy(at, becomes, len);
}

/* What is wrong with the VM after another run from CODE. */
static const char *run_broken(struct soft_vm *vm)
{
    vm->v->rip = CODE;
    vm->v->halted = 0;
    if (_setjmp(vm->v->unwind) == 0) {
        while (!vm->v->halted && !vm->v->broken) {
            code_run(vm->v);
        }
    }
    CHECK(vm->v->broken);
    return vm->v->why;
}

TEST(lockstep, translations_are_compared_and_stores_are_made_once)
{
    struct soft_vm vm;

    /* mov ecx, 100; l: inc dword [DATA]; push rcx; pop rdx; lock add [DATA+8], rdx; dec ecx; jnz l;
     * hlt */
    START_LOCKSTEP(&vm, 0xb9, 100, 0, 0, 0, 0xff, 0x04, 0x25, 0, 0, 0x60, 0, 0x51, 0x5a, 0xf0, 0x48,
                   0x01, 0x14, 0x25, 8, 0, 0x60, 0, 0xff, 0xc9, 0x75, 0xea, 0xf4);
    CHECK_INT(run(&vm), -1);
    CHECK_INT(soft_vm_peek(&vm, DATA), 100);
    CHECK_INT(soft_vm_peek(&vm, DATA + 8), 5050);
    CHECK(vm.v->stats.lockstep_compared >= 100);
    CHECK_INT(vm.v->stats.lockstep_repeated, 0);
    CHECK_INT(vm.v->stats.links, 0);
    finish(&vm);
}

TEST(lockstep, translations_of_several_blocks_are_compared)
{
    const struct block *b;
    struct soft_vm vm;

    /* mov ecx, 1000; l: test cl, 3; jz 1f; add eax, 2; 1: inc eax; dec ecx; jnz l; hlt */
    START_LOCKSTEP(&vm, 0xb9, 0xe8, 3, 0, 0, 0xf6, 0xc1, 3, 0x74, 3, 0x83, 0xc0, 2, 0xff, 0xc0,
                   0xff, 0xc9, 0x75, 0xf2, 0xf4);
    vm.v->code->heat = 16;
    CHECK_INT(run(&vm), -1);
    CHECK_INT(vm.v->gpr[GPR_RAX], 2500);
    CHECK(vm.v->stats.lockstep_compared > 900);
    b = code_find(vm.v->code, mem_ptr(vm.mem, GPA(CODE + 5), 1), CODE + 5, block_mode_key(vm.v));
    CHECK(b && b->code && b->look[LOOK_PARTS].end > b->look[LOOK_PARTS].first);
    finish(&vm);
}

TEST(lockstep, devices_are_asked_once_and_not_compared)
{
    struct soft_vm vm;

    /* mov ecx, 5; l: mov [DATA], ecx; mov eax, [rdi]; dec ecx; jnz l; hlt */
    START_LOCKSTEP(&vm, 0xb9, 5, 0, 0, 0, 0x89, 0x0c, 0x25, 0, 0, 0x60, 0, 0x8b, 0x07, 0xff, 0xc9,
                   0x75, 0xf3, 0xf4);
    (void)soft_vm_map(&vm, DEVICE, DEVICE, PTE_RW);
    vm.v->gpr[GPR_RDI] = DEVICE;
    CHECK_INT(run(&vm), -1);
    CHECK_INT(vm.mmio.count, 5);
    CHECK_INT(vm.v->gpr[GPR_RCX], 0);
    CHECK(vm.v->stats.lockstep_skipped >= 4);
    finish(&vm);
}

TEST(lockstep, a_split_lock_that_reaches_a_device_is_let_go)
{
    struct soft_vm vm;

    /* mov ecx, 3; l: lock add dword [rdi], 1; dec ecx; jnz l; hlt */
    START_LOCKSTEP(&vm, 0xb9, 3, 0, 0, 0, 0xf0, 0x83, 0x07, 1, 0xff, 0xc9, 0x75, 0xf8, 0xf4);
    (void)soft_vm_map(&vm, SPLIT, DATA, PTE_RW);
    (void)soft_vm_map(&vm, SPLIT + 0x1000, DEVICE, PTE_RW);
    vm.v->gpr[GPR_RDI] = SPLIT + 0xffe;
    CHECK_INT(run(&vm), -1);
    CHECK_INT(vm.v->gpr[GPR_RCX], 0);
    CHECK_INT(soft_vm_peek(&vm, DATA + 0xff8) >> 48, 3);
    finish(&vm);
}

TEST(lockstep, exceptions_are_compared_and_raised)
{
    struct soft_vm vm;

    /* mov [DATA], esp; mov eax, [rdi] */
    START_LOCKSTEP(&vm, 0x89, 0x24, 0x25, 0, 0, 0x60, 0, 0x8b, 0x07);
    vm.v->gpr[GPR_RDI] = 0x10000000;
    CHECK_INT(run(&vm), EXC_PF);
    CHECK_INT(vm.v->exc.cr2, 0x10000000);
    CHECK_INT(vm.v->rip, CODE + 7);
    CHECK_INT(soft_vm_peek(&vm, DATA), STACK);
    CHECK_INT(vm.v->stats.lockstep_compared, 1);
    finish(&vm);
}

TEST(lockstep, code_that_writes_itself_runs)
{
    struct soft_vm vm;

    /* mov ecx, 2; l: mov eax, 1; add ebx, eax; mov byte [l+1], 9; dec ecx; jnz l; hlt */
    START_LOCKSTEP(&vm, 0xb9, 2, 0, 0, 0, 0xb8, 1, 0, 0, 0, 0x01, 0xc3, 0xc6, 0x05, 0xf3, 0xff,
                   0xff, 0xff, 9, 0xff, 0xc9, 0x75, 0xee, 0xf4);
    CHECK_INT(run(&vm), -1);
    CHECK_INT(vm.v->gpr[GPR_RBX], 10);
    finish(&vm);
}

TEST(lockstep, flags_that_only_the_whole_translation_knows_to_be_dead_are_left_out)
{
    struct soft_vm vm;

    /* mov ecx, 100; l: mov al, 0x8d; add al, 0xf3; minsd xmm1, [rsp - 0x6f]; call f; loop l; hlt;
     * f: and edx, 0x3f; ret */
    START_LOCKSTEP(&vm, 0xb9, 100, 0, 0, 0, 0xb0, 0x8d, 0x04, 0xf3, 0xf2, 0x0f, 0x5d, 0x4c, 0x24,
                   0x91, 0xe8, 3, 0, 0, 0, 0xe2, 0xef, 0xf4, 0x83, 0xe2, 0x3f, 0xc3);
    /* The check that MINSD and CALL share misses until there is a rest without it. */
    (void)soft_vm_map(&vm, SPLIT, DATA, PTE_RW);
    (void)soft_vm_map(&vm, SPLIT + 0x1000, DATA + 0x1000, PTE_RW);
    vm.v->gpr[GPR_RSP] = SPLIT + 0x1020;
    CHECK_INT(run(&vm), -1);
    CHECK_INT(vm.v->gpr[GPR_RCX], 0);
    CHECK(vm.v->stats.lockstep_compared > 4);
    finish(&vm);
}

TEST(lockstep, a_wrong_register_is_found)
{
    struct soft_vm vm;

    /* mov eax, 11223344h; hlt */
    START_LOCKSTEP(&vm, 0xb8, 0x44, 0x33, 0x22, 0x11, 0xeb, 0, 0xf4);
    CHECK_INT(run(&vm), -1);
    corrupt(&vm, "\x44\x33\x22\x11", "\x45\x33\x22\x11", 4);
    CHECK_STR(run_broken(&vm), "lockstep: translated from 0x400000, RAX is 0x11223345, interpreted "
                               "0x11223344; code: b844332211eb00");
    CHECK_INT(vm.v->stats.lockstep_repeated, 1);
    finish(&vm);
}

TEST(lockstep, a_wrong_store_is_found)
{
    struct soft_vm vm;

    /* mov dword [DATA], 11223344h; jmp +0; hlt */
    START_LOCKSTEP(&vm, 0xc7, 0x04, 0x25, 0, 0, 0x60, 0, 0x44, 0x33, 0x22, 0x11, 0xeb, 0, 0xf4);
    CHECK_INT(run(&vm), -1);
    corrupt(&vm, "\x44\x33\x22\x11", "\x44\x33\x22\x91", 4);
    CHECK(strstr(run_broken(&vm), "a byte in memory is 0x91, interpreted 0x11"));
    finish(&vm);
}

TEST(lockstep, wrong_flags_are_found_if_they_are_live)
{
    struct soft_vm vm;

    /* cmp eax, 11223344h; call +0; setz bl; hlt */
    START_LOCKSTEP(&vm, 0x3d, 0x44, 0x33, 0x22, 0x11, 0xe8, 0, 0, 0, 0, 0x0f, 0x94, 0xc3, 0xf4);
    vm.v->gpr[GPR_RAX] = 0x11223344;
    CHECK_INT(run(&vm), -1);
    CHECK_INT(vm.v->gpr[GPR_RBX] & 0xff, 1);
    vm.v->gpr[GPR_RAX] = 0x11223344;
    corrupt(&vm, "\x44\x33\x22\x11", "\x45\x33\x22\x11", 4);
    CHECK(strstr(run_broken(&vm), "flags (AH of LAHF, OF) is"));
    finish(&vm);
}
