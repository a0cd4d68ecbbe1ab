/* tx.c — the guest's frames: to the inner service if they are for it, else to the port. */
#include <string.h>

#include "base/clock.h"
#include "dev/net/net_int.h"

/* A source address that is not the configured one is the guest's right, and counted. */
static void check_source(const struct net *net)
{
    uint8_t source[NET_MAC_BYTES];

    if (net->has_mac) {
        (void)virtq_chain_read(&net->chain, NET_HDR_BYTES + NET_MAC_BYTES, source, sizeof(source));
        if (memcmp(source, net->config, sizeof(source)) != 0) {
            metric_inc(&net->metrics->tx_spoofed_mac_count);
        }
    }
}

/* True: it was for the inner service, which has it. */
static bool divert(struct net *net, size_t len)
{
    uint8_t head[NET_INNER_HEAD_MAX];
    size_t got;

    if (!net->inner) {
        return false;
    }
    got = virtq_chain_read(&net->chain, NET_HDR_BYTES, head, sizeof(head));
    if (!net->inner->ops->wants(net->inner, head, got)) {
        return false;
    }
    got = virtq_chain_read(&net->chain, NET_HDR_BYTES, net->scratch, len - NET_HDR_BYTES);
    /* guest: what it wrote since may have changed; the service looks at this copy alone */
    net->inner->ops->take(net->inner, net->scratch, got);
    return true;
}

static void send_frame(struct net *net, size_t len)
{
    struct metrics_net *metrics = net->metrics;
    int64_t start_ns;
    int r;

    if (divert(net, len)) {
        limiter_refund(&net->tx_limiter, 1, len); /* it never leaves */
        return;
    }
    check_source(net);
    start_ns = clock_mono_ns();
    r = net->port->ops->send(net->port, net->chain.iov, net->chain.readable_count);
    metric_time(&metrics->tap_write_agg, (uint64_t)(clock_mono_ns() - start_ns) / NS_PER_US);
    if (r < 0) {
        /* a frame that the host refuses is lost, as on a wire */
        metric_inc(&metrics->tap_write_fails);
        metric_inc(&metrics->tx_fails);
        return;
    }
    metric_inc(&metrics->tx_count);
    metric_inc(&metrics->tx_packets_count);
    metric_add(&metrics->tx_bytes_count, len);
}

/* One frame; false when there is nothing more to do now. */
static bool transmit_one(struct net *net)
{
    struct virtq *q = &net->base.queues[NET_TX];
    size_t len;

    if (virtq_pop(q, &net->chain) != 1) {
        return false;
    }
    len = net->chain.readable_bytes;
    if (net->chain.writable_count == 0 && len >= NET_HDR_BYTES + NET_ETH_BYTES &&
        len <= NET_FRAME_MAX) {
        if (!limiter_take(&net->tx_limiter, 1, len)) {
            virtq_unpop(q, 1);
            metric_inc(&net->metrics->tx_rate_limiter_throttled);
            return false;
        }
        send_frame(net, len);
    } else {
        metric_inc(&net->metrics->tx_malformed_frames);
    }
    virtq_push(q, &net->chain, 0);
    return true;
}

void net_transmit(struct net *net)
{
    unsigned count = 0;

    while (count < NET_BATCH && transmit_one(net)) {
        count++;
    }
    if (count == 0) {
        metric_inc(&net->metrics->no_tx_avail_buffer);
    }
    virtio_dev_signal(&net->base, &net->base.queues[NET_TX]);
    if (count == NET_BATCH) {
        net_again(net, NET_TX);
    }
}
