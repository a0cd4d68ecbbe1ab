/* server.h — the socket of the REST interface: connections, bytes in, requests out, answers back.
 *
 * A thread of its own, `fc_api`, takes one request after the other, over all connections; the
 * handler may take as long as it needs.  Clients are not trusted: at most ten are connected, what
 * one sends is bounded (codec/http1.h), and one that does not read its answers is not read from.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct api_server;
struct buf;
struct http1_request;

struct api_server_config {
    const char *path; /* of the Unix socket, at most 107 bytes; nothing may be there */
    size_t body_max;  /* bytes */
    /* Append the answer.  False: it is the last one.  On the server's thread. */
    bool (*handle)(void *owner, const struct http1_request *request, struct buf *out);
    /* The last answer is on its way. */
    void (*finish)(void *owner);
    void *owner;
    /* The thread calls it first of all; NULL: nothing. */
    void (*enter_thread)(void *owner);
    void *enter_owner;
};

#define API_SERVER_NAME "Firecracker API"

/* Binds and listens at once; the thread starts with api_server_start().  -EADDRINUSE: there is
 * something at `path`.  The text of an error is the reason alone. */
int api_server_new(const struct api_server_config *config, struct api_server **ret_server,
                   struct err *err);
int api_server_start(struct api_server *server, struct err *err);
/* Waits for the request in progress.  The socket's file stays. */
void api_server_free(struct api_server *server);
