/* snapshot.c — CPUs, clocks and devices of a machine as sections of a state file.
 *
 * Sections: "machine" says what kind of machine it is, "vm", "cpuid" and
 * "vcpu.<n>" hold what the engine
 * has, "device.<kind>@<address>" each device on a bus, "pci.bus." and "pci.<kind>.<id>" the PCI bus
 * and what is on it, "place.<id>" where a device's own memory is.  Devices come first when saving:
 * one that finishes its requests still raises interrupts.
 */
#include "machine/snapshot.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/log.h"
#include "dev/memory/mem.h"
#include "dev/pci/pci.h"
#include "dev/virtio/virtio.h"
#include "hv/cpuid.h"
#include "hv/hv_state.h"
#include "machine/generation.h"
#include "machine/machine_int.h"
#include "state/state.h"
#include "x86/msr.h"

/* TSCs of vCPUs that are read one after the other differ by less; a guest that wants different
 * ones is further off, or has an adjustment. */
#define TSC_SKEW_MS 10u

/* --- what kind of machine it is --- */

struct shape {
    char *engine;
    unsigned vcpu_count;
    unsigned range_count;
    uint64_t gpa[MEM_RANGE_MAX];
    uint64_t len[MEM_RANGE_MAX];
    bool has_pci;
};

static void shape_fields(struct shape *shape, struct state *s)
{
    state_str(s, "engine", &shape->engine, 16);
    state_count(s, "vcpus", &shape->vcpu_count, HV_VCPU_MAX);
    state_count(s, "memory ranges", &shape->range_count, MEM_RANGE_MAX);
    for (unsigned i = 0; i < shape->range_count; i++) {
        STATE(s, shape->gpa[i]);
        STATE(s, shape->len[i]);
    }
    STATE(s, shape->has_pci);
}

static void shape_of(const struct machine *m, struct shape *ret_shape)
{
    *ret_shape = (struct shape){.vcpu_count = m->vcpu_count,
                                .range_count = mem_range_count(m->mem),
                                .has_pci = m->pci != NULL};
    for (unsigned i = 0; i < ret_shape->range_count; i++) {
        ret_shape->gpa[i] = mem_range_at(m->mem, i)->gpa.v;
        ret_shape->len[i] = mem_range_at(m->mem, i)->len;
    }
}

static int save_shape(struct machine *m, struct state_file *file, struct err *err)
{
    struct shape shape;
    struct state s;

    shape_of(m, &shape);
    shape.engine = strdup(machine_engine(m));
    state_save(file, &s, "machine");
    shape_fields(&shape, &s);
    free(shape.engine);
    return state_close(&s, err);
}

static int check_shape(const struct machine *m, struct state_file *file, struct err *err)
{
    struct shape saved = {0};
    struct shape mine;
    struct state s;
    int r = state_load(file, &s, err, "machine");

    if (r < 0) {
        return r;
    }
    shape_of(m, &mine);
    shape_fields(&saved, &s);
    if (!s.failed && (saved.vcpu_count != mine.vcpu_count || saved.has_pci != mine.has_pci)) {
        state_refuse(&s, "machine", "%u vCPUs%s instead of %u%s", saved.vcpu_count,
                     saved.has_pci ? " and PCI" : "", mine.vcpu_count,
                     mine.has_pci ? " and PCI" : "");
    }
    if (!s.failed && (saved.range_count != mine.range_count ||
                      memcmp(saved.gpa, mine.gpa, sizeof(mine.gpa)) != 0 ||
                      memcmp(saved.len, mine.len, sizeof(mine.len)) != 0)) {
        state_refuse(&s, "memory ranges", "not those of this configuration");
    }
    if (!s.failed && saved.engine && strcmp(saved.engine, machine_engine(m)) != 0) {
        log_info("a snapshot of the engine '%s' is loaded on '%s'", saved.engine,
                 machine_engine(m));
    }
    free(saved.engine);
    return state_close(&s, err);
}

/* --- devices --- */

typedef int (*device_fn)(struct state_file *file, struct device *dev, uint64_t at, struct err *err);

static int save_device(struct state_file *file, struct device *dev, uint64_t at, struct err *err)
{
    struct state s;

    state_save(file, &s, "device.%s@%llx", dev->ops->kind, (unsigned long long)at);
    dev->ops->save(dev, &s);
    return state_close(&s, err);
}

static int load_device(struct state_file *file, struct device *dev, uint64_t at, struct err *err)
{
    struct state s;
    int r = state_load(file, &s, err, "device.%s@%llx", dev->ops->kind, (unsigned long long)at);

    if (r == 0) {
        dev->ops->load(dev, &s);
        r = state_close(&s, err);
    }
    return r;
}

