/* do_memory.c — hotplug/memory: how much there can be, how much the guest is to have. */
#include <errno.h>

#include "base/bits.h"
#include "vmm/microvm_int.h"

#define NOT_FOUND "Failed perform action on device: Device not found"

#define BLOCK_MIN_MIB 2u
#define SLOT_MIN_MIB  128u

static int check(const struct resource_memory *memory, struct err *err)
{
    uint64_t block = memory->block_size_mib;
    uint64_t slot = memory->slot_size_mib;

    if (block < BLOCK_MIN_MIB) {
        return err_set(err, -ERANGE, "Block size must not be lower than %u MiB", BLOCK_MIN_MIB);
    }
    if (block & (block - 1)) {
        return err_set(err, -EINVAL, "Block size must be a power of 2");
    }
    if (slot < SLOT_MIN_MIB) {
        return err_set(err, -ERANGE, "Slot size must not be lower than %u MiB", SLOT_MIN_MIB);
    }
    if (slot % block) {
        return err_set(err, -EINVAL, "Slot size must be a multiple of block size (%llu MiB)",
                       (unsigned long long)block);
    }
    if (memory->total_size_mib < slot) {
        return err_set(err, -ERANGE, "Total size must not be lower than slot size (%llu MiB)",
                       (unsigned long long)slot);
    }
    if (memory->total_size_mib % slot) {
        return err_set(err, -EINVAL, "Total size must be a multiple of slot size (%llu MiB)",
                       (unsigned long long)slot);
    }
    return 0;
}

int do_put_memory(struct microvm *vm, const struct action *action, struct err *err)
{
    int r = check(action->memory, err);

    if (r == 0) {
        vm->resources.memory = *action->memory;
        vm->resources.has_memory = true;
    }
    return r;
}

int do_patch_memory(struct microvm *vm, const struct action *action, struct err *err)
{
    uint64_t mib = action->requested_size_mib;
    unsigned long long bytes = mib * MIB;
    int r = machine_hotmem_request(vm->machine, mib);

    switch (r) {
    case -ENOENT: return err_set(err, r, NOT_FOUND);
    case -ENODEV:
        return err_set(err, r, "Failed to create memory hotplug device: Device is not active");
    case -EINVAL:
        return err_set(err, r,
                       "Failed to create memory hotplug device: Size %llu is invalid: it must be a "
                       "multiple of block size and less than the total size",
                       bytes);
    default: return r;
    }
}

int do_get_memory(struct microvm *vm, const struct action *action, struct err *err)
{
    struct resource_memory_status status = {.config = vm->resources.memory};
    int r =
        machine_hotmem_status(vm->machine, &status.plugged_size_mib, &status.requested_size_mib);

    if (r < 0) {
        return err_set(err, r, NOT_FOUND);
    }
    *action->ret_memory = status;
    return 0;
}
