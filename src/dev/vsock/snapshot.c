/* snapshot.c — vsock and snapshots: connections end, listeners stay.
 *
 * Theory of operation.  Host sockets cannot go into a file, so what is taken is a device without
 * connections, and the guest is told: TRANSPORT_RESET goes into the event queue
 * (virtio 1.2, 5.10.6.7), which makes its driver fail every open connection.  Until it has done so,
 * whoever would get a packet could be one of those; so the guest is sent nothing before it offers
 * the next buffer of the event queue, which its driver does after it has handled the event.  All
 * this holds for both who come out of a snapshot: the machine that was saved and those that are
 * loaded.
 */
#include "dev/vsock/vsock_int.h"
#include "state/state.h"

#define EVENT_TRANSPORT_RESET 0u

/* Put the event into the queue, if there is a buffer. */
static void send_reset(struct vsock *v)
{
    struct virtq *q = &v->base.queues[VSOCK_EVENT];
    uint8_t event[4];

    store_le32(event, EVENT_TRANSPORT_RESET);
    if (virtq_pop(q, &v->tx_chain) == 1) {
        virtq_push(q, &v->tx_chain, virtq_chain_write(&v->tx_chain, 0, event, sizeof(event)));
        v->reset_mark = virtq_expect(q);
        v->is_reset_sent = true;
        virtio_dev_signal(&v->base, q);
    }
}

static void announce_reset(struct vsock *v)
{
    if (virtio_dev_is_ready(&v->base)) {
        v->awaits_reset = true;
        v->is_reset_sent = false;
        send_reset(v);
    }
}

void vsock_check_reset(struct vsock *v)
{
    struct virtq *q = &v->base.queues[VSOCK_EVENT];

    if (!v->awaits_reset) {
        return;
    }
    if (!v->is_reset_sent) {
        send_reset(v);
    } else if (virtq_expect(q) != v->reset_mark) {
        v->awaits_reset = false;
        vsock_request_held(v);
    }
}

void vsock_save(struct virtio_dev *dev, struct state *s)
{
    struct vsock *v = vsock_of(dev);

    conn_forget_guest(v);
    v->stray_count = 0;
    announce_reset(v);
    STATE(s, v->next_host_port);
    STATE(s, v->awaits_reset);
    STATE(s, v->is_reset_sent);
    STATE(s, v->reset_mark);
}

void vsock_load(struct virtio_dev *dev, struct state *s)
{
    struct vsock *v = vsock_of(dev);

    STATE(s, v->next_host_port);
    STATE(s, v->awaits_reset);
    STATE(s, v->is_reset_sent);
    STATE(s, v->reset_mark);
    if (!s->failed && v->next_host_port < VSOCK_HOST_PORT_MIN) {
        state_refuse(s, "host port", "%u: must be %u or more", v->next_host_port,
                     VSOCK_HOST_PORT_MIN);
    }
}