/* Plugged memory first: rings of others may lie in it. */
static bool is_memory(const char *kind)
{
    return strcmp(kind, MEM_KIND) == 0;
}

static int devices_on(const struct bus *bus, bool memory, struct state_file *file, device_fn fn,
                      struct err *err)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < bus->count; i++) {
        const struct bus_slot *slot = &bus->slots[i];

        if (slot->dev->ops->save && is_memory(slot->dev->ops->kind) == memory) {
            r = fn(file, slot->dev, slot->start, err);
        }
    }
    return r;
}

static int each_device(struct machine *m, struct state_file *file, device_fn fn, struct err *err)
{
    int r = devices_on(&m->mmio, true, file, fn, err);

    if (r == 0) {
        r = devices_on(&m->mmio, false, file, fn, err);
    }
    return r < 0 ? r : devices_on(&m->pio, false, file, fn, err);
}

/* One section of the PCI bus: `slot` NULL is the bus itself. */
static int pci_section(struct machine *m, const struct machine_slot *slot, struct state_file *file,
                       bool is_loading, struct err *err)
{
    struct state s;
    int r = 0;

    if (is_loading) {
        r = state_load(file, &s, err, "pci.%s.%s", slot ? slot->vdev->ops->kind : "bus",
                       slot ? slot->id : "");
    } else {
        state_save(file, &s, "pci.%s.%s", slot ? slot->vdev->ops->kind : "bus",
                   slot ? slot->id : "");
    }
    if (r < 0) {
        return r;
    }
    if (slot) {
        uint32_t number = slot->pci_number;

        state_u32(&s, "slot", &number);
        if (is_loading && number != slot->pci_number) {
            state_refuse(&s, "slot", "%u is taken", number);
        }
        pci_function_fields(slot->fn, &s);
    } else {
        pci_bus_fields(m->pci, &s);
    }
    return state_close(&s, err);
}

int machine_saved_pci_number(struct state_file *file, const struct machine_slot *slot)
{
    struct state s;
    uint32_t number = 0;
    int r = state_load(file, &s, NULL, "pci.%s.%s", slot->vdev->ops->kind, slot->id);

    if (r == 0) {
        state_u32(&s, "slot", &number);
    }
    return r < 0 || s.failed || number >= PCI_SLOT_COUNT ? -ENOENT : (int)number;
}

static int pci_sections(struct machine *m, struct state_file *file, bool is_loading,
                        struct err *err)
{
    int r = m->pci ? pci_section(m, NULL, file, is_loading, err) : 0;

    for (unsigned memory = 2; m->pci && memory-- > 0;) {
        for (unsigned i = 0; r == 0 && i < m->slot_count; i++) {
            if (is_memory(m->slots[i].vdev->ops->kind) == memory) {
                r = pci_section(m, &m->slots[i], file, is_loading, err);
            }
        }
    }
    return r;
}

int machine_check_saveable(const struct machine *m, struct err *err)
{
    char list[512] = "";
    size_t len = 0;

    for (unsigned i = 0; i < m->slot_count; i++) {
        const struct machine_slot *slot = &m->slots[i];

        if (!slot->vdev->ops->save && len < sizeof(list) - 1) {
            len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%s(id: %s)", len ? ", " : "",
                                    slot->vdev->ops->kind, slot->id);
        }
    }
    return list[0]
               ? err_set(err, -ENOTSUP, "Devices without snapshot support are present: %s", list)
               : 0;
}

/* --- CPUs --- */

