/* balloon_int.h — what the files of the balloon share. */
#pragma once

#include "dev/memory/balloon.h"
#include "dev/virtio/virtio.h"
#include "metrics/metrics.h"

struct loop_timer;

/* Kinds of queues; which index each has depends on the features (5.5.2). */
enum balloon_queue {
    BALLOON_INFLATE,
    BALLOON_DEFLATE,
    BALLOON_STATS,
    BALLOON_HINTING,
    BALLOON_REPORTING,
    BALLOON_QUEUE_COUNT
};

/* Commands of hinting that are no run of it (5.5.6.5). */
#define HINT_STOP      0u
#define HINT_DONE      1u
#define HINT_RUN_FIRST 2u

struct balloon {
    struct virtio_dev base;
    enum balloon_queue kinds[BALLOON_QUEUE_COUNT]; /* by index */
    bool is_running;
    /* Atomic: the configuration is read, and `actual` written, on a vCPU's thread. */
    uint32_t target_pages;
    uint32_t actual_pages;
    uint32_t host_cmd;

    /* statistics */
    uint16_t stats_interval_s;
    struct loop_timer *timer;
    bool has_stats_chain; /* the guest's buffer waits to be asked for again */
    uint16_t stats_head;
    uint64_t stats[BALLOON_STAT_COUNT];
    uint32_t stats_present;

    /* hinting */
    bool has_hinting;
    bool acknowledges; /* after the guest's stop, say done */
    uint32_t last_run;
    uint32_t guest_cmd;
    bool has_guest_cmd;

    struct virtq_chain chain;
};

static inline struct balloon *balloon_of(struct virtio_dev *dev)
{
    return container_of(dev, struct balloon, base);
}

/* balloon_queue.c: what the driver offered in a queue.  True: its share of the loop is used up. */
bool balloon_serve(struct balloon *b, enum balloon_queue kind, struct virtq *q);

/* The command that the guest is to see. */
void balloon_set_host_cmd(struct balloon *b, uint32_t cmd);
