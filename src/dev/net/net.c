/* net.c — virtio-net: life, features, configuration.
 *
 * Theory of operation.  Neither direction has a buffer of its own.  The guest's frame goes from its
 * memory to the port with one writev(); a frame for the guest is read with one readv() into the
 * buffers that the driver posted, enough of them for the largest frame (rx.c).  A frame that a rate
 * limiter refuses stays where it is: in the transmit queue, or, when received, in the buffers,
 * which the driver does not see before the limiter's timer has run out.
 *
 * An inner service (net_port.h) sees the guest's frames before the port and comes first when there
 * are frames for the guest.
 */
#include "dev/net/net.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dev/net/net_int.h"
#include "dev/virtio/limiter_state.h"

#define FEATURES                                                                             \
    (NET_F_CSUM | NET_F_GUEST_CSUM | NET_F_GUEST_TSO4 | NET_F_GUEST_TSO6 | NET_F_GUEST_UFO | \
     NET_F_HOST_TSO4 | NET_F_HOST_TSO6 | NET_F_HOST_UFO | NET_F_MRG_RXBUF | VIRTIO_F_EVENT_IDX)

/* Offsets in struct virtio_net_config. */
#define CONFIG_MAC 0
#define CONFIG_MTU 10

static void config_read(struct virtio_dev *dev, uint64_t offset, void *data, unsigned len)
{
    const struct net *net = net_of(dev);

    virtio_config_copy(net->config, sizeof(net->config), offset, data, len);
}

/* The driver's own MAC address is its own affair. */
static void config_write(struct virtio_dev *dev, uint64_t offset, const void *data, unsigned len)
{
    metric_inc(&net_of(dev)->metrics->cfg_fails);
    (void)offset;
    (void)data;
    (void)len;
}

void net_again(struct net *net, unsigned index)
{
    uint64_t one = 1;

    (void)!write(net->base.notify_fd[index], &one, sizeof(one));
}

/* The service in the monitor has an answer, maybe while it takes a frame. */
static void on_answer(void *owner)
{
    net_again(owner, NET_RX);
}

static void on_readable(void *owner)
{
    struct net *net = owner;

    metric_inc(&net->metrics->rx_tap_event_count);
    net_receive(net);
}

static void retry_rx(void *owner)
{
    struct net *net = owner;

    if (net->is_running) {
        metric_inc(&net->metrics->rx_event_rate_limiter_count);
        net_receive(net);
    }
}

static void retry_tx(void *owner)
{
    struct net *net = owner;

    if (net->is_running) {
        metric_inc(&net->metrics->tx_rate_limiter_event_count);
        net_transmit(net);
    }
}

/* What the driver can finish is left undone.  Segmentation without checksums makes no sense, and
 * 5.1.3.1 forbids it. */
static unsigned offload_of(const struct virtio_dev *dev)
{
    unsigned offload = 0;

    if (!virtio_dev_has(dev, NET_F_GUEST_CSUM)) {
        return 0;
    }
    offload |= NET_OFFLOAD_CSUM;
    offload |= virtio_dev_has(dev, NET_F_GUEST_TSO4) ? NET_OFFLOAD_TSO4 : 0;
    offload |= virtio_dev_has(dev, NET_F_GUEST_TSO6) ? NET_OFFLOAD_TSO6 : 0;
    offload |= virtio_dev_has(dev, NET_F_GUEST_UFO) ? NET_OFFLOAD_UFO : 0;
    return offload;
}

static void stop(struct net *net)
{
    if (!net->is_running) {
        return;
    }
    net->is_running = false;
    net->port->ops->stop(net->port);
    if (net->inner) {
        (void)net->inner->ops->set_client(net->inner, NULL, NULL);
    }
}

static int start(struct virtio_dev *dev)
{
    struct net *net = net_of(dev);
    struct net_client client = {.readable = on_readable, .owner = net};
    struct net_client inner_client = {.readable = on_answer, .owner = net};
    int r = net->port->ops->set_offload(net->port, offload_of(dev));

    if (r == 0) {
        r = net->port->ops->start(net->port, dev->loop, &client);
    }
    if (r == 0 && net->inner) {
        r = net->inner->ops->set_client(net->inner, dev->loop, &inner_client);
        if (r < 0) {
            net->port->ops->stop(net->port);
        }
    }
    if (r < 0) {
        metric_inc(&net->metrics->activate_fails);
        return r;
    }
    net->is_running = true;
    return 0;
}

