/* rx.c — frames for the guest.
 *
 * Theory of operation.  Buffers are taken out of the queue into the pool until they hold the
 * largest frame; then one read fills as many as the frame needs, and these, and only these, are
 * given back, all at once.  The rest stays in the pool for the next frame.  Without merged buffers
 * (5.1.6.4) a frame must fit the first one.
 */
#include <errno.h>
#include <string.h>

#include "dev/net/net_int.h"

/* Without merged buffers and segmentation the driver's buffers hold an Ethernet frame: 1514 bytes
 * and the header (5.1.6.3.1). */
#define SMALL_BUFFER_MIN 1526u

#define HDR_NUM_BUFFERS 10u /* offset in struct virtio_net_hdr */

static bool is_merging(const struct net *net)
{
    return virtio_dev_has(&net->base, NET_F_MRG_RXBUF);
}

static size_t buffer_min(const struct net *net)
{
    if (is_merging(net)) {
        return NET_HDR_BYTES;
    }
    return virtio_dev_has(&net->base, NET_F_GUEST_TSO4 | NET_F_GUEST_TSO6 | NET_F_GUEST_UFO)
               ? NET_FRAME_MAX
               : SMALL_BUFFER_MIN;
}

/* Move what is left to the front, so that there is room behind it. */
static void compact(struct net_pool *pool)
{
    memmove(pool->buffers, pool->buffers + pool->at, pool->count * sizeof(pool->buffers[0]));
    memmove(pool->iov, pool->iov + pool->iov_at, pool->iov_count * sizeof(pool->iov[0]));
    pool->at = 0;
    pool->iov_at = 0;
}

/* Append net->chain; false if there is no room. */
static bool append(struct net *net)
{
    struct net_pool *pool = &net->pool;
    const struct virtq_chain *chain = &net->chain;

    if (pool->count == NET_QUEUE_SIZE || pool->iov_count + chain->writable_count > VIRTQ_SEG_MAX) {
        return false;
    }
    if (pool->at + pool->count == NET_QUEUE_SIZE ||
        pool->iov_at + pool->iov_count + chain->writable_count > VIRTQ_SEG_MAX) {
        compact(pool);
    }
    pool->buffers[pool->at + pool->count++] = (struct net_buffer){
        .head = chain->head,
        .iov_count = (uint16_t)chain->writable_count,
        .bytes = chain->writable_bytes,
    };
    memcpy(pool->iov + pool->iov_at + pool->iov_count, chain->iov,
           chain->writable_count * sizeof(pool->iov[0]));
    pool->iov_count += chain->writable_count;
    pool->bytes += chain->writable_bytes;
    return true;
}

/* Fill the pool.  Is there room for any frame? */
static bool collect(struct net *net)
{
    struct virtq *q = &net->base.queues[NET_RX];
    size_t min = buffer_min(net);
    unsigned useless = 0;

    while (net->pool.bytes < NET_FRAME_MAX) {
        if (useless == NET_QUEUE_SIZE) {
            net_again(net, NET_RX);
            return false;
        }
        if (virtq_pop(q, &net->chain) != 1) {
            metric_inc(&net->metrics->no_rx_avail_buffer);
            return false;
        }
        if (net->chain.readable_count > 0 || net->chain.writable_bytes < min) {
            virtq_push(q, &net->chain, 0); /* guest: nothing that could be received into */
            metric_inc(&net->metrics->rx_fails);
            useless++;
        } else if (!append(net)) {
            virtq_unpop(q, 1);
            return false;
        }
    }
    return true;
}

/* Copy into the pool's memory. */
static void scatter(struct net_pool *pool, size_t offset, const void *data, size_t len)
{
    const struct iovec *iov = pool->iov + pool->iov_at;
    size_t done = 0;

    for (unsigned i = 0; i < pool->iov_count && done < len; i++) {
        size_t part;

        if (offset >= iov[i].iov_len) {
            offset -= iov[i].iov_len;
            continue;
        }
        part = iov[i].iov_len - offset;
        part = part < len - done ? part : len - done;
        memcpy((uint8_t *)iov[i].iov_base + offset, (const uint8_t *)data + done, part);
        done += part;
        offset = 0;
    }
}

/* The next frame into the pool: its bytes, header included, or negative errno. */
static ssize_t read_frame(struct net *net)
{
    struct net_pool *pool = &net->pool;
    /* without merging only the first buffer is for this frame */
    unsigned count = is_merging(net) ? pool->iov_count : pool->buffers[pool->at].iov_count;

    if (net->inner) {
        size_t len = net->inner->ops->give(net->inner, net->scratch + NET_HDR_BYTES,
                                           NET_FRAME_MAX - NET_HDR_BYTES);

        if (len > 0) {
            memset(net->scratch, 0, NET_HDR_BYTES);
            scatter(pool, 0, net->scratch, NET_HDR_BYTES + len);
            return (ssize_t)(NET_HDR_BYTES + len);
        }
    }
    return net->port->ops->recv(net->port, pool->iov + pool->iov_at, count);
}

/* Give the driver the frame of `len` bytes at the start of the pool. */
static void deliver(struct net *net, size_t len)
{
    struct virtq *q = &net->base.queues[NET_RX];
    struct net_pool *pool = &net->pool;
    uint8_t num_buffers[2];
    uint16_t used = 0;

    for (size_t room = 0; room < len; used++) {
        room += pool->buffers[pool->at + used].bytes;
    }
    store_le16(num_buffers, used);
    scatter(pool, HDR_NUM_BUFFERS, num_buffers, sizeof(num_buffers));
    for (unsigned i = 0; i < used; i++) {
        const struct net_buffer *b = &pool->buffers[pool->at++];
        size_t part = b->bytes < len ? b->bytes : len;

        virtq_put(q, b->head, pool->iov + pool->iov_at, b->iov_count, part);
        pool->iov_at += b->iov_count;
        pool->iov_count -= b->iov_count;
        pool->count--;
        pool->bytes -= b->bytes;
        len -= part;
    }
    virtq_publish(q);
}

/* One frame; false when there is nothing more to do now. */
static bool receive_one(struct net *net)
{
    if (net->held == 0) {
        ssize_t n;

        if (!collect(net)) {
            return false; /* goes on when the driver posts more */
        }
        n = read_frame(net);
        if (n < (ssize_t)(NET_HDR_BYTES + NET_ETH_BYTES)) {
            metric_add(&net->metrics->tap_read_fails, n != -EAGAIN);
            metric_add(&net->metrics->rx_fails, n != -EAGAIN);
            return n >= 0; /* a runt is dropped */
        }
        net->held = (size_t)n;
    }
    if (!limiter_take(&net->rx_limiter, 1, net->held)) {
        metric_inc(&net->metrics->rx_rate_limiter_throttled);
        return false;
    }
    metric_inc(&net->metrics->rx_count);
    metric_inc(&net->metrics->rx_packets_count);
    metric_add(&net->metrics->rx_bytes_count, net->held);
    deliver(net, net->held);
    net->held = 0;
    return true;
}

void net_receive(struct net *net)
{
    unsigned count = 0;

    while (count < NET_BATCH && receive_one(net)) {
        count++;
    }
    virtio_dev_signal(&net->base, &net->base.queues[NET_RX]);
    if (count == NET_BATCH) {
        net_again(net, NET_RX);
    }
}
