/* p9.h — the virtio 9P device (virtio 1.2, 5.9): a server of 9P2000.L over a tree_port, for kernels
 * without virtio-fs.
 *
 * It serves the same trees as dev/fs and by the same rules; what differs is the language.  One loop
 * thread serves all requests in order, and may wait for the host's disk.
 */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "dev/port/tree_port.h"

struct loop;
struct mem_map;
struct virtio_dev;

#define P9_TAG_MAX 36u /* bytes; as many as a virtio-fs device has */

struct p9_config {
    const char *tag; /* what the guest mounts; 1 to P9_TAG_MAX bytes */
    struct tree_port tree;
    bool is_read_only; /* the tree must be made so too */
    bool has_no_xattr; /* as in virtio_fs_config */
};

/* The tree moves into the device and is freed with it, also when this fails. */
int p9_new(const struct p9_config *config, struct mem_map *mem, struct loop *loop,
           struct virtio_dev **ret_dev, struct err *err);
