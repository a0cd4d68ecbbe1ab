/* p9.c — the virtio 9P device: configuration space, and messages on their way to the session. */
#include "dev/p9/p9.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dev/p9/p9_int.h"
#include "dev/virtio/virtio.h"

#define QUEUE_COUNT         1u
#define VIRTIO_9P_MOUNT_TAG BIT(0) /* virtio 1.2, 5.9.3 */

/* A lock that is waited for. */
struct waiter {
    struct virtio_waiter base;
    struct p9_wait wait;
};

struct p9 {
    struct virtio_dev dev;
    uint8_t config[2 + P9_TAG_MAX]; /* virtio 1.2, 5.9.4: length, then the tag */
    struct p9_session session;
    struct virtio_server server;
};

static struct p9 *p9_of(struct virtio_dev *dev)
{
    return container_of(dev, struct p9, dev);
}

static bool again(struct virtio_server *server, const struct virtio_waiter *base,
                  const struct virtio_io *io, size_t *ret_written)
{
    struct p9 *p9 = container_of(server, struct p9, server);

    *ret_written = p9_wait_again(&p9->session, &((const struct waiter *)base)->wait, io);
    return *ret_written != 0;
}

/* The chain stays out until the lock is there.  0, or the error to reply with at once. */
static int wait_for(struct p9 *p9, const struct p9_wait *wait)
{
    struct waiter *waiter = malloc(sizeof(*waiter));
    int r = -ENOLCK;

    if (waiter) {
        waiter->wait = *wait;
        r = virtio_server_hold(&p9->server, &waiter->base);
    }
    if (r < 0) {
        free(waiter);
    }
    return r;
}

/* Linux takes the answer to what it flushes as well as none, but it must come first. */
static void flush(struct p9 *p9, uint16_t tag)
{
    list_for_each (pos, &p9->server.waiters) {
        struct waiter *waiter = container_of(pos, struct waiter, base.link);

        if (waiter->wait.tag == tag) {
            struct virtio_io io;

            virtio_waiter_io(&waiter->base, &io);
            virtio_server_end(&p9->server, &waiter->base, p9_reply_error(&io, tag, -EINTR));
        }
    }
}

static bool request(struct virtio_server *server, const struct virtio_io *io, size_t *ret_written)
{
    struct p9 *p9 = container_of(server, struct p9, server);
    struct p9_result result;

    p9_request(&p9->session, io, &result);
    switch (result.outcome) {
    case P9_DONE: break;
    case P9_WAIT: {
        int r = wait_for(p9, &result.wait);

        if (r == 0) {
            return false;
        }
        result.written = p9_reply_error(io, result.wait.tag, r);
        break;
    }
    case P9_FLUSH: flush(p9, result.old_tag); break;
    }
    *ret_written = result.written;
    return true;
}

static const struct virtio_server_ops server_ops = {.request = request, .again = again};

static void config_read(struct virtio_dev *dev, uint64_t offset, void *data, unsigned len)
{
    const struct p9 *p9 = p9_of(dev);

    virtio_config_copy(p9->config, 2u + load_le16(p9->config), offset, data, len);
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
    virtio_server_start(&p9_of(dev)->server);
    return 0;
}

static void reset(struct virtio_dev *dev)
{
    struct p9 *p9 = p9_of(dev);

    virtio_server_stop(&p9->server);
    p9_session_reset(&p9->session);
}

static void notify(struct virtio_dev *dev, unsigned index)
{
    virtio_server_notify(&p9_of(dev)->server, index);
}

static void p9_free(struct virtio_dev *dev)
{
    struct p9 *p9 = p9_of(dev);

    virtio_server_stop(&p9->server);
    p9_session_fini(&p9->session);
    p9->session.tree.ops->free(p9->session.tree.owner);
    virtio_dev_fini(dev);
    free(p9);
}

static const struct virtio_ops ops = {
    .kind = "virtio-9p",
    .id = VIRTIO_ID_9P,
    .config_read = config_read,
    .config_write = config_write,
    .start = start,
    .reset = reset,
    .notify = notify,
    .free = p9_free,
};

int p9_new(const struct p9_config *config, struct mem_map *mem, struct loop *loop,
           struct virtio_dev **ret_dev, struct err *err)
{
    size_t tag_len = strlen(config->tag);
    struct p9 *p9 = NULL;
    int r = -EINVAL;

    if (tag_len == 0 || tag_len > P9_TAG_MAX) {
        (void)err_set(err, r, "share tag '%s': must be 1 to %u bytes", config->tag, P9_TAG_MAX);
        goto fail;
    }
    p9 = calloc(1, sizeof(*p9));
    r = p9 ? p9_session_init(&p9->session, config) : -ENOMEM;
    if (r < 0) {
        (void)err_set(err, r, "share '%s': out of memory", config->tag);
        goto fail;
    }
    r = virtio_dev_init(&p9->dev, &ops, mem, loop, QUEUE_COUNT,
                        VIRTIO_9P_MOUNT_TAG | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX, err);
    if (r < 0) {
        goto fail;
    }
    store_le16(p9->config, (uint16_t)tag_len);
    memcpy(p9->config + 2, config->tag, tag_len);
    virtio_server_init(&p9->server, &p9->dev, &server_ops);
    *ret_dev = &p9->dev;
    return 0;
fail:
    if (p9) {
        p9_session_fini(&p9->session);
        free(p9);
    }
    config->tree.ops->free(config->tree.owner);
    return r;
}
