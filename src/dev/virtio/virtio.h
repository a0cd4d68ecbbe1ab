/* virtio.h — what a virtio device promises its transport, and what the transport does for it.
 *
 * A device embeds `struct virtio_dev` as its first member, fills `ops`, `queue_count`, `loop` and
 * calls virtio_dev_init().  A transport (mmio.c) then owns the register interface; feature
 * negotiation and status live in negotiate.c.
 *
 * Threads.  Register accesses run on a vCPU's thread under `lock`: config_read, config_write are
 * called there with the lock held and must be quick.  Everything about queues runs on the device's
 * `loop`: the transport forwards the driver's notification to it, and start and reset are carried
 * out there too, while the vCPU that wrote the status register waits with `lock` held.  So a device
 * needs no lock of its own for queue state, and must not take `lock` on its loop.  The loop
 * outlives the device.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bits.h"
#include "base/err.h"
#include "dev/virtio/queue.h"

struct loop;
struct mem_map;
struct state;
struct virtio_dev;

/* Device ids: virtio 1.2, section 5. */
enum virtio_id {
    VIRTIO_ID_NET = 1,
    VIRTIO_ID_BLOCK = 2,
    VIRTIO_ID_RNG = 4,
    VIRTIO_ID_BALLOON = 5,
    VIRTIO_ID_9P = 9,
    VIRTIO_ID_VSOCK = 19,
    VIRTIO_ID_MEM = 24,
    VIRTIO_ID_FS = 26,
    VIRTIO_ID_PMEM = 27,
};

/* Reserved feature bits: virtio 1.2, section 6. */
#define VIRTIO_F_INDIRECT_DESC BIT(28)
#define VIRTIO_F_EVENT_IDX     BIT(29)
#define VIRTIO_F_VERSION_1     BIT(32)
#define VIRTIO_F_IN_ORDER      BIT(35)

/* Device status bits: virtio 1.2, section 2.1. */
#define VIRTIO_STATUS_ACKNOWLEDGE 1u
#define VIRTIO_STATUS_DRIVER      2u
#define VIRTIO_STATUS_DRIVER_OK   4u
#define VIRTIO_STATUS_FEATURES_OK 8u
#define VIRTIO_STATUS_NEEDS_RESET 64u
#define VIRTIO_STATUS_FAILED      128u

#define VIRTIO_QUEUE_MAX 8
/* QueueNumMax where a device does not say another: what the microVM interface promises. */
#define VIRTIO_QUEUE_SIZE_DEFAULT 256

/* Source of an interrupt that is about the configuration or the status, not about a queue. */
#define VIRTIO_SOURCE_CONFIG VIRTIO_QUEUE_MAX

struct virtio_ops {
    const char *kind; /* "virtio-fs" */
    enum virtio_id id;
    /* Read or write the device-specific configuration; offset + len may lie anywhere: bytes beyond
     * the structure read as 0, writes there are dropped. */
    void (*config_read)(struct virtio_dev *dev, uint64_t offset, void *data, unsigned len);
    void (*config_write)(struct virtio_dev *dev, uint64_t offset, const void *data, unsigned len);
    /* DRIVER_OK was set; queues are enabled.  On the loop.  Non-zero puts the device into
     * NEEDS_RESET. */
    int (*start)(struct virtio_dev *dev);
    /* Forget everything the driver did: no queue may be touched after return.  On the loop. */
    void (*reset)(struct virtio_dev *dev);
    /* The driver notified queue `index`.  On the loop, only between start and reset. */
    void (*notify)(struct virtio_dev *dev, unsigned index);
    /* Free the device, its host side too.  Its loop no longer runs. */
    void (*free)(struct virtio_dev *dev);
    /* Snapshot: write (save) or take back (load) what is this device's own: features, status and
     * queues are written by virtio_dev_save() for all.  On the loop, while the machine is paused;
     * save first ends or undoes (virtq_unpop) what is in flight, so that no chain is held.  load
     * meets a device made with the same configuration, features_acked as saved, queues not yet;
     * what the file says is hostile (state_refuse()).  If the driver had set DRIVER_OK, start
     * follows before the machine runs: it keeps what load brought.  Both NULL: the device cannot be
     * in a snapshot. */
    void (*save)(struct virtio_dev *dev, struct state *s);
    void (*load)(struct virtio_dev *dev, struct state *s);
};

struct virtio_dev {
    const struct virtio_ops *ops;
    struct mem_map *mem;
    struct loop *loop;
    uint64_t features_offered; /* VERSION_1 is added by virtio_dev_init */
    unsigned queue_count;      /* 1 to VIRTIO_QUEUE_MAX */
    unsigned queue_size_max;   /* QueueNumMax of every queue; virtio_dev_init sets
                                  VIRTIO_QUEUE_SIZE_DEFAULT, a device may change it after, up to
                                  VIRTQ_SIZE_MAX */
    struct virtq queues[VIRTIO_QUEUE_MAX];

    /* From here on the transport's. */
    pthread_mutex_t lock; /* guards all below, but for the three atomics */
    uint64_t features_acked;
    uint32_t status;            /* atomic: the loop sets NEEDS_RESET */
    uint32_t config_generation; /* atomic */
    uint32_t isr;               /* atomic: bit 0 used buffer, bit 1 configuration change */
    bool is_started;            /* changes on the loop, while a vCPU waits with the lock held */
    int notify_fd[VIRTIO_QUEUE_MAX]; /* eventfds that a doorbell may signal */
    /* Interrupt the driver because of queue `source` or VIRTIO_SOURCE_CONFIG; any thread.  NULL:
     * there is no driver. */
    void (*raise)(void *transport, unsigned source);
    void *transport;
};

/* Storage must be zeroed.  virtio_dev_fini() is right after a failure as well. */
int virtio_dev_init(struct virtio_dev *dev, const struct virtio_ops *ops, struct mem_map *mem,
                    struct loop *loop, unsigned queue_count, uint64_t features, struct err *err);
void virtio_dev_fini(struct virtio_dev *dev);

/* After pushing a batch: raise the used-buffer interrupt if the driver wants one.  On the loop. */
void virtio_dev_signal(struct virtio_dev *dev, struct virtq *q);
/* The configuration changed: bump the generation and interrupt.  Any thread. */
void virtio_dev_config_changed(struct virtio_dev *dev);
/* The driver broke the protocol: status gets NEEDS_RESET, with a configuration interrupt. */
void virtio_dev_needs_reset(struct virtio_dev *dev);

/* For config_read: copy from a configuration of `size` bytes what lies within it, zeros else. */
void virtio_config_copy(const void *config, size_t size, uint64_t offset, void *data, unsigned len);

/* Snapshot, by the transport: what every device has, then the device's own.  While the machine is
 * paused. */
void virtio_dev_save(struct virtio_dev *dev, struct state *s);
void virtio_dev_load(struct virtio_dev *dev, struct state *s);
/* The machine resumes: start the device if it was loaded started, then look at all its queues as if
 * the driver had notified them.  Any thread. */
void virtio_dev_resume(struct virtio_dev *dev);

/* Has the driver said DRIVER_OK, and is nothing broken? */
static inline bool virtio_dev_is_ready(const struct virtio_dev *dev)
{
    uint32_t status = __atomic_load_n(&dev->status, __ATOMIC_ACQUIRE);

    return (status & VIRTIO_STATUS_DRIVER_OK) && !(status & VIRTIO_STATUS_NEEDS_RESET);
}

static inline bool virtio_dev_has(const struct virtio_dev *dev, uint64_t feature)
{
    return (dev->features_acked & feature) != 0;
}
