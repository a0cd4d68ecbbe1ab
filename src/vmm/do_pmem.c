/* do_pmem.c — pmem: the file is opened when the machine starts, or when it is plugged into one that
 * runs.  The texts are the interface's. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "host/pmem_file.h"
#include "vmm/microvm_int.h"

/* What the machine calls it (dev/memory/pmem.h). */
#define PMEM_KIND "virtio-pmem"

#define BLOCK_IS_ROOT \
    "Attempt to add pmem as a root device while the root device defined as a block device"

void microvm_close_pmems(struct microvm *vm)
{
    for (unsigned i = 0; vm->pmem_ports && i < vm->resources.pmem_count; i++) {
        pmem_port_free(vm->pmem_ports[i]);
    }
    free(vm->pmem_ports);
    vm->pmem_ports = NULL;
}

/* `pmem_count` if there is none. */
static unsigned find_pmem(const struct microvm *vm, const char *id)
{
    unsigned i = 0;

    while (i < vm->resources.pmem_count && strcmp(vm->resources.pmems[i].id, id) != 0) {
        i++;
    }
    return i;
}

static int check_root(const struct microvm *vm, const struct resource_pmem *pmem, unsigned at,
                      struct err *err)
{
    const struct microvm_resources *res = &vm->resources;

    for (unsigned i = 0; pmem->root_device && i < res->drive_count; i++) {
        if (res->drives[i].is_root_device) {
            return err_set(err, -EEXIST, BLOCK_IS_ROOT);
        }
    }
    for (unsigned i = 0; pmem->root_device && i < res->pmem_count; i++) {
        if (i != at && res->pmems[i].root_device) {
            return err_set(err, -EEXIST, "A root pmem device already exist");
        }
    }
    return 0;
}

/* Room for one more at the end of the list, and of that of ports if they are open. */
static int grow(struct microvm *vm, struct err *err)
{
    size_t count = vm->resources.pmem_count + 1u;
    struct resource_pmem *pmems = realloc(vm->resources.pmems, count * sizeof(*pmems));
    struct pmem_port **ports = vm->pmem_ports;

    if (pmems) {
        vm->resources.pmems = pmems;
        pmems[count - 1] = (struct resource_pmem){0};
    }
    if (pmems && ports) {
        ports = realloc(vm->pmem_ports, count * sizeof(void *));
    }
    if (!pmems || (vm->pmem_ports && !ports)) {
        return err_set(err, -ENOMEM, "out of memory");
    }
    vm->pmem_ports = ports;
    return 0;
}

/* Into the running machine; there, nothing becomes the root. */
static int plug(struct microvm *vm, struct resource_pmem *pmem, struct err *err)
{
    struct config_pmem config = {.resource = pmem};
    unsigned at = vm->resources.pmem_count;
    int r;

    if (find_pmem(vm, pmem->id) < at) {
        return microvm_fault(vm, err, -EEXIST, "Device ID in use");
    }
    if (pmem->root_device) {
        return err_set(err, -EEXIST, BLOCK_IS_ROOT);
    }
    r = grow(vm, err);
    if (r == 0) {
        r = pmem_file_open(pmem->path_on_host, pmem->read_only, &config.port, err);
        r = r < 0 ? err_wrap(err, r, "Unable to create the virtio-pmem device") : 0;
    }
    if (r < 0) {
        return r;
    }
    r = machine_plug_pmem(vm->machine, &config, err);
    if (r < 0) {
        pmem_port_free(config.port);
        return r == -ENOSPC ? microvm_fault(vm, err, r, "PCI manager error: %s", err_text(err)) : r;
    }
    vm->pmem_ports[at] = config.port;
    RESOURCE_TAKE(pmem, &vm->resources.pmems[at], pmem);
    vm->resources.pmem_count++;
    return 0;
}

int do_put_pmem(struct microvm *vm, const struct action *action, struct err *err)
{
    struct resource_pmem *pmem = action->pmem;
    unsigned at = find_pmem(vm, pmem->id);
    int r;

    if (vm->state != MICROVM_NOT_STARTED) {
        return plug(vm, pmem, err);
    }
    r = check_root(vm, pmem, at, err);
    if (r == 0 && at == vm->resources.pmem_count) {
        r = grow(vm, err);
        vm->resources.pmem_count += r == 0;
    }
    if (r == 0) {
        RESOURCE_TAKE(pmem, &vm->resources.pmems[at], pmem);
    }
    return r;
}

int do_patch_pmem(struct microvm *vm, const struct action *action, struct err *err)
{
    const struct resource_pmem *patch = action->pmem;
    unsigned at = find_pmem(vm, patch->id);
    struct resource_pmem *pmem = &vm->resources.pmems[at];

    if (at == vm->resources.pmem_count || machine_pmem_patch(vm->machine, patch) < 0) {
        return err_set(err, -ENOENT,
                       "Unable to patch the pmem device: Failed perform action on device: Device "
                       "not found Please verify the request arguments.");
    }
    resource_limiter_patch(&pmem->rate_limiter, &pmem->has_rate_limiter, &patch->rate_limiter,
                           patch->has_rate_limiter);
    return 0;
}

int do_delete_pmem(struct microvm *vm, const struct action *action, struct err *err)
{
    struct microvm_resources *res = &vm->resources;
    unsigned at = find_pmem(vm, action->id);
    int r;

    if (at < res->pmem_count && res->pmems[at].root_device) {
        return err_set(err, -EBUSY, "Cannot unplug root device");
    }
    r = at == res->pmem_count ? -ENOENT : machine_unplug(vm->machine, PMEM_KIND, action->id);
    if (r < 0) {
        return err_set(err, r,
                       r == -ETIMEDOUT ? "The vCPUs do not stand still" : "Device not found");
    }
    pmem_port_free(vm->pmem_ports[at]);
    resource_pmem_fini(&res->pmems[at]);
    res->pmem_count--;
    memmove(&res->pmems[at], &res->pmems[at + 1], (res->pmem_count - at) * sizeof(res->pmems[0]));
    memmove(&vm->pmem_ports[at], &vm->pmem_ports[at + 1], (res->pmem_count - at) * sizeof(void *));
    return 0;
}

int start_plan_add_pmems(struct microvm *vm, struct start_plan *plan, struct err *err)
{
    unsigned count = vm->resources.pmem_count;
    int r = 0;

    microvm_close_pmems(vm); /* of a start that failed */
    plan->pmems = calloc(count + 1u, sizeof(plan->pmems[0]));
    vm->pmem_ports = calloc(count + 1u, sizeof(void *));
    if (!plan->pmems || !vm->pmem_ports) {
        return err_set(err, -ENOMEM, "out of memory");
    }
    for (unsigned i = 0; r == 0 && i < count; i++) {
        const struct resource_pmem *pmem = &vm->resources.pmems[i];

        r = pmem_file_open(pmem->path_on_host, pmem->read_only, &vm->pmem_ports[i], err);
        plan->pmems[i] = (struct config_pmem){.resource = pmem, .port = vm->pmem_ports[i]};
    }
    if (r < 0) {
        microvm_close_pmems(vm);
        return err_wrap(err, r, "Cannot create pmem device");
    }
    plan->config.pmems = plan->pmems;
    plan->config.pmem_count = count;
    return 0;
}
