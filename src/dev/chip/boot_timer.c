/* boot_timer.c — a register into which the guest's first program writes that it runs. */
#include "dev/chip/boot_timer.h"

#include <stdlib.h>
#include <string.h>

#define BOOTED 123 /* the number that guests' programs know */

static void timer_read(struct device *dev, uint64_t offset, void *data, unsigned len)
{
    (void)dev;
    (void)offset;
    memset(data, 0, len);
}

static void timer_write(struct device *dev, uint64_t offset, const void *data, unsigned len)
{
    struct boot_timer *timer = (struct boot_timer *)dev;

    if (offset == 0 && len == 1 && *(const uint8_t *)data == BOOTED) {
        timer->booted(timer->owner);
    }
}

static void timer_free(struct device *dev)
{
    free(dev);
}

static const struct device_ops timer_ops = {
    .kind = "boot timer", .read = timer_read, .write = timer_write, .free = timer_free};

struct boot_timer *boot_timer_new(boot_timer_fn booted, void *owner)
{
    struct boot_timer *timer = calloc(1, sizeof(*timer));

    if (timer) {
        timer->dev.ops = &timer_ops;
        timer->booted = booted;
        timer->owner = owner;
    }
    return timer;
}
