/* bus.h — which device answers at which port or guest physical address.
 *
 * Filled while the machine is built, constant once vCPUs run, so dispatch takes no lock.  Reads
 * where nobody lives give all ones, writes there are dropped and counted.  The bus does not own
 * devices.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "dev/bus/device.h"
#include "mem/addr.h"

#define BUS_SLOT_MAX 64

struct bus_slot {
    uint64_t start;
    uint64_t len;
    struct device *dev;
};

struct bus {
    struct bus_slot slots[BUS_SLOT_MAX]; /* sorted by start */
    unsigned count;
    _Atomic uint64_t stray_count; /* accesses that met nobody */
};

/* Place `dev` at [start, start+len).  -EEXIST if taken, -ENOSPC if full. */
int bus_add(struct bus *bus, uint64_t start, uint64_t len, struct device *dev, struct err *err);
/* One access of 1 to 8 bytes.  An access that crosses the end of a device meets nobody. */
void bus_access(struct bus *bus, uint64_t addr, void *data, unsigned len, bool is_write);
