/* hv.h — the seam between a machine and whatever executes its instructions.
 *
 * A backend (hv/kvm, hv/soft) answers with one constant `struct hv_ops`; nothing above this header
 * names a backend, save machine/backend.c, which chooses one.  A backend brings CPUs with their
 * local APICs, one I/O APIC with 24 lines at 0xfec00000, CPUID (hv/cpuid.h) and MSRs for Linux
 * guests, kvm-clock.
 *
 * Life: vm_new -> vcpu_new for each index -> vcpu_set for index 0 -> one thread per vCPU loops in
 * vcpu_run -> threads joined -> vcpu_free -> vm_free.  Index 0 is the boot processor; the others
 * wait for INIT-SIPI, inside vcpu_run.
 *
 * Threads: vcpu_run, vcpu_get, vcpu_set on the vCPU's own thread (get and set also from another
 * thread while no thread is in vcpu_run).  vcpu_kick, irq_set, irq_pulse, msi from any thread at
 * any time between new and free; so may doorbell_add and doorbell_remove.
 *
 * Errors: negative errno.  Guest misbehaviour is never an error of these functions: it is an exit.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "hv/cpu_state.h"
#include "hv/hv_debug.h"
#include "hv/vm_state.h"
#include "mem/addr.h"

struct cpu_template;
struct hv_cpuid;
struct mem_map;
struct hv_vm;   /* each backend's struct starts with one, below */
struct hv_vcpu; /* likewise */

#define HV_VCPU_MAX 32

/* What a CPU asks of the machine around it.  Called on the vCPU's thread; `len` is 1, 2, 4 or 8
 * (pio: never 8), an access never crosses a page.  Reads fill `data` completely. */
struct hv_client {
    void (*pio)(void *owner, uint16_t port, void *data, unsigned len, bool is_write);
    void (*mmio)(void *owner, gpa_t gpa, void *data, unsigned len, bool is_write);
    /* First of all on a thread that the backend makes for itself; may be NULL. */
    void (*enter_thread)(void *owner);
    void *owner;
};

/* Instead of calling client->mmio, signal `eventfd` when the guest writes `match`, `len` bytes
 * wide, at gpa.  The descriptor stays the caller's. */
struct hv_doorbell {
    gpa_t gpa;
    unsigned len; /* 2 or 4 */
    uint32_t match;
    int eventfd;
};

/* Why vcpu_run came back.  I/O and HLT never do: I/O goes through struct hv_client, a halted vCPU
 * waits inside. */
enum hv_exit {
    HV_EXIT_KICKED,       /* somebody called vcpu_kick */
    HV_EXIT_DEBUG,        /* it stopped for the debugger; hv_vcpu_stop() says why */
    HV_EXIT_TRIPLE_FAULT, /* the guest shut its CPU down */
    HV_EXIT_BROKEN,       /* the backend cannot go on; hv_vcpu_why() says why */
};

/* What this VM has; fixed for its life. */
struct hv_config {
    struct mem_map *mem;            /* outlives the VM */
    unsigned vcpu_count;            /* 1 to HV_VCPU_MAX */
    const struct hv_client *client; /* outlives the VM */
    bool count_all;                 /* count also what slows the guest down; see vcpu_counters */
    bool has_smt;                   /* two threads per core, unless there is one vCPU */
    const struct cpu_template
        *cpu_template; /* changes to CPUID and MSRs; NULL: none.  Outlives the VM */
    /* What the guest of a snapshot was shown; NULL: it is new.  For the time of the calls that make
     * VM and vCPUs. */
    const struct hv_cpuid *saved_cpuid;
};

/* A number about a vCPU, for people: a backend names what it counts, and nobody else knows these
 * names. */
#define HV_COUNTER_MAX 40
struct hv_counter {
    const char *name;
    uint64_t value;
};

