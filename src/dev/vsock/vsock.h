/* vsock.h — virtio-vsock (virtio 1.2, 5.10): stream sockets between the guest and the host. */
#pragma once

#include <stdint.h>

#include "base/err.h"

struct loop;
struct mem_map;
struct stream_port;
struct virtio_dev;

#define VSOCK_HOST_CID      2u
#define VSOCK_GUEST_CID_MIN 3u

/* A device for guest `guest_cid` on top of `port`, which becomes the device's also when this fails.
 * It runs on `loop` and begins to take connections from the host at once: they are held until the
 * guest's driver is up. */
int vsock_new(struct mem_map *mem, struct loop *loop, uint32_t guest_cid, struct stream_port *port,
              struct virtio_dev **ret_dev, struct err *err);
