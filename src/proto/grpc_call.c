/* grpc_call.c — one gRPC call: messages in and out of DATA frames, headers, trailers.
 *
 * Theory of operation.  Outgoing messages stand in `out` with their 5-byte heads, and nghttp2 takes
 * bytes from there whenever the peer's windows have room (grpc_call_read_out()); with nothing to
 * take the stream is deferred until the next send resumes it.  Incoming bytes are put together to
 * messages. The connection's window is returned at once, so that a stalled call does not stall its
 * neighbours; the call's own window is returned by whoever consumes the message.  A message larger
 * than a quarter of the window returns its bytes while it is being put together, as it could never
 * arrive otherwise.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "proto/grpc_int.h"

#define NV(n, v)                                                                   \
    (nghttp2_nv)                                                                   \
    {                                                                              \
        .name = (uint8_t *)(uintptr_t)(n), .value = (uint8_t *)(uintptr_t)(v),     \
        .namelen = strlen(n), .valuelen = strlen(v), .flags = NGHTTP2_NV_FLAG_NONE \
    }

struct grpc_call *grpc_call_make(struct grpc_conn *conn, int32_t id)
{
    struct grpc_call *call = calloc(1, sizeof(*call));

    if (call) {
        call->conn = conn;
        call->id = id;
        list_append(&conn->calls, &call->link);
    }
    return call;
}

void grpc_call_close(struct grpc_call *call, unsigned status, const char *message)
{
    (void)nghttp2_session_set_stream_user_data(call->conn->session, call->id, NULL);
    list_remove(&call->link);
    if (call->ops) {
        call->ops->closed(call, status, message);
    }
    byte_queue_fini(&call->out);
    buf_fini(&call->in);
    free(call);
}

/* ---- sending ---- */

static size_t put_escaped(char *out, size_t size, const char *text)
{
    size_t len = 0;

    /* The specification's percent-encoding: printable ASCII but '%' stays as it is. */
    for (const unsigned char *c = (const unsigned char *)text; *c && len + 4 < size; c++) {
        if (*c >= 0x20 && *c < 0x7f && *c != '%') {
            out[len++] = (char)*c;
        } else {
            len += (size_t)snprintf(out + len, size - len, "%%%02X", *c);
        }
    }
    out[len] = 0;
    return len;
}

static size_t put_end(const struct grpc_call *call, nghttp2_nv nv[2], char code[16], char *text,
                      size_t size)
{
    (void)snprintf(code, 16, "%u", call->end_status);
    nv[0] = NV("grpc-status", code);
    if (!put_escaped(text, size, call->end_text)) {
        return 1;
    }
    nv[1] = NV("grpc-message", text);
    return 2;
}

ssize_t grpc_call_read_out(nghttp2_session *session, int32_t id, uint8_t *buf, size_t len,
                           uint32_t *flags, nghttp2_data_source *source, void *conn)
{
    struct grpc_call *call = source->ptr;
    size_t have = byte_queue_len(&call->out);
    size_t take = have < len ? have : len;

    if (!take && !call->has_ended) {
        call->is_deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    if (take) {
        memcpy(buf, byte_queue_data(&call->out), take);
        byte_queue_take(&call->out, take);
    }
    if (have >= GRPC_QUEUE_LOW / 2 && have - take < GRPC_QUEUE_LOW / 2) {
        call->is_drained = true;
        ((struct grpc_conn *)conn)->has_drained = true;
    }
    if (take == have && call->has_ended) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (call->conn->accept) {
            char code[16];
            char text[3 * GRPC_TEXT_MAX];
            nghttp2_nv nv[2];

            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            call->has_trailer = true;
            if (nghttp2_submit_trailer(session, id, nv,
                                       put_end(call, nv, code, text, sizeof(text)))) {
                return NGHTTP2_ERR_CALLBACK_FAILURE;
            }
        }
    }
    return (ssize_t)take;
}

static void resume(struct grpc_call *call)
{
    if (call->is_deferred) {
        call->is_deferred = false;
        (void)nghttp2_session_resume_data(call->conn->session, call->id);
    }
}

static int submit_response(struct grpc_call *call)
{
    nghttp2_data_provider provider = {.source.ptr = call, .read_callback = grpc_call_read_out};
    nghttp2_nv nv[] = {NV(":status", "200"), NV("content-type", "application/grpc")};

    call->is_submitted = true;
    return nghttp2_submit_response(call->conn->session, call->id, nv, ARRAY_LEN(nv), &provider)
               ? -ENOMEM
               : 0;
}

