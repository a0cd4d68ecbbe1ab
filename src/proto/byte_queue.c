/* byte_queue.c — bytes in at the back, out at the front. */
#include "proto/byte_queue.h"

#include <errno.h>

#include "base/bits.h"

enum {
    COMPACT_AT = 64 * 1024,    /* taken bytes that are worth a move of the rest */
    KEEP_STORAGE = 512 * 1024, /* an empty queue keeps at most this much */
};

void byte_queue_fini(struct byte_queue *queue)
{
    if (queue) {
        buf_fini(&queue->buf);
        queue->head = 0;
    }
}

int byte_queue_put(struct byte_queue *queue, const void *data, size_t len)
{
    if (queue->head >= COMPACT_AT && queue->head >= byte_queue_len(queue)) {
        buf_consume(&queue->buf, queue->head);
        queue->head = 0;
    }
    buf_append(&queue->buf, data, len);
    if (queue->buf.failed) {
        queue->buf.failed = false;
        return -ENOMEM;
    }
    return 0;
}

const uint8_t *byte_queue_data(const struct byte_queue *queue)
{
    return queue->buf.data ? queue->buf.data + queue->head : NULL;
}

size_t byte_queue_len(const struct byte_queue *queue)
{
    return queue->buf.len - queue->head;
}

void byte_queue_take(struct byte_queue *queue, size_t len)
{
    queue->head += len;
    if (queue->head < queue->buf.len) {
        return;
    }
    queue->head = 0;
    if (queue->buf.cap > KEEP_STORAGE) {
        buf_fini(&queue->buf);
    } else {
        buf_clear(&queue->buf);
    }
}
