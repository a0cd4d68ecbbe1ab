/* fs.h — the virtio file system device (virtio 1.2, 5.11): a FUSE server over a tree_port.
 *
 * One loop thread serves all requests in order; a request takes one to four system calls of the
 * tree and may wait for the host's disk, so shares are better not on the loop of a console.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "dev/port/tree_port.h"

struct loop;
struct mem_map;
struct virtio_dev;

#define VIRTIO_FS_TAG_MAX 36u /* bytes, without a NUL */

/* How long the guest may believe what it was told without asking again. */
struct virtio_fs_cache {
    uint32_t entry_ms;   /* that a name leads to a node */
    uint32_t attr_ms;    /* sizes, modes, times */
    uint32_t missing_ms; /* that a name does not exist */
};

/* For a tree that seldom changes, and for one that both sides change. */
#define VIRTIO_FS_CACHE_LONG \
    ((struct virtio_fs_cache){.entry_ms = 60000, .attr_ms = 60000, .missing_ms = 60000})
#define VIRTIO_FS_CACHE_SHORT \
    ((struct virtio_fs_cache){.entry_ms = 1000, .attr_ms = 1000, .missing_ms = 0})

struct virtio_fs_config {
    const char *tag; /* what the guest mounts; 1 to VIRTIO_FS_TAG_MAX bytes */
    struct tree_port tree;
    bool is_read_only; /* changes are answered EROFS here already; the tree must be made so too */
    bool has_no_xattr; /* extended attributes do not exist, and the guest asks once only.  An
                          overlay asks for them on every directory and file it meets; what goes
                          missing are file capabilities (of ping and the like). */
    struct virtio_fs_cache cache;
};

/* The tree moves into the device and is freed with it, also when this fails. */
int virtio_fs_new(const struct virtio_fs_config *config, struct mem_map *mem, struct loop *loop,
                  struct virtio_dev **ret_dev, struct err *err);