static int save_vcpus(struct machine *m, struct state_file *file, struct err *err)
{
    for (unsigned i = 0; i < m->vcpu_count; i++) {
        AUTO_FREE struct cpu_state *cpu = calloc(1, sizeof(*cpu));
        int r = cpu ? hv_vcpu_get(m->vcpus[i].hv, cpu) : -ENOMEM;
        struct state s;

        if (r < 0) {
            return err_set(err, r, "state of vCPU %u: %s", i, strerror(-r));
        }
        state_save(file, &s, "vcpu.%u", i);
        cpu_state_fields(cpu, &s);
        r = state_close(&s, err);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int save_cpuid(struct machine *m, struct state_file *file, struct err *err)
{
    AUTO_FREE struct hv_cpuid *copy = malloc(sizeof(*copy));
    struct state s;

    if (!copy) {
        return err_set(err, -ENOMEM, "CPUID: out of memory");
    }
    *copy = *hv_vm_cpuid(m->vm);
    state_save(file, &s, "cpuid");
    cpuid_fields(copy, &s);
    return state_close(&s, err);
}

int machine_load_cpuid(struct state_file *file, struct hv_cpuid **ret_cpuid, struct err *err)
{
    AUTO_FREE struct hv_cpuid *cpuid = calloc(1, sizeof(*cpuid));
    struct state s;
    int r;

    if (!cpuid) {
        return err_set(err, -ENOMEM, "CPUID: out of memory");
    }
    r = state_load(file, &s, err, "cpuid");
    if (r == 0) {
        cpuid_fields(cpuid, &s);
        r = state_close(&s, err);
    }
    if (r == 0) {
        *ret_cpuid = TAKE_PTR(cpuid);
    }
    return r;
}

static int save_engine(struct machine *m, struct state_file *file, struct err *err)
{
    struct vm_state vm = {0};
    struct state s;
    int r = hv_vm_get(m->vm, &vm);

    if (r < 0) {
        return err_set(err, r, "state of the VM: %s", strerror(-r));
    }
    state_save(file, &s, "vm");
    vm_state_fields(&vm, &s);
    r = state_close(&s, err);
    if (r == 0) {
        r = save_cpuid(m, file, err);
    }
    return r < 0 ? r : save_vcpus(m, file, err);
}

static uint64_t *find_msr(struct cpu_state *cpu, uint32_t index)
{
    for (unsigned i = 0; i < cpu->msr_count; i++) {
        if (cpu->msr[i].index == index) {
            return &cpu->msr[i].value;
        }
    }
    return NULL;
}

/* One engine reads TSCs at one moment, the other one by one: those that are meant to be the same
 * become the same, so that no CPU sees another's time go backwards. */
static void align_tsc(struct cpu_state *cpu, uint64_t *first, uint64_t khz)
{
    uint64_t *tsc = find_msr(cpu, MSR_TSC);
    const uint64_t *adjust = find_msr(cpu, MSR_TSC_ADJUST);
    uint64_t gap;

    if (!tsc || (adjust && *adjust)) {
        return;
    }
    if (!*first) {
        *first = *tsc;
    }
    gap = *tsc > *first ? *tsc - *first : *first - *tsc;
    if (gap < khz * TSC_SKEW_MS) {
        *tsc = *first;
    }
}

static int load_vcpus(struct machine *m, struct state_file *file, uint64_t khz, struct err *err)
{
    uint64_t tsc = 0;

    for (unsigned i = 0; i < m->vcpu_count; i++) {
        AUTO_FREE struct cpu_state *cpu = calloc(1, sizeof(*cpu));
        struct state s;
        int r;

        if (!cpu) {
            return err_set(err, -ENOMEM, "vCPU %u: out of memory", i);
        }
        r = state_load(file, &s, err, "vcpu.%u", i);
        if (r == 0) {
            cpu_state_fields(cpu, &s);
            r = state_close(&s, err);
        }
        if (r < 0) {
            return r;
        }
        align_tsc(cpu, &tsc, khz);
        r = hv_vcpu_set(m->vcpus[i].hv, cpu);
        if (r < 0) {
            return err_set(err, r,
                           "vCPU %u: the engine '%s' on this host cannot take its state: %s", i,
                           machine_engine(m), strerror(-r));
        }
    }
    return 0;
}

static int load_engine(struct machine *m, struct state_file *file, bool advance_clock,
                       struct err *err)
{
    struct vm_state vm = {0};
    struct state s;
    int r = state_load(file, &s, err, "vm");

    if (r == 0) {
        vm_state_fields(&vm, &s);
        r = state_close(&s, err);
    }
    if (r == 0 && advance_clock) {
        int64_t passed = clock_wall_ns() - vm.wall_ns;

        vm.clock_ns += passed > 0 ? passed : 0;
    }
    if (r == 0) {
        r = hv_vm_set(m->vm, &vm, err);
    }
    return r < 0 ? r : load_vcpus(m, file, vm.tsc_khz, err);
}

/* --- all of it --- */

int machine_save(struct machine *m, struct state_file *file, struct err *err)
{
    int r = save_shape(m, file, err);

    if (r == 0) {
        r = machine_save_places(m, file, err);
    }
    if (r == 0) {
        r = each_device(m, file, save_device, err);
    }
    if (r == 0) {
        r = pci_sections(m, file, false, err);
    }
    return r < 0 ? r : save_engine(m, file, err);
}

int machine_load(struct machine *m, struct state_file *file, bool advance_clock, struct err *err)
{
    int r = check_shape(m, file, err);

    if (r == 0) {
        r = load_engine(m, file, advance_clock, err);
    }
    if (r == 0) {
        r = each_device(m, file, load_device, err);
    }
    if (r == 0) {
        r = pci_sections(m, file, true, err);
    }
    return r == 0 && m->generation_irq ? machine_renew_generation(m, err) : r;
}
