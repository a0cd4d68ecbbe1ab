/* server.c — requests one by one, from all queues of a device, and those that wait. */
#include "dev/virtio/server.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "dev/virtio/virtio.h"
#include "io/loop.h"

#define BATCH_MAX     64u
#define WAIT_MAX      256u
#define WAIT_FIRST_NS (1 * NS_PER_MS)
#define WAIT_LAST_NS  (32 * NS_PER_MS)

static void io_of(const struct virtq_chain *chain, struct virtio_io *ret_io)
{
    *ret_io = (struct virtio_io){
        .in = chain->iov,
        .in_count = chain->readable_count,
        .in_bytes = chain->readable_bytes,
        .out = chain->iov + chain->readable_count,
        .out_count = chain->writable_count,
        .out_bytes = chain->writable_bytes,
    };
}

void virtio_waiter_io(const struct virtio_waiter *waiter, struct virtio_io *ret_io)
{
    io_of(&waiter->chain, ret_io);
}

void virtio_server_end(struct virtio_server *server, struct virtio_waiter *waiter, size_t written)
{
    virtq_push(waiter->queue, &waiter->chain, written);
    virtio_dev_signal(server->dev, waiter->queue);
    list_remove(&waiter->link);
    server->waiter_count--;
    free(waiter);
}

static void try_waiters(void *owner)
{
    struct virtio_server *server = owner;

    server->timer = NULL;
    list_for_each (pos, &server->waiters) {
        struct virtio_waiter *waiter = container_of(pos, struct virtio_waiter, link);
        struct virtio_io io;
        size_t written;

        io_of(&waiter->chain, &io);
        if (server->ops->again(server, waiter, &io, &written)) {
            virtio_server_end(server, waiter, written);
        }
    }
    if (!list_is_empty(&server->waiters)) {
        server->wait_ns = server->wait_ns < WAIT_LAST_NS ? server->wait_ns * 2 : WAIT_LAST_NS;
        server->timer = loop_add_timer(server->dev->loop, server->wait_ns, try_waiters, server);
    }
}

int virtio_server_hold(struct virtio_server *server, struct virtio_waiter *waiter)
{
    if (server->waiter_count >= WAIT_MAX) {
        return -ENOLCK;
    }
    if (server->timer) {
        loop_del_timer(server->dev->loop, server->timer);
    }
    server->wait_ns = WAIT_FIRST_NS;
    server->timer = loop_add_timer(server->dev->loop, server->wait_ns, try_waiters, server);
    if (!server->timer) {
        return -ENOLCK;
    }
    waiter->queue = server->queue;
    waiter->chain = server->chain;
    list_append(&server->waiters, &waiter->link);
    server->waiter_count++;
    return 0;
}

static void serve_more(void *owner);

static void serve(struct virtio_server *server, struct virtq *queue)
{
    int r = 1;

    server->queue = queue;
    for (unsigned left = BATCH_MAX; left > 0; left--) {
        struct virtio_io io;
        size_t written;

        r = virtq_pop(queue, &server->chain);
        if (r <= 0) {
            break;
        }
        io_of(&server->chain, &io);
        if (server->ops->request(server, &io, &written)) {
            virtq_push(queue, &server->chain, written);
        }
    }
    virtio_dev_signal(server->dev, queue);
    if (r < 0) {
        virtio_dev_needs_reset(server->dev);
    } else if (r > 0 && !server->is_posted) {
        server->is_posted = loop_post(server->dev->loop, serve_more, server) == 0;
    }
}

static void serve_more(void *owner)
{
    struct virtio_server *server = owner;
    struct virtio_dev *dev = server->dev;

    server->is_posted = false;
    for (unsigned i = 0; i < dev->queue_count && server->is_running; i++) {
        if (dev->queues[i].is_enabled) {
            serve(server, &dev->queues[i]);
        }
    }
}

void virtio_server_init(struct virtio_server *server, struct virtio_dev *dev,
                        const struct virtio_server_ops *ops)
{
    server->dev = dev;
    server->ops = ops;
    list_init(&server->waiters);
}

void virtio_server_start(struct virtio_server *server)
{
    server->is_running = true;
}

void virtio_server_stop(struct virtio_server *server)
{
    server->is_running = false;
    if (server->timer) {
        loop_del_timer(server->dev->loop, server->timer);
        server->timer = NULL;
    }
    list_for_each (pos, &server->waiters) {
        list_remove(pos);
        free(container_of(pos, struct virtio_waiter, link));
    }
    server->waiter_count = 0;
}

void virtio_server_notify(struct virtio_server *server, unsigned queue)
{
    serve(server, &server->dev->queues[queue]);
}
