/* pmem.h — virtio-pmem (virtio 1.2, 5.19): a file of the host that the guest has as memory.
 *
 * The guest reads and writes it without us; this device says where it is, and takes requests to
 * make it durable.  The file is the caller's and outlives the device.
 */
#pragma once

#include "base/err.h"
#include "io/limiter.h"
#include "mem/addr.h"

struct loop;
struct mem_map;
struct metrics_pmem;
struct pmem_port;
struct virtio_dev;

#define PMEM_KIND "virtio-pmem"

struct pmem_config {
    struct pmem_port *port;
    gpa_t gpa; /* where the guest finds it */
    struct limiter_config limit;
    struct metrics_pmem *metrics;
};

int pmem_new(const struct pmem_config *config, struct mem_map *mem, struct loop *loop,
             struct virtio_dev **ret_dev, struct err *err);

/* Live, on the device's loop. */
void pmem_set_limit(struct virtio_dev *dev, const struct limiter_update *update);
