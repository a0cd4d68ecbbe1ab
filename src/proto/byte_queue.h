/* byte_queue.h — bytes in at the back, out at the front, without moving the rest each time.
 *
 * Zero-initialise and end with byte_queue_fini().  The storage of a large burst is given back once
 * the queue is empty.
 */
#pragma once

#include "base/buf.h"

struct byte_queue {
    struct buf buf;
    size_t head; /* bytes of buf already taken */
};

void byte_queue_fini(struct byte_queue *queue);
/* 0 or -ENOMEM, which leaves the queue as it was. */
int byte_queue_put(struct byte_queue *queue, const void *data, size_t len);
/* The oldest bytes; byte_queue_len() of them. */
const uint8_t *byte_queue_data(const struct byte_queue *queue);
size_t byte_queue_len(const struct byte_queue *queue);
/* Drop the `len` oldest bytes. */
void byte_queue_take(struct byte_queue *queue, size_t len);
