/* soft_vm.h — a small machine for tests of hv/soft: RAM, page tables, one vCPU, and a log of what
 * it asked of the world.  Header-only; a test file that includes it owns its machine.
 */
#pragma once

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "hv/soft/cpu/vcpu.h"
#include "mem/map.h"
#include "x86/cr.h"
#include "x86/paging.h"

#define SOFT_VM_RAM  (UINT64_C(16) << 20)
#define SOFT_VM_PML4 UINT64_C(0x100000) /* tables are taken from here upwards */

struct soft_vm {
    struct mem_map *mem;
    struct vcpu *v;
    uint64_t next_table;
    /* the last access of each kind */
    struct {
        uint64_t address, value;
        unsigned len, count;
        bool is_write;
    } mmio, pio;
    struct {
        uint64_t gpa, len;
        unsigned count;
    } code_event; /* the last one */
    uint64_t mmio_answer, pio_answer;
    uint64_t cr8, tsc;
    uint32_t unhalted; /* the last APIC ID */
    struct {
        uint32_t index;
        uint64_t value;
        bool fault;
    } msr; /* the one MSR the platform has */
};

static inline struct soft_vm *soft_vm_of(struct vcpu *v)
{
    return v->platform_owner;
}

static inline void soft_vm_pio(struct vcpu *v, uint16_t port, void *data, unsigned len,
                               bool is_write)
{
    struct soft_vm *vm = soft_vm_of(v);

    vm->pio.address = port;
    vm->pio.len = len;
    vm->pio.is_write = is_write;
    vm->pio.count++;
    vm->pio.value = 0;
    if (is_write) {
        memcpy(&vm->pio.value, data, len);
    } else {
        memcpy(data, &vm->pio_answer, len);
    }
}

static inline void soft_vm_mmio(struct vcpu *v, gpa_t gpa, void *data, unsigned len, bool is_write)
{
    struct soft_vm *vm = soft_vm_of(v);

    vm->mmio.address = gpa.v;
    vm->mmio.len = len;
    vm->mmio.is_write = is_write;
    vm->mmio.count++;
    vm->mmio.value = 0;
    if (is_write) {
        memcpy(&vm->mmio.value, data, len);
    } else {
        memcpy(data, &vm->mmio_answer, len);
    }
}

static inline bool soft_vm_rdmsr(struct vcpu *v, uint32_t index, uint64_t *ret_value, bool *fault)
{
    struct soft_vm *vm = soft_vm_of(v);

    if (index != vm->msr.index) {
        return false;
    }
    *ret_value = vm->msr.value;
    *fault = vm->msr.fault;
    return true;
}

static inline bool soft_vm_wrmsr(struct vcpu *v, uint32_t index, uint64_t value, bool *fault)
{
    struct soft_vm *vm = soft_vm_of(v);

    if (index != vm->msr.index) {
        return false;
    }
    vm->msr.value = value;
    *fault = vm->msr.fault;
    return true;
}

static inline uint64_t soft_vm_cr8_get(struct vcpu *v)
{
    return soft_vm_of(v)->cr8;
}

static inline void soft_vm_cr8_set(struct vcpu *v, uint64_t value)
{
    soft_vm_of(v)->cr8 = value;
}

static inline int soft_vm_irq_take(struct vcpu *v)
{
    (void)v;
    return -1;
}

static inline bool soft_vm_irq_pending(struct vcpu *v)
{
    (void)v;
    return false;
}

static inline uint64_t soft_vm_tsc(struct vcpu *v)
{
    return soft_vm_of(v)->tsc;
}

static inline void soft_vm_code_event(struct vcpu *v, gpa_t gpa, uint64_t len)
{
    soft_vm_of(v)->code_event.gpa = gpa.v;
    soft_vm_of(v)->code_event.len = len;
    soft_vm_of(v)->code_event.count++;
}

static inline void soft_vm_unhalt(struct vcpu *v, uint32_t apic_id)
{
    soft_vm_of(v)->unhalted = apic_id;
}

static inline void soft_vm_wait(struct vcpu *v)
{
    (void)v;
}

