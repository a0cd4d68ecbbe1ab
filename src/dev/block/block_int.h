/* block_int.h — what block.c (life, queue) and request.c (one request) share. */
#pragma once

#include "dev/block/block.h"
#include "dev/port/disk_port.h"
#include "dev/virtio/virtio.h"

#define SECTOR_BYTES 512u

/* As many as the queue has descriptors; a driver that offers one twice waits. */
#define BLOCK_REQUEST_MAX 256u

enum block_request_kind {
    BLOCK_MALFORMED, /* given back with length 0, and no status */
    BLOCK_UNSUPPORTED,
    BLOCK_GET_ID,
    BLOCK_IO,
};

struct block_request {
    struct disk_io io;
    uint8_t *status; /* in guest memory */
    uint16_t head;
    int64_t start_ns;
};

struct block {
    struct virtio_dev base;
    struct disk_port *disk;
    _Atomic uint64_t sectors; /* read by vCPUs */
    bool is_read_only;
    bool is_started;
    bool is_draining; /* what finishes makes room, and nothing new may take it */
    struct limiter limiter;
    struct metrics_block *metrics;
    struct virtq_chain chain;
    struct block_request requests[BLOCK_REQUEST_MAX];
    uint16_t free[BLOCK_REQUEST_MAX]; /* indices of requests that are not in flight */
    unsigned free_count;
};

/* What does the driver ask for?  Fills `ret` except start_ns. */
enum block_request_kind block_parse(const struct virtq_chain *chain, uint64_t sectors,
                                    struct block_request *ret);
/* How many bytes of its data a request moves, for the limiter. */
uint32_t block_request_bytes(enum block_request_kind kind, const struct block_request *req);
