/* metrics.h — what this process counts: one set of counters, written as JSON lines.
 *
 * Counting:
 *
 *     metric_add(&g_metrics.i8042.read_count, 1);
 *     metric_inc(&dev->metrics->read_count);               a device's group, from metrics_block(id)
 *     metric_set(&g_metrics.latencies_us.pause_vm, us);
 *     metric_time(&dev->metrics->read_agg, clock_now_us() - start_us);
 *
 * Any thread may count at any time, from a signal handler too: everything is a relaxed atomic, and
 * nothing orders anything.  All names stand in metrics_list.h; nobody but metrics.c reads a value,
 * except tests, with metric_get().
 *
 * A device's group is found or made by its id and lives as long as the process, so that a pointer
 * to it never dangles and a device that is made anew goes on counting.  metrics_block() and its
 * like never return NULL; without memory, or past METRICS_DEVICES_MAX ids, they return a group that
 * nobody writes.  They are for the thread that configures.
 *
 * Writing: metrics_open() once; then metrics_write() writes a line and starts the next interval.
 * metrics_write() allocates nothing, takes no lock that a signal could leave held, and may be
 * called from any thread and from a handler of a fatal signal.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "metrics/metrics_list.h"

struct err;

/* A counter or a stored value. */
struct metric {
    _Atomic uint64_t value;
    _Atomic uint64_t written; /* counters: what earlier lines have shown */
};

struct metric_agg {
    struct metric min_us; /* 0 while nothing was timed */
    struct metric max_us;
    struct metric sum_us;
};

#define METRICS_FIELD(name)     struct metric name;
#define METRICS_FIELD_AGG(name) struct metric_agg name;
#define METRICS_STRUCT(name, LIST)                            \
    struct metrics_##name {                                   \
        LIST(METRICS_FIELD, METRICS_FIELD, METRICS_FIELD_AGG) \
    };
METRICS_GROUPS(METRICS_STRUCT, METRICS_STRUCT, METRICS_STRUCT)

#define METRICS_MEMBER(name, LIST) struct metrics_##name name;
#define METRICS_NO_MEMBER(name, LIST)
extern struct metrics {
    METRICS_GROUPS(METRICS_MEMBER, METRICS_NO_MEMBER, METRICS_NO_MEMBER)
} g_metrics;

enum { METRICS_DEVICES_MAX = 256 }; /* of each kind; a machine has at most 31 devices */

struct metrics_block *metrics_block(const char *drive_id);
struct metrics_net *metrics_net(const char *iface_id);
struct metrics_pmem *metrics_pmem(const char *id);
struct metrics_vhost_user_block *metrics_vhost_user_block(const char *drive_id);

static inline void metric_add(struct metric *metric, uint64_t n)
{
    atomic_fetch_add_explicit(&metric->value, n, memory_order_relaxed);
}

static inline void metric_inc(struct metric *metric)
{
    metric_add(metric, 1);
}

static inline void metric_set(struct metric *metric, uint64_t value)
{
    atomic_store_explicit(&metric->value, value, memory_order_relaxed);
}

static inline uint64_t metric_get(const struct metric *metric)
{
    return atomic_load_explicit(&metric->value, memory_order_relaxed);
}

/* Something took `us`.  Two at the same moment may lose one's minimum or maximum, never its sum. */
void metric_time(struct metric_agg *agg, uint64_t us);

/* --- writing --- */

struct metrics_options {
    const char *path;            /* created when missing, never truncated; a FIFO needs no reader */
    const char *id;              /* NULL: lines have no `id`.  Letters, digits and '-' */
    const char *properties_json; /* NULL, or the object that lines have as `properties` */
};

/* -EALREADY when lines have a destination already, -ENOMEM, or what open(2) says; `err` (the text
 * of the reason alone) may be NULL.  The strings are copied. */
int metrics_open(const struct metrics_options *options, struct err *err);
bool metrics_is_open(void);

/* Write one line.  0 when it was written or there is no destination, else a negative errno; what
 * failed is counted in g_metrics.logger. */
int metrics_write(void);

/* Forget the destination, the devices and all values: for tests. */
void metrics_reset(void);
