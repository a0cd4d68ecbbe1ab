/* conn.c — connections: who they are, and what happens at their host side.
 *
 * Theory of operation.  A connection is named by (guest port, host port).  Its host side is one
 * stream socket, watched for exactly what can be handled: input only while the guest has room for
 * it, output only while something is pending.  A socket that hung up is not watched at all: it
 * stays readable until its end was read, and the loop would report nothing else.
 *
 * Memory is bounded: a connection keeps at most VSOCK_BUF_BYTES for a slow program on the host,
 * which is what the guest was granted, and nothing for a slow guest, whose data stays in the
 * socket.
 *
 * Ending.  What the guest sent is delivered even when the guest ends the connection: a connection
 * with bytes pending lingers, unknown to the guest, until the host took them or went away.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "dev/vsock/vsock_int.h"
#include "io/loop.h"
#include "metrics/metrics.h"

/* Names on the host's side for programs that connected: as microVM monitors are used to do it. */

static struct list *bucket(struct vsock *v, uint32_t guest_port, uint32_t host_port)
{
    uint32_t hash = (guest_port ^ host_port * 0x9e3779b1u) * 0x85ebca6bu;

    return &v->buckets[hash >> 24];
}

struct vsock_conn *conn_find(struct vsock *v, uint32_t guest_port, uint32_t host_port)
{
    struct list *head = bucket(v, guest_port, host_port);

    list_for_each (pos, head) {
        struct vsock_conn *c = container_of(pos, struct vsock_conn, by_port);

        if (c->guest_port == guest_port && c->host_port == host_port) {
            return c;
        }
    }
    return NULL;
}

struct vsock_conn *conn_new(struct vsock *v, int fd, uint32_t guest_port, uint32_t host_port,
                            enum conn_state state)
{
    struct vsock_conn *c;

    if (v->conn_count >= VSOCK_CONN_MAX) {
        return NULL;
    }
    c = calloc(1, sizeof(*c));
    if (!c) {
        return NULL;
    }
    c->vsock = v;
    c->fd = fd;
    c->state = state;
    c->guest_port = guest_port;
    c->host_port = host_port;
    list_init(&c->ready);
    list_append(bucket(v, guest_port, host_port), &c->by_port);
    v->conn_count++;
    metric_inc(&g_metrics.vsock.conns_added);
    return c;
}

static void drop_pending(struct vsock_conn *c)
{
    c->forwarded = c->received;
    c->pending_at = 0;
    buf_fini(&c->pending);
}

static void unwatch(struct vsock_conn *c)
{
    if (c->is_watched) {
        loop_del_fd(c->vsock->base.loop, c->fd);
        c->is_watched = false;
    }
}

static void close_host(struct vsock_conn *c)
{
    if (c->fd >= 0) {
        unwatch(c);
        (void)close(c->fd);
        c->fd = -1;
    }
    drop_pending(c);
}

static void stop_timer(struct vsock_conn *c)
{
    loop_del_timer(c->vsock->base.loop, c->timer);
    c->timer = NULL;
}

void conn_free(struct vsock_conn *c)
{
    if (c->vsock->in_event == c) {
        c->vsock->in_event = NULL;
    }
    stop_timer(c);
    close_host(c);
    list_remove(&c->ready);
    list_remove(&c->by_port);
    c->vsock->conn_count--;
    metric_inc(&g_metrics.vsock.conns_removed);
    free(c);
}

void conn_todo(struct vsock_conn *c, uint32_t todo)
{
    c->todo |= todo;
    if (list_is_empty(&c->ready)) {
        list_append(&c->vsock->ready, &c->ready);
    }
}

static bool has_pending(const struct vsock_conn *c)
{
    return c->pending.len > c->pending_at;
}

uint32_t conn_credit(const struct vsock_conn *c)
{
    uint32_t in_flight = c->sent - c->peer_fwd;

    /* guest: it may take back what it granted */
    return in_flight < c->peer_alloc ? c->peer_alloc - in_flight : 0;
}

