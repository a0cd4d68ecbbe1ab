/* stream_port.h — byte streams between guest ports and programs on the host.
 *
 * The port finds or awaits the host's program; what both sides then share is a connected,
 * non-blocking stream socket, which the device reads, writes, shuts down and closes by itself on
 * its loop.  Between start and stop everything here is called on the thread of that loop, or while
 * it does not run.
 */
#pragma once

#include <stdint.h>

struct loop;
struct stream_port;

/* The device, as the port sees it. */
struct stream_client {
    /* A program on the host wants to talk to `guest_port` over `fd`.  0: the descriptor is the
     * device's, which holds the connection until a driver is there to answer; negative errno: it
     * stays the port's. */
    int (*offer)(void *owner, int fd, uint32_t guest_port);
    void *owner;
};

struct stream_port_ops {
    /* Begin to offer connections, on `loop`. */
    int (*start)(struct stream_port *port, struct loop *loop, const struct stream_client *client);
    /* Forget client and loop; may be started again.  Without a start it does nothing. */
    void (*stop)(struct stream_port *port);
    /* The guest wants to talk to `host_port`: a new descriptor, or negative errno. */
    int (*connect)(struct stream_port *port, uint32_t host_port);
    /* The guest accepted what was offered on `fd`; `host_port` is its name on the host's side.
     * Negative errno: the program cannot be told. */
    int (*accepted)(struct stream_port *port, int fd, uint32_t host_port);
    /* Stopped before. */
    void (*free)(struct stream_port *port);
};

struct stream_port {
    const struct stream_port_ops *ops;
};

static inline void stream_port_free(struct stream_port *port)
{
    if (port) {
        port->ops->free(port);
    }
}
