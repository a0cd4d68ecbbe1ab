/* flow.h — bytes between a call and descriptors of this machine, with back-pressure both ways.
 *
 * An inflow writes what the client sends.  What the descriptor does not take at once waits, and the
 * client gets its credit back only for what was written.  An outflow reads, one chunk becomes one
 * message; while the call's queue is full nothing is read, so whoever writes blocks.
 *
 * Both are parts of an owner that lives longer than their call: set `call` to NULL in its `closed`.
 */
#pragma once

#include "guest/init/reactor.h"
#include "proto/byte_queue.h"
#include "proto/grpc.h"

/* Who sends what was queued. */
struct flow_host {
    /* Frames were queued for this connection; `is_urgent`: they must not wait for others. */
    void (*touched)(void *owner, struct grpc_conn *conn, bool is_urgent);
    void *owner;
};

/* Frames of this call were queued. */
void flow_touched(const struct flow_host *host, struct grpc_call *call, bool is_urgent);

struct inflow {
    struct watch watch; /* -1: what comes is dropped */
    struct grpc_call *call;
    const struct flow_host *host;
    struct byte_queue queue;
    size_t credit; /* of what waits */
    bool ends;     /* nothing follows what waits */
    uint8_t last;  /* byte that was written */
    /* Everything was written, and nothing follows.  The descriptor is the callee's to close. */
    void (*finish)(struct inflow *in);
    /* Nobody reads; the descriptor is closed, what still comes is dropped.  NULL: never mind. */
    void (*lost)(struct inflow *in);
};

void inflow_init(struct inflow *in, struct reactor *reactor, const struct flow_host *host,
                 struct grpc_call *call, void (*finish)(struct inflow *in));
/* Takes over `fd`, which does not block; -1: none. */
void inflow_open(struct inflow *in, int fd);
/* Bytes of a message.  0, or -ENOMEM. */
int inflow_put(struct inflow *in, const uint8_t *data, size_t len, size_t credit);
/* Give credit back for a message that was no data. */
void inflow_credit(struct inflow *in, size_t credit);
/* Nothing more comes. */
void inflow_end(struct inflow *in);
void inflow_fini(struct inflow *in);

struct outflow {
    struct watch watch; /* -1: at its end */
    struct grpc_call *call;
    const struct flow_host *host;
    void *owner;
    unsigned field;   /* of the messages: EXEC_FIELD_* */
    size_t must_read; /* bytes that are owed to the client whatever else happens */
    /* At its end (0) or broken (negative errno); the descriptor is closed. */
    void (*ended)(struct outflow *out, int code);
};

void outflow_init(struct outflow *out, struct reactor *reactor, const struct flow_host *host,
                  struct grpc_call *call, unsigned field);
/* Takes over `fd`, which does not block, and reads; -1: none. */
void outflow_open(struct outflow *out, int fd);
/* There is room in the call's queue again. */
void outflow_go_on(struct outflow *out);
