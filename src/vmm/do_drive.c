/* do_drive.c — drives: the file is opened when it is named and belongs to the microVM.  The texts
 * are the interface's. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/os_error.h"
#include "host/disk.h"
#include "host/vhost_user.h"
#include "metrics/metrics.h"
#include "vmm/microvm_int.h"

#define SECTOR_BYTES 512u

/* What the machine calls them (dev/block/block.h, vhost_block.h). */
#define BLOCK_KIND "virtio-blk"
#define VHOST_KIND "vhost-user-block"

#define CREATE_FAILED "Unable to create the virtio block device"
#define PATCH_FAILED  "Unable to patch the block device: %s Please verify the request arguments."

static void host_fini(struct drive_host *host)
{
    disk_port_free(host->disk);
    vhost_port_free(host->vhost);
    *host = (struct drive_host){0};
}

void microvm_drives_fini(struct microvm *vm)
{
    for (unsigned i = 0; i < vm->resources.drive_count; i++) {
        host_fini(&vm->drive_hosts[i]);
    }
    free(vm->drive_hosts);
    vm->drive_hosts = NULL;
}

/* --- PUT --- */

/* A file, with what belongs to one, or a socket and nothing of a file. */
static bool is_file(const struct resource_drive *drive)
{
    return drive->path_on_host && !drive->socket;
}

static bool is_socket(const struct resource_drive *drive)
{
    return drive->socket && !drive->path_on_host && !drive->has_is_read_only &&
           !drive->has_rate_limiter && !drive->has_io_engine;
}

/* `drive_count` if there is none. */
static unsigned find_drive(const struct microvm *vm, const char *id)
{
    unsigned i = 0;

    while (i < vm->resources.drive_count && strcmp(vm->resources.drives[i].drive_id, id) != 0) {
        i++;
    }
    return i;
}

static int check_root(const struct microvm *vm, const struct resource_drive *drive, unsigned at,
                      struct err *err)
{
    const struct microvm_resources *res = &vm->resources;

    if (!drive->is_root_device) {
        return 0;
    }
    for (unsigned i = 0; i < res->pmem_count; i++) {
        if (res->pmems[i].root_device) {
            return err_set(err, -EEXIST,
                           "Attempt to add block as a root device while the root device defined as "
                           "a pmem device");
        }
    }
    for (unsigned i = 0; i < res->drive_count; i++) {
        if (i != at && res->drives[i].is_root_device) {
            return err_set(err, -EEXIST, "A root block device already exists!");
        }
    }
    return 0;
}

static int open_disk(const char *path, const struct resource_drive *drive,
                     struct disk_port **ret_disk, struct err *err)
{
    struct disk_config config = {.path = path,
                                 .is_read_only = drive->is_read_only,
                                 .is_async = drive->io_engine == IO_ASYNC};
    int r = disk_open(&config, ret_disk, err);

    if (r < 0) {
        return err_wrap(err, r, "Virtio backend error");
    }
    if ((*ret_disk)->bytes % SECTOR_BYTES) {
        log_warn("Disk size %llu is not a multiple of sector size %u; the remainder will not be "
                 "visible to the guest.",
                 (unsigned long long)(*ret_disk)->bytes, SECTOR_BYTES);
    }
    return 0;
}

static int connect_vhost(const struct resource_drive *drive, struct drive_host *host,
                         struct err *err)
{
    uint64_t features = vhost_block_features(drive->cache_type == CACHE_WRITEBACK);
    int64_t start_ns = clock_mono_ns();
    int r = vhost_user_open(drive->socket, features, &host->vhost, host->vhost_config, err);

    if (r < 0) {
        return err_wrap(err, r, "Vhost user backend error");
    }
    metric_set(&metrics_vhost_user_block(drive->drive_id)->init_time_us,
               (uint64_t)((clock_mono_ns() - start_ns) / NS_PER_US));
    return 0;
}

static int open_host(const struct resource_drive *drive, struct drive_host *host, struct err *err)
{
    int r;

    if (is_file(drive)) {
        r = open_disk(drive->path_on_host, drive, &host->disk, err);
    } else if (is_socket(drive)) {
        r = connect_vhost(drive, host, err);
    } else {
        r = err_set(err, -EINVAL, "Invalid block config.");
    }
    return r < 0 ? err_wrap(err, r, CREATE_FAILED) : 0;
}