static void forget(struct net *net)
{
    net->held = 0;
    net->pool.count = 0;
    net->pool.iov_count = 0;
    net->pool.bytes = 0;
}

static void reset(struct virtio_dev *dev)
{
    struct net *net = net_of(dev);

    stop(net);
    forget(net);
}

static void notify(struct virtio_dev *dev, unsigned index)
{
    struct net *net = net_of(dev);

    if (index == NET_RX) {
        metric_inc(&net->metrics->rx_queue_event_count);
        net_receive(net);
    } else {
        metric_inc(&net->metrics->tx_queue_event_count);
        net_transmit(net);
    }
}

/* What is in flight on a wire is lost; what the driver posted is taken again. */
static void net_save(struct virtio_dev *dev, struct state *s)
{
    struct net *net = net_of(dev);

    virtq_unpop(&dev->queues[NET_RX], net->pool.count);
    forget(net);
    virtio_limiter_fields(&net->rx_limiter, s);
    virtio_limiter_fields(&net->tx_limiter, s);
}

static void net_load(struct virtio_dev *dev, struct state *s)
{
    struct net *net = net_of(dev);

    virtio_limiter_fields(&net->rx_limiter, s);
    virtio_limiter_fields(&net->tx_limiter, s);
}

static void net_free(struct virtio_dev *dev)
{
    struct net *net = net_of(dev);

    stop(net);
    limiter_fini(&net->rx_limiter);
    limiter_fini(&net->tx_limiter);
    virtio_dev_fini(dev);
    free(net->scratch);
    free(net);
}

static const struct virtio_ops net_ops = {
    .kind = "virtio-net",
    .id = VIRTIO_ID_NET,
    .config_read = config_read,
    .config_write = config_write,
    .start = start,
    .reset = reset,
    .notify = notify,
    .free = net_free,
    .save = net_save,
    .load = net_load,
};

static void fill(struct net *net, const struct net_config *config, struct loop *loop)
{
    struct virtio_dev *dev = &net->base;

    net->metrics = metrics_net(config->id);
    net->port = config->port;
    net->inner = config->inner;
    net->has_mac = config->has_mac;
    if (config->has_mac) {
        dev->features_offered |= NET_F_MAC;
        memcpy(net->config + CONFIG_MAC, config->mac, NET_MAC_BYTES);
    }
    if (config->has_mtu) {
        dev->features_offered |= NET_F_MTU;
        store_le16(net->config + CONFIG_MTU, config->mtu);
    }
    limiter_init(&net->rx_limiter, &config->rx, loop, retry_rx, net);
    limiter_init(&net->tx_limiter, &config->tx, loop, retry_tx, net);
}

int net_new(const struct net_config *config, struct mem_map *mem, struct loop *loop,
            struct virtio_dev **ret_dev, struct err *err)
{
    struct net *net = calloc(1, sizeof(*net));
    int r;

    if (!net) {
        return err_set(err, -ENOMEM, "virtio-net: out of memory");
    }
    r = virtio_dev_init(&net->base, &net_ops, mem, loop, NET_QUEUE_COUNT, FEATURES, err);
    if (r == 0) {
        fill(net, config, loop);
        if (config->inner) {
            net->scratch = malloc(NET_FRAME_MAX);
            r = net->scratch ? 0 : err_set(err, -ENOMEM, "virtio-net: out of memory");
        }
    }
    if (r < 0) {
        net_free(&net->base);
        return r;
    }
    *ret_dev = &net->base;
    return 0;
}

void net_change_limits(struct virtio_dev *dev, const struct limiter_update *rx,
                       const struct limiter_update *tx)
{
    struct net *net = net_of(dev);

    limiter_change(&net->rx_limiter, rx);
    limiter_change(&net->tx_limiter, tx);
}
