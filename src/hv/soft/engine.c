/* engine.c — the software engine as a backend: VMs, vCPUs, interrupts from outside. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bits.h"
#include "hv/cpuid.h"
#include "hv/soft/cache/code.h"
#include "hv/soft/cpu/cpuid.h"
#include "hv/soft/cpu/msrs.h"
#include "hv/soft/cpu/regs.h"
#include "hv/soft/mmu/mmu.h"
#include "hv/soft/ref/code_view.h"
#include "hv/soft/soft.h"
#include "hv/soft/soft_int.h"
#include "mem/map.h"

#define VCPU_MAX   ((unsigned)HV_VCPU_MAX)
#define VCPU_ALIGN (2 * MIB)

#define CODE_LIMIT_ALL (768 * MIB) /* of all vCPUs, if it is enough for the least of each */
#define CODE_LIMIT_MAX (192 * MIB)
#define CODE_LIMIT_MIN (64 * MIB)

/* Any x86-64 Linux will do, if it lets a program make code: some policies forbid it. */
static int soft_probe(struct err *err)
{
    struct code_view view;
    int r = code_view_open(&view, "probe", GUEST_PAGE_SIZE);

    code_view_close(&view);
    return r < 0 ? err_set(err, r,
                           "this host does not let programs make code (a writable and an "
                           "executable view of one memfd): %s",
                           strerror(-r))
                 : 0;
}

static int write_guest(void *owner, uint64_t gpa, const void *data, unsigned len)
{
    struct soft_vm *vm = owner;

    return mem_write(vm->mem, GPA(gpa), data, len);
}

static void soft_vm_free(struct hv_vm *hv)
{
    struct soft_vm *vm = soft_vm_of(hv);

    mem_watch_set(vm->mem, NULL, NULL);
    soft_doorbells_fini(&vm->doorbells);
    intc_fini(&vm->intc);
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        if (vm->vcpu[i]) {
            smc_fini(&vm->vcpu[i]->smc);
            free(vm->vcpu[i]);
        }
    }
    cpuid_model_free(vm->cpuid);
    free(vm);
}

static int soft_vm_new(const struct hv_config *config, struct hv_vm **ret_vm, struct err *err)
{
    const struct hv_cpuid_vm cpuid = {.vcpu_count = config->vcpu_count,
                                      .has_smt = config->has_smt,
                                      .template = config->cpu_template,
                                      .saved = config->saved_cpuid};
    struct soft_vm *vm;
    int r;

    if (config->vcpu_count < 1 || config->vcpu_count > VCPU_MAX) {
        return err_set(err, -EINVAL, "%u vCPUs: the software engine runs %u", config->vcpu_count,
                       VCPU_MAX);
    }
    if (config->vcpu_count > 1 && code_lockstep_is_wanted()) {
        return err_set(err, -EINVAL, "EC1_SOFT_LOCKSTEP=1: %u vCPUs, but only 1 can be compared",
                       config->vcpu_count);
    }
    vm = calloc(1, sizeof(*vm));
    if (!vm) {
        return err_set(err, -ENOMEM, "software engine");
    }
    vm->hv.ops = &hv_soft_ops;
    vm->mem = config->mem;
    vm->client = config->client;
    vm->vcpu_count = config->vcpu_count;
    vm->count_runs = config->count_all;
    vm->cpu_template = config->cpu_template;
    soft_doorbells_init(&vm->doorbells);
    r = intc_init(&vm->intc, write_guest, vm, vm->client, err);
    if (r == 0) {
        r = cpuid_model_new(&cpuid, (uint32_t)(vm->intc.tsc.hz / 1000), &vm->cpuid, err);
    }
    if (r < 0) {
        soft_vm_free(&vm->hv);
        return r;
    }
    mem_watch_set(vm->mem, smc_note, vm);
    *ret_vm = &vm->hv;
    return 0;
}

/* The memory stays until vm_free(): the timer thread and devices may still signal this vCPU. */
static void soft_vcpu_free(struct hv_vcpu *hv)
{
    code_cache_fini(&soft_of(hv)->cpu);
}

/* A huge page of its own: the TLBs and the registers are touched all the time. */
static struct soft_vcpu *vcpu_alloc(void)
{
    size_t size = align_up(sizeof(struct soft_vcpu), VCPU_ALIGN);
    struct soft_vcpu *s = aligned_alloc(VCPU_ALIGN, size);

    if (s) {
        (void)madvise(s, size, MADV_HUGEPAGE);
        memset(s, 0, sizeof(*s));
    }
    return s;
}

/* Decoded blocks of a compiler take 130 MiB: forgetting them all in the midst of it costs a third
 * of its time.  Many vCPUs must not take the host's memory for that. */
static size_t code_limit(unsigned vcpu_count)
{
    size_t each = CODE_LIMIT_ALL / vcpu_count;

    return each > CODE_LIMIT_MAX ? CODE_LIMIT_MAX : each < CODE_LIMIT_MIN ? CODE_LIMIT_MIN : each;
}

/* MSRs that only answer are changed where they answer (cpu/msrs.c). */
static int apply_template(struct vcpu *cpu, const struct cpu_template *template, struct err *err)
{
    for (size_t i = 0; template && i < template->msr_count; i++) {
        const struct cpu_template_msr *change = &template->msrs[i];
        unsigned effects;
        uint64_t value;

        if (!msr_read(cpu, change->index, &value)) {
            return err_set(err, -ENOTSUP, CPU_TEMPLATE_NO_MSR, change->index);
        }
        (void)msr_write(cpu, change->index, (value & ~change->mask) | change->value, &effects);
    }
    return 0;
}

static int soft_vcpu_new(struct hv_vm *hv, unsigned index, struct hv_vcpu **ret_vcpu,
                         struct err *err)
{
    struct soft_vm *vm = soft_vm_of(hv);
    struct soft_vcpu *s;
    int r;

