/* conn.c — see conn.h.
 *
 * A request is looked at once its header is complete, with as much of a body as came with it.  What
 * does not fit IN_MAX is no request of ours: the connection is reset.
 */
#include "mmds/conn.h"

#include <errno.h>
#include <lwip/tcp.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/buf.h"
#include "base/clock.h"
#include "codec/http1.h"
#include "metrics/metrics.h"
#include "mmds/mmds.h"

#define IN_MAX     2500u         /* bytes of a request */
#define OUT_MAX    (64u * 1024u) /* with that much to be sent, requests wait */
#define POLL_TICKS 4             /* of half a second: until a stuck answer is tried again */

struct mmds_conn {
    struct list link;
    struct mmds *mmds;
    struct tcp_pcb *pcb;
    int64_t active_ns;
    bool is_ending; /* the guest sends no more */
    size_t in_len;
    uint8_t in[IN_MAX];
    struct buf out;
};

struct mmds_conn *mmds_conn_of(struct list *link)
{
    return container_of(link, struct mmds_conn, link);
}

struct tcp_pcb *mmds_conn_pcb(const struct mmds_conn *conn)
{
    return conn->pcb;
}

int64_t mmds_conn_active_ns(const struct mmds_conn *conn)
{
    return conn->active_ns;
}

void mmds_conn_free(struct mmds_conn *conn)
{
    if (conn->pcb) {
        tcp_arg(conn->pcb, NULL);
        tcp_recv(conn->pcb, NULL);
        tcp_sent(conn->pcb, NULL);
        tcp_poll(conn->pcb, NULL, 0);
        tcp_err(conn->pcb, NULL);
    }
    metric_inc(&g_metrics.mmds.connections_destroyed);
    list_remove(&conn->link);
    buf_fini(&conn->out);
    free(conn);
}

/* --- requests --- */

/* Bytes of the header at the start of what came, 0 while it is not complete. */
static size_t header_len(const struct mmds_conn *conn)
{
    const uint8_t *end = memmem(conn->in, conn->in_len, "\r\n\r\n", 4);

    return end ? (size_t)(end - conn->in) + 4 : 0;
}

/* Answer the request at the start of what came; how many bytes it was. */
static size_t answer_one(struct mmds_conn *conn)
{
    struct http1_parser parser;
    struct http1_request request = {0};
    struct err err = {0};
    size_t used = 0;
    size_t step;
    int r;

    http1_parser_init(&parser, IN_MAX);
    do {
        r = http1_feed(&parser, conn->in + used, conn->in_len - used, &step, &request, &err);
        used += step;
    } while (r == HTTP1_CONTINUE && used < conn->in_len);
    if (r == HTTP1_READY) {
        mmds_answer(conn->mmds, &request, &conn->out);
    } else {
        /* a body that is not all there, or nothing that HTTP knows: the rest cannot be told from it
         */
        mmds_answer_bad(r < 0 && r != -E2BIG ? err.text : "Invalid request.", &conn->out);
        used = conn->in_len;
    }
    http1_request_fini(&request);
    http1_parser_fini(&parser);
    return used;
}

static void answer_all(struct mmds_conn *conn)
{
    while (conn->out.len < OUT_MAX && header_len(conn) > 0) {
        size_t used = answer_one(conn);

        conn->in_len -= used;
        memmove(conn->in, conn->in + used, conn->in_len);
    }
}

/* --- bytes --- */

/* Hand lwIP as much as it takes.  Negative errno: the connection must end. */
static int flush(struct mmds_conn *conn)
{
    size_t room = tcp_sndbuf(conn->pcb);
    size_t part = conn->out.len < room ? conn->out.len : room;
    err_t r;

    if (buf_status(&conn->out) < 0) {
        return -ENOMEM;
    }
    if (part > 0) {
        part = part < UINT16_MAX ? part : UINT16_MAX;
        r = tcp_write(conn->pcb, conn->out.data, (u16_t)part, TCP_WRITE_FLAG_COPY);
        if (r == ERR_OK) {
            buf_consume(&conn->out, part);
        } else if (r != ERR_MEM) {
            return -EIO; /* without memory it is tried again */
        }
    }
    (void)tcp_output(conn->pcb);
    return 0;
}

static err_t end(struct mmds_conn *conn)
{
    struct tcp_pcb *pcb = conn->pcb;

    mmds_conn_free(conn);
    if (tcp_close(pcb) != ERR_OK) {
        tcp_abort(pcb);
        return ERR_ABRT;
    }
    return ERR_OK;
}

static err_t abort_conn(struct mmds_conn *conn)
{
    struct tcp_pcb *pcb = conn->pcb;

    mmds_conn_free(conn);
    tcp_abort(pcb);
    return ERR_ABRT;
}

/* Answer what can be, send what can be, and end what is over. */
static err_t go_on(struct mmds_conn *conn)
{
    answer_all(conn);
    if (flush(conn) < 0) {
        return abort_conn(conn);
    }
    if (conn->is_ending && conn->out.len == 0) {
        return end(conn);
    }
    return ERR_OK;
}

static err_t on_recv(void *arg, struct tcp_pcb *pcb, struct pbuf *p, err_t why)
{
    struct mmds_conn *conn = arg;

    (void)why;
    conn->active_ns = clock_mono_ns();
    if (!p) {
        conn->is_ending = true;
        return go_on(conn);
    }
    if (p->tot_len > IN_MAX - conn->in_len) {
        (void)pbuf_free(p);
        return abort_conn(conn);
    }
    (void)pbuf_copy_partial(p, conn->in + conn->in_len, p->tot_len, 0);
    conn->in_len += p->tot_len;
    tcp_recved(pcb, p->tot_len);
    (void)pbuf_free(p);
    if (conn->in_len == IN_MAX && header_len(conn) == 0) {
        return abort_conn(conn);
    }
    return go_on(conn);
}

static err_t on_sent(void *arg, struct tcp_pcb *pcb, u16_t len)
{
    struct mmds_conn *conn = arg;

    (void)pcb;
    (void)len;
    conn->active_ns = clock_mono_ns();
    return go_on(conn);
}

static err_t on_poll(void *arg, struct tcp_pcb *pcb)
{
    (void)pcb;
    return go_on(arg);
}

/* lwIP ended it, and the pcb is gone. */
static void on_error(void *arg, err_t why)
{
    struct mmds_conn *conn = arg;

    (void)why;
    conn->pcb = NULL;
    mmds_conn_free(conn);
}

int mmds_conn_new(struct mmds *mmds, struct tcp_pcb *pcb, struct list *list)
{
    struct mmds_conn *conn = calloc(1, sizeof(*conn));

    if (!conn) {
        return -ENOMEM;
    }
    conn->mmds = mmds;
    conn->pcb = pcb;
    conn->active_ns = clock_mono_ns();
    list_append(list, &conn->link);
    tcp_arg(pcb, conn);
    tcp_recv(pcb, on_recv);
    tcp_sent(pcb, on_sent);
    tcp_poll(pcb, on_poll, POLL_TICKS);
    tcp_err(pcb, on_error);
    metric_inc(&g_metrics.mmds.connections_created);
    return 0;
}