static bool may_send(const struct vsock_conn *c)
{
    return c->state == CONN_OPEN && c->fd >= 0 && !c->has_eof &&
           !(c->guest_shutdown & VSOCK_SHUTDOWN_RCV);
}

bool conn_can_read(const struct vsock_conn *c)
{
    return may_send(c) && c->is_readable && conn_credit(c) > 0;
}

/* -- what the loop reports ------------------------------------------------------------------- */

static void on_host_event(void *owner, int fd, uint32_t events);

/* The host side is over in both directions. */
static void lose_host(struct vsock_conn *c)
{
    close_host(c);
    c->has_eof = true;
    c->is_readable = false;
    c->is_write_shut = true;
    c->our_shutdown = VSOCK_SHUTDOWN_BOTH;
    if (c->state == CONN_OPEN) {
        conn_todo(c, TODO_SHUTDOWN);
    }
}

void conn_watch(struct vsock_conn *c)
{
    struct loop *loop = c->vsock->base.loop;
    uint32_t want = 0;

    if (c->fd < 0 || c->has_hup) {
        return;
    }
    if (may_send(c) && !c->is_readable) {
        want |= EPOLLIN;
    }
    if (has_pending(c)) {
        want |= EPOLLOUT;
    }
    if (c->is_watched && want == c->watched_events) {
        return;
    }
    if ((c->is_watched ? loop_mod_fd(loop, c->fd, want)
                       : loop_add_fd(loop, c->fd, want, on_host_event, c)) < 0) {
        lose_host(c);
        return;
    }
    c->is_watched = true;
    c->watched_events = want;
}

void conn_set_eof(struct vsock_conn *c)
{
    if (c->has_hup) {
        lose_host(c);
        return;
    }
    c->has_eof = true;
    c->is_readable = false;
    c->our_shutdown |= VSOCK_SHUTDOWN_SEND;
    conn_todo(c, TODO_SHUTDOWN);
}

/* Nobody reads what the guest sends any more. */
static void stop_writing(struct vsock_conn *c)
{
    drop_pending(c);
    c->is_write_shut = true;
    c->our_shutdown |= VSOCK_SHUTDOWN_RCV;
    conn_todo(c, TODO_SHUTDOWN);
}

void conn_set_hup(struct vsock_conn *c)
{
    unwatch(c);
    c->has_hup = true;
    if (c->has_eof || (c->guest_shutdown & VSOCK_SHUTDOWN_RCV)) {
        lose_host(c);
        return;
    }
    drop_pending(c);
    c->is_write_shut = true;
    c->is_readable = true; /* the last bytes, then the end */
    conn_todo(c, 0);
}

/* A program went away before the guest answered.  What it left in the socket is for the guest. */
static void hup_before_open(struct vsock_conn *c)
{
    char byte;

    if (recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0) {
        conn_set_hup(c);
    } else if (c->state == CONN_HELD) {
        conn_free(c);
    } else {
        conn_end(c, true);
    }
}

static void on_hup(struct vsock_conn *c)
{
    switch (c->state) {
    case CONN_HELD:
    case CONN_REQUESTED: hup_before_open(c); break;
    case CONN_OPEN: conn_set_hup(c); break;
    case CONN_DEAD: close_host(c); break;
    case CONN_LINGERING: conn_free(c); break;
    }
}

/* Give the host what it takes of the pending bytes. */
static void flush_pending(struct vsock_conn *c)
{
    ssize_t n = send(c->fd, c->pending.data + c->pending_at, c->pending.len - c->pending_at,
                     MSG_NOSIGNAL | MSG_DONTWAIT);

    if (n < 0) {
        if (errno != EAGAIN && errno != EINTR) {
            metric_inc(&g_metrics.vsock.tx_flush_fails);
            stop_writing(c);
        }
        return;
    }
    c->pending_at += (size_t)n;
    c->forwarded += (uint32_t)n;
    if (!has_pending(c)) {
        drop_pending(c);
    }
}

