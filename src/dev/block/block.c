/* block.c — virtio-blk: life, configuration, and the way of requests through the limiter to the
 * disk and back.
 *
 * Theory of operation.  notify takes chains until the queue is empty, the limiter refuses (the
 * chain goes back into the queue), the disk has no room, or the device had its share of the loop
 * (then it rings its own doorbell).  A disk answers at once or later: finish() is the one place
 * where a request ends.  A later answer also means room, so it takes up the queue again.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "dev/block/block_int.h"
#include "dev/virtio/limiter_state.h"
#include "io/loop.h"
#include "mem/map.h"
#include "metrics/metrics.h"

/* Feature bits: virtio 1.2, 5.2.3. */
#define FEATURE_RO    BIT(5)
#define FEATURE_FLUSH BIT(9)

/* Status byte: virtio 1.2, 5.2.6. */
#define STATUS_OK     0
#define STATUS_IOERR  1
#define STATUS_UNSUPP 2

#define ROUND_MAX 64 /* requests before others on the loop get their turn */
#define SIGNAL_AFTER                                                              \
    16 /* finished at once before the driver is told: a slow disk's first answers \
          need not wait for its last */

static struct block *block_of(struct virtio_dev *dev)
{
    return container_of(dev, struct block, base);
}

static struct virtq *queue_of(struct block *b)
{
    return &b->base.queues[0];
}

/* --- the end of a request --- */

static void give_back(struct block *b, const struct block_request *req, uint8_t status,
                      uint32_t written)
{
    *req->status = status;
    mem_note_write_host(b->base.mem, req->status, 1);
    virtq_push_head(queue_of(b), req->head, written + 1);
}

static void count_transfer(struct block *b, const struct block_request *req)
{
    uint64_t us = (uint64_t)((clock_mono_ns() - req->start_ns) / NS_PER_US);

    switch (req->io.op) {
    case DISK_READ:
        metric_inc(&b->metrics->read_count);
        metric_add(&b->metrics->read_bytes, req->io.len);
        metric_time(&b->metrics->read_agg, us);
        break;
    case DISK_WRITE:
        metric_inc(&b->metrics->write_count);
        metric_add(&b->metrics->write_bytes, req->io.len);
        metric_time(&b->metrics->write_agg, us);
        break;
    case DISK_FLUSH: metric_inc(&b->metrics->flush_count); break;
    }
}

/* `result` is the disk's: bytes or negative errno. */
static void finish(struct block *b, const struct block_request *req, int64_t result)
{
    uint32_t want = req->io.op == DISK_FLUSH ? 0 : req->io.len;
    uint32_t written = req->io.op == DISK_READ && result > 0 ? (uint32_t)result : 0;

    if (written > 0) {
        mem_note_write_host(b->base.mem, req->io.data, written);
    }
    if (result == want) {
        count_transfer(b, req);
        give_back(b, req, STATUS_OK, written);
        return;
    }
    metric_inc(&b->metrics->invalid_reqs_count);
    log_guest(LOG_ERROR, "Failed to execute a block request: %s",
              result < 0 ? strerror((int)-result) : "the transfer was short");
    give_back(b, req, STATUS_IOERR, written);
}

static void on_done(void *owner, struct disk_io *io, int64_t result)
{
    struct block *b = owner;
    struct block_request *req = container_of(io, struct block_request, io);

    finish(b, req, result);
    b->free[b->free_count++] = (uint16_t)(req - b->requests);
}

/* --- its beginning --- */

static void answer_id(struct block *b, const struct block_request *req)
{
    memcpy(req->io.data, b->disk->id, DISK_ID_BYTES);
    mem_note_write_host(b->base.mem, req->io.data, DISK_ID_BYTES);
    give_back(b, req, STATUS_OK, DISK_ID_BYTES);
}

