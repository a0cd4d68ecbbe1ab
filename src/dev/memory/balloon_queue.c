/* balloon_queue.c — what the guest says to its balloon: pages, statistics, hints. */
#include <stdlib.h>
#include <string.h>

#include "dev/memory/balloon_int.h"
#include "mem/map.h"

/* Chains in one go, before other work of the loop gets a chance. */
#define BATCH 16u

/* Page numbers of a chain that are looked at: Linux offers 256 at once. */
#define PFN_MAX   1024u
#define PFN_SHIFT 12

#define STAT_BYTES 10u /* le16 tag, le64 value (5.5.6.3) */
/* Far more than there are tags. */
#define STATS_MAX 256u

/* --- inflate --- */

static int compare(const void *a, const void *b)
{
    uint32_t left, right;

    memcpy(&left, a, sizeof(left));
    memcpy(&right, b, sizeof(right));
    return left < right ? -1 : left > right;
}

/* Discard [first, first + count) of 4 KiB pages. */
static void discard_pages(struct balloon *b, uint32_t first, uint32_t count)
{
    if (mem_discard(b->base.mem, GPA((uint64_t)first << PFN_SHIFT), (uint64_t)count << PFN_SHIFT) <
        0) {
        metric_inc(&g_metrics.balloon.event_fails);
    }
}

/* Neighbours go together: one call of the kernel for each run. */
static void inflate(struct balloon *b)
{
    uint32_t pfns[PFN_MAX];
    size_t bytes = virtq_chain_read(&b->chain, 0, pfns, sizeof(pfns));
    size_t count = bytes / sizeof(pfns[0]);
    size_t from = 0;

    if (b->chain.readable_bytes > sizeof(pfns) || bytes % sizeof(pfns[0]) || count == 0) {
        metric_inc(&g_metrics.balloon.event_fails); /* guest: what is too much stays as it is */
    }
    qsort(pfns, count, sizeof(pfns[0]), compare);
    for (size_t i = 1; i <= count; i++) {
        /* a number that comes twice stands at the end of its run, once */
        if (i == count || pfns[i] - pfns[i - 1] > 1) {
            discard_pages(b, pfns[from], pfns[i - 1] - pfns[from] + 1);
            from = i;
        }
    }
}

/* --- statistics --- */

static void read_stats(struct balloon *b)
{
    uint8_t data[STATS_MAX * STAT_BYTES];
    size_t bytes = virtq_chain_read(&b->chain, 0, data, sizeof(data));

    if (b->chain.readable_bytes % STAT_BYTES) {
        metric_inc(&g_metrics.balloon.stats_update_fails);
    }
    for (size_t at = 0; at + STAT_BYTES <= bytes; at += STAT_BYTES) {
        uint16_t tag = load_le16(data + at);

        if (tag < BALLOON_STAT_COUNT) { /* what a later guest tells is not known here */
            b->stats[tag] = load_le64(data + at + 2);
            b->stats_present |= 1u << tag;
        }
    }
    metric_inc(&g_metrics.balloon.stats_updates_count);
}

/* The newest buffer is kept until the timer asks for it; the driver has but one. */
static void take_stats(struct balloon *b, struct virtq *q)
{
    if (b->has_stats_chain) {
        virtq_push_head(q, b->stats_head, 0);
    }
    read_stats(b);
    b->stats_head = b->chain.head;
    b->has_stats_chain = true;
}

/* --- free pages --- */

/* Discard the memory that the chain names for writing. */
static void discard_chain(struct balloon *b, struct metric *count, struct metric *freed,
                          struct metric *fails)
{
    for (unsigned i = 0; i < b->chain.writable_count; i++) {
        const struct iovec *v = &b->chain.iov[b->chain.readable_count + i];

        metric_inc(count);
        if (mem_discard_host(b->base.mem, v->iov_base, v->iov_len) < 0) {
            metric_inc(fails);
        } else {
            metric_add(freed, v->iov_len);
        }
    }
}

static void take_hint(struct balloon *b)
{
    struct metrics_balloon *metrics = &g_metrics.balloon;
    uint32_t cmd;

    if (b->chain.readable_bytes == sizeof(cmd)) {
        (void)virtq_chain_read(&b->chain, 0, &cmd, sizeof(cmd));
        b->guest_cmd = cmd;
        b->has_guest_cmd = true;
        if (cmd == HINT_STOP && b->acknowledges && b->host_cmd >= HINT_RUN_FIRST) {
            balloon_set_host_cmd(b, HINT_DONE);
        }
        return;
    }
    if (!b->has_guest_cmd) {
        metric_inc(&metrics->free_page_hint_fails);
    } else if (b->guest_cmd == b->host_cmd && b->host_cmd >= HINT_RUN_FIRST) {
        /* a page of an earlier run may be in use again */
        discard_chain(b, &metrics->free_page_hint_count, &metrics->free_page_hint_freed,
                      &metrics->free_page_hint_fails);
    }
}

static void take_report(struct balloon *b)
{
    struct metrics_balloon *metrics = &g_metrics.balloon;

    discard_chain(b, &metrics->free_page_report_count, &metrics->free_page_report_freed,
                  &metrics->free_page_report_fails);
}

/* --- all of them --- */

bool balloon_serve(struct balloon *b, enum balloon_queue kind, struct virtq *q)
{
    unsigned count = 0;

    while (count < BATCH && virtq_pop(q, &b->chain) == 1) {
        count++;
        switch (kind) {
        case BALLOON_INFLATE:
            metric_inc(&g_metrics.balloon.inflate_count);
            inflate(b);
            break;
        case BALLOON_DEFLATE: metric_inc(&g_metrics.balloon.deflate_count); break;
        case BALLOON_STATS: take_stats(b, q); continue;
        case BALLOON_HINTING: take_hint(b); break;
        case BALLOON_REPORTING: take_report(b); break;
        case BALLOON_QUEUE_COUNT: break;
        }
        virtq_push(q, &b->chain, 0);
    }
    return count == BATCH;
}
