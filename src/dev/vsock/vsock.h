/* vsock.h — virtio-vsock (virtio 1.2, 5.10): stream sockets between the guest and the host. */
#pragma once

#include <stdint.h>

#include "base/err.h"

struct loop;
struct mem_map;
struct stream_port;
struct virtio_dev;

#define VSOCK_HOST_CID 2u

struct vsock_config {
    uint32_t guest_cid;
    struct stream_port *port; /* outlives the device */
    /* How long a guest may take to answer a program on the host.  One that is there answers in
     * milliseconds; but one that is still booting, on a busy machine, lets its interrupts wait. */
    int64_t request_timeout_ns;
};

/* A device that runs on `loop` and begins to take connections from the host at once: they are held
 * until the guest's driver is up. */
int vsock_new(const struct vsock_config *config, struct mem_map *mem, struct loop *loop,
              struct virtio_dev **ret_dev, struct err *err);
