/* metrics.c — the values: process-wide groups, and groups of devices found by id. */
#include "metrics/metrics.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "metrics/metrics_int.h"

struct metrics g_metrics;

static struct metrics_device *g_devices[METRICS_KINDS];
static atomic_flag g_busy = ATOMIC_FLAG_INIT;

/* What a device counts into that got no group of its own. */
#define SPARE(name, LIST) static struct metrics_##name g_spare_##name;
#define NOTHING(name, LIST)
METRICS_GROUPS(NOTHING, SPARE, SPARE)

bool metrics_lock(void)
{
    int64_t deadline_ns = clock_mono_ns() + 100 * NS_PER_MS;

    while (atomic_flag_test_and_set_explicit(&g_busy, memory_order_acquire)) {
        if (clock_mono_ns() > deadline_ns) {
            return false;
        }
        (void)sched_yield();
    }
    return true;
}

void metrics_unlock(void)
{
    atomic_flag_clear_explicit(&g_busy, memory_order_release);
}

struct metrics_device *metrics_devices(enum metrics_kind kind)
{
    return g_devices[kind];
}

static struct metrics_device *device_new(const char *id, size_t size)
{
    struct metrics_device *dev = calloc(1, sizeof(*dev) + size);

    if (dev) {
        dev->id = strdup(id);
        if (!dev->id) {
            free(dev);
            dev = NULL;
        }
    }
    return dev;
}

static void device_free(struct metrics_device *dev)
{
    free(dev->id);
    free(dev);
}

/* Where the device with `id` is or belongs. */
static struct metrics_device **find(enum metrics_kind kind, const char *id)
{
    struct metrics_device **slot = &g_devices[kind];

    while (*slot && strcmp((*slot)->id, id) < 0) {
        slot = &(*slot)->next;
    }
    return slot;
}

static unsigned count(enum metrics_kind kind)
{
    unsigned n = 0;

    for (struct metrics_device *dev = g_devices[kind]; dev; dev = dev->next) {
        n++;
    }
    return n;
}

/* Insert at `slot`; the line buffer has room for it, or nothing happens. */
static struct metrics_device *insert(struct metrics_device **slot, const char *id, size_t size)
{
    struct metrics_device *dev = device_new(id, size);

    if (!dev) {
        return NULL;
    }
    dev->next = *slot;
    *slot = dev;
    if (metrics_out_grow() < 0) {
        *slot = dev->next;
        device_free(dev);
        return NULL;
    }
    return dev;
}

/* The group of a device, made if need be; NULL when that failed. */
static void *device_values(enum metrics_kind kind, const char *id, size_t size)
{
    struct metrics_device **slot;
    struct metrics_device *dev = NULL;

    if (!metrics_lock()) {
        return NULL;
    }
    slot = find(kind, id);
    if (*slot && strcmp((*slot)->id, id) == 0) {
        dev = *slot;
    } else if (count(kind) < METRICS_DEVICES_MAX) {
        dev = insert(slot, id, size);
    }
    metrics_unlock();
    return dev ? dev->values : NULL;
}

#define DEVICE(name, LIST)                                                                    \
    struct metrics_##name *metrics_##name(const char *id)                                     \
    {                                                                                         \
        void *values = device_values(METRICS_KIND_##name, id, sizeof(struct metrics_##name)); \
                                                                                              \
        return values ? values : &g_spare_##name;                                             \
    }
METRICS_GROUPS(NOTHING, DEVICE, DEVICE)

void metric_time(struct metric_agg *agg, uint64_t us)
{
    uint64_t least = metric_get(&agg->min_us);

    metric_add(&agg->sum_us, us);
    if (least == 0 || us < least) {
        metric_set(&agg->min_us, us);
    }
    if (us > metric_get(&agg->max_us)) {
        metric_set(&agg->max_us, us);
    }
}

void metrics_reset(void)
{
    metrics_out_close();
    for (unsigned kind = 0; kind < METRICS_KINDS; kind++) {
        while (g_devices[kind]) {
            struct metrics_device *dev = g_devices[kind];

            g_devices[kind] = dev->next;
            device_free(dev);
        }
    }
    memset(&g_metrics, 0, sizeof(g_metrics));
}
