/* grpc_int.h — what grpc.c (connection) and grpc_call.c (one call) share. */
#pragma once

#include <nghttp2/nghttp2.h>

#include "base/buf.h"
#include "base/list.h"
#include "proto/byte_queue.h"
#include "proto/grpc.h"

struct grpc_conn {
    nghttp2_session *session;
    int fd; /* the caller's */
    grpc_accept_fn accept;
    void *owner;
    size_t max_message;
    struct list calls;
    struct byte_queue out; /* frames the socket did not take yet */
    unsigned pongs;
    bool has_drained; /* some call waits for its `drained` */
};

enum { GRPC_PATH_MAX = 128, GRPC_TEXT_MAX = 1024 };

struct grpc_call {
    struct list link;
    struct grpc_conn *conn;
    int32_t id;
    const struct grpc_call_ops *ops;
    void *user;

    struct byte_queue out;
    bool is_deferred;  /* nghttp2 waits for nghttp2_session_resume_data() */
    bool is_submitted; /* server: response headers are on their way */
    bool has_ended;    /* nothing is put into `out` any more */
    bool is_drained;
    bool has_trailer; /* server: the trailer was handed over */
    unsigned end_status;
    char end_text[GRPC_TEXT_MAX];

    /* Receiving: first the head, then `need` bytes. */
    uint8_t head[GRPC_HEAD_SIZE];
    size_t head_len;
    size_t need;
    struct buf in;
    size_t credit; /* bytes of the message being received that were not returned yet */
    bool is_deaf;  /* what still comes is dropped */
    bool peer_ended;

    /* Of the peer's headers. */
    char path[GRPC_PATH_MAX];
    bool is_grpc; /* content-type */
    unsigned http_status;
    bool has_status;
    unsigned status;
    char text[GRPC_TEXT_MAX];
};

struct grpc_call *grpc_call_make(struct grpc_conn *conn, int32_t id);
/* Report the end and free. */
void grpc_call_close(struct grpc_call *call, unsigned status, const char *message);
void grpc_call_header(struct grpc_call *call, const char *name, size_t name_len, const char *value,
                      size_t value_len);
/* Bytes of a DATA frame. */
void grpc_call_data(struct grpc_call *call, const uint8_t *data, size_t len);
/* Client: what the trailers and a reset code together mean. */
unsigned grpc_call_outcome(const struct grpc_call *call, uint32_t h2_error, const char **ret_text);
ssize_t grpc_call_read_out(nghttp2_session *session, int32_t id, uint8_t *buf, size_t len,
                           uint32_t *flags, nghttp2_data_source *source, void *conn);