/* Send it to the disk; false: it has no room, the request stays in the queue. */
static bool submit(struct block *b, const struct block_request *parsed)
{
    struct block_request *req = &b->requests[b->free[b->free_count - 1]];
    int64_t result;

    *req = *parsed;
    req->start_ns = clock_mono_ns();
    if (req->io.op == DISK_WRITE && b->is_read_only) {
        finish(b, req, -EBADF);
        return true;
    }
    result = b->disk->ops->submit(b->disk, &req->io);
    if (result == DISK_FULL) {
        metric_inc(&b->metrics->io_engine_throttled_events);
        return false;
    }
    if (result == DISK_PENDING) {
        b->free_count--;
    } else {
        finish(b, req, result);
    }
    return true;
}

/* Deal with the chain that was taken; false: it could not be, and is in the queue again. */
static bool execute(struct block *b)
{
    struct block_request req;
    enum block_request_kind kind =
        block_parse(&b->chain, atomic_load_explicit(&b->sectors, memory_order_relaxed), &req);
    uint32_t bytes = kind == BLOCK_MALFORMED ? 0 : block_request_bytes(kind, &req);

    if (kind != BLOCK_MALFORMED && !limiter_take(&b->limiter, 1, bytes)) {
        metric_inc(&b->metrics->rate_limiter_throttled_events);
        virtq_unpop(queue_of(b), 1);
        return false;
    }
    switch (kind) {
    case BLOCK_MALFORMED:
        metric_inc(&b->metrics->execute_fails);
        log_guest(LOG_ERROR, "Failed to parse available descriptor chain of a block device");
        virtq_push_head(queue_of(b), b->chain.head, 0);
        return true;
    case BLOCK_UNSUPPORTED:
        metric_inc(&b->metrics->invalid_reqs_count);
        give_back(b, &req, STATUS_UNSUPP, 0);
        return true;
    case BLOCK_GET_ID: answer_id(b, &req); return true;
    case BLOCK_IO: break;
    }
    if (!submit(b, &req)) {
        limiter_refund(&b->limiter, 1, bytes);
        virtq_unpop(queue_of(b), 1);
        return false;
    }
    return true;
}

static void process(struct block *b)
{
    struct virtq *q = queue_of(b);
    unsigned count = 0;
    unsigned room;
    uint64_t one = 1;

    while (count < ROUND_MAX && b->free_count > 0 && virtq_pop(q, &b->chain) == 1 && execute(b)) {
        if (++count % SIGNAL_AFTER == 0) {
            virtio_dev_signal(&b->base, q);
        }
    }
    room = b->free_count;
    b->disk->ops->commit(b->disk);
    virtio_dev_signal(&b->base, q);
    metric_add(&b->metrics->remaining_reqs_count, virtq_waiting(q));
    if (count == 0) {
        metric_inc(&b->metrics->no_avail_buffer);
    }
    /* its share of the loop is used up, or there was no room and now is */
    if (count == ROUND_MAX ||
        (b->free_count > room && !limiter_is_blocked(&b->limiter) && virtq_has_work(q))) {
        (void)!write(b->base.notify_fd[0], &one, sizeof(one));
    }
}

static void on_batch_end(void *owner)
{
    struct block *b = owner;

    virtio_dev_signal(&b->base, queue_of(b));
    if (b->is_started && !b->is_draining && virtq_has_work(queue_of(b))) {
        process(b);
    }
}

static void on_retry(void *owner)
{
    struct block *b = owner;

    metric_inc(&b->metrics->rate_limiter_event_count);
    if (b->is_started) {
        process(b);
    }
}

/* --- what the transport calls --- */

static void config_read(struct virtio_dev *dev, uint64_t offset, void *data, unsigned len)
{
    uint8_t config[8]; /* 5.2.4: the capacity in sectors; nothing else was offered */

    store_le64(config, atomic_load_explicit(&block_of(dev)->sectors, memory_order_relaxed));
    virtio_config_copy(config, sizeof(config), offset, data, len);
}

static void config_write(struct virtio_dev *dev, uint64_t offset, const void *data, unsigned len)
{
    (void)offset;
    (void)data;
    (void)len;
    metric_inc(&block_of(dev)->metrics->cfg_fails);
}

