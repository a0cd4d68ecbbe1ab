/* mem.h — virtio-mem (virtio 1.2, 5.15): memory that the guest plugs and unplugs block by block.
 *
 * The host says how much it wants the guest to have, the guest plugs blocks until it has that much.
 * The region's memory is in slots of several blocks; a slot is there while any of its blocks is
 * plugged.
 *
 * Threads: mem_* on the device's loop.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "mem/addr.h"

struct loop;
struct mem_map;
struct virtio_dev;

#define MEM_KIND "virtio-mem"

/* Makes slots of the region come and go for the guest's CPUs. */
struct slot_port {
    int (*set)(void *owner, uint64_t slot, bool is_there);
    void *owner;
};

struct mem_config {
    gpa_t gpa;            /* of the region */
    uint64_t total_bytes; /* of the region: whole slots */
    uint64_t block_bytes; /* power of two */
    uint64_t slot_bytes;  /* whole blocks */
    struct slot_port port;
};

struct mem_status {
    uint64_t plugged_bytes;
    uint64_t requested_bytes;
};

int mem_new(const struct mem_config *config, struct mem_map *mem, struct loop *loop,
            struct virtio_dev **ret_dev, struct err *err);
/* How much the guest is to have.  -ENODEV: its driver is not there; -EINVAL: not whole blocks, or
 * more than the region. */
int mem_request(struct virtio_dev *dev, uint64_t bytes);
void mem_get_status(struct virtio_dev *dev, struct mem_status *ret_status);