    if (index >= vm->vcpu_count || vm->vcpu[index]) {
        return err_set(err, -EINVAL, "vCPU %u: not one of %u, or already there", index,
                       vm->vcpu_count);
    }
    s = vcpu_alloc();
    if (!s) {
        return err_set(err, -ENOMEM, "vCPU %u", index);
    }
    s->hv.ops = &hv_soft_ops;
    s->vm = vm;
    s->cpu.mem = vm->mem;
    s->cpu.index = index;
    s->cpu.count_runs = vm->count_runs;
    s->cpu.code_limit = code_limit(vm->vcpu_count);
    s->cpu.cpuid = vm->cpuid;
    s->cpu.platform = &soft_platform;
    s->cpu.platform_owner = s;
    s->cpu.lapic = &s->lapic;
    s->cpu.wait_for_sipi = index > 0;
    lapic_init(&s->lapic, &vm->intc, index, &s->cpu.poll);
    s->cpu.has_host_tsc = lapic_mirror_tsc(&s->lapic, &s->cpu.tsc_offset);
    smc_init(&s->smc);
    mmu_init(&s->cpu);
    r = code_cache_init(&s->cpu);
    if (r < 0) {
        smc_fini(&s->smc);
        free(s);
        return err_set(err, r, "block cache of vCPU %u", index);
    }
    vcpu_reset(&s->cpu, false);
    vm->vcpu[index] = s; /* soft_vm_free() frees it */
    r = apply_template(&s->cpu, vm->cpu_template, err);
    if (r < 0) {
        return r;
    }
    *ret_vcpu = &s->hv;
    return 0;
}

static const char *soft_vcpu_why(const struct hv_vcpu *hv)
{
    const struct soft_vcpu *s = (const void *)hv; /* hv is its first member */

    return s->cpu.why;
}

static int soft_irq_set(struct hv_vm *hv, unsigned line, bool level)
{
    if (line >= HV_IRQ_LINES) {
        return -EINVAL;
    }
    intc_line(&soft_vm_of(hv)->intc, line, level);
    return 0;
}

static int soft_irq_pulse(struct hv_vm *hv, unsigned line)
{
    if (line >= HV_IRQ_LINES) {
        return -EINVAL;
    }
    intc_pulse(&soft_vm_of(hv)->intc, line);
    return 0;
}

static int soft_msi(struct hv_vm *hv, uint64_t address, uint32_t data)
{
    return intc_msi(&soft_vm_of(hv)->intc, address, data);
}

static int soft_doorbell_add(struct hv_vm *hv, const struct hv_doorbell *bell)
{
    return soft_doorbells_add(&soft_vm_of(hv)->doorbells, bell);
}

static int soft_doorbell_remove(struct hv_vm *hv, const struct hv_doorbell *bell)
{
    return soft_doorbells_remove(&soft_vm_of(hv)->doorbells, bell);
}

static const struct hv_cpuid *soft_vm_cpuid(const struct hv_vm *hv)
{
    return cpuid_table(((const struct soft_vm *)(const void *)hv)->cpuid);
}

/* The MMU marks before the first write to a page. */
static int soft_dirty_sync(struct hv_vm *hv)
{
    (void)hv;
    return 0;
}

static void soft_dirty_restart(struct hv_vm *hv)
{
    struct soft_vm *vm = soft_vm_of(hv);

    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        if (vm->vcpu[i]) {
            mmu_flush_all(&vm->vcpu[i]->cpu);
        }
    }
}

/* vCPUs find what came; what goes may still be in their TLBs. */
static int soft_slot_changed(struct hv_vm *hv, unsigned index, uint64_t slot)
{
    struct soft_vm *vm = soft_vm_of(hv);

    if (!mem_slot_is_there(mem_range_at(vm->mem, index), slot)) {
        smc_forget_all(vm);
    }
    return 0;
}

static int soft_extra_changed(struct hv_vm *hv, unsigned index)
{
    struct soft_vm *vm = soft_vm_of(hv);

    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        if (vm->vcpu[i]) {
            mmu_extra_changed(&vm->vcpu[i]->cpu, index);
        }
    }
    return 0;
}

const struct hv_ops hv_soft_ops = {
    .name = "soft",
    .vcpu_max = VCPU_MAX,
    .probe = soft_probe,
    .vm_new = soft_vm_new,
    .vm_free = soft_vm_free,
    .vcpu_new = soft_vcpu_new,
    .vcpu_free = soft_vcpu_free,
    .vcpu_run = soft_vcpu_run,
    .vcpu_kick = soft_vcpu_kick,
    .vcpu_get = soft_vcpu_get,
    .vcpu_set = soft_vcpu_set,
    .vcpu_paused = soft_vcpu_paused,
    .vm_cpuid = soft_vm_cpuid,
    .vm_get = soft_vm_get,
    .vm_set = soft_vm_set,
    .vm_go = soft_vm_go,
    .dirty_sync = soft_dirty_sync,
    .dirty_restart = soft_dirty_restart,
    .slot_changed = soft_slot_changed,
    .extra_changed = soft_extra_changed,
    .vcpu_why = soft_vcpu_why,
    .vcpu_counters = soft_vcpu_counters,
    .debug_set = soft_debug_set,
    .debug_arm = soft_debug_arm,
    .debug_disarm = soft_debug_disarm,
    .vcpu_stop = soft_vcpu_stop,
    .vcpu_set_regs = soft_vcpu_set_regs,
    .irq_set = soft_irq_set,
    .irq_pulse = soft_irq_pulse,
    .msi = soft_msi,
    .doorbell_add = soft_doorbell_add,
    .doorbell_remove = soft_doorbell_remove,
};
