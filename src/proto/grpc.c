/* grpc.c — a gRPC connection: an nghttp2 session between a socket and its calls. */
#include "proto/grpc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/auto.h"
#include "base/bits.h"
#include "proto/grpc_int.h"

enum {
    READ_SIZE = 128 * 1024,        /* one read(2) */
    READS_PER_TURN = 8,            /* then others have their turn */
    WRITE_SIZE = 128 * 1024,       /* frames gathered for one write(2) */
    WRITES_PER_TURN = 16,          /* then others have their turn */
    CONN_WINDOW = 8 * 1024 * 1024, /* returned at once; bounds only what is on its way */
    FRAME_MAX = 256 * 1024,
    CALLS_MAX = 1000,
};

/* ---- what nghttp2 tells ---- */

static struct grpc_call *call_of(nghttp2_session *session, int32_t id)
{
    return nghttp2_session_get_stream_user_data(session, id);
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *owner)
{
    struct grpc_conn *conn = owner;

    if (conn->accept && frame->hd.type == NGHTTP2_HEADERS &&
        frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        struct grpc_call *call = grpc_call_make(conn, frame->hd.stream_id);

        if (!call) {
            return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
        }
        (void)nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, call);
    }
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *owner)
{
    struct grpc_call *call = call_of(session, frame->hd.stream_id);

    (void)flags;
    (void)owner;
    if (call) {
        grpc_call_header(call, (const char *)name, name_len, (const char *)value, value_len);
    }
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
                   size_t len, void *owner)
{
    struct grpc_call *call = call_of(session, id);

    (void)flags;
    (void)owner;
    if (call) {
        grpc_call_data(call, data, len);
    } else {
        (void)nghttp2_session_consume(session, id, len);
    }
    return 0;
}

static void accept_call(struct grpc_conn *conn, struct grpc_call *call)
{
    if (!call->is_grpc) {
        grpc_call_finish(call, GRPC_UNIMPLEMENTED, "the content-type must be application/grpc");
    } else {
        conn->accept(conn->owner, call, call->path);
    }
}

/* Client: the answer is complete; give our half up too. */
static void end_of_answer(struct grpc_conn *conn, struct grpc_call *call)
{
    const char *text;
    unsigned status = grpc_call_outcome(call, NGHTTP2_NO_ERROR, &text);

    (void)nghttp2_submit_rst_stream(conn->session, NGHTTP2_FLAG_NONE, call->id, NGHTTP2_NO_ERROR);
    grpc_call_close(call, status, text);
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *owner)
{
    struct grpc_conn *conn = owner;
    struct grpc_call *call = call_of(session, frame->hd.stream_id);

    if (frame->hd.type == NGHTTP2_PING && (frame->hd.flags & NGHTTP2_FLAG_ACK)) {
        conn->pongs++;
    }
    if (!call) {
        return 0;
    }
    if (conn->accept && frame->hd.type == NGHTTP2_HEADERS &&
        frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        accept_call(conn, call);
    }
    if ((frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS) &&
        (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)) {
        call->peer_ended = true;
        if (!conn->accept) {
            end_of_answer(conn, call);
        } else if (call->ops) {
            call->ops->ended(call);
        }
    }
    return 0;
}

/* Server: after the trailers nothing the client sends is of interest. */
static int on_frame_sent(nghttp2_session *session, const nghttp2_frame *frame, void *owner)
{
    struct grpc_conn *conn = owner;

    if (conn->accept && frame->hd.type == NGHTTP2_HEADERS &&
        (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)) {
        struct grpc_call *call = call_of(session, frame->hd.stream_id);

        if (call && !call->peer_ended) {
            (void)nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                                            NGHTTP2_NO_ERROR);
        }
    }
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t h2_error, void *owner)
{
    struct grpc_conn *conn = owner;
    struct grpc_call *call = call_of(session, id);
    const char *text = "";
    unsigned status = GRPC_OK;

    if (!call) {
        return 0;
    }
    if (!conn->accept || !call->has_trailer) {
        call->has_status = call->has_status && !conn->accept;
        status = grpc_call_outcome(call, h2_error, &text);
    }
    grpc_call_close(call, status, text);
    return 0;
}

static ssize_t frame_length(nghttp2_session *session, uint8_t type, int32_t id, int32_t conn_window,
                            int32_t window, uint32_t max_frame, void *owner)
{
    (void)session;
    (void)type;
    (void)id;
    (void)conn_window;
    (void)window;
    (void)owner;
    /* nghttp2 cuts this to the windows. */
    return max_frame < FRAME_MAX ? (ssize_t)max_frame : FRAME_MAX;
}

/* ---- life ---- */

static int make_session(struct grpc_conn *conn)
{
    nghttp2_session_callbacks *callbacks = NULL;
    nghttp2_option *option = NULL;
    int r = -ENOMEM;

    if (nghttp2_session_callbacks_new(&callbacks) || nghttp2_option_new(&option)) {
        goto out;
    }
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_sent);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    nghttp2_session_callbacks_set_data_source_read_length_callback(callbacks, frame_length);
    nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_option_set_no_closed_streams(option, 1);
    if (conn->accept ? nghttp2_session_server_new2(&conn->session, callbacks, conn, option)
                     : nghttp2_session_client_new2(&conn->session, callbacks, conn, option)) {
        goto out;
    }
    r = 0;