static int start(struct virtio_dev *dev)
{
    block_of(dev)->is_started = true;
    return 0;
}

static void reset(struct virtio_dev *dev)
{
    block_of(dev)->is_started = false;
    block_drain(dev);
}

static void notify(struct virtio_dev *dev, unsigned index)
{
    (void)index;
    metric_inc(&block_of(dev)->metrics->queue_event_count);
    process(block_of(dev));
}

/* Nothing is in flight in a snapshot; what the limiter held back is still in the queue. */
static void block_save(struct virtio_dev *dev, struct state *s)
{
    block_drain(dev);
    virtio_limiter_fields(&block_of(dev)->limiter, s);
}

static void block_load(struct virtio_dev *dev, struct state *s)
{
    virtio_limiter_fields(&block_of(dev)->limiter, s);
}

static void block_free(struct virtio_dev *dev)
{
    struct block *b = block_of(dev);

    b->is_started = false;
    if (b->disk) {
        b->disk->ops->detach(b->disk);
    }
    limiter_fini(&b->limiter);
    virtio_dev_fini(dev);
    free(b);
}

static const struct virtio_ops g_block_ops = {
    .kind = BLOCK_KIND,
    .id = VIRTIO_ID_BLOCK,
    .config_read = config_read,
    .config_write = config_write,
    .start = start,
    .reset = reset,
    .notify = notify,
    .free = block_free,
    .save = block_save,
    .load = block_load,
};

/* --- life --- */

static int attach(struct block *b, struct disk_port *disk, struct err *err)
{
    struct disk_client client = {.done = on_done, .batch_end = on_batch_end, .owner = b};
    int r = disk->ops->attach(disk, b->base.loop, &client);

    return r < 0 ? err_set(err, r, "attach a disk: %s", strerror(-r)) : 0;
}

static void use(struct block *b, struct disk_port *disk)
{
    b->disk = disk;
    atomic_store_explicit(&b->sectors, disk->bytes / SECTOR_BYTES, memory_order_relaxed);
}

int block_new(const struct block_config *config, struct mem_map *mem, struct loop *loop,
              struct virtio_dev **ret_dev, struct err *err)
{
    struct block *b = calloc(1, sizeof(*b));
    uint64_t features = VIRTIO_F_EVENT_IDX | (config->is_read_only ? FEATURE_RO : 0) |
                        (config->has_flush ? FEATURE_FLUSH : 0);
    int r;

    if (!b) {
        return err_set(err, -ENOMEM, "virtio-blk: out of memory");
    }
    b->is_read_only = config->is_read_only;
    b->metrics = config->metrics;
    for (unsigned i = 0; i < BLOCK_REQUEST_MAX; i++) {
        b->free[b->free_count++] = (uint16_t)i;
    }
    r = virtio_dev_init(&b->base, &g_block_ops, mem, loop, 1, features, err);
    if (r == 0) {
        limiter_init(&b->limiter, &config->limit, loop, on_retry, b);
        r = attach(b, config->disk, err);
    }
    if (r < 0) {
        block_free(&b->base);
        return r;
    }
    use(b, config->disk);
    *ret_dev = &b->base;
    return 0;
}

/* --- live --- */

int block_set_disk(struct virtio_dev *dev, struct disk_port *disk, struct err *err)
{
    struct block *b = block_of(dev);
    int r = attach(b, disk, err);

    if (r < 0) {
        metric_inc(&b->metrics->update_fails);
        return r;
    }
    b->is_draining = true;
    b->disk->ops->detach(b->disk);
    b->is_draining = false;
    use(b, disk);
    metric_inc(&b->metrics->update_count);
    virtio_dev_config_changed(dev);
    on_batch_end(b); /* what waited for room of the old one */
    return 0;
}

void block_set_limit(struct virtio_dev *dev, const struct limiter_update *update)
{
    limiter_change(&block_of(dev)->limiter, update);
}

void block_drain(struct virtio_dev *dev)
{
    struct block *b = block_of(dev);

    b->is_draining = true;
    b->disk->ops->drain(b->disk);
    b->is_draining = false;
}
