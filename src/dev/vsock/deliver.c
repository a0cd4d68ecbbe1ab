/* deliver.c — towards the guest: who may send next, and filling its buffers.
 *
 * Theory of operation.  Connections with something for the guest stand in v->ready and take turns.
 * In its turn a connection sends the control packets it owes, then one batch of data: up to
 * VSOCK_RX_BATCH of the guest's buffers are filled by one read of the host's socket, straight into
 * guest memory; buffers that were not needed are put back.  Without buffers everything stays where
 * it is, data in the socket, and goes on when the driver notifies the rx queue.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "dev/vsock/vsock_int.h"
#include "metrics/metrics.h"

#define TURNS_MAX 64 /* before other work of the loop gets a chance */

enum turn { TURN_DONE, TURN_AGAIN, TURN_BLOCKED };

bool vsock_add_stray(struct vsock *v, const struct vsock_hdr *hdr)
{
    if (v->stray_count == VSOCK_STRAY_MAX) {
        return false;
    }
    v->strays[(v->stray_at + v->stray_count) % VSOCK_STRAY_MAX] = (struct vsock_stray){
        .guest_port = hdr->src_port, .host_port = hdr->dst_port, .type = hdr->type};
    v->stray_count++;
    return true;
}

static bool take_buffer(struct vsock *v, struct virtq_chain *chain)
{
    struct virtq *q = &v->base.queues[VSOCK_RX];

    for (unsigned i = 0; i <= q->size; i++) {
        if (virtq_pop(q, chain) != 1) {
            return false;
        }
        if (chain->writable_bytes > VSOCK_HDR_BYTES) {
            return true;
        }
        virtq_push(q, chain, 0); /* guest: no room for a header and one byte */
    }
    return false;
}

static struct vsock_hdr header(const struct vsock *v, uint32_t guest_port, uint32_t host_port,
                               enum vsock_op op)
{
    return (struct vsock_hdr){.src_cid = VSOCK_HOST_CID,
                              .dst_cid = v->guest_cid,
                              .src_port = host_port,
                              .dst_port = guest_port,
                              .type = VSOCK_TYPE_STREAM,
                              .op = (uint16_t)op};
}

/* The header of `c`, which tells the guest what was forwarded so far. */
static struct vsock_hdr conn_header(struct vsock_conn *c, enum vsock_op op)
{
    struct vsock_hdr hdr = header(c->vsock, c->guest_port, c->host_port, op);

    hdr.buf_alloc = VSOCK_BUF_BYTES;
    hdr.fwd_cnt = c->forwarded;
    c->forwarded_told = c->forwarded;
    return hdr;
}

static bool send_header(struct vsock *v, const struct vsock_hdr *hdr)
{
    struct virtq_chain *chain = &v->rx_chains[0];

    if (!take_buffer(v, chain)) {
        return false;
    }
    (void)virtq_chain_write(chain, 0, hdr, sizeof(*hdr));
    virtq_push(&v->base.queues[VSOCK_RX], chain, sizeof(*hdr));
    metric_inc(&g_metrics.vsock.rx_packets_count);
    return true;
}

/* Send what `todo` bit stands for, if it is set.  False without a buffer. */
static bool send_owed(struct vsock_conn *c, uint32_t todo, enum vsock_op op, uint32_t flags)
{
    struct vsock_hdr hdr;
    uint32_t told = c->forwarded_told;

    if (!(c->todo & todo)) {
        return true;
    }
    hdr = conn_header(c, op);
    hdr.flags = flags;
    if (!send_header(c->vsock, &hdr)) {
        c->forwarded_told = told;
        return false;
    }
    c->todo &= ~todo;
    return true;
}

/* -- data ------------------------------------------------------------------------------------ */

struct batch {
    unsigned chain_count;
    unsigned iov_count;
    size_t bytes;
    size_t room[VSOCK_RX_BATCH]; /* payload bytes of each buffer */
};

/* Collect buffers for up to `limit` payload bytes. */
static void collect(struct vsock *v, size_t limit, struct batch *b)
{
    struct virtq *q = &v->base.queues[VSOCK_RX];

    while (b->chain_count < VSOCK_RX_BATCH && b->bytes < limit && b->iov_count < VIRTQ_SEG_MAX) {
        struct virtq_chain *chain = &v->rx_chains[b->chain_count];
        size_t room;
        unsigned used;

        if (b->chain_count == 0) {
            if (!take_buffer(v, chain)) {
                return;
            }
        } else if (virtq_pop(q, chain) != 1) {
            return;
        } else if (chain->writable_bytes <= VSOCK_HDR_BYTES) {
            virtq_unpop(q, 1); /* dealt with when it is first */
            return;
        }
        room = chain->writable_bytes - VSOCK_HDR_BYTES;
        room = room < VSOCK_PACKET_MAX ? room : VSOCK_PACKET_MAX;
        room = room < limit - b->bytes ? room : limit - b->bytes;
        used =
            vsock_slice(chain->iov + chain->readable_count, chain->writable_count, VSOCK_HDR_BYTES,
                        room, v->iov + b->iov_count, VIRTQ_SEG_MAX - b->iov_count);
        b->room[b->chain_count] = 0;
        for (unsigned i = 0; i < used; i++) {
            b->room[b->chain_count] += v->iov[b->iov_count + i].iov_len;
        }
        b->bytes += b->room[b->chain_count];
        b->iov_count += used;
        b->chain_count++;
    }
}