out:
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_option_del(option);
    return r;
}

int grpc_conn_new(int fd, grpc_accept_fn accept, void *owner, size_t max_message,
                  struct grpc_conn **ret_conn)
{
    nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, GRPC_WINDOW},
        {NGHTTP2_SETTINGS_MAX_FRAME_SIZE, FRAME_MAX},
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, CALLS_MAX},
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
    };
    size_t count = accept ? ARRAY_LEN(settings) - 1 : ARRAY_LEN(settings); /* push: client only */
    struct grpc_conn *conn = calloc(1, sizeof(*conn));

    if (!conn) {
        return -ENOMEM;
    }
    *conn =
        (struct grpc_conn){.fd = fd, .accept = accept, .owner = owner, .max_message = max_message};
    list_init(&conn->calls);
    if (make_session(conn) ||
        nghttp2_submit_settings(conn->session, NGHTTP2_FLAG_NONE, settings, count) ||
        nghttp2_session_set_local_window_size(conn->session, NGHTTP2_FLAG_NONE, 0, CONN_WINDOW)) {
        grpc_conn_free(conn);
        return -ENOMEM;
    }
    *ret_conn = conn;
    return 0;
}

void grpc_conn_free(struct grpc_conn *conn)
{
    if (!conn) {
        return;
    }
    while (!list_is_empty(&conn->calls)) {
        grpc_call_close(container_of(conn->calls.next, struct grpc_call, link), GRPC_UNAVAILABLE,
                        "the connection ended");
    }
    nghttp2_session_del(conn->session);
    byte_queue_fini(&conn->out);
    free(conn);
}

/* ---- bytes ---- */

int grpc_conn_feed(struct grpc_conn *conn, const uint8_t *data, size_t len)
{
    ssize_t r = nghttp2_session_mem_recv(conn->session, data, len);

    if (r < 0) {
        return r == NGHTTP2_ERR_NOMEM ? -ENOMEM : -EPROTO;
    }
    return 0;
}

int grpc_conn_read(struct grpc_conn *conn)
{
    AUTO_FREE uint8_t *data = malloc(READ_SIZE);

    if (!data) {
        return -ENOMEM;
    }
    for (unsigned turn = 0; turn < READS_PER_TURN; turn++) {
        ssize_t got = recv(conn->fd, data, READ_SIZE, MSG_DONTWAIT);
        int r;

        if (got < 0) {
            if (errno == EINTR) {
                continue;
            }
            return errno == EAGAIN ? 0 : -errno;
        }
        if (got == 0) {
            return -EPIPE;
        }
        r = grpc_conn_feed(conn, data, (size_t)got);
        if (r < 0) {
            return r;
        }
        if (got < READ_SIZE) {
            return 0; /* level-triggered: if there is more, poll says so */
        }
    }
    return 0;
}

static void tell_drained(struct grpc_conn *conn)
{
    conn->has_drained = false;
    list_for_each (pos, &conn->calls) {
        struct grpc_call *call = container_of(pos, struct grpc_call, link);

        if (call->is_drained) {
            call->is_drained = false;
            if (call->ops) {
                call->ops->drained(call);
            }
        }
    }
}

/* Frames from nghttp2 to `out`, up to WRITE_SIZE. */
static int gather(struct grpc_conn *conn)
{
    while (byte_queue_len(&conn->out) < WRITE_SIZE) {
        const uint8_t *data;
        ssize_t len = nghttp2_session_mem_send(conn->session, &data);

        if (len < 0) {
            return len == NGHTTP2_ERR_NOMEM ? -ENOMEM : -EPROTO;
        }
        if (len == 0) {
            break;
        }
        if (byte_queue_put(&conn->out, data, (size_t)len) < 0) {
            return -ENOMEM;
        }
    }
    return 0;
}

int grpc_conn_flush(struct grpc_conn *conn)
{
    for (unsigned turn = 0; turn < WRITES_PER_TURN; turn++) {
        ssize_t put;
        int r = gather(conn);

        if (r < 0) {
            return r;
        }
        if (conn->has_drained) {
            tell_drained(conn);
        }
        if (!byte_queue_len(&conn->out)) {
            /* After an error of the protocol nghttp2 has said goodbye and wants nothing more. */
            bool is_over = !nghttp2_session_want_read(conn->session) &&
                           !nghttp2_session_want_write(conn->session);
            return is_over ? -EPIPE : 0;
        }
        put = send(conn->fd, byte_queue_data(&conn->out), byte_queue_len(&conn->out),
                   MSG_DONTWAIT | MSG_NOSIGNAL);
        if (put < 0) {
            return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        }
        byte_queue_take(&conn->out, (size_t)put);
    }
    return 0;
}

bool grpc_conn_wants_write(const struct grpc_conn *conn)
{
    return byte_queue_len(&conn->out) > 0 || nghttp2_session_want_write(conn->session);
}

void grpc_conn_ping(struct grpc_conn *conn)
{
    (void)nghttp2_submit_ping(conn->session, NGHTTP2_FLAG_NONE, NULL);
}

unsigned grpc_conn_pongs(const struct grpc_conn *conn)
{
    return conn->pongs;
}

void *grpc_conn_owner(const struct grpc_conn *conn)
{
    return conn->owner;
}