static const struct vcpu_platform soft_vm_platform = {
    .pio = soft_vm_pio,
    .mmio = soft_vm_mmio,
    .rdmsr = soft_vm_rdmsr,
    .wrmsr = soft_vm_wrmsr,
    .cr8_get = soft_vm_cr8_get,
    .cr8_set = soft_vm_cr8_set,
    .irq_take = soft_vm_irq_take,
    .irq_pending = soft_vm_irq_pending,
    .code_event = soft_vm_code_event,
    .unhalt = soft_vm_unhalt,
    .tsc = soft_vm_tsc,
    .wait = soft_vm_wait,
};

/* 64-bit mode, paging on with empty tables, CPL 0, flat segments, WP and NXE and PGE on.  The
 * caller runs mmu_init(). */
static inline void soft_vm_init(struct soft_vm *vm)
{
    struct vcpu *v = aligned_alloc(64, (sizeof(struct vcpu) + 63) & ~(size_t)63);

    memset(vm, 0, sizeof(*vm));
    memset(v, 0, sizeof(*v));
    vm->mem = mem_map_new();
    vm->msr.index = UINT32_MAX;
    (void)mem_map_add(vm->mem, GPA(0), SOFT_VM_RAM, NULL);
    vm->v = v;
    vm->next_table = SOFT_VM_PML4 + 0x1000;
    v->mem = vm->mem;
    v->platform = &soft_vm_platform;
    v->platform_owner = vm;
    v->cr0 = CR0_PE | CR0_PG | CR0_WP | CR0_ET | CR0_NE;
    v->cr4 = CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT;
    v->efer = EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
    v->cr3 = SOFT_VM_PML4;
    v->rflags = FLAG_1;
    v->mode = MODE_LONG64;
    for (unsigned i = 0; i < SEG_TR; i++) {
        v->seg[i] = (struct cpu_segment){.limit = UINT32_MAX, .attr = 0xc093, .selector = 0x18};
    }
    v->seg[SEG_CS].attr = 0xa09b;
    v->seg[SEG_CS].selector = 0x10;
    v->seg[SEG_TR] = (struct cpu_segment){.limit = 0x67, .attr = 0x8b, .selector = 0x40};
    v->seg[SEG_LDTR].attr = SEG_ATTR_UNUSABLE;
}

static inline void soft_vm_fini(struct soft_vm *vm)
{
    free(vm->v);
    mem_map_free(vm->mem);
}

static inline uint64_t soft_vm_peek(struct soft_vm *vm, uint64_t gpa)
{
    uint64_t value = 0;

    (void)mem_read(vm->mem, GPA(gpa), &value, 8);
    return value;
}

static inline void soft_vm_poke(struct soft_vm *vm, uint64_t gpa, uint64_t value)
{
    (void)mem_write(vm->mem, GPA(gpa), &value, 8);
}

/* Guest physical address of the entry for la at the level of `shift` (12, 21, 30, 39), tables made
 * on the way down with all rights. */
static inline uint64_t soft_vm_entry(struct soft_vm *vm, uint64_t la, unsigned shift)
{
    uint64_t table = SOFT_VM_PML4;

    for (unsigned s = 39; s > shift; s -= 9) {
        uint64_t at = table + ((la >> s) & 511) * 8;

        if (!(soft_vm_peek(vm, at) & PTE_P)) {
            soft_vm_poke(vm, at, vm->next_table | PTE_P | PTE_RW | PTE_US);
            vm->next_table += 0x1000;
        }
        table = soft_vm_peek(vm, at) & PTE_ADDR;
    }
    return table + ((la >> shift) & 511) * 8;
}

/* Map one page; flags are those of the leaf, PTE_P included by itself.  Returns the entry's place.
 */
static inline uint64_t soft_vm_map(struct soft_vm *vm, uint64_t la, uint64_t gpa, uint64_t flags)
{
    uint64_t at = soft_vm_entry(vm, la, 12);

    soft_vm_poke(vm, at, gpa | flags | PTE_P);
    return at;
}

static inline void soft_vm_map_range(struct soft_vm *vm, uint64_t la, uint64_t gpa, uint64_t len,
                                     uint64_t flags)
{
    for (uint64_t o = 0; o < len; o += 4096) {
        (void)soft_vm_map(vm, la + o, gpa + o, flags);
    }
}

/* Did the statement raise?  The vector is then vm->v->exc.vector. */
#define SOFT_VM_RAISES(vm, statement) (_setjmp((vm)->v->unwind) ? true : ((void)(statement), false))