struct hv_ops {
    const char *name;  /* "kvm", "soft" */
    unsigned vcpu_max; /* what this backend can run, at most HV_VCPU_MAX */
    /* Can this host run it?  0, or an error that says why not and how to mend it. */
    int (*probe)(struct err *err);
    int (*vm_new)(const struct hv_config *config, struct hv_vm **ret_vm, struct err *err);
    void (*vm_free)(struct hv_vm *vm);
    int (*vcpu_new)(struct hv_vm *vm, unsigned index, struct hv_vcpu **ret_vcpu, struct err *err);
    void (*vcpu_free)(struct hv_vcpu *vcpu);
    int (*vcpu_run)(struct hv_vcpu *vcpu, enum hv_exit *ret_exit);
    /* Make the current or the next vcpu_run return HV_EXIT_KICKED soon.  Async-signal-safe. */
    void (*vcpu_kick)(struct hv_vcpu *vcpu);
    int (*vcpu_get)(struct hv_vcpu *vcpu, struct cpu_state *ret_state);
    int (*vcpu_set)(struct hv_vcpu *vcpu, const struct cpu_state *state);
    /* The machine was paused: tell the guest, if it wants to know, that this CPU stood still, so
     * that its watchdogs are not alarmed.  While no thread is in vcpu_run. */
    void (*vcpu_paused)(struct hv_vcpu *vcpu);
    /* What the guest is shown: the same for all vCPUs but for their ids. */
    const struct hv_cpuid *(*vm_cpuid)(const struct hv_vm *vm);
    /* The VM's own state, while no thread is in vcpu_run.  After vm_get, vcpu_get tells each TSC as
     * it was at that moment.  vm_set comes before the vcpu_set of all vCPUs: clocks stand still as
     * set, until vm_go.  vm_go before the next vcpu_run after any of both. */
    int (*vm_get)(struct hv_vm *vm, struct vm_state *ret_state);
    int (*vm_set)(struct hv_vm *vm, const struct vm_state *state, struct err *err);
    void (*vm_go)(struct hv_vm *vm);
    /* Where mem tracks dirty pages, and no thread is in vcpu_run.  dirty_sync: mark in it what the
     * guest has written up to now.  dirty_restart: the marks were cleared, what is written from now
     * on is to be marked again. */
    int (*dirty_sync)(struct hv_vm *vm);
    void (*dirty_restart)(struct hv_vm *vm);
    /* A slot of the RAM range `index` of mem came or is to go.  Any thread, while vCPUs run: one
     * that found a slot that goes may use its memory for a moment longer. */
    int (*slot_changed)(struct hv_vm *vm, unsigned index, uint64_t slot);
    /* The extra range `index` of mem was added, or removed (its len is 0).  While no thread is in
     * vcpu_run. */
    int (*extra_changed)(struct hv_vm *vm, unsigned index);
    /* One sentence about the last HV_EXIT_BROKEN; "" if there was none. */
    const char *(*vcpu_why)(const struct hv_vcpu *vcpu);
    /* What this vCPU counted since it was made: at most HV_COUNTER_MAX, for each vCPU of a VM the
     * same names in the same order.  Returns how many.  While no thread is in vcpu_run. */
    size_t (*vcpu_counters)(const struct hv_vcpu *vcpu, struct hv_counter *ret_counters);
    /* A debugger's calls, all of them while no thread is in vcpu_run.  debug_set: these breakpoints
     * and no others, from the next debug_arm on; -ENOSPC: more than this backend can have, and then
     * nothing has changed.  debug_arm, before the next vcpu_run of any: the vCPUs whose bit is
     * set in `step` execute one instruction, without interrupts, and stop again; one that waits in
     * HLT first waits for what wakes it.  debug_disarm: guest memory holds nothing of
     * the debugger's. */
    int (*debug_set)(struct hv_vm *vm, const struct hv_debug *debug);
    int (*debug_arm)(struct hv_vm *vm, uint32_t step);
    void (*debug_disarm)(struct hv_vm *vm);
    /* Why the last vcpu_run ended with HV_EXIT_DEBUG. */
    struct hv_stop (*vcpu_stop)(const struct hv_vcpu *vcpu);
    /* A part of vcpu_set, for a vCPU that goes on running: general, segment and control registers,
     * EFER, debug registers, vector and x87 state, KERNEL_GS_BASE.  If RIP is another one, it is
     * not halted any more. */
    int (*vcpu_set_regs)(struct hv_vcpu *vcpu, const struct cpu_state *state);
    /* Level of an I/O APIC input, 0 to HV_IRQ_LINES - 1. */
    int (*irq_set)(struct hv_vm *vm, unsigned line, bool level);
    /* One edge on an I/O APIC input: cheaper than two irq_set. */
    int (*irq_pulse)(struct hv_vm *vm, unsigned line);
    /* A message-signalled interrupt (SDM volume 3, 11.11). */
    int (*msi)(struct hv_vm *vm, uint64_t address, uint32_t data);
    int (*doorbell_add)(struct hv_vm *vm, const struct hv_doorbell *bell);
    /* The same bell again: after return its eventfd is not signalled any more.  -ENOENT. */
    int (*doorbell_remove)(struct hv_vm *vm, const struct hv_doorbell *bell);
};

