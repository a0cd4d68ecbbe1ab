/* vhost_port.h — what a device needs from another process that answers its driver's requests: one
 * ring of requests in memory that both share.
 *
 * The ring is an ordinary split virtqueue (virtio 1.2, 2.7) of VHOST_RING_SIZE entries, at `ring`,
 * without EVENT_IDX.  Addresses in it are host addresses of this process, within the regions that
 * start() names or within the ring itself.  The port outlives the device that borrows it.  Threads:
 * the loop's of the device, or any while no thread runs it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vhost_port;

#define VHOST_CONFIG_BYTES 60
#define VHOST_RING_SIZE    256u
#define VHOST_REGION_MAX   7 /* and the ring is the eighth: VHOST_USER_MEM_REGIONS_MAX */

/* Where the parts of the ring are. */
#define VHOST_RING_DESC  0u
#define VHOST_RING_AVAIL (16u * VHOST_RING_SIZE)
#define VHOST_RING_USED  (VHOST_RING_AVAIL + 1024u)
#define VHOST_RING_BYTES 8192u

/* Guest memory that the other process may map. */
struct vhost_region {
    void *host;
    uint64_t len;
    int fd;
    uint64_t offset; /* of the region in the file */
};

/* What we can do of what the other side of a block device may offer: VERSION_1 and RO (virtio 1.2,
 * sections 6 and 5.2.3), and FLUSH if what is cached is to be written back. */
static inline uint64_t vhost_block_features(bool has_flush)
{
    return UINT64_C(1) << 32 | UINT64_C(1) << 5 | (has_flush ? UINT64_C(1) << 9 : 0);
}

struct vhost_port_ops {
    /* The device's configuration, as the other side has it now. */
    int (*read_config)(struct vhost_port *port, uint8_t ret_config[VHOST_CONFIG_BYTES]);
    /* Begin to serve an empty ring.  `features` are some of those offered. */
    int (*start)(struct vhost_port *port, uint64_t features, const struct vhost_region *regions,
                 unsigned count);
    /* After return the other side touches no memory any more, if it still lives and obeys. */
    void (*stop)(struct vhost_port *port);
    void (*free)(struct vhost_port *port);
};

struct vhost_port {
    const struct vhost_port_ops *ops;
    uint64_t features; /* that both sides can do */
    uint8_t *ring;
    int kick_fd; /* eventfd: to be written when requests were added */
    int call_fd; /* eventfd: becomes readable when some are answered */
};

static inline void vhost_port_free(struct vhost_port *port)
{
    if (port) {
        port->ops->free(port);
    }
}