/* Room for one more at the end of both lists. */
static int grow(struct microvm *vm, struct err *err)
{
    size_t count = vm->resources.drive_count + 1u;
    struct resource_drive *drives = realloc(vm->resources.drives, count * sizeof(*drives));
    struct drive_host *hosts;

    if (drives) {
        vm->resources.drives = drives;
    }
    hosts = drives ? realloc(vm->drive_hosts, count * sizeof(hosts[0])) : NULL;
    if (!hosts) {
        return err_set(err, -ENOMEM, "out of memory");
    }
    vm->drive_hosts = hosts;
    return 0;
}

/* The guest's first disk is its root: `at` changes places with what is first. */
static void bring_to_front(struct microvm *vm, unsigned at)
{
    struct resource_drive *drives = vm->resources.drives;
    struct resource_drive drive = drives[at];
    struct drive_host host = vm->drive_hosts[at];

    drives[at] = drives[0];
    vm->drive_hosts[at] = vm->drive_hosts[0];
    drives[0] = drive;
    vm->drive_hosts[0] = host;
}

/* In front of all others, which keep their order. */
static void insert_first(struct microvm *vm, unsigned count)
{
    struct resource_drive drive = vm->resources.drives[count];
    struct drive_host host = vm->drive_hosts[count];

    memmove(&vm->resources.drives[1], &vm->resources.drives[0], count * sizeof(drive));
    memmove(&vm->drive_hosts[1], &vm->drive_hosts[0], count * sizeof(host));
    vm->resources.drives[0] = drive;
    vm->drive_hosts[0] = host;
}

/* Keep it at `at`, where one of its name is or the list ends. */
static void keep(struct microvm *vm, struct resource_drive *drive, const struct drive_host *host,
                 unsigned at)
{
    bool is_new = at == vm->resources.drive_count;

    if (!is_new) {
        host_fini(&vm->drive_hosts[at]);
        resource_drive_fini(&vm->resources.drives[at]);
    }
    vm->resources.drives[at] = *drive;
    vm->drive_hosts[at] = *host;
    *drive = (struct resource_drive){0};
    if (is_new) {
        vm->resources.drive_count++;
    }
    if (vm->resources.drives[at].is_root_device && is_new) {
        insert_first(vm, at);
    } else if (vm->resources.drives[at].is_root_device) {
        bring_to_front(vm, at);
    }
}

static struct config_drive lend(const struct resource_drive *drive, const struct drive_host *host)
{
    return (struct config_drive){.resource = drive,
                                 .disk = host->disk,
                                 .vhost = host->vhost,
                                 .vhost_config = host->vhost_config};
}

/* Into the running machine; there, nothing becomes the root. */
static int plug(struct microvm *vm, struct resource_drive *drive, unsigned at, struct err *err)
{
    struct drive_host host = {0};
    struct config_drive config;
    int r;

    if (at < vm->resources.drive_count) {
        return microvm_fault(vm, err, -EEXIST, "Device ID in use");
    }
    if (drive->is_root_device) {
        return err_set(err, -EEXIST, "A root block device already exists!");
    }
    r = grow(vm, err);
    if (r == 0) {
        r = open_host(drive, &host, err);
    }
    if (r < 0) {
        return r;
    }
    config = lend(drive, &host);
    r = machine_plug_drive(vm->machine, &config, err);
    if (r < 0) {
        host_fini(&host);
        return r == -ENOSPC ? microvm_fault(vm, err, r, "PCI manager error: %s", err_text(err)) : r;
    }
    keep(vm, drive, &host, at);
    return 0;
}

int do_put_drive(struct microvm *vm, const struct action *action, struct err *err)
{
    struct resource_drive *drive = action->drive;
    unsigned at = find_drive(vm, drive->drive_id);
    struct drive_host host = {0};
    int r;

    if (vm->state != MICROVM_NOT_STARTED) {
        return plug(vm, drive, at, err);
    }
    r = check_root(vm, drive, at, err);
    if (r == 0) {
        r = grow(vm, err);
    }
    if (r == 0) {
        r = open_host(drive, &host, err);
    }
    if (r == 0) {
        keep(vm, drive, &host, at);
    }
    return r;
}

/* --- DELETE --- */