/* First member of every backend's struct: which backend this is. */
struct hv_vm {
    const struct hv_ops *ops;
};

struct hv_vcpu {
    const struct hv_ops *ops;
};

/* The calls, so that users need not reach into ops. */
int hv_vm_new(const struct hv_ops *ops, const struct hv_config *config, struct hv_vm **ret_vm,
              struct err *err);
void hv_vm_free(struct hv_vm *vm);
int hv_vcpu_new(struct hv_vm *vm, unsigned index, struct hv_vcpu **ret_vcpu, struct err *err);
void hv_vcpu_free(struct hv_vcpu *vcpu);
int hv_vcpu_run(struct hv_vcpu *vcpu, enum hv_exit *ret_exit);
void hv_vcpu_kick(struct hv_vcpu *vcpu);
int hv_vcpu_get(struct hv_vcpu *vcpu, struct cpu_state *ret_state);
int hv_vcpu_set(struct hv_vcpu *vcpu, const struct cpu_state *state);
void hv_vcpu_paused(struct hv_vcpu *vcpu);
const struct hv_cpuid *hv_vm_cpuid(const struct hv_vm *vm);
int hv_vm_get(struct hv_vm *vm, struct vm_state *ret_state);
int hv_vm_set(struct hv_vm *vm, const struct vm_state *state, struct err *err);
void hv_vm_go(struct hv_vm *vm);
int hv_dirty_sync(struct hv_vm *vm);
void hv_dirty_restart(struct hv_vm *vm);
int hv_slot_changed(struct hv_vm *vm, unsigned index, uint64_t slot);
int hv_extra_changed(struct hv_vm *vm, unsigned index);
const char *hv_vcpu_why(const struct hv_vcpu *vcpu);
size_t hv_vcpu_counters(const struct hv_vcpu *vcpu, struct hv_counter *ret_counters);
int hv_debug_set(struct hv_vm *vm, const struct hv_debug *debug);
int hv_debug_arm(struct hv_vm *vm, uint32_t step);
void hv_debug_disarm(struct hv_vm *vm);
struct hv_stop hv_vcpu_stop(const struct hv_vcpu *vcpu);
int hv_vcpu_set_regs(struct hv_vcpu *vcpu, const struct cpu_state *state);
int hv_irq_set(struct hv_vm *vm, unsigned line, bool level);
int hv_irq_pulse(struct hv_vm *vm, unsigned line);
int hv_msi(struct hv_vm *vm, uint64_t address, uint32_t data);
int hv_doorbell_add(struct hv_vm *vm, const struct hv_doorbell *bell);
int hv_doorbell_remove(struct hv_vm *vm, const struct hv_doorbell *bell);

/* State at power-on of a 64-bit boot as Linux's boot protocol wants it
 * (Documentation/arch/x86/boot, "64-bit boot protocol") is made by boot/; this one is the reset
 * state of SDM volume 3, table 10-1. */
void cpu_state_reset(struct cpu_state *state);
