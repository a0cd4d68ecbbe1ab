/* power.c — sleep control, sleep status and reset registers of hardware-reduced ACPI. */
#include "dev/chip/power.h"

#include <stdlib.h>
#include <string.h>

#define OFFSET_CONTROL 0
#define OFFSET_RESET   4

#define SLEEP_ENABLE     0x20u
#define SLEEP_TYPE(byte) ((byte) >> 2 & 7u)

/* Sleep control is write-only for all that matters; sleep status has no wake event ever. */
static void power_read(struct device *dev, uint64_t offset, void *data, unsigned len)
{
    (void)dev;
    (void)offset;
    memset(data, 0, len);
}

static void write_register(struct power *power, uint64_t offset, uint8_t value)
{
    if (offset == OFFSET_CONTROL && (value & SLEEP_ENABLE) &&
        SLEEP_TYPE(value) == POWER_SLEEP_TYPE) {
        power->port.poweroff(power->port.owner);
    } else if (offset == OFFSET_RESET && value == POWER_RESET) {
        power->port.reset(power->port.owner);
    }
}

static void power_write(struct device *dev, uint64_t offset, const void *data, unsigned len)
{
    const uint8_t *from = data;

    for (unsigned i = 0; i < len; i++) {
        write_register((struct power *)dev, offset + i, from[i]);
    }
}

static void power_free(struct device *dev)
{
    free(dev);
}

static const struct device_ops power_ops = {
    .kind = "power", .read = power_read, .write = power_write, .free = power_free};

struct power *power_new(const struct power_port *port)
{
    struct power *power = calloc(1, sizeof(*power));

    if (power) {
        power->dev.ops = &power_ops;
        power->port = *port;
    }
    return power;
}
