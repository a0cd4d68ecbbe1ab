/* do_machine.c — machine-config: how many CPUs, how much memory, of what kind. */
#include <errno.h>

#include "config/vm_config.h"
#include "vmm/microvm_int.h"

static int check_machine(const struct microvm *vm, const struct resource_machine *machine,
                         struct err *err)
{
    bool wants_big = machine->huge_pages != PAGES_NONE;

    if (machine->vcpu_count < 1 || machine->vcpu_count > CONFIG_VCPU_MAX ||
        (machine->smt && machine->vcpu_count > 1 && machine->vcpu_count % 2)) {
        return err_set(err, -EINVAL,
                       "The number of vCPUs must be greater than 0, less than %d and must be 1 or "
                       "an even number if SMT is enabled.",
                       CONFIG_VCPU_MAX);
    }
    if (!machine->mem_size_mib || (wants_big && machine->mem_size_mib % 2)) {
        return err_set(err, -EINVAL,
                       "The memory size (MiB) is either 0, or not a multiple of the configured "
                       "page size.");
    }
    if (vm->resources.has_balloon && machine->mem_size_mib < vm->resources.balloon.amount_mib) {
        return err_set(err, -EINVAL,
                       "The memory size (MiB) is smaller than the previously set balloon device "
                       "target size.");
    }
    return 0;
}

static int keep(struct microvm *vm, const struct resource_machine *machine, bool names_template,
                struct err *err)
{
    int r = check_machine(vm, machine, err);

    if (r == 0) {
        vm->resources.machine = *machine;
        if (names_template) {
            microvm_cpu_fini(vm); /* the later one wins */
        }
    }
    return r;
}

int do_put_machine(struct microvm *vm, const struct action *action, struct err *err)
{
    struct resource_machine machine = *action->machine;

    if (!machine.has_cpu_template) {
        machine.cpu_template = vm->resources.machine.cpu_template;
    }
    return keep(vm, &machine, action->machine->has_cpu_template, err);
}

int do_patch_machine(struct microvm *vm, const struct action *action, struct err *err)
{
    const struct resource_machine *patch = action->machine;
    struct resource_machine machine = vm->resources.machine;

    if (!patch->has_vcpu_count && !patch->has_mem_size_mib && !patch->has_smt &&
        !patch->has_cpu_template && !patch->has_track_dirty_pages && !patch->has_huge_pages) {
        return microvm_fault(vm, err, -EINVAL, "Empty PATCH request.");
    }
    if (patch->has_vcpu_count) {
        machine.vcpu_count = patch->vcpu_count;
    }
    if (patch->has_mem_size_mib) {
        machine.mem_size_mib = patch->mem_size_mib;
    }
    if (patch->has_smt) {
        machine.smt = patch->smt;
    }
    if (patch->has_cpu_template) {
        machine.cpu_template = patch->cpu_template;
    }
    if (patch->has_track_dirty_pages) {
        machine.track_dirty_pages = patch->track_dirty_pages;
    }
    if (patch->has_huge_pages) {
        machine.huge_pages = patch->huge_pages;
    }
    return keep(vm, &machine, action->machine->has_cpu_template, err);
}