/* `got` bytes are in the buffers: put headers in front and give them to the driver. */
static void hand_over(struct vsock_conn *c, const struct batch *b, size_t got)
{
    struct vsock *v = c->vsock;
    struct virtq *q = &v->base.queues[VSOCK_RX];
    struct vsock_hdr hdr = conn_header(c, VSOCK_OP_RW);
    unsigned used = 0;

    c->todo &= ~TODO_CREDIT_UPDATE;
    c->sent += (uint32_t)got;
    metric_add(&g_metrics.vsock.rx_bytes_count, got);
    while (got > 0) {
        size_t part = got < b->room[used] ? got : b->room[used];

        hdr.len = (uint32_t)part;
        (void)virtq_chain_write(&v->rx_chains[used], 0, &hdr, sizeof(hdr));
        virtq_push(q, &v->rx_chains[used], sizeof(hdr) + part);
        got -= part;
        used++;
        metric_inc(&g_metrics.vsock.rx_packets_count);
    }
    virtq_unpop(q, b->chain_count - used);
}

static enum turn read_host(struct vsock_conn *c)
{
    struct vsock *v = c->vsock;
    struct batch b = {0};
    struct msghdr msg = {.msg_iov = v->iov};
    uint32_t credit = conn_credit(c);
    ssize_t n;

    collect(v, credit, &b);
    if (b.chain_count == 0) {
        return TURN_BLOCKED;
    }
    msg.msg_iovlen = b.iov_count;
    n = recvmsg(c->fd, &msg, MSG_DONTWAIT);
    if (n <= 0) {
        virtq_unpop(&v->base.queues[VSOCK_RX], b.chain_count);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            c->is_readable = false;
        } else {
            if (n < 0) {
                metric_inc(&g_metrics.vsock.rx_read_fails);
            }
            conn_set_eof(c);
        }
        return TURN_DONE;
    }
    hand_over(c, &b, (size_t)n);
    if ((size_t)n < b.bytes) {
        c->is_readable = c->has_hup; /* empty; nobody would tell us of the end after a hangup */
    }
    return conn_can_read(c) ? TURN_AGAIN : TURN_DONE;
}

/* -- turns ----------------------------------------------------------------------------------- */

static enum turn end_turn(struct vsock_conn *c)
{
    if (!send_owed(c, TODO_RST, VSOCK_OP_RST, 0)) {
        return TURN_BLOCKED;
    }
    conn_end(c, false);
    return TURN_DONE;
}

static enum turn take_turn(struct vsock_conn *c)
{
    enum turn data = TURN_DONE;

    /* SHUTDOWN says SEND only once the end was read, so it never overtakes data */
    if (!send_owed(c, TODO_REQUEST, VSOCK_OP_REQUEST, 0) ||
        !send_owed(c, TODO_RESPONSE, VSOCK_OP_RESPONSE, 0) ||
        !send_owed(c, TODO_SHUTDOWN, VSOCK_OP_SHUTDOWN, c->our_shutdown)) {
        return TURN_BLOCKED;
    }
    if (conn_can_read(c)) {
        data = read_host(c);
    }
    if (c->state == CONN_OPEN && c->is_readable && conn_credit(c) == 0 && !c->has_asked_credit) {
        c->has_asked_credit = true;
        c->todo |= TODO_CREDIT_REQUEST;
    }
    if (data == TURN_BLOCKED || !send_owed(c, TODO_CREDIT_UPDATE, VSOCK_OP_CREDIT_UPDATE, 0) ||
        !send_owed(c, TODO_CREDIT_REQUEST, VSOCK_OP_CREDIT_REQUEST, 0)) {
        return TURN_BLOCKED;
    }
    return data;
}

/* Whoever handles an event of `c` watches it at the end. */
static enum turn take_and_watch(struct vsock_conn *c)
{
    enum turn turn = take_turn(c);

    if (c != c->vsock->in_event) {
        conn_watch(c);
    }
    return turn;
}

static bool send_strays(struct vsock *v)
{
    while (v->stray_count > 0) {
        const struct vsock_stray *s = &v->strays[v->stray_at];
        struct vsock_hdr hdr = header(v, s->guest_port, s->host_port, VSOCK_OP_RST);

        hdr.type = s->type;
        if (!send_header(v, &hdr)) {
            return false;
        }
        v->stray_at = (v->stray_at + 1) % VSOCK_STRAY_MAX;
        v->stray_count--;
    }
    return true;
}

bool vsock_deliver(struct vsock *v)
{
    if (!send_strays(v)) {
        return false;
    }
    for (unsigned i = 0; i < TURNS_MAX && !list_is_empty(&v->ready); i++) {
        struct vsock_conn *c = container_of(v->ready.next, struct vsock_conn, ready);
        enum turn turn;

        list_remove(&c->ready);
        turn = c->state == CONN_DEAD ? end_turn(c) : take_and_watch(c);
        if (turn == TURN_BLOCKED) {
            list_remove(&c->ready);
            list_append(v->ready.next, &c->ready); /* first again */
            return false;
        }
        if (turn == TURN_AGAIN) {
            conn_todo(c, 0);
        }
    }
    return !list_is_empty(&v->ready);
}
