/* balloon.h — virtio-balloon (virtio 1.2, 5.5): the guest gives pages back to the host, when it is
 * asked to (inflate), whenever it has free ones (reporting), or on demand without losing them
 * (hinting), and tells how it uses the rest (statistics).
 *
 * The functions below belong to the loop of the device.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct loop;
struct mem_map;
struct virtio_dev;

#define BALLOON_PAGES_PER_MIB 256u /* a page is 4 KiB here, always (5.5.6) */
#define BALLOON_STAT_COUNT    16   /* tags of 5.5.6.3 */

struct balloon_config {
    uint32_t target_pages;
    bool deflate_on_oom;
    uint16_t stats_interval_s; /* 0: no statistics */
    bool has_hinting;
    bool has_reporting;
};

struct balloon_stats {
    uint32_t target_pages;
    uint32_t actual_pages;
    uint64_t values[BALLOON_STAT_COUNT]; /* by tag */
    uint32_t present;                    /* bits of those that the guest has told */
};

struct balloon_hinting {
    uint32_t host_cmd;
    uint32_t guest_cmd;
    bool has_guest_cmd;
};

int balloon_new(const struct balloon_config *config, struct mem_map *mem, struct loop *loop,
                struct virtio_dev **ret_dev, struct err *err);

/* Ask the guest for another size.  -ENODEV: no driver is there. */
int balloon_set_target(struct virtio_dev *dev, uint32_t pages);

/* -ENOTSUP: it has no statistics. */
int balloon_get_stats(struct virtio_dev *dev, struct balloon_stats *ret_stats);
/* -ENOTSUP: that would switch them on or off. */
int balloon_set_stats_interval(struct virtio_dev *dev, uint16_t interval_s);

/* Begin or end a hinting run.  -ENOTSUP: it has no hinting; -ENODEV: no driver is there. */
int balloon_start_hinting(struct virtio_dev *dev, bool acknowledge_on_stop);
int balloon_stop_hinting(struct virtio_dev *dev);
int balloon_get_hinting(struct virtio_dev *dev, struct balloon_hinting *ret_hinting);
