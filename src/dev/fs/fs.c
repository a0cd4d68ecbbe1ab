/* fs.c — the virtio-fs device: configuration space, queues, and lock requests that wait.
 *
 * Theory of operation.  Queue 0 carries FORGET and INTERRUPT, queue 1 all other requests; both are
 * served alike, a batch at a time so that others on the loop get their turn.  A lock that is taken
 * is tried again on a timer, as the host has no call that waits for a lock and can be called off.
 */
#include "dev/fs/fs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/bits.h"
#include "base/clock.h"
#include "base/list.h"
#include "dev/fs/fs_int.h"
#include "dev/virtio/virtio.h"
#include "io/loop.h"

#define QUEUE_COUNT   2u
#define BATCH_MAX     64u
#define WAIT_MAX      256u
#define WAIT_FIRST_NS (1 * NS_PER_MS) /* then twice as long each time */
#define WAIT_LAST_NS  (32 * NS_PER_MS)

/* A lock request that holds its chain. */
struct waiter {
    struct list link;
    struct virtq *queue;
    struct fs_wait wait;
    struct virtq_chain chain;
};

struct virtio_fs {
    struct virtio_dev dev;
    struct virtio_fs_config_space {
        char tag[VIRTIO_FS_TAG_MAX];
        uint32_t request_queue_count;
    } config;
    struct fs_session session;
    struct list waiters;
    unsigned waiter_count;
    struct loop_timer *timer;
    int64_t wait_ns;
    bool is_running;
    bool is_posted; /* serve_more() is on its way */
    struct virtq_chain chain;
};

_Static_assert(sizeof(struct virtio_fs_config_space) == 40, "virtio 1.2, 5.11.4");

static struct virtio_fs *fs_of(struct virtio_dev *dev)
{
    return container_of(dev, struct virtio_fs, dev);
}

static void io_of(const struct virtq_chain *chain, struct fs_io *io)
{
    *io = (struct fs_io){
        .in = chain->iov,
        .in_count = chain->readable_count,
        .in_bytes = chain->readable_bytes,
        .out = chain->iov + chain->readable_count,
        .out_count = chain->writable_count,
        .out_bytes = chain->writable_bytes,
    };
}

static void waiter_end(struct virtio_fs *fs, struct waiter *waiter, int error)
{
    struct fs_io io;

    io_of(&waiter->chain, &io);
    virtq_push(waiter->queue, &waiter->chain, fs_reply_error(&io, waiter->wait.unique, error));
    virtio_dev_signal(&fs->dev, waiter->queue);
    list_remove(&waiter->link);
    fs->waiter_count--;
    free(waiter);
}

static void try_waiters(void *owner)
{
    struct virtio_fs *fs = owner;

    fs->timer = NULL;
    list_for_each (pos, &fs->waiters) {
        struct waiter *waiter = container_of(pos, struct waiter, link);
        int r = fs_wait_again(&fs->session, &waiter->wait);

        if (r != -EAGAIN) {
            waiter_end(fs, waiter, r);
        }
    }
    if (!list_is_empty(&fs->waiters)) {
        fs->wait_ns = fs->wait_ns < WAIT_LAST_NS ? fs->wait_ns * 2 : WAIT_LAST_NS;
        fs->timer = loop_add_timer(fs->dev.loop, fs->wait_ns, try_waiters, fs);
    }
}

/* The chain stays out until the lock is there.  0, or the error to reply with at once. */
static int waiter_add(struct virtio_fs *fs, struct virtq *queue, const struct fs_wait *wait)
{
    struct waiter *waiter;

    if (fs->waiter_count >= WAIT_MAX) {
        return -ENOLCK;
    }
    waiter = malloc(sizeof(*waiter));
    if (!waiter) {
        return -ENOLCK;
    }
    if (fs->timer) {
        loop_del_timer(fs->dev.loop, fs->timer);
    }
    fs->wait_ns = WAIT_FIRST_NS;
    fs->timer = loop_add_timer(fs->dev.loop, fs->wait_ns, try_waiters, fs);
    if (!fs->timer) {
        free(waiter);
        return -ENOLCK;
    }
    waiter->queue = queue;
    waiter->wait = *wait;
    waiter->chain = fs->chain;
    list_append(&fs->waiters, &waiter->link);
    fs->waiter_count++;
    return 0;
}

static void interrupt(struct virtio_fs *fs, uint64_t unique)
{
    list_for_each (pos, &fs->waiters) {
        struct waiter *waiter = container_of(pos, struct waiter, link);

        if (waiter->wait.unique == unique) {
            waiter_end(fs, waiter, -EINTR);
        }
    }
}

