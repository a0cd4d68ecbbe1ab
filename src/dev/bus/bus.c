/* bus.c — find the device that answers, by binary search. */
#include "dev/bus/bus.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "base/bits.h"

int bus_add(struct bus *bus, uint64_t start, uint64_t len, struct device *dev, struct err *err)
{
    unsigned at = bus->count;

    if (bus->count == BUS_SLOT_MAX) {
        return err_set(err, -ENOSPC, "bus: more than %d devices", BUS_SLOT_MAX);
    }
    for (unsigned i = 0; i < bus->count; i++) {
        const struct bus_slot *s = &bus->slots[i];

        if (start < s->start + s->len && s->start < start + len) {
            return err_set(err, -EEXIST, "bus: '%s' at 0x%llx overlaps '%s'", dev->ops->kind,
                           (unsigned long long)start, s->dev->ops->kind);
        }
    }
    while (at > 0 && bus->slots[at - 1].start > start) {
        bus->slots[at] = bus->slots[at - 1];
        at--;
    }
    bus->slots[at] = (struct bus_slot){.start = start, .len = len, .dev = dev};
    bus->count++;
    return 0;
}

static const struct bus_slot *find(const struct bus *bus, uint64_t addr)
{
    unsigned lo = 0;
    unsigned hi = bus->count;

    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;

        if (bus->slots[mid].start <= addr) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo ? &bus->slots[lo - 1] : NULL;
}

void bus_access(struct bus *bus, uint64_t addr, void *data, unsigned len, bool is_write)
{
    const struct bus_slot *s = find(bus, addr);

    if (!s || !range_within(addr - s->start, len, s->len)) {
        atomic_fetch_add_explicit(&bus->stray_count, 1, memory_order_relaxed);
        if (!is_write) {
            memset(data, 0xff, len);
        }
        return;
    }
    if (is_write) {
        s->dev->ops->write(s->dev, addr - s->start, data, len);
    } else {
        s->dev->ops->read(s->dev, addr - s->start, data, len);
    }
}
