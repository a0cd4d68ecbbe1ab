/* live_drive.c — what can be changed at a running machine's block device. */
#include <errno.h>

#include "dev/block/block.h"
#include "dev/block/vhost_block.h"
#include "dev/virtio/virtio.h"
#include "io/loop.h"
#include "machine/limits.h"
#include "machine/machine_int.h"

struct change {
    struct virtio_dev *dev;
    struct disk_port *disk;
    struct limiter_update limit;
    struct err *err;
    int r;
};

static void change(void *owner)
{
    struct change *c = owner;

    c->r = c->disk ? block_set_disk(c->dev, c->disk, c->err) : 0;
    if (c->r == 0) {
        block_set_limit(c->dev, &c->limit);
    }
}

int machine_drive_patch(struct machine *m, const struct resource_drive *patch,
                        struct disk_port *disk, struct err *err)
{
    struct change c = {
        .dev = machine_find_virtio(m, BLOCK_KIND, patch->drive_id),
        .disk = disk,
        .limit = limits_update(&patch->rate_limiter, patch->has_rate_limiter),
        .err = err,
    };

    if (!c.dev) {
        return err_set(err, -ENOENT, "drive '%s': there is none", patch->drive_id);
    }
    loop_call(c.dev->loop, change, &c);
    return c.r;
}

static void refresh(void *owner)
{
    struct change *c = owner;

    c->r = vhost_block_refresh(c->dev);
}

int machine_drive_refresh(struct machine *m, const char *id)
{
    struct change c = {.dev = machine_find_virtio(m, VHOST_BLOCK_KIND, id)};

    if (!c.dev) {
        return -ENOENT;
    }
    loop_call(c.dev->loop, refresh, &c);
    return c.r;
}
