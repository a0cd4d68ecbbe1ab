/* guest.c — what the guest sends: check each packet and do what it says. */
#include <unistd.h>

#include "dev/vsock/vsock_int.h"
#include "metrics/metrics.h"

#define PACKETS_MAX 256 /* before other work of the loop gets a chance */

/* guest: connect to a program on the host. */
static void on_request(struct vsock *v, const struct vsock_hdr *hdr)
{
    int fd = v->port->ops->connect(v->port, hdr->dst_port);
    struct vsock_conn *c = NULL;

    if (fd >= 0) {
        c = conn_new(v, fd, hdr->src_port, hdr->dst_port, CONN_OPEN);
        if (!c) {
            (void)close(fd);
        }
    }
    if (!c) {
        (void)vsock_add_stray(v, hdr);
        return;
    }
    c->peer_alloc = hdr->buf_alloc;
    c->peer_fwd = hdr->fwd_cnt;
    conn_todo(c, TODO_RESPONSE);
}

/* guest: it accepted a program of the host. */
static void on_response(struct vsock_conn *c)
{
    struct stream_port *port = c->vsock->port;

    if (c->state != CONN_REQUESTED) {
        conn_end(c, true);
        return;
    }
    conn_open(c);
    if (!c->has_hup && port->ops->accepted(port, c->fd, c->host_port) < 0) {
        conn_end(c, true);
        return;
    }
    conn_todo(c, 0);
}

/* guest: a packet for a connection that is open. */
static void on_open_packet(struct vsock_conn *c, const struct vsock_hdr *hdr)
{
    switch (hdr->op) {
    case VSOCK_OP_RW:
        if ((c->guest_shutdown & VSOCK_SHUTDOWN_SEND) || conn_write(c, hdr->len) < 0) {
            conn_end(c, true);
        }
        break;
    case VSOCK_OP_SHUTDOWN: conn_shutdown_by_guest(c, hdr->flags); break;
    case VSOCK_OP_CREDIT_UPDATE: break;
    case VSOCK_OP_CREDIT_REQUEST: conn_todo(c, TODO_CREDIT_UPDATE); break;
    default: conn_end(c, true); break;
    }
}

static void on_conn_packet(struct vsock_conn *c, const struct vsock_hdr *hdr)
{
    if (hdr->op == VSOCK_OP_RST) {
        conn_end(c, false);
        return;
    }
    if (c->state == CONN_DEAD) {
        return; /* its RST is on the way */
    }
    c->peer_alloc = hdr->buf_alloc;
    c->peer_fwd = hdr->fwd_cnt;
    if (hdr->op == VSOCK_OP_RESPONSE) {
        on_response(c);
        return;
    }
    if (c->state != CONN_OPEN) {
        conn_end(c, true);
        return;
    }
    if (conn_credit(c) > 0) {
        c->has_asked_credit = false;
        if (c->is_readable) {
            conn_todo(c, 0);
        }
    }
    on_open_packet(c, hdr);
}

/* tx_chain holds a packet.  5.10.6.4: what is not for us is dropped, what has no place is reset. */
static void on_packet(struct vsock *v)
{
    struct vsock_hdr hdr;
    struct vsock_conn *c;

    if (virtq_chain_read(&v->tx_chain, 0, &hdr, sizeof(hdr)) < sizeof(hdr) ||
        hdr.len > v->tx_chain.readable_bytes - VSOCK_HDR_BYTES || hdr.src_cid != v->guest_cid ||
        hdr.dst_cid != VSOCK_HOST_CID) {
        return;
    }
    c = hdr.type == VSOCK_TYPE_STREAM ? conn_find(v, hdr.src_port, hdr.dst_port) : NULL;
    if (c) {
        on_conn_packet(c, &hdr);
    } else if (hdr.op == VSOCK_OP_REQUEST && hdr.type == VSOCK_TYPE_STREAM) {
        on_request(v, &hdr);
    } else if (hdr.op != VSOCK_OP_RST) {
        (void)vsock_add_stray(v, &hdr);
    }
}

bool vsock_take_packets(struct vsock *v)
{
    struct virtq *q = &v->base.queues[VSOCK_TX];

    for (unsigned i = 0; i < PACKETS_MAX; i++) {
        /* each packet may need an RST; without room for one the guest waits */
        if (v->stray_count == VSOCK_STRAY_MAX || virtq_pop(q, &v->tx_chain) != 1) {
            return false;
        }
        metric_inc(&g_metrics.vsock.tx_packets_count);
        on_packet(v);
        virtq_push(q, &v->tx_chain, 0);
    }
    return true;
}
