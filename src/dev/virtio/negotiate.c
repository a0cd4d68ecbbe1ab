/* negotiate.c — features, status, and the start and reset that follow from them.
 *
 * Theory of operation.  The status register is a ladder (virtio 1.2, 3.1.1): ACKNOWLEDGE, DRIVER,
 * FEATURES_OK, DRIVER_OK.  The driver adds bits one by one (or FAILED) and never takes one back
 * except by writing 0, which resets; any other write is ignored.  FEATURES_OK sticks only if what
 * was accepted was offered and holds VERSION_1.  DRIVER_OK starts the device, 0 resets it; both run
 * on the device's loop through loop_call(), with the lock held by the vCPU that waits.
 *
 * While the device is started its eventfds are watched edge-triggered: a write to one wakes the
 * loop, nobody ever needs to read it.
 */
#include <unistd.h>

#include "dev/virtio/virtio_int.h"
#include "io/loop.h"

#define STATUS_DRIVER_BITS                                                          \
    (VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER | VIRTIO_STATUS_FEATURES_OK | \
     VIRTIO_STATUS_DRIVER_OK | VIRTIO_STATUS_FAILED)

uint32_t virtio_features_offered(const struct virtio_dev *dev, uint32_t half)
{
    return half < 2 ? (uint32_t)(dev->features_offered >> (32 * half)) : 0;
}

void virtio_features_accept(struct virtio_dev *dev, uint32_t half, uint32_t bits)
{
    uint32_t status = virtio_status_get(dev);

    if (half < 2 && (status & VIRTIO_STATUS_DRIVER) && !(status & VIRTIO_STATUS_FEATURES_OK)) {
        dev->features_acked &= ~((uint64_t)UINT32_MAX << (32 * half));
        dev->features_acked |= (uint64_t)bits << (32 * half);
    }
}

uint32_t virtio_status_get(const struct virtio_dev *dev)
{
    return __atomic_load_n(&dev->status, __ATOMIC_ACQUIRE);
}

static bool features_are_ok(const struct virtio_dev *dev)
{
    return !(dev->features_acked & ~dev->features_offered) &&
           virtio_dev_has(dev, VIRTIO_F_VERSION_1);
}

/* Does the driver, at `old`, take the next step of the ladder by adding the bit `added`? */
static bool is_next_step(uint32_t old, uint32_t added)
{
    static const uint32_t ladder[] = {VIRTIO_STATUS_ACKNOWLEDGE, VIRTIO_STATUS_DRIVER,
                                      VIRTIO_STATUS_FEATURES_OK, VIRTIO_STATUS_DRIVER_OK};
    uint32_t below = 0;

    for (unsigned i = 0; i < ARRAY_LEN(ladder); i++) {
        if (added == ladder[i]) {
            return old == below;
        }
        below |= ladder[i];
    }
    return added == 0 || added == VIRTIO_STATUS_FAILED;
}

static void break_if_broken(struct virtio_dev *dev)
{
    for (unsigned i = 0; i < dev->queue_count; i++) {
        if (dev->queues[i].is_broken) {
            virtio_dev_needs_reset(dev);
        }
    }
}

static void on_doorbell(void *owner, int fd, uint32_t events)
{
    struct virtio_dev *dev = owner;

    (void)events;
    if (virtio_status_get(dev) & VIRTIO_STATUS_NEEDS_RESET) {
        return;
    }
    for (unsigned i = 0; i < dev->queue_count; i++) {
        if (dev->notify_fd[i] == fd) {
            dev->ops->notify(dev, i);
        }
    }
    break_if_broken(dev);
}

/* On the loop. */
static void start(void *owner)
{
    struct virtio_dev *dev = owner;
    int r = 0;

    dev->is_started = true;
    for (unsigned i = 0; i < dev->queue_count; i++) {
        int watched =
            loop_add_fd(dev->loop, dev->notify_fd[i], EPOLLIN | EPOLLET, on_doorbell, dev);

        dev->queues[i].has_event_idx = virtio_dev_has(dev, VIRTIO_F_EVENT_IDX);
        dev->queues[i].has_indirect = virtio_dev_has(dev, VIRTIO_F_INDIRECT_DESC);
        r = r < 0 ? r : watched;
    }
    if (r == 0) {
        r = dev->ops->start(dev);
    }
    if (r != 0) {
        virtio_dev_needs_reset(dev);
    }
    break_if_broken(dev);
}

void virtio_start_loaded(struct virtio_dev *dev)
{
    if (!dev->is_started && (virtio_status_get(dev) & VIRTIO_STATUS_DRIVER_OK)) {
        loop_call(dev->loop, start, dev);
    }
}

/* On the loop. */
static void stop(void *owner)
{
    struct virtio_dev *dev = owner;

    for (unsigned i = 0; i < dev->queue_count; i++) {
        loop_del_fd(dev->loop, dev->notify_fd[i]);
    }
    dev->ops->reset(dev);
    dev->is_started = false;
}

static void reset(struct virtio_dev *dev)
{
    if (dev->is_started) {
        loop_call(dev->loop, stop, dev);
    }
    for (unsigned i = 0; i < dev->queue_count; i++) {
        virtq_reset(&dev->queues[i]);
    }
    dev->features_acked = 0;
    __atomic_store_n(&dev->isr, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&dev->status, 0, __ATOMIC_RELEASE);
}

void virtio_status_set(struct virtio_dev *dev, uint32_t value)
{
    uint32_t old = virtio_status_get(dev) & STATUS_DRIVER_BITS;

    if (value == 0) {
        reset(dev);
        return;
    }
    value &= STATUS_DRIVER_BITS;
    if ((old & ~value) || !is_next_step(old, value & ~old)) {
        return; /* guest: takes bits back or skips a step */
    }
    if ((value & ~old & VIRTIO_STATUS_FEATURES_OK) && !features_are_ok(dev)) {
        value &= ~VIRTIO_STATUS_FEATURES_OK;
    }
    __atomic_fetch_or(&dev->status, value, __ATOMIC_ACQ_REL);
    if (value & ~old & VIRTIO_STATUS_DRIVER_OK) {
        loop_call(dev->loop, start, dev);
    }
}

bool virtio_queue_is_open(const struct virtio_dev *dev, unsigned index)
{
    return index < dev->queue_count && !dev->queues[index].is_enabled && !dev->is_started;
}

void virtio_queue_set_ready(struct virtio_dev *dev, unsigned index, bool ready)
{
    if (index >= dev->queue_count || dev->is_started) {
        return; /* 4.2.3: a queue of a live device is taken down by a reset only */
    }
    if (!ready) {
        dev->queues[index].is_enabled = false;
    } else if (virtio_queue_is_open(dev, index)) {
        /* a driver that does not read back what became of it hears of it when it starts */
        dev->queues[index].is_broken = virtq_enable(&dev->queues[index]) < 0;
    }
}

void virtio_queue_kick(struct virtio_dev *dev, uint32_t index)
{
    uint64_t one = 1;

    if (index < dev->queue_count && dev->is_started) {
        (void)!write(dev->notify_fd[index], &one, sizeof(one));
    }
}