static void note_forwarded(struct vsock_conn *c)
{
    if (c->state == CONN_OPEN && c->forwarded - c->forwarded_told >= VSOCK_BUF_BYTES / 4) {
        conn_todo(c, TODO_CREDIT_UPDATE);
    }
}

/* All bytes are through: carry out what waited for that. */
static void on_drained(struct vsock_conn *c)
{
    if (c->state == CONN_LINGERING) {
        conn_free(c);
        return;
    }
    if (c->state == CONN_DEAD) {
        close_host(c);
        return;
    }
    if ((c->guest_shutdown & VSOCK_SHUTDOWN_SEND) && !c->is_write_shut) {
        c->is_write_shut = true;
        (void)shutdown(c->fd, SHUT_WR);
    }
    note_forwarded(c);
}

static void on_host_event(void *owner, int fd, uint32_t events)
{
    struct vsock_conn *c = owner;
    struct vsock *v = c->vsock;

    (void)fd;
    v->in_event = c;
    if (events & (EPOLLHUP | EPOLLERR)) {
        on_hup(c);
    } else {
        if (events & EPOLLIN) {
            c->is_readable = true;
            conn_todo(c, 0);
        }
        if ((events & EPOLLOUT) && has_pending(c)) {
            flush_pending(c);
            note_forwarded(c);
            if (!has_pending(c)) {
                on_drained(c);
            }
        }
    }
    vsock_service(v);
    if (v->in_event) {
        conn_watch(c);
        v->in_event = NULL;
    }
}

/* -- what the guest sends -------------------------------------------------------------------- */

unsigned vsock_slice(const struct iovec *from, unsigned count, size_t skip, size_t len,
                     struct iovec *out, unsigned max)
{
    unsigned used = 0;

    for (unsigned i = 0; i < count && len > 0 && used < max; i++) {
        size_t part;

        if (skip >= from[i].iov_len) {
            skip -= from[i].iov_len;
            continue;
        }
        part = from[i].iov_len - skip;
        part = part < len ? part : len;
        out[used++] = (struct iovec){.iov_base = (char *)from[i].iov_base + skip, .iov_len = part};
        len -= part;
        skip = 0;
    }
    return used;
}

