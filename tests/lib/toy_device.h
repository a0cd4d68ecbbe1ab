/* toy_device.h — the least that is a virtio device, for tests of transports. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "dev/virtio/virtio.h"

/* A device that gives every buffer back with 7 bytes. */
struct toy {
    struct virtio_dev base;
    uint8_t config[12];
    int start_result;
    atomic_bool hold; /* keep chains instead of answering */
    unsigned start_count;
    unsigned reset_count;
    unsigned free_count;
    _Atomic pthread_t notify_thread;
    struct virtq_chain chain;
};

static unsigned g_toys_freed;

static inline struct toy *toy_of(struct virtio_dev *dev)
{
    return container_of(dev, struct toy, base);
}

static inline void toy_config_read(struct virtio_dev *dev, uint64_t offset, void *data,
                                   unsigned len)
{
    struct toy *t = toy_of(dev);

    for (unsigned i = 0; i < len; i++) {
        ((uint8_t *)data)[i] = offset + i < sizeof(t->config) ? t->config[offset + i] : 0;
    }
}

static inline void toy_config_write(struct virtio_dev *dev, uint64_t offset, const void *data,
                                    unsigned len)
{
    struct toy *t = toy_of(dev);

    if (range_within(offset, len, sizeof(t->config))) {
        memcpy(t->config + offset, data, len);
    }
}

static inline int toy_start(struct virtio_dev *dev)
{
    toy_of(dev)->start_count++;
    return toy_of(dev)->start_result;
}

static inline void toy_reset(struct virtio_dev *dev)
{
    toy_of(dev)->reset_count++;
}

static inline void toy_notify(struct virtio_dev *dev, unsigned index)
{
    struct toy *t = toy_of(dev);

    t->notify_thread = pthread_self();
    while (!t->hold && virtq_pop(&dev->queues[index], &t->chain) == 1) {
        (void)virtq_chain_write(&t->chain, 0, "toytoy", 7);
        virtq_push(&dev->queues[index], &t->chain, 7);
    }
    virtio_dev_signal(dev, &dev->queues[index]);
}

static inline void toy_free(struct virtio_dev *dev)
{
    g_toys_freed++;
    virtio_dev_fini(dev);
    free(toy_of(dev));
}

static const struct virtio_ops toy_ops = {
    .kind = "virtio-toy",
    .id = VIRTIO_ID_RNG,
    .config_read = toy_config_read,
    .config_write = toy_config_write,
    .start = toy_start,
    .reset = toy_reset,
    .notify = toy_notify,
    .free = toy_free,
};
