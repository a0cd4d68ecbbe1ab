/* vhost_block.h — virtio-blk whose requests another process answers. */
#pragma once

#include <stdint.h>

#include "base/err.h"

struct loop;
struct mem_map;
struct metrics_vhost_user_block;
struct vhost_port;
struct virtio_dev;

/* Also what the interface calls it where it says that it cannot be in a snapshot. */
#define VHOST_BLOCK_KIND "vhost-user-block"

struct vhost_block_config {
    struct vhost_port *port;
    const uint8_t *config; /* VHOST_CONFIG_BYTES; only read during the call */
    struct metrics_vhost_user_block *metrics;
};

int vhost_block_new(const struct vhost_block_config *config, struct mem_map *mem, struct loop *loop,
                    struct virtio_dev **ret_dev, struct err *err);

/* Live, on the device's loop: ask the other side for its configuration, and tell the driver. */
int vhost_block_refresh(struct virtio_dev *dev);
