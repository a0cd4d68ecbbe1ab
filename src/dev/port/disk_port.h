/* disk_port.h — what a block device needs from the host: sectors that can be read, written and
 * flushed.
 *
 * The port is made by the door and outlives the device that borrows it.  A device attaches itself
 * and from then on everything is called on the thread of that loop, or while no thread runs it.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct disk_port;
struct loop;

#define DISK_ID_BYTES 20 /* virtio 1.2, 5.2.6: what GET_ID answers */

enum disk_op { DISK_READ, DISK_WRITE, DISK_FLUSH };

/* One operation; the device's storage, not touched by the port after it was done. */
struct disk_io {
    enum disk_op op;
    uint64_t offset; /* bytes */
    void *data;      /* guest memory */
    uint32_t len;
};

/* Answers of submit() beside a result. */
#define DISK_PENDING INT64_C(-0x10000) /* done() will tell */
#define DISK_FULL    INT64_C(-0x10001) /* not taken; come back after the next batch_end() */

/* The device, as the port sees it. */
struct disk_client {
    /* Bytes that were transferred, or negative errno.  Only for what was DISK_PENDING. */
    void (*done)(void *owner, struct disk_io *io, int64_t result);
    /* A batch of done() calls is over: time to interrupt, and to submit more. */
    void (*batch_end)(void *owner);
    void *owner;
};

struct disk_port_ops {
    /* 0 or negative errno. */
    int (*attach)(struct disk_port *port, struct loop *loop, const struct disk_client *client);
    /* Nothing is in flight any more, nobody is called any more.  Harmless if not attached. */
    void (*detach)(struct disk_port *port);
    /* Begin `io`: DISK_PENDING, DISK_FULL, or its result as done() has it. */
    int64_t (*submit)(struct disk_port *port, struct disk_io *io);
    /* What was submitted since the last call has to start now; done() for what ends at once,
     * without a batch_end(). */
    void (*commit)(struct disk_port *port);
    /* Wait until nothing is in flight; calls done() and batch_end(). */
    void (*drain)(struct disk_port *port);
    void (*free)(struct disk_port *port);
};

struct disk_port {
    const struct disk_port_ops *ops;
    uint64_t bytes;         /* size, any number */
    char id[DISK_ID_BYTES]; /* padded with NUL */
};

static inline void disk_port_free(struct disk_port *port)
{
    if (port) {
        port->ops->free(port);
    }
}
