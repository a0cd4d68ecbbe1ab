/* device.h — what every emulated device promises the guest side.
 *
 * A device embeds `struct device` as its first member.  read and write are called on a vCPU's
 * thread, with `offset` below the length the device was placed with and offset + len within it; a
 * device guards its own state with its own lock.
 */
#pragma once

#include <stdint.h>

struct device;
struct state;

struct device_ops {
    const char *kind; /* "virtio-rng", "uart16550" */
    /* Fill all `len` bytes (1, 2, 4 or 8); what does not exist reads as the device's manual says.
     */
    void (*read)(struct device *dev, uint64_t offset, void *data, unsigned len);
    void (*write)(struct device *dev, uint64_t offset, const void *data, unsigned len);
    /* NULL, zeroed and half-built objects are fine. */
    void (*free)(struct device *dev);
    /* Snapshot: write or take back the device's registers, while the machine is paused (load:
     * before it runs, into a device made with the same configuration; the file is hostile).  Both
     * NULL: there is nothing to keep. */
    void (*save)(struct device *dev, struct state *s);
    void (*load)(struct device *dev, struct state *s);
};

struct device {
    const struct device_ops *ops;
};

static inline void device_free(struct device *dev)
{
    if (dev) {
        dev->ops->free(dev);
    }
}
