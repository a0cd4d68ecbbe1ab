/* bus_test.c — accesses reach exactly the device that was placed there. */
#include <errno.h>

#include "dev/bus/bus.h"
#include "tests/lib/test.h"

struct probe {
    struct device dev;
    uint64_t last;
};

static void probe_read(struct device *dev, uint64_t offset, void *data, unsigned len)
{
    memset(data, (int)offset, len);
    ((struct probe *)dev)->last = offset;
}

static void probe_write(struct device *dev, uint64_t offset, const void *data, unsigned len)
{
    (void)data;
    (void)len;
    ((struct probe *)dev)->last = offset | 0x100;
}

static void probe_free(struct device *dev)
{
    (void)dev;
}

static const struct device_ops probe_ops = {
    .kind = "probe", .read = probe_read, .write = probe_write, .free = probe_free};

TEST(dev_bus, accesses_are_routed_by_address)
{
    struct bus bus = {0};
    struct probe a = {.dev.ops = &probe_ops};
    struct probe b = {.dev.ops = &probe_ops};
    struct err err = {0};
    uint32_t value = 0;

    CHECK_OK(bus_add(&bus, 0x200, 0x10, &b.dev, &err), &err);
    CHECK_OK(bus_add(&bus, 0x100, 0x10, &a.dev, &err), &err);
    CHECK_INT(bus_add(&bus, 0x10f, 2, &b.dev, &err), -EEXIST);
    bus_access(&bus, 0x104, &value, 4, false);
    CHECK_INT(value, 0x04040404);
    bus_access(&bus, 0x20f, &value, 1, true);
    CHECK_INT(b.last, 0x10f);
    bus_access(&bus, 0x10e, &value, 4, false);
    CHECK_INT(value, 0xffffffff);
    bus_access(&bus, 0x50, &value, 4, true);
    CHECK_INT(bus.stray_count, 2);
}
