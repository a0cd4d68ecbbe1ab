/* vsock.c — the virtio-vsock device: life, configuration space, and one round of service.
 *
 * Theory of operation.  Whatever happens — the driver notified, a socket of the host is ready, a
 * program connected — ends in vsock_service(): take what the guest sent, send the guest what
 * waits, then raise at most one interrupt per queue.  Both steps are bounded; if more is left, the
 * device rings its own doorbell, so that other work of the loop gets its turn.
 *
 * The event queue carries only the announcement that all connections are gone (snapshot.c).
 */
#include "dev/vsock/vsock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dev/vsock/vsock_int.h"
#include "metrics/metrics.h"

/* Linux fills the whole rx queue with 4 KiB buffers: 128 of them are 512 KiB of guest memory. */

void vsock_service(struct vsock *v)
{
    uint64_t one = 1;
    bool has_more;

    if (!v->is_started) {
        return;
    }
    vsock_check_reset(v);
    has_more = vsock_take_packets(v);
    has_more |= !v->awaits_reset && vsock_deliver(v);
    has_more |= v->stray_count < VSOCK_STRAY_MAX && virtq_has_work(&v->base.queues[VSOCK_TX]);
    virtio_dev_signal(&v->base, &v->base.queues[VSOCK_TX]);
    virtio_dev_signal(&v->base, &v->base.queues[VSOCK_RX]);
    if (has_more) {
        (void)!write(v->base.notify_fd[VSOCK_TX], &one, sizeof(one));
    }
}

static void config_read(struct virtio_dev *dev, uint64_t offset, void *data, unsigned len)
{
    uint8_t config[8]; /* 5.10.4: guest_cid */

    store_le64(config, vsock_of(dev)->guest_cid);
    virtio_config_copy(config, sizeof(config), offset, data, len);
}

static void config_write(struct virtio_dev *dev, uint64_t offset, const void *data, unsigned len)
{
    (void)dev;
    (void)offset;
    (void)data;
    (void)len;
}

void vsock_request_held(struct vsock *v)
{
    for (unsigned i = 0; i < VSOCK_BUCKETS; i++) {
        list_for_each (pos, &v->buckets[i]) {
            struct vsock_conn *c = container_of(pos, struct vsock_conn, by_port);

            if (c->state == CONN_HELD) {
                conn_request(c);
            }
        }
    }
}

static int start(struct virtio_dev *dev)
{
    struct vsock *v = vsock_of(dev);

    v->is_started = true;
    vsock_request_held(v);
    vsock_service(v);
    return 0;
}

static void reset(struct virtio_dev *dev)
{
    struct vsock *v = vsock_of(dev);

    v->is_started = false;
    v->stray_count = 0;
    v->awaits_reset = false;
    conn_forget_guest(v);
}

static void notify(struct virtio_dev *dev, unsigned index)
{
    metric_inc(index == VSOCK_TX ? &g_metrics.vsock.tx_queue_event_count
                                 : &g_metrics.vsock.rx_queue_event_count);
    vsock_service(vsock_of(dev));
}

static void free_conns(struct list *head)
{
    list_for_each (pos, head) {
        conn_free(container_of(pos, struct vsock_conn, by_port));
    }
}

static void vsock_free(struct virtio_dev *dev)
{
    struct vsock *v = vsock_of(dev);

    for (unsigned i = 0; i < VSOCK_BUCKETS; i++) {
        free_conns(&v->buckets[i]);
    }
    free_conns(&v->lingering);
    v->port->ops->stop(v->port);
    virtio_dev_fini(dev);
    free(v);
}

static const struct virtio_ops vsock_ops = {
    .kind = "virtio-vsock",
    .id = VIRTIO_ID_VSOCK,
    .config_read = config_read,
    .config_write = config_write,
    .start = start,
    .reset = reset,
    .notify = notify,
    .free = vsock_free,
    .save = vsock_save,
    .load = vsock_load,
};

int vsock_new(const struct vsock_config *config, struct mem_map *mem, struct loop *loop,
              struct virtio_dev **ret_dev, struct err *err)
{
    struct vsock *v = calloc(1, sizeof(*v));
    struct stream_client client = {.offer = conn_offer, .owner = v};
    int r;

    if (!v) {
        return err_set(err, -ENOMEM, "virtio-vsock: out of memory");
    }
    v->port = config->port;
    v->guest_cid = config->guest_cid;
    v->request_timeout_ns = config->request_timeout_ns;
    v->next_host_port = VSOCK_HOST_PORT_MIN;
    list_init(&v->lingering);
    list_init(&v->ready);
    for (unsigned i = 0; i < VSOCK_BUCKETS; i++) {
        list_init(&v->buckets[i]);
    }
    r = virtio_dev_init(&v->base, &vsock_ops, mem, loop, VSOCK_QUEUE_COUNT,
                        VIRTIO_F_IN_ORDER | VIRTIO_F_EVENT_IDX, err);
    if (r == 0) {
        r = v->port->ops->start(v->port, loop, &client);
        if (r < 0) {
            (void)err_set(err, r, "virtio-vsock: take connections from the host: %s", strerror(-r));
        }
    }
    if (r < 0) {
        vsock_free(&v->base);
        return r;
    }
    *ret_dev = &v->base;
    return 0;
}