static void serve_one(struct virtio_fs *fs, struct virtq *queue)
{
    struct fs_result result;
    struct fs_io io;

    io_of(&fs->chain, &io);
    fs_request(&fs->session, &io, &result);
    if (result.outcome == FS_WAIT) {
        int r = waiter_add(fs, queue, &result.wait);

        if (r == 0) {
            return;
        }
        result.written = fs_reply_error(&io, result.wait.unique, r);
    } else if (result.outcome == FS_INTERRUPT) {
        interrupt(fs, result.unique);
    }
    virtq_push(queue, &fs->chain, result.written);
}

static void serve_more(void *owner);

static void serve(struct virtio_fs *fs, struct virtq *queue)
{
    unsigned left = BATCH_MAX;
    int r = 1;

    while (left > 0) {
        r = virtq_pop(queue, &fs->chain);
        if (r <= 0) {
            break;
        }
        serve_one(fs, queue);
        left--;
    }
    virtio_dev_signal(&fs->dev, queue);
    if (r < 0) {
        virtio_dev_needs_reset(&fs->dev);
    } else if (r > 0 && !fs->is_posted) {
        fs->is_posted = loop_post(fs->dev.loop, serve_more, fs) == 0;
    }
}

static void serve_more(void *owner)
{
    struct virtio_fs *fs = owner;

    fs->is_posted = false;
    for (unsigned i = 0; i < QUEUE_COUNT && fs->is_running; i++) {
        if (fs->dev.queues[i].is_enabled) {
            serve(fs, &fs->dev.queues[i]);
        }
    }
}

static void config_read(struct virtio_dev *dev, uint64_t offset, void *data, unsigned len)
{
    const struct virtio_fs *fs = fs_of(dev);

    virtio_config_copy(&fs->config, sizeof(fs->config), offset, data, len);
}

static void config_write(struct virtio_dev *dev __attribute__((unused)),
                         uint64_t offset __attribute__((unused)),
                         const void *data __attribute__((unused)),
                         unsigned len __attribute__((unused)))
{
    /* All of it is read-only. */
}

static int start(struct virtio_dev *dev)
{
    fs_of(dev)->is_running = true;
    return 0;
}

static void drop_waiters(struct virtio_fs *fs)
{
    if (fs->timer) {
        loop_del_timer(fs->dev.loop, fs->timer);
        fs->timer = NULL;
    }
    list_for_each (pos, &fs->waiters) {
        list_remove(pos);
        free(container_of(pos, struct waiter, link));
    }
    fs->waiter_count = 0;
}

static void reset(struct virtio_dev *dev)
{
    struct virtio_fs *fs = fs_of(dev);

    fs->is_running = false;
    drop_waiters(fs);
    fs_session_reset(&fs->session);
}

static void notify(struct virtio_dev *dev, unsigned index)
{
    serve(fs_of(dev), &dev->queues[index]);
}

static void fs_free(struct virtio_dev *dev)
{
    struct virtio_fs *fs = fs_of(dev);

    drop_waiters(fs);
    fs_session_fini(&fs->session);
    fs->session.tree.ops->free(fs->session.tree.owner);
    virtio_dev_fini(dev);
    free(fs);
}

static const struct virtio_ops ops = {
    .kind = "virtio-fs",
    .id = VIRTIO_ID_FS,
    .config_read = config_read,
    .config_write = config_write,
    .start = start,
    .reset = reset,
    .notify = notify,
    .free = fs_free,
};

int virtio_fs_new(const struct virtio_fs_config *config, struct mem_map *mem, struct loop *loop,
                  struct virtio_dev **ret_dev, struct err *err)
{
    size_t tag_len = strlen(config->tag);
    struct virtio_fs *fs = NULL;
    int r = -EINVAL;

    if (tag_len == 0 || tag_len > VIRTIO_FS_TAG_MAX) {
        (void)err_set(err, r, "share tag '%s': must be 1 to %u bytes", config->tag,
                      VIRTIO_FS_TAG_MAX);
        goto fail;
    }
    fs = calloc(1, sizeof(*fs));
    r = fs ? fs_session_init(&fs->session, config) : -ENOMEM;
    if (r < 0) {
        (void)err_set(err, r, "share '%s': out of memory", config->tag);
        goto fail;
    }
    r = virtio_dev_init(&fs->dev, &ops, mem, loop, QUEUE_COUNT,
                        VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX, err);
    if (r < 0) {
        goto fail;
    }
    fs->dev.queue_size_max = VIRTQ_SIZE_MAX; /* as many pages as one readahead asks for */
    memcpy(fs->config.tag, config->tag, tag_len);
    fs->config.request_queue_count = 1;
    list_init(&fs->waiters);
    *ret_dev = &fs->dev;
    return 0;
fail:
    if (fs) {
        fs_session_fini(&fs->session);
        free(fs);
    }
    config->tree.ops->free(config->tree.owner);
    return r;
}
