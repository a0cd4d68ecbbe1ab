/* virtio.c — life of a virtio device, and the interrupts it raises. */
#include "dev/virtio/virtio.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "dev/virtio/virtio_int.h"
#include "io/loop.h"
#include "metrics/metrics.h"

int virtio_dev_init(struct virtio_dev *dev, const struct virtio_ops *ops, struct mem_map *mem,
                    struct loop *loop, unsigned queue_count, uint64_t features, struct err *err)
{
    dev->ops = ops;
    dev->mem = mem;
    dev->loop = loop;
    dev->features_offered = features | VIRTIO_F_VERSION_1;
    dev->queue_count = queue_count;
    dev->queue_size_max = VIRTIO_QUEUE_SIZE_DEFAULT;
    (void)pthread_mutex_init(&dev->lock, NULL);
    for (unsigned i = 0; i < VIRTIO_QUEUE_MAX; i++) {
        dev->queues[i].mem = mem;
        dev->notify_fd[i] = -1;
    }
    if (queue_count == 0 || queue_count > VIRTIO_QUEUE_MAX) {
        return err_set(err, -EINVAL, "%s: %u queues: must be 1 to %d", ops->kind, queue_count,
                       VIRTIO_QUEUE_MAX);
    }
    for (unsigned i = 0; i < queue_count; i++) {
        dev->notify_fd[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (dev->notify_fd[i] < 0) {
            return err_sys(err, "%s: create the doorbell of queue %u", ops->kind, i);
        }
    }
    return 0;
}

void virtio_dev_fini(struct virtio_dev *dev)
{
    if (!dev->ops) {
        return;
    }
    for (unsigned i = 0; i < VIRTIO_QUEUE_MAX; i++) {
        if (dev->notify_fd[i] >= 0) {
            if (dev->is_started) {
                loop_del_fd(dev->loop, dev->notify_fd[i]);
            }
            (void)close(dev->notify_fd[i]);
            dev->notify_fd[i] = -1;
        }
    }
    (void)pthread_mutex_destroy(&dev->lock);
    dev->ops = NULL;
}

static void interrupt(struct virtio_dev *dev, uint32_t cause, unsigned source)
{
    /* release: what was pushed is visible to whoever reads the status; pairs with virtio_isr_get */
    __atomic_fetch_or(&dev->isr, cause, __ATOMIC_RELEASE);
    metric_inc(&g_metrics.interrupts.triggers);
    if (cause == VIRTIO_ISR_CONFIG) {
        metric_inc(&g_metrics.interrupts.config_updates);
    }
    if (dev->raise) {
        dev->raise(dev->transport, source);
    }
}

uint32_t virtio_isr_get(const struct virtio_dev *dev)
{
    return __atomic_load_n(&dev->isr, __ATOMIC_ACQUIRE);
}

void virtio_isr_ack(struct virtio_dev *dev, uint32_t bits)
{
    __atomic_fetch_and(&dev->isr, ~bits, __ATOMIC_ACQ_REL);
}

void virtio_dev_signal(struct virtio_dev *dev, struct virtq *q)
{
    if (q->is_broken) {
        virtio_dev_needs_reset(dev);
    } else if (virtq_wants_interrupt(q)) {
        interrupt(dev, VIRTIO_ISR_QUEUE, (unsigned)(q - dev->queues));
    }
}

void virtio_dev_config_changed(struct virtio_dev *dev)
{
    __atomic_fetch_add(&dev->config_generation, 1, __ATOMIC_RELEASE);
    if (virtio_status_get(dev) & VIRTIO_STATUS_DRIVER_OK) {
        interrupt(dev, VIRTIO_ISR_CONFIG, VIRTIO_SOURCE_CONFIG);
    }
}

void virtio_dev_needs_reset(struct virtio_dev *dev)
{
    uint32_t before = __atomic_fetch_or(&dev->status, VIRTIO_STATUS_NEEDS_RESET, __ATOMIC_ACQ_REL);

    /* 2.1.2: the driver hears of it only once it said DRIVER_OK */
    if ((before & VIRTIO_STATUS_DRIVER_OK) && !(before & VIRTIO_STATUS_NEEDS_RESET)) {
        interrupt(dev, VIRTIO_ISR_CONFIG, VIRTIO_SOURCE_CONFIG);
    }
}

void virtio_config_copy(const void *config, size_t size, uint64_t offset, void *data, unsigned len)
{
    memset(data, 0, len);
    if (offset < size) {
        size_t have = size - offset;

        memcpy(data, (const uint8_t *)config + offset, len < have ? len : have);
    }
}
