/* net_port.h — Ethernet frames between a guest's network interface and the host, or a service that
 * lives inside the monitor.
 *
 * A frame through a port starts with the 12 bytes of struct virtio_net_hdr (virtio 1.2, 5.1.6), so
 * that checksums and segmentation may stay undone on either side.
 *
 * Threads: everything is called on the device's loop, or while no thread runs it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

struct loop;
struct net_port;

#define NET_HDR_BYTES 12u

/* What the guest is able to finish by itself. */
#define NET_OFFLOAD_CSUM 1u
#define NET_OFFLOAD_TSO4 2u
#define NET_OFFLOAD_TSO6 4u
#define NET_OFFLOAD_UFO  8u

/* The device, as the port sees it. */
struct net_client {
    /* Frames came; called again only after recv() said -EAGAIN, or for new ones. */
    void (*readable)(void *owner);
    void *owner;
};

struct net_port_ops {
    /* The guest's driver is there: watch for frames on `loop`.  stop() ends that; both come in
     * turns, any number of times. */
    int (*start)(struct net_port *port, struct loop *loop, const struct net_client *client);
    void (*stop)(struct net_port *port);
    /* Frames for the guest may from now on come with this undone: NET_OFFLOAD_*. */
    int (*set_offload)(struct net_port *port, unsigned offload);
    /* One frame: its bytes, or negative errno; -EAGAIN: there is none.  What does not fit is cut
     * off. */
    ssize_t (*recv)(struct net_port *port, const struct iovec *iov, unsigned count);
    /* One frame: 0 or negative errno. */
    int (*send)(struct net_port *port, const struct iovec *iov, unsigned count);
    void (*free)(struct net_port *port);
};

struct net_port {
    const struct net_port_ops *ops;
};

static inline void net_port_free(struct net_port *port)
{
    if (port) {
        port->ops->free(port);
    }
}

/* A service inside the monitor that the guest reaches over its interface: it takes some of the
 * guest's frames before the port sees them, and has frames of its own for the guest. */
struct net_inner;

struct net_inner_ops {
    /* The guest's driver is there: `client` hears, on `loop`, when give() has something; it may
     * hear it within take().  NULL: nobody listens any more. */
    int (*set_client)(struct net_inner *inner, struct loop *loop, const struct net_client *client);
    /* Is the frame that starts with these `len` bytes (behind the virtio-net header) for it? */
    bool (*wants)(struct net_inner *inner, const void *head, size_t len);
    /* A whole frame that it wants, behind the virtio-net header; checksums may be undone. */
    void (*take)(struct net_inner *inner, const void *frame, size_t len);
    /* The next frame for the guest, complete; 0: there is none.  `max` is at least
     * NET_INNER_FRAME_MAX. */
    size_t (*give)(struct net_inner *inner, void *frame, size_t max);
};

#define NET_INNER_HEAD_MAX  64u   /* wants() gets that much, or the whole frame */
#define NET_INNER_FRAME_MAX 1514u /* of give(): Ethernet with an MTU of 1500 */

struct net_inner {
    const struct net_inner_ops *ops;
};
