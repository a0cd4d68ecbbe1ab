/* grpc.h — gRPC over one HTTP/2 connection without TLS, for both ends, driven by the caller.
 *
 * A connection reads and writes a stream socket that stays the caller's: when poll(2) says so, call
 * grpc_conn_read() and grpc_conn_flush().  Nothing here blocks or sleeps.  Every other function
 * only queues; what was queued leaves with the next flush.
 *
 * Back-pressure.  Sending: bytes of a call wait in its queue (grpc_call_queued()); a sender stops
 * feeding above its own limit and goes on when `drained` is called.  Receiving: each message comes
 * with a credit, to be returned by grpc_call_credit() when the message has reached its sink; the
 * peer may send only one window of bytes ahead of that.  A call that returns no credit stalls only
 * itself.
 *
 * Ownership: calls belong to their connection and are gone after `closed`.  One thread at a time.
 * A callback may use any function of any call, but must not free the connection.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct grpc_conn;
struct grpc_call;

/* The codes of the gRPC specification that are used here. */
enum grpc_status {
    GRPC_OK = 0,
    GRPC_CANCELLED = 1,
    GRPC_UNKNOWN = 2,
    GRPC_INVALID_ARGUMENT = 3,
    GRPC_RESOURCE_EXHAUSTED = 8,
    GRPC_FAILED_PRECONDITION = 9,
    GRPC_UNIMPLEMENTED = 12,
    GRPC_INTERNAL = 13,
    GRPC_UNAVAILABLE = 14,
};

/* What happens to one call.  All are mandatory. */
struct grpc_call_ops {
    /* A whole message; `data` is valid during the callback. */
    void (*message)(struct grpc_call *call, const uint8_t *data, size_t len, size_t credit);
    /* Server: the client sends no more messages.  Client: unused, `closed` says it. */
    void (*ended)(struct grpc_call *call);
    /* The queue of bytes to send fell below half of GRPC_QUEUE_LOW. */
    void (*drained)(struct grpc_call *call);
    /* The last callback.  Client: the call's outcome.  Server: GRPC_OK after a regular end, else
     * why the client is gone. */
    void (*closed)(struct grpc_call *call, unsigned status, const char *message);
};

/* Server: a call came in.  Bind it, or grpc_call_finish() it with an error. */
typedef void (*grpc_accept_fn)(void *owner, struct grpc_call *call, const char *path);

enum {
    GRPC_QUEUE_LOW = 256 * 1024, /* feed a call again below half of this */
    GRPC_WINDOW = 1024 * 1024,   /* unreturned credit per call */
    GRPC_HEAD_SIZE = 5,          /* in front of each message: flag, length */
};

/* `accept` is NULL for a client.  `max_message` bounds what the peer may send. */
int grpc_conn_new(int fd, grpc_accept_fn accept, void *owner, size_t max_message,
                  struct grpc_conn **ret_conn);
/* Calls `closed` of every open call with GRPC_UNAVAILABLE.  NULL is fine. */
void grpc_conn_free(struct grpc_conn *conn);
/* Take what has arrived.  0, -EPIPE at the end of the stream, -EPROTO, or another error; after an
 * error only grpc_conn_free() is useful. */
int grpc_conn_read(struct grpc_conn *conn);
/* Take bytes that the caller read from the socket before (a handshake may read too far). */
int grpc_conn_feed(struct grpc_conn *conn, const uint8_t *data, size_t len);
/* Send what is queued, as far as the socket takes it.  0 or an error as above. */
int grpc_conn_flush(struct grpc_conn *conn);
/* Bytes or frames are waiting for the socket. */
bool grpc_conn_wants_write(const struct grpc_conn *conn);
/* Ask the peer for a sign of life; grpc_conn_pongs() counts the answers. */
void grpc_conn_ping(struct grpc_conn *conn);
unsigned grpc_conn_pongs(const struct grpc_conn *conn);
void *grpc_conn_owner(const struct grpc_conn *conn);

/* Client: start a call of "/package.Service/Method".  NULL when out of memory. */
struct grpc_call *grpc_call_new(struct grpc_conn *conn, const char *path,
                                const struct grpc_call_ops *ops, void *user);
void grpc_call_bind(struct grpc_call *call, const struct grpc_call_ops *ops, void *user);
void *grpc_call_user(const struct grpc_call *call);
struct grpc_conn *grpc_call_conn(const struct grpc_call *call);

/* Queue one message that consists of `head` and `body`.  0, -EPIPE after the end, -ENOMEM. */
int grpc_call_send2(struct grpc_call *call, const void *head, size_t head_len, const void *body,
                    size_t body_len);
int grpc_call_send(struct grpc_call *call, const void *data, size_t len);
/* Bytes queued and not yet in a frame. */
size_t grpc_call_queued(const struct grpc_call *call);
void grpc_call_credit(struct grpc_call *call, size_t credit);
/* Client: no more messages follow. */
void grpc_call_end(struct grpc_call *call);
/* Server: end the call once its queue is sent.  `message` may be NULL. */
void grpc_call_finish(struct grpc_call *call, enum grpc_status status, const char *message);
/* Drop the call now; `closed` follows. */
void grpc_call_cancel(struct grpc_call *call);
