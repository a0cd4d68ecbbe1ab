/* drives.c — block devices of the machine. */
#include "dev/block/block.h"
#include "dev/block/vhost_block.h"
#include "machine/limits.h"
#include "machine/machine_int.h"
#include "metrics/metrics.h"

/* The kernel is told of its root just before it is told of the device. */
static int name_root(struct machine *m, const struct resource_drive *drive, struct err *err)
{
    int r;

    if (!drive->is_root_device) {
        return 0;
    }
    r = drive->partuuid ? machine_cmdline_add(m, err, "root=PARTUUID=%s", drive->partuuid)
                        : machine_cmdline_add(m, err, "root=/dev/vda");
    return r < 0 ? r : machine_cmdline_add(m, err, drive->is_read_only ? "ro" : "rw");
}

static int add_file(struct machine *m, const struct config_drive *drive, struct loop *loop,
                    struct err *err)
{
    const struct resource_drive *resource = drive->resource;
    struct block_config config = {
        .disk = drive->disk,
        .is_read_only = resource->is_read_only,
        .has_flush = resource->cache_type == CACHE_WRITEBACK,
        .limit = limits_config(&resource->rate_limiter, resource->has_rate_limiter),
        .metrics = metrics_block(resource->drive_id),
    };
    struct virtio_dev *vdev = NULL;
    int r = block_new(&config, m->mem, loop, &vdev, err);

    return r < 0 ? r : machine_add_virtio(m, vdev, resource->drive_id, err);
}

static int add_vhost(struct machine *m, const struct config_drive *drive, struct loop *loop,
                     struct err *err)
{
    const char *id = drive->resource->drive_id;
    struct vhost_block_config config = {.port = drive->vhost,
                                        .config = drive->vhost_config,
                                        .metrics = metrics_vhost_user_block(id)};
    struct virtio_dev *vdev = NULL;
    int r = vhost_block_new(&config, m->mem, loop, &vdev, err);

    return r < 0 ? r : machine_add_virtio(m, vdev, id, err);
}

static int add(struct machine *m, const struct config_drive *drive, struct loop *loop,
               struct err *err)
{
    return drive->vhost ? add_vhost(m, drive, loop, err) : add_file(m, drive, loop, err);
}

int machine_add_drives(struct machine *m, const struct vm_config *config, struct loop *loop,
                       struct err *err)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < config->drive_count; i++) {
        r = name_root(m, config->drives[i].resource, err);
        if (r == 0) {
            r = add(m, &config->drives[i], loop, err);
        }
    }
    return r;
}

int machine_plug_drive(struct machine *m, const struct config_drive *drive, struct err *err)
{
    return add(m, drive, m->loops[0], err);
}
