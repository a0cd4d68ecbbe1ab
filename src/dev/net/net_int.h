/* net_int.h — what the files of this room share. */
#pragma once

#include "dev/net/net.h"
#include "dev/port/net_port.h"
#include "dev/virtio/virtio.h"
#include "metrics/metrics.h"

/* Feature bits: virtio 1.2, 5.1.3. */
#define NET_F_CSUM       BIT(0)
#define NET_F_GUEST_CSUM BIT(1)
#define NET_F_MTU        BIT(3)
#define NET_F_MAC        BIT(5)
#define NET_F_GUEST_TSO4 BIT(7)
#define NET_F_GUEST_TSO6 BIT(8)
#define NET_F_GUEST_UFO  BIT(10)
#define NET_F_HOST_TSO4  BIT(11)
#define NET_F_HOST_TSO6  BIT(12)
#define NET_F_HOST_UFO   BIT(14)
#define NET_F_MRG_RXBUF  BIT(15)

enum { NET_RX, NET_TX, NET_QUEUE_COUNT };

#define NET_QUEUE_SIZE VIRTIO_QUEUE_SIZE_DEFAULT
/* The largest thing that TSO makes (65535 bytes of IPv6 payload behind Ethernet's 14, rounded as
 * the driver does: 65550) behind the virtio-net header. */
#define NET_FRAME_MAX 65562u
#define NET_ETH_BYTES 14u

/* Frames in one go, before other work of the loop gets a chance. */
#define NET_BATCH 64u

/* One of the guest's receive buffers, taken out of the queue and not used yet. */
struct net_buffer {
    uint16_t head;
    uint16_t iov_count;
    size_t bytes;
};

/* Receive buffers in the order of the queue: buffers[at..at+count), whose memory is
 * iov[iov_at..iov_at+iov_count). */
struct net_pool {
    unsigned at, count;
    unsigned iov_at, iov_count;
    size_t bytes;
    struct net_buffer buffers[NET_QUEUE_SIZE];
    struct iovec iov[VIRTQ_SEG_MAX];
};

struct net {
    struct virtio_dev base;
    struct net_port *port;
    struct net_inner *inner;
    struct metrics_net *metrics;
    uint8_t config[12]; /* struct virtio_net_config up to the MTU (5.1.4) */
    bool has_mac;
    bool is_running; /* between start and reset */
    struct limiter rx_limiter;
    struct limiter tx_limiter;
    /* Bytes of a frame that lies at the start of the pool and waits for the limiter; 0: none. */
    size_t held;
    struct net_pool pool;
    struct virtq_chain chain;
    uint8_t *scratch; /* NET_FRAME_MAX bytes, with an inner service only */
};

static inline struct net *net_of(struct virtio_dev *dev)
{
    return container_of(dev, struct net, base);
}

/* More of queue `index` later: the loop comes back to it. */
void net_again(struct net *net, unsigned index);

/* rx.c: frames for the guest, as many as there are and as it has room for. */
void net_receive(struct net *net);
/* tx.c: the guest's frames. */
void net_transmit(struct net *net);
