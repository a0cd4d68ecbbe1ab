/* sys_vm.h — soft_vm.h plus descriptor tables, stacks and handlers: for tests of ref/.
 *
 * Low memory is mapped one to one, user-accessible from SYS_USER upwards.
 */
#pragma once

#include "hv/cpuid.h"
#include "hv/soft/cpu/cpuid.h"
#include "hv/soft/cpu/regs.h"
#include "hv/soft/mmu/mmu.h"
#include "tests/lib/soft_vm.h"
#include "tests/lib/test.h"

#define SYS_GDT    UINT64_C(0x10000)
#define SYS_IDT    UINT64_C(0x11000)
#define SYS_TSS_LA UINT64_C(0x12000)
#define SYS_DATA   UINT64_C(0x13000)
#define SYS_STACK0 UINT64_C(0x20000) /* tops of stacks */
#define SYS_IST1   UINT64_C(0x22000)
#define SYS_STACK3 UINT64_C(0x402000)
#define SYS_USER   UINT64_C(0x400000)

/* Selectors. */
#define SYS_KERNEL_CS   0x10
#define SYS_KERNEL_DS   0x18
#define SYS_KERNEL_CS32 0x20
#define SYS_USER_DS     0x28
#define SYS_USER_CS     0x30
#define SYS_ABSENT      0x38
#define SYS_TSS         0x40 /* 16 bytes */
#define SYS_LDT         0x50 /* 16 bytes, at SYS_DATA */
#define SYS_FRESH_DS    0x60 /* not accessed, base 0x123000 */

static inline void sys_vm_gdt(struct soft_vm *vm)
{
    soft_vm_poke(vm, SYS_GDT + SYS_KERNEL_CS, 0x00af9b000000ffff);
    soft_vm_poke(vm, SYS_GDT + SYS_KERNEL_DS, 0x00cf93000000ffff);
    soft_vm_poke(vm, SYS_GDT + SYS_KERNEL_CS32, 0x00cf9b000000ffff);
    soft_vm_poke(vm, SYS_GDT + SYS_USER_DS, 0x00cff3000000ffff);
    soft_vm_poke(vm, SYS_GDT + SYS_USER_CS, 0x00affb000000ffff);
    soft_vm_poke(vm, SYS_GDT + SYS_ABSENT, 0x00cf13000000ffff);
    soft_vm_poke(vm, SYS_GDT + SYS_TSS, 0x0000890000000067 | SYS_TSS_LA << 16);
    soft_vm_poke(vm, SYS_GDT + SYS_TSS + 8, 0);
    soft_vm_poke(vm, SYS_GDT + SYS_LDT, 0x0000820000000fff | SYS_DATA << 16);
    soft_vm_poke(vm, SYS_GDT + SYS_LDT + 8, 0);
    soft_vm_poke(vm, SYS_GDT + SYS_FRESH_DS, 0x00cf92123000ffff);
    vm->v->gdt = (struct cpu_table){.base = SYS_GDT, .limit = 0x67};
}

/* 64-bit gate for `vector`: handler at 0x8000 + vector * 16. */
static inline uint64_t sys_vm_gate(struct soft_vm *vm, unsigned vector, unsigned type, unsigned dpl,
                                   unsigned ist)
{
    uint64_t handler = 0x8000 + vector * 16;
    uint64_t at = SYS_IDT + vector * 16;

    soft_vm_poke(vm, at,
                 handler | (uint64_t)SYS_KERNEL_CS << 16 | (uint64_t)ist << 32 |
                     (uint64_t)(0x80 | dpl << 5 | type) << 40);
    soft_vm_poke(vm, at + 8, 0);
    return handler;
}

static inline void sys_vm_start(struct soft_vm *vm)
{
    struct hv_cpuid_vm shape = {.vcpu_count = 2};
    struct cpuid_model *model = NULL;
    struct err err = {0};

    soft_vm_init(vm);
    CHECK_OK(cpuid_model_new(&shape, 2000000, &model, &err), &err);
    vm->v->cpuid = model;
    mmu_init(vm->v);
    soft_vm_map_range(vm, 0x1000, 0x1000, SYS_STACK0 + 0x4000, PTE_RW);
    soft_vm_map_range(vm, SYS_USER, SYS_USER, 0x4000, PTE_RW | PTE_US);
    sys_vm_gdt(vm);
    vm->v->idt = (struct cpu_table){.base = SYS_IDT, .limit = 0xfff};
    vm->v->seg[SEG_TR] =
        (struct cpu_segment){.base = SYS_TSS_LA, .limit = 0x67, .attr = 0x8b, .selector = SYS_TSS};
    soft_vm_poke(vm, SYS_TSS_LA + 4, SYS_STACK0);
    soft_vm_poke(vm, SYS_TSS_LA + 36, SYS_IST1);
    vm->v->gpr[GPR_RSP] = SYS_STACK0 - 0x100;
    vm->v->rip = 0x5000;
}

static inline void sys_vm_stop(struct soft_vm *vm)
{
    struct cpuid_model *model = NULL;

    memcpy(&model, &vm->v->cpuid, sizeof(model));
    cpuid_model_free(model);
    soft_vm_fini(vm);
}

/* Go to 64-bit user mode. */
static inline void sys_vm_user(struct soft_vm *vm)
{
    vm->v->seg[SEG_CS] =
        (struct cpu_segment){.limit = UINT32_MAX, .attr = 0xa0fb, .selector = SYS_USER_CS | 3};
    vm->v->seg[SEG_SS] =
        (struct cpu_segment){.limit = UINT32_MAX, .attr = 0xc0f3, .selector = SYS_USER_DS | 3};
    vm->v->gpr[GPR_RSP] = SYS_STACK3 - 0x100;
    vm->v->rip = SYS_USER + 0x100;
    vm->v->cpl = 3;
    vcpu_update_mode(vm->v);
}
