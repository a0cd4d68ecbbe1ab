/* snapshot.c — a virtio device's state in a snapshot: what all of them have, then their own.
 *
 * Theory of operation.  A device is saved while the machine is paused: no vCPU touches a register
 * and the device's loop runs only what loop_call() brings.  It is loaded into a device that was
 * just made from the same configuration, before anything runs.  Features, status, interrupt status
 * and queues are put back here; the device is not started then but by virtio_dev_resume(), so that
 * a machine that was loaded and stays paused touches neither the guest's memory nor the host.
 *
 * Whether an interrupt was due when the machine stopped is not kept: a used index that the driver
 * has not seen is told by one more interrupt after loading, which costs an idle look at the ring.
 */
#include <pthread.h>

#include "dev/virtio/virtio_int.h"
#include "io/loop.h"
#include "state/state.h"

#define STATUS_ALL                                                                \
    (VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER | VIRTIO_STATUS_DRIVER_OK | \
     VIRTIO_STATUS_FEATURES_OK | VIRTIO_STATUS_NEEDS_RESET | VIRTIO_STATUS_FAILED)

/* What of a queue is in the file. */
struct queue_image {
    uint16_t size;
    bool is_enabled;
    bool is_broken;
    uint64_t desc, avail, used;
    uint16_t avail_seen, used_next;
};

static void image_fields(struct queue_image *q, struct state *s)
{
    STATE(s, q->size);
    STATE(s, q->is_enabled);
    STATE(s, q->is_broken);
    STATE(s, q->desc);
    STATE(s, q->avail);
    STATE(s, q->used);
    STATE(s, q->avail_seen);
    STATE(s, q->used_next);
}

static void save_queue(const struct virtq *q, struct state *s)
{
    struct queue_image image = {.size = q->size,
                                .is_enabled = q->is_enabled,
                                .is_broken = q->is_broken,
                                .desc = q->desc.v,
                                .avail = q->avail.v,
                                .used = q->used.v,
                                .avail_seen = q->avail_seen,
                                .used_next = q->used_next};

    image_fields(&image, s);
}

static void load_queue(struct virtio_dev *dev, struct virtq *q, struct state *s)
{
    struct queue_image image = {0};

    image_fields(&image, s);
    if (s->failed) {
        return;
    }
    if (image.size > dev->queue_size_max) {
        state_refuse(s, "queue size", "%u: must be at most %u", image.size, dev->queue_size_max);
        return;
    }
    virtq_reset(q);
    q->size = image.size;
    q->desc = GPA(image.desc);
    q->avail = GPA(image.avail);
    q->used = GPA(image.used);
    if (image.is_enabled && virtq_enable_at(q, image.avail_seen, image.used_next) < 0) {
        state_refuse(s, "queue", "its rings are not in the guest's memory");
        return;
    }
    q->is_broken = image.is_broken;
    q->has_event_idx = virtio_dev_has(dev, VIRTIO_F_EVENT_IDX);
    q->has_indirect = virtio_dev_has(dev, VIRTIO_F_INDIRECT_DESC);
}

/* A section in the making, for a call on the device's loop. */
struct task {
    struct virtio_dev *dev;
    struct state *s;
};

/* On the loop. */
static void save(void *owner)
{
    const struct task *t = owner;
    struct virtio_dev *dev = t->dev;
    struct state *s = t->s;
    unsigned queue_count = dev->queue_count;
    uint32_t status;
    uint32_t isr;

    STATE(s, dev->features_acked);
    if (dev->ops->save) {
        dev->ops->save(dev, s); /* may complete requests, and so change all below */
    }
    status = virtio_status_get(dev);
    isr = virtio_isr_get(dev);
    STATE(s, status);
    STATE(s, isr);
    STATE(s, dev->config_generation);
    state_count(s, "queues", &queue_count, VIRTIO_QUEUE_MAX);
    for (unsigned i = 0; i < queue_count; i++) {
        save_queue(&dev->queues[i], s);
    }
}

static void check(const struct virtio_dev *dev, struct state *s, uint32_t status)
{
    uint64_t extra = dev->features_acked & ~dev->features_offered;

    if (s->failed) {
        return;
    }
    if (status & ~STATUS_ALL) {
        state_refuse(s, "status", "0x%x has unknown bits", status);
    } else if ((status & VIRTIO_STATUS_FEATURES_OK) && extra) {
        state_refuse(s, "features", "0x%llx were accepted, but this device does not offer them",
                     (unsigned long long)extra);
    }
}

/* On the loop, or before it runs. */
static void load(void *owner)
{
    const struct task *t = owner;
    struct virtio_dev *dev = t->dev;
    struct state *s = t->s;
    unsigned queue_count = 0;
    uint32_t status = 0;
    uint32_t isr = 0;

    STATE(s, dev->features_acked);
    if (dev->ops->load && !s->failed) {
        dev->ops->load(dev, s);
    }
    STATE(s, status);
    STATE(s, isr);
    STATE(s, dev->config_generation);
    state_count(s, "queues", &queue_count, VIRTIO_QUEUE_MAX);
    check(dev, s, status);
    if (!s->failed && queue_count != dev->queue_count) {
        state_refuse(s, "queues", "%u instead of %u", queue_count, dev->queue_count);
    }
    for (unsigned i = 0; i < queue_count && !s->failed; i++) {
        load_queue(dev, &dev->queues[i], s);
    }
    if (!s->failed) {
        __atomic_store_n(&dev->isr, isr & (VIRTIO_ISR_QUEUE | VIRTIO_ISR_CONFIG), __ATOMIC_RELEASE);
        __atomic_store_n(&dev->status, status, __ATOMIC_RELEASE);
    }
}

void virtio_dev_save(struct virtio_dev *dev, struct state *s)
{
    struct task t = {.dev = dev, .s = s};

    loop_call(dev->loop, save, &t);
}

void virtio_dev_load(struct virtio_dev *dev, struct state *s)
{
    struct task t = {.dev = dev, .s = s};

    loop_call(dev->loop, load, &t);
}

void virtio_dev_resume(struct virtio_dev *dev)
{
    (void)pthread_mutex_lock(&dev->lock);
    virtio_start_loaded(dev);
    for (unsigned i = 0; i < dev->queue_count; i++) {
        virtio_queue_kick(dev, i);
    }
    (void)pthread_mutex_unlock(&dev->lock);
}
