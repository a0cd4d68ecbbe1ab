/* devices.c — every device of the machine, placed. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "dev/fs/fs.h"
#include "dev/misc/rng.h"
#include "dev/p9/p9.h"
#include "dev/pci/pci.h"
#include "dev/virtio/mmio.h"
#include "dev/vsock/vsock.h"
#include "host/tree_dir.h"
#include "io/loop.h"
#include "machine/generation.h"
#include "machine/layout.h"
#include "machine/limits.h"
#include "machine/machine_int.h"

/* Clients of a microVM expect to hear soon from a guest that does not answer; our own wait for one
 * that is still booting. */
#define VSOCK_TIMEOUT_NS      (2 * NS_PER_S)
#define VSOCK_LONG_TIMEOUT_NS (20 * NS_PER_S)

static void line_set(void *owner, unsigned line, bool level)
{
    (void)hv_irq_set(((struct machine *)owner)->vm, line, level);
}

static void line_pulse(void *owner, unsigned line)
{
    (void)hv_irq_pulse(((struct machine *)owner)->vm, line);
}

struct irq_line machine_irq(struct machine *m, unsigned line)
{
    return (struct irq_line){.set = line_set, .pulse = line_pulse, .owner = m, .line = line};
}

int machine_place(struct machine *m, struct bus *bus, uint64_t start, uint64_t len,
                  struct device *dev, struct err *err)
{
    if (m->device_count == MACHINE_DEVICE_MAX) {
        device_free(dev);
        return err_set(err, -ENOSPC, "more than %d devices", MACHINE_DEVICE_MAX);
    }
    m->devices[m->device_count++] = dev;
    return bus_add(bus, start, len, dev, err);
}

int machine_add_loop(struct machine *m, struct loop **ret_loop, struct err *err)
{
    int r = loop_new(&m->loops[m->loop_count], err);

    if (r == 0) {
        *ret_loop = m->loops[m->loop_count++];
    }
    return r;
}

static int add_share_fs(struct machine *m, const struct config_share *share,
                        const struct tree_port *tree, struct loop *loop,
                        struct virtio_dev **ret_vdev, struct err *err)
{
    struct virtio_fs_config fs = {.tag = share->tag,
                                  .tree = *tree,
                                  .is_read_only = share->read_only,
                                  .cache = share->is_stable ? VIRTIO_FS_CACHE_LONG
                                                            : VIRTIO_FS_CACHE_SHORT,
                                  .has_no_xattr = share->is_lower};

    return virtio_fs_new(&fs, m->mem, loop, ret_vdev, err);
}

static int add_share_9p(struct machine *m, const struct config_share *share,
                        const struct tree_port *tree, struct loop *loop,
                        struct virtio_dev **ret_vdev, struct err *err)
{
    struct p9_config p9 = {.tag = share->tag,
                           .tree = *tree,
                           .is_read_only = share->read_only,
                           .has_no_xattr = share->is_lower};

    return p9_new(&p9, m->mem, loop, ret_vdev, err);
}

static int add_share(struct machine *m, const struct config_share *share, struct err *err)
{
    struct tree_dir_config dir = {
        .path = share->path, .is_read_only = share->read_only, .closed_is_empty = share->is_lower};
    struct loop *loop = NULL;
    /* A loop of its own: one share's slow disk holds up nobody else. */
    int r = machine_add_loop(m, &loop, err);

    for (unsigned kind = SHARE_FS; r == 0 && kind <= SHARE_9P; kind++) {
        struct virtio_dev *vdev = NULL;
        struct tree_port tree;

        if (share->kind != SHARE_EITHER && share->kind != kind) {
            continue;
        }
        r = tree_dir_new(&dir, &tree, err);
        if (r == 0) {
            r = (kind == SHARE_FS ? add_share_fs : add_share_9p)(m, share, &tree, loop, &vdev, err);
        }
        if (r == 0) {
            r = machine_add_virtio(m, vdev, share->tag, err);
        }
    }
    if (r == -ENOSPC && share->kind == SHARE_EITHER) {
        return err_set(err, r,
                       "share '%s': no room for more devices; this kernel does not say whether it "
                       "has virtio-fs, and without a module tree each share takes two: fewer "
                       "shares, or devices on PCI",
                       share->path);
    }
    return r < 0 ? err_wrap(err, r, "share '%s'", share->path) : 0;
}

static int add_vsock(struct machine *m, const struct vm_config *config, struct loop *loop,
                     struct err *err)
{
    struct vsock_config vsock = {.guest_cid = config->vsock_cid,
                                 .port = config->vsock_port,
                                 .request_timeout_ns =
                                     config->is_microvm ? VSOCK_TIMEOUT_NS : VSOCK_LONG_TIMEOUT_NS};
    struct virtio_dev *vdev = NULL;
    int r = config->vsock_port ? vsock_new(&vsock, m->mem, loop, &vdev, err) : 0;

    return r < 0 || !vdev ? r : machine_add_virtio(m, vdev, "", err);
}

static int add_entropy(struct machine *m, const struct vm_config *config, struct loop *loop,
                       struct err *err)
{
    const struct resource_limiter *limiter = config->entropy_limiter;
    struct limiter_config limit = {0};
    struct virtio_dev *vdev = NULL;
    int r = 0;

    if (limiter) {
        limit = limits_config(limiter, true);
    }
    if (config->has_entropy) {
        r = rng_new(m->mem, loop, limiter ? &limit : NULL, &vdev, err);
    }
    return r < 0 || !vdev ? r : machine_add_virtio(m, vdev, "", err);
}

/* The order in which virtio devices are attached decides what the guest calls them, and clients
 * know it: balloon, drives (the root first), network interfaces, pmem, vsock, entropy, memory. */
int machine_add_devices(struct machine *m, const struct vm_config *config,
                        const struct tty_port *console, struct err *err)
{
    struct loop *loop = NULL;
    int r;

    r = machine_add_chips(m, config, console, err);
    if (r == 0 && config->has_pci) {
        r = machine_add_pci(m, err);
    }
    if (r == 0) {
        r = machine_add_loop(m, &loop, err);
    }
    if (r == 0) {
        r = machine_add_balloon(m, config, loop, err);
    }
    if (r == 0) {
        r = machine_add_drives(m, config, loop, err);
    }
    if (r == 0) {
        r = machine_add_nets(m, config, loop, err);
    }
    if (r == 0) {
        r = machine_add_pmems(m, config, loop, err);
    }
    if (r == 0) {
        r = add_vsock(m, config, loop, err);
    }
    if (r == 0) {
        r = add_entropy(m, config, loop, err);
    }
    if (r == 0) {
        r = machine_add_hotmem(m, config, loop, err);
    }
    for (unsigned i = 0; r == 0 && i < config->share_count; i++) {
        r = add_share(m, &config->shares[i], err);
    }
    if (r == 0 && config->is_microvm) {
        r = machine_add_generation(m, err);
    }
    return r;
}

void machine_free_devices(struct machine *m)
{
    while (m->device_count > 0) {
        device_free(m->devices[--m->device_count]);
    }
    pci_bus_free(m->pci);
    while (m->slot_count > 0) {
        free(m->slots[--m->slot_count].id);
    }
}