/* Straight from guest memory into the socket; returns how many bytes went. */
static ssize_t write_now(struct vsock_conn *c, size_t len)
{
    struct vsock *v = c->vsock;
    struct msghdr msg = {.msg_iov = v->iov};
    ssize_t n;

    msg.msg_iovlen = vsock_slice(v->tx_chain.iov, v->tx_chain.readable_count, VSOCK_HDR_BYTES, len,
                                 v->iov, VIRTQ_SEG_MAX);
    do {
        n = sendmsg(c->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return errno == EAGAIN ? 0 : -errno;
    }
    return n;
}

/* Keep payload bytes [done, len) of tx_chain. */
static int keep(struct vsock_conn *c, size_t done, size_t len)
{
    void *to;

    if (c->pending_at > 0) {
        buf_consume(&c->pending, c->pending_at);
        c->pending_at = 0;
    }
    to = buf_reserve(&c->pending, len - done);
    if (!to) {
        return -ENOMEM;
    }
    c->pending.len += virtq_chain_read(&c->vsock->tx_chain, VSOCK_HDR_BYTES + done, to, len - done);
    return 0;
}

int conn_write(struct vsock_conn *c, size_t len)
{
    size_t done = 0;
    int r = 0;

    /* guest: no more than it was granted, or our memory would be its to fill */
    if (len > VSOCK_BUF_BYTES - (c->received - c->forwarded)) {
        return -ENOBUFS;
    }
    c->received += (uint32_t)len;
    metric_add(&g_metrics.vsock.tx_bytes_count, len);
    if (c->is_write_shut || c->fd < 0) {
        c->forwarded = c->received;
        note_forwarded(c);
        return 0;
    }
    if (!has_pending(c)) {
        ssize_t n = write_now(c, len);

        if (n < 0) {
            metric_inc(&g_metrics.vsock.tx_write_fails);
            stop_writing(c);
            return 0;
        }
        done = (size_t)n;
        c->forwarded += (uint32_t)n;
    }
    if (done < len) {
        r = keep(c, done, len);
        conn_watch(c);
    }
    note_forwarded(c);
    return r;
}

void conn_shutdown_by_guest(struct vsock_conn *c, uint32_t flags)
{
    c->guest_shutdown |= flags & VSOCK_SHUTDOWN_BOTH;
    if (c->guest_shutdown == VSOCK_SHUTDOWN_BOTH) {
        conn_end(c, true);
        return;
    }
    if ((flags & VSOCK_SHUTDOWN_RCV) && c->fd >= 0) {
        (void)shutdown(c->fd, SHUT_RD);
        conn_watch(c);
    }
    if (!has_pending(c) && c->fd >= 0) {
        on_drained(c);
    }
}

/* -- beginnings and ends --------------------------------------------------------------------- */

void conn_end(struct vsock_conn *c, bool tell_guest)
{
    stop_timer(c);
    if (!has_pending(c)) {
        close_host(c);
    }
    c->todo = 0;
    if (tell_guest) {
        c->state = CONN_DEAD;
        conn_todo(c, TODO_RST);
    } else if (c->fd < 0) {
        conn_free(c);
        return;
    } else {
        c->state = CONN_LINGERING;
        list_remove(&c->ready);
        list_remove(&c->by_port);
        list_append(&c->vsock->lingering, &c->by_port);
    }
    conn_watch(c);
    if (c->state == CONN_LINGERING && c->fd < 0) {
        conn_free(c);
    }
}

static void on_request_timeout(void *owner)
{
    struct vsock_conn *c = owner;
    struct vsock *v = c->vsock;

    c->timer = NULL; /* it frees itself */
    metric_inc(&g_metrics.vsock.conns_killed);
    conn_end(c, true);
    vsock_service(v);
}

void conn_request(struct vsock_conn *c)
{
    c->state = CONN_REQUESTED;
    c->timer =
        loop_add_timer(c->vsock->base.loop, c->vsock->request_timeout_ns, on_request_timeout, c);
    conn_todo(c, TODO_REQUEST);
}

void conn_open(struct vsock_conn *c)
{
    stop_timer(c);
    c->state = CONN_OPEN;
}

static uint32_t pick_host_port(struct vsock *v, uint32_t guest_port)
{
    uint32_t port;

    do {
        port = v->next_host_port;
        v->next_host_port = port == VSOCK_HOST_PORT_MAX ? VSOCK_HOST_PORT_MIN : port + 1;
    } while (conn_find(v, guest_port, port));
    return port;
}

int conn_offer(void *owner, int fd, uint32_t guest_port)
{
    struct vsock *v = owner;
    struct vsock_conn *c = conn_new(v, fd, guest_port, pick_host_port(v, guest_port), CONN_HELD);

    if (!c) {
        return -ENOSPC;
    }
    conn_watch(c);
    if (c->fd < 0) {
        conn_free(c);
        return 0; /* taken, and gone at once */
    }
    if (v->is_started) {
        conn_request(c);
        vsock_service(v);
    }
    return 0;
}

void conn_forget_guest(struct vsock *v)
{
    for (unsigned i = 0; i < VSOCK_BUCKETS; i++) {
        list_for_each (pos, &v->buckets[i]) {
            struct vsock_conn *c = container_of(pos, struct vsock_conn, by_port);

            list_remove(&c->ready);
            c->todo = 0;
            if (c->state == CONN_REQUESTED) {
                stop_timer(c);
                c->state = CONN_HELD;
            } else if (c->state != CONN_HELD) {
                conn_end(c, false);
            }
        }
    }
}