int do_delete_drive(struct microvm *vm, const struct action *action, struct err *err)
{
    struct microvm_resources *res = &vm->resources;
    unsigned at = find_drive(vm, action->id);

    if (at == res->drive_count) {
        return err_set(err, -ENOENT, "Device not found");
    }
    if (res->drives[at].is_root_device) {
        return err_set(err, -EBUSY, "Cannot unplug root device");
    }
    if (machine_unplug(vm->machine, vm->drive_hosts[at].vhost ? VHOST_KIND : BLOCK_KIND,
                       action->id) < 0) {
        return err_set(err, -ENOENT, "Device not found");
    }
    host_fini(&vm->drive_hosts[at]);
    resource_drive_fini(&res->drives[at]);
    res->drive_count--;
    memmove(&res->drives[at], &res->drives[at + 1],
            (res->drive_count - at) * sizeof(res->drives[0]));
    memmove(&vm->drive_hosts[at], &vm->drive_hosts[at + 1],
            (res->drive_count - at) * sizeof(vm->drive_hosts[0]));
    return 0;
}

/* --- PATCH --- */

static int patch_failed(struct err *err, int code, const char *why)
{
    char text[ERR_TEXT_MAX / 2];

    (void)strncpy(text, why, sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    return err_set(err, code, PATCH_FAILED, text);
}

/* Give the device another file and forget the old one. */
static int patch_device(struct microvm *vm, const struct resource_drive *patch, unsigned at,
                        struct err *err)
{
    struct resource_drive *drive = &vm->resources.drives[at];
    struct disk_port *disk = NULL;
    struct err why = {0};
    char *path = NULL;
    int r = 0;

    if (patch->path_on_host) {
        path = strdup(patch->path_on_host);
        r = path ? open_disk(path, drive, &disk, &why) : err_set(&why, -ENOMEM, "out of memory");
    }
    if (r == 0) {
        r = machine_drive_patch(vm->machine, patch, disk, &why);
    }
    if (r < 0) {
        disk_port_free(disk);
        free(path);
        (void)err_wrap(&why, r, "Block");
        return patch_failed(err, r, why.text);
    }
    if (disk) {
        disk_port_free(vm->drive_hosts[at].disk);
        vm->drive_hosts[at].disk = disk;
        free(drive->path_on_host);
        drive->path_on_host = path;
    }
    resource_limiter_patch(&drive->rate_limiter, &drive->has_rate_limiter, &patch->rate_limiter,
                           patch->has_rate_limiter);
    return 0;
}

/* A drive that another process serves: it may have another size now. */
static int refresh(struct microvm *vm, const char *id, struct err *err)
{
    struct err why = {0};
    char text[OS_ERROR_MAX];
    int r = machine_drive_refresh(vm->machine, id);

    if (r < 0) {
        (void)err_set(&why, r, "Block: Vhost user backend error: Get config failed: %s",
                      os_error(r, text));
        return patch_failed(err, r, why.text);
    }
    return 0;
}

int do_patch_drive(struct microvm *vm, const struct action *action, struct err *err)
{
    const struct resource_drive *patch = action->drive;
    unsigned at = find_drive(vm, patch->drive_id);

    if (at == vm->resources.drive_count) {
        return patch_failed(err, -ENOENT, "Failed perform action on device: Device not found");
    }
    if ((patch->path_on_host || patch->has_rate_limiter) != !vm->drive_hosts[at].vhost) {
        return patch_failed(err, -EINVAL, "Block: Running method expected different backend.");
    }
    return vm->drive_hosts[at].vhost ? refresh(vm, patch->drive_id, err)
                                     : patch_device(vm, patch, at, err);
}

/* --- start --- */

int start_plan_add_drives(struct microvm *vm, struct start_plan *plan, struct err *err)
{
    unsigned count = vm->resources.drive_count;

    plan->drives = calloc(count ? count : 1, sizeof(plan->drives[0]));
    if (!plan->drives) {
        return err_set(err, -ENOMEM, "out of memory");
    }
    for (unsigned i = 0; i < count; i++) {
        plan->drives[i] = lend(&vm->resources.drives[i], &vm->drive_hosts[i]);
    }
    plan->config.drives = plan->drives;
    plan->config.drive_count = count;
    return 0;
}
