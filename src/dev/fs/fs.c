/* fs.c — the virtio-fs device: configuration space, and requests on their way to the session.
 *
 * Queue 0 carries FORGET and INTERRUPT, queue 1 all other requests; both are served alike.  The
 * host has no call that waits for a lock and can be called off, so such requests stay out.
 */
#include "dev/fs/fs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "dev/fs/fs_int.h"
#include "dev/virtio/virtio.h"

#define QUEUE_COUNT 2u

/* A lock request that waits. */
struct waiter {
    struct virtio_waiter base;
    struct fs_wait wait;
};

struct virtio_fs {
    struct virtio_dev dev;
    struct virtio_fs_config_space {
        char tag[VIRTIO_FS_TAG_MAX];
        uint32_t request_queue_count;
    } config;
    struct fs_session session;
    struct virtio_server server;
};

_Static_assert(sizeof(struct virtio_fs_config_space) == 40, "virtio 1.2, 5.11.4");

static struct virtio_fs *fs_of(struct virtio_dev *dev)
{
    return container_of(dev, struct virtio_fs, dev);
}

static bool again(struct virtio_server *server, const struct virtio_waiter *base,
                  const struct virtio_io *io, size_t *ret_written)
{
    struct virtio_fs *fs = container_of(server, struct virtio_fs, server);
    const struct waiter *waiter = (const struct waiter *)base;
    int r = fs_wait_again(&fs->session, &waiter->wait);

    if (r == -EAGAIN) {
        return false;
    }
    *ret_written = fs_reply_error(io, waiter->wait.unique, r);
    return true;
}

/* The chain stays out until the lock is there.  0, or the error to reply with at once. */
static int wait_for(struct virtio_fs *fs, const struct fs_wait *wait)
{
    struct waiter *waiter = malloc(sizeof(*waiter));
    int r = -ENOLCK;

    if (waiter) {
        waiter->wait = *wait;
        r = virtio_server_hold(&fs->server, &waiter->base);
    }
    if (r < 0) {
        free(waiter);
    }
    return r;
}

static void interrupt(struct virtio_fs *fs, uint64_t unique)
{
    list_for_each (pos, &fs->server.waiters) {
        struct waiter *waiter = container_of(pos, struct waiter, base.link);

        if (waiter->wait.unique == unique) {
            struct virtio_io io;

            virtio_waiter_io(&waiter->base, &io);
            virtio_server_end(&fs->server, &waiter->base, fs_reply_error(&io, unique, -EINTR));
        }
    }
}

static bool request(struct virtio_server *server, const struct virtio_io *io, size_t *ret_written)
{
    struct virtio_fs *fs = container_of(server, struct virtio_fs, server);
    struct fs_result result;

    fs_request(&fs->session, io, &result);
    if (result.outcome == FS_WAIT) {
        int r = wait_for(fs, &result.wait);

        if (r == 0) {
            return false;
        }
        result.written = fs_reply_error(io, result.wait.unique, r);
    } else if (result.outcome == FS_INTERRUPT) {
        interrupt(fs, result.unique);
    }
    *ret_written = result.written;
    return true;
}

static const struct virtio_server_ops server_ops = {.request = request, .again = again};

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
    virtio_server_start(&fs_of(dev)->server);
    return 0;
}

static void reset(struct virtio_dev *dev)
{
    struct virtio_fs *fs = fs_of(dev);

    virtio_server_stop(&fs->server);
    fs_session_reset(&fs->session);
}

static void notify(struct virtio_dev *dev, unsigned index)
{
    virtio_server_notify(&fs_of(dev)->server, index);
}

static void fs_free(struct virtio_dev *dev)
{
    struct virtio_fs *fs = fs_of(dev);

    virtio_server_stop(&fs->server);
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
    virtio_server_init(&fs->server, &fs->dev, &server_ops);
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