int grpc_call_send2(struct grpc_call *call, const void *head, size_t head_len, const void *body,
                    size_t body_len)
{
    uint8_t frame[GRPC_HEAD_SIZE] = {0};
    size_t len = head_len + body_len;

    if (call->has_ended) {
        return -EPIPE;
    }
    if (len > UINT32_MAX || len < body_len) {
        return -EMSGSIZE;
    }
    for (unsigned i = 0; i < 4; i++) {
        frame[1 + i] = (uint8_t)(len >> (24 - 8 * i));
    }
    /* Room for all three first: half a message must not stay in the queue. */
    if (!buf_reserve(&call->out.buf, sizeof(frame) + len)) {
        call->out.buf.failed = false;
        return -ENOMEM;
    }
    (void)byte_queue_put(&call->out, frame, sizeof(frame));
    (void)byte_queue_put(&call->out, head, head_len);
    (void)byte_queue_put(&call->out, body, body_len);
    if (call->conn->accept && !call->is_submitted) {
        return submit_response(call);
    }
    resume(call);
    return 0;
}

int grpc_call_send(struct grpc_call *call, const void *data, size_t len)
{
    return grpc_call_send2(call, NULL, 0, data, len);
}

size_t grpc_call_queued(const struct grpc_call *call)
{
    return byte_queue_len(&call->out);
}

void grpc_call_end(struct grpc_call *call)
{
    call->has_ended = true;
    resume(call);
}

void grpc_call_finish(struct grpc_call *call, enum grpc_status status, const char *message)
{
    if (call->has_ended) {
        return;
    }
    call->has_ended = true;
    call->end_status = status;
    (void)snprintf(call->end_text, sizeof(call->end_text), "%s", message ? message : "");
    call->is_deaf = true;
    if (!call->is_submitted) {
        char code[16];
        char text[3 * GRPC_TEXT_MAX];
        nghttp2_nv nv[4] = {NV(":status", "200"), NV("content-type", "application/grpc")};
        size_t count = 2 + put_end(call, nv + 2, code, text, sizeof(text));

        call->is_submitted = true;
        call->has_trailer = true;
        (void)nghttp2_submit_response(call->conn->session, call->id, nv, count, NULL);
        return;
    }
    resume(call);
}

void grpc_call_cancel(struct grpc_call *call)
{
    call->has_ended = true;
    call->is_deaf = true;
    (void)nghttp2_submit_rst_stream(call->conn->session, NGHTTP2_FLAG_NONE, call->id,
                                    NGHTTP2_CANCEL);
}

struct grpc_call *grpc_call_new(struct grpc_conn *conn, const char *path,
                                const struct grpc_call_ops *ops, void *user)
{
    struct grpc_call *call = grpc_call_make(conn, -1);
    nghttp2_data_provider provider = {.source.ptr = call, .read_callback = grpc_call_read_out};
    nghttp2_nv nv[] = {
        NV(":method", "POST"),
        NV(":scheme", "http"),
        NV(":path", path),
        NV(":authority", "ec1"),
        NV("content-type", "application/grpc"),
        NV("te", "trailers"),
    };

    if (!call) {
        return NULL;
    }
    call->id = nghttp2_submit_request(conn->session, NULL, nv, ARRAY_LEN(nv), &provider, call);
    if (call->id < 0) {
        grpc_call_close(call, GRPC_UNAVAILABLE, NULL);
        return NULL;
    }
    grpc_call_bind(call, ops, user);
    return call;
}

/* ---- receiving ---- */

static void fail(struct grpc_call *call, enum grpc_status status, const char *text)
{
    if (call->conn->accept) {
        grpc_call_finish(call, status, text);
        return;
    }
    call->has_status = true;
    call->status = status;
    (void)snprintf(call->text, sizeof(call->text), "%s", text);
    grpc_call_cancel(call);
}

void grpc_call_credit(struct grpc_call *call, size_t credit)
{
    if (credit) {
        (void)nghttp2_session_consume_stream(call->conn->session, call->id, credit);
    }
}

static void return_credit(struct grpc_call *call)
{
    grpc_call_credit(call, call->credit);
    call->credit = 0;
}

static bool take_head(struct grpc_call *call, const uint8_t **data, size_t *len)
{
    size_t want = GRPC_HEAD_SIZE - call->head_len;
    size_t take = *len < want ? *len : want;

    memcpy(call->head + call->head_len, *data, take);
    call->head_len += take;
    *data += take;
    *len -= take;
    if (call->head_len < GRPC_HEAD_SIZE) {
        return false;
    }
    call->need = 0;
    for (unsigned i = 1; i < GRPC_HEAD_SIZE; i++) {
        call->need = call->need << 8 | call->head[i];
    }
    if (call->head[0] != 0) {
        fail(call, GRPC_UNIMPLEMENTED, "compressed messages are not supported");
        return false;
    }
    /* guest: the length is the peer's word. */
    if (call->need > call->conn->max_message) {
        fail(call, GRPC_RESOURCE_EXHAUSTED, "the message is too large");
        return false;
    }
    return true;
}

