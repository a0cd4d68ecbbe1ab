/* server.h — for a device that answers requests one by one: takes them from its queues a batch at a
 * time, so that others on the loop get their turn, and keeps those that wait for something.
 *
 * What is waited for (a lock on a file of the host) has no event, so such a request is tried again
 * on a timer, each time after twice as long.
 *
 * Threads: the device's loop thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "dev/virtio/queue.h"

struct loop_timer;
struct virtio_dev;

/* One request: the driver's readable and writable parts, in guest memory. */
struct virtio_io {
    const struct iovec *in;
    unsigned in_count;
    size_t in_bytes;
    const struct iovec *out;
    unsigned out_count;
    size_t out_bytes;
};

/* A request that holds its chain: first member of what virtio_server_hold() takes over, which is
 * freed with free(). */
struct virtio_waiter {
    struct list link;
    struct virtq *queue;
    struct virtq_chain chain;
};

struct virtio_server;

/* Both return true when the request is over: *ret_written bytes of its writable part are the reply.
 */
struct virtio_server_ops {
    /* False: virtio_server_hold() succeeded. */
    bool (*request)(struct virtio_server *server, const struct virtio_io *io, size_t *ret_written);
    /* False: it waits on. */
    bool (*again)(struct virtio_server *server, const struct virtio_waiter *waiter,
                  const struct virtio_io *io, size_t *ret_written);
};

struct virtio_server {
    struct virtio_dev *dev;
    const struct virtio_server_ops *ops;
    struct list waiters; /* struct virtio_waiter */
    unsigned waiter_count;
    struct loop_timer *timer;
    int64_t wait_ns;
    bool is_running;
    bool is_posted;      /* more is to be served soon */
    struct virtq *queue; /* where the chain below comes from */
    struct virtq_chain chain;
};

/* The device's virtio_ops call these.  virtio_server_stop() drops all that waits, and may be called
 * twice. */
void virtio_server_init(struct virtio_server *server, struct virtio_dev *dev,
                        const struct virtio_server_ops *ops);
void virtio_server_start(struct virtio_server *server);
void virtio_server_stop(struct virtio_server *server);
void virtio_server_notify(struct virtio_server *server, unsigned queue);

/* In ops->request: keep the chain.  -ENOLCK if too many wait already, and `waiter` stays the
 * caller's. */
int virtio_server_hold(struct virtio_server *server, struct virtio_waiter *waiter);
void virtio_waiter_io(const struct virtio_waiter *waiter, struct virtio_io *ret_io);
/* Answer what waits with `written` bytes, which are there already, and free it. */
void virtio_server_end(struct virtio_server *server, struct virtio_waiter *waiter, size_t written);
