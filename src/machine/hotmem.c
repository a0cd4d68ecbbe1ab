/* hotmem.c — memory that is plugged into the running machine: its region, its device, its size. */
#include <errno.h>

#include "config/resource.h"
#include "dev/memory/mem.h"
#include "dev/virtio/virtio.h"
#include "io/loop.h"
#include "machine/layout.h"
#include "machine/machine_int.h"

/* The region behind all other RAM; -1: there is none. */
static int region_of(const struct machine *m)
{
    for (unsigned i = 0; i < mem_range_count(m->mem); i++) {
        if (mem_range_at(m->mem, i)->slots) {
            return (int)i;
        }
    }
    return -1;
}

int machine_add_hot_range(struct machine *m, const struct vm_config *config,
                          const struct mem_backing *ram, struct err *err)
{
    struct mem_backing backing = *ram;

    if (!config->memory) {
        return 0;
    }
    if (config->memory->total_size_mib > LAYOUT_EXTRA_LEN / MIB) {
        return err_set(err, -ENOSPC, "hot-plug memory of %llu MiB: must be at most %llu MiB",
                       (unsigned long long)config->memory->total_size_mib,
                       (unsigned long long)(LAYOUT_EXTRA_LEN / MIB));
    }
    backing.slot_bytes = config->memory->slot_size_mib * MIB;
    return mem_map_add_backed(m->mem, GPA(LAYOUT_EXTRA_START), config->memory->total_size_mib * MIB,
                              &backing, err);
}

/* On the device's loop, or before anything runs. */
static int set_slot(void *owner, uint64_t slot, bool is_there)
{
    struct machine *m = owner;
    unsigned region = (unsigned)region_of(m);
    int r;

    mem_slot_set(m->mem, region, slot, is_there);
    r = hv_slot_changed(m->vm, region, slot);
    if (r < 0) {
        mem_slot_set(m->mem, region, slot, !is_there);
    }
    return r;
}

int machine_add_hotmem(struct machine *m, const struct vm_config *config, struct loop *loop,
                       struct err *err)
{
    const struct resource_memory *resource = config->memory;
    struct virtio_dev *vdev = NULL;
    struct mem_config mem;
    int r;

    if (!resource) {
        return 0;
    }
    mem = (struct mem_config){
        .gpa = GPA(LAYOUT_EXTRA_START),
        .total_bytes = resource->total_size_mib * MIB,
        .block_bytes = resource->block_size_mib * MIB,
        .slot_bytes = resource->slot_size_mib * MIB,
        .port = {.set = set_slot, .owner = m},
    };
    r = mem_new(&mem, m->mem, loop, &vdev, err);
    return r < 0 ? r : machine_add_virtio(m, vdev, "", err);
}

/* --- live --- */

struct call {
    struct virtio_dev *dev;
    uint64_t bytes;
    struct mem_status status;
    int result;
};

static void request(void *owner)
{
    struct call *c = owner;

    c->result = mem_request(c->dev, c->bytes);
}

static void get_status(void *owner)
{
    struct call *c = owner;

    mem_get_status(c->dev, &c->status);
}

int machine_hotmem_request(struct machine *m, uint64_t mib)
{
    struct call c = {.dev = machine_find_virtio(m, MEM_KIND, "")};

    if (!c.dev) {
        return -ENOENT;
    }
    if (__builtin_mul_overflow(mib, MIB, &c.bytes)) {
        return -EINVAL;
    }
    loop_call(c.dev->loop, request, &c);
    return c.result;
}

int machine_hotmem_status(struct machine *m, uint64_t *ret_plugged_mib, uint64_t *ret_requested_mib)
{
    struct call c = {.dev = machine_find_virtio(m, MEM_KIND, "")};

    if (!c.dev) {
        return -ENOENT;
    }
    loop_call(c.dev->loop, get_status, &c);
    *ret_plugged_mib = c.status.plugged_bytes / MIB;
    *ret_requested_mib = c.status.requested_bytes / MIB;
    return 0;
}