static void deliver(struct grpc_call *call, const uint8_t *data)
{
    size_t credit = call->credit;

    call->credit = 0;
    call->head_len = 0;
    if (call->ops) {
        call->ops->message(call, data, call->need, credit);
    }
}

/* The part of a message that is in this frame. */
static void take_body(struct grpc_call *call, const uint8_t **data, size_t *len)
{
    size_t want = call->need - call->in.len;
    size_t take = *len < want ? *len : want;
    const uint8_t *body = *data;

    *data += take;
    *len -= take;
    call->credit += take;
    if (!call->in.len && take == want) {
        deliver(call, body);
        return;
    }
    buf_append(&call->in, body, take);
    if (buf_status(&call->in)) {
        fail(call, GRPC_RESOURCE_EXHAUSTED, "out of memory");
        return;
    }
    if (take == want) {
        deliver(call, call->in.data);
        if (call->in.cap > GRPC_WINDOW) {
            buf_fini(&call->in);
        }
        buf_clear(&call->in);
    } else if (call->credit > GRPC_WINDOW / 4) {
        return_credit(call);
    }
}

void grpc_call_data(struct grpc_call *call, const uint8_t *data, size_t len)
{
    (void)nghttp2_session_consume_connection(call->conn->session, len);
    while (len && !call->is_deaf) {
        if (call->head_len < GRPC_HEAD_SIZE) {
            size_t before = len;
            bool has_head = take_head(call, &data, &len);

            call->credit += before - len;
            if (!has_head) {
                continue;
            }
        }
        take_body(call, &data, &len);
    }
    if (call->is_deaf) {
        call->credit += len;
        return_credit(call);
    }
}

/* ---- headers ---- */

static void unescape(char *out, size_t size, const char *value, size_t len)
{
    size_t to = 0;

    for (size_t i = 0; i < len && to + 1 < size; i++) {
        char hex[3] = {0};

        if (value[i] == '%' && i + 2 < len && isxdigit((unsigned char)value[i + 1]) &&
            isxdigit((unsigned char)value[i + 2])) {
            memcpy(hex, value + i + 1, 2);
            out[to++] = (char)strtoul(hex, NULL, 16);
            i += 2;
        } else {
            out[to++] = value[i];
        }
    }
    out[to] = 0;
}

static unsigned small_number(const char *value, size_t len)
{
    unsigned number = 0;

    for (size_t i = 0; i < len && i < 4; i++) {
        if (value[i] < '0' || value[i] > '9') {
            return GRPC_UNKNOWN;
        }
        number = number * 10 + (unsigned)(value[i] - '0');
    }
    return number;
}

static bool is_name(const char *name, size_t len, const char *want)
{
    return len == strlen(want) && memcmp(name, want, len) == 0;
}

void grpc_call_header(struct grpc_call *call, const char *name, size_t name_len, const char *value,
                      size_t value_len)
{
    static const char type[] = "application/grpc";

    if (is_name(name, name_len, ":path")) {
        if (value_len < sizeof(call->path)) {
            memcpy(call->path, value, value_len);
            call->path[value_len] = 0;
        }
    } else if (is_name(name, name_len, "content-type")) {
        call->is_grpc = value_len >= sizeof(type) - 1 && memcmp(value, type, sizeof(type) - 1) == 0;
    } else if (is_name(name, name_len, ":status")) {
        call->http_status = small_number(value, value_len);
    } else if (is_name(name, name_len, "grpc-status") && !call->has_status) {
        call->has_status = true;
        call->status = small_number(value, value_len);
    } else if (is_name(name, name_len, "grpc-message")) {
        unescape(call->text, sizeof(call->text), value, value_len);
    }
}

unsigned grpc_call_outcome(const struct grpc_call *call, uint32_t h2_error, const char **ret_text)
{
    if (call->has_status) {
        *ret_text = call->text;
        return call->status;
    }
    if (h2_error == NGHTTP2_CANCEL) {
        *ret_text = "cancelled";
        return GRPC_CANCELLED;
    }
    if (h2_error != NGHTTP2_NO_ERROR) {
        *ret_text = nghttp2_http2_strerror(h2_error);
        return h2_error == NGHTTP2_REFUSED_STREAM ? GRPC_UNAVAILABLE : GRPC_INTERNAL;
    }
    *ret_text = call->http_status == 200 ? "the answer ended without a grpc-status"
                                         : "the peer does not speak gRPC";
    return GRPC_UNKNOWN;
}

/* ---- plain ---- */

void grpc_call_bind(struct grpc_call *call, const struct grpc_call_ops *ops, void *user)
{
    call->ops = ops;
    call->user = user;
}

void *grpc_call_user(const struct grpc_call *call)
{
    return call->user;
}

struct grpc_conn *grpc_call_conn(const struct grpc_call *call)
{
    return call->conn;
}
