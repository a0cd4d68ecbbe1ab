/* block.h — virtio-blk (virtio 1.2, 5.2) over a disk of the host.
 *
 * A request has one data buffer; see request.c.  The disk is the caller's and outlives the device,
 * which attaches it for its own life.
 */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "io/limiter.h"

struct disk_port;
struct loop;
struct mem_map;
struct metrics_block;
struct virtio_dev;

#define BLOCK_KIND "virtio-blk"

struct block_config {
    struct disk_port *disk;
    bool is_read_only;
    bool has_flush; /* offer FLUSH: a driver that is offered none never asks for it */
    struct limiter_config limit;
    struct metrics_block *metrics;
};

int block_new(const struct block_config *config, struct mem_map *mem, struct loop *loop,
              struct virtio_dev **ret_dev, struct err *err);

/* --- live, on the device's loop --- */

/* Another disk from now on; the driver hears of it.  The old one, on which nothing is in flight any
 * more, is no longer used.  A failure changes nothing. */
int block_set_disk(struct virtio_dev *dev, struct disk_port *disk, struct err *err);
void block_set_limit(struct virtio_dev *dev, const struct limiter_update *update);
/* Wait until nothing is in flight; what is done is in guest memory and in the used ring. */
void block_drain(struct virtio_dev *dev);
