/* server.c — see server.h.
 *
 * Theory of operation.  Bytes are read in portions of one line buffer.  The requests that a portion
 * completes are handled in order; when the portion also holds a syntax error, they are dropped and
 * the error is the only answer, as its text says.  Answers collect in the connection's buffer.
 * While some of it is unsent, the connection is not read.  A peer that closes either direction is
 * dropped at once with all that it was not told yet.
 */
#include "api/server.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/log.h"
#include "base/os_error.h"
#include "codec/http1.h"
#include "io/loop.h"

#define CONNECTION_MAX 10
#define PORTION        HTTP1_LINE_MAX /* bytes read at once */
#define LAST_WAIT_MS   1000           /* for a peer that is slow to read the last answer */

static const char g_busy[] =
    "HTTP/1.1 503\r\nServer: " API_SERVER_NAME "\r\nConnection: close\r\nContent-Length: 40\r\n\r\n"
    "{ \"error\": \"Too many open connections\" }";

struct connection {
    struct api_server *server;
    int fd; /* -1: free */
    struct http1_parser parser;
    struct buf out;
};

struct api_server {
    struct api_server_config config;
    struct loop *loop;
    int listen_fd;
    struct connection connections[CONNECTION_MAX];
};

/* --- connections --- */

static void drop(struct connection *c)
{
    loop_del_fd(c->server->loop, c->fd);
    (void)close(c->fd);
    c->fd = -1;
    http1_parser_fini(&c->parser);
    buf_fini(&c->out);
    c->out = (struct buf){0};
}

/* What the socket takes.  False: the connection is gone. */
static bool flush(struct connection *c)
{
    while (c->out.len > 0) {
        ssize_t n = send(c->fd, c->out.data, c->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno == EAGAIN) {
            break;
        }
        if (n < 0 && errno != EINTR) {
            drop(c);
            return false;
        }
        buf_consume(&c->out, n > 0 ? (size_t)n : 0);
    }
    (void)loop_mod_fd(c->server->loop, c->fd, EPOLLRDHUP | (c->out.len ? EPOLLOUT : EPOLLIN));
    return true;
}

static void flush_last(struct connection *c)
{
    struct pollfd fd = {.fd = c->fd, .events = POLLOUT};

    while (flush(c) && c->out.len > 0) {
        if (poll(&fd, 1, LAST_WAIT_MS) <= 0) {
            return;
        }
    }
}

/* --- requests --- */

static void put_syntax_error(struct connection *c, const struct err *err)
{
    struct http1_answer answer = {
        .version = HTTP1_1, .status = 400, .server = API_SERVER_NAME, .media = HTTP1_JSON};
    struct buf body = {0};

    buf_printf(&body, "{ \"error\": \"%s\nAll previous unanswered requests will be dropped.\" }",
               err_text(err));
    answer.body = body.data;
    answer.body_len = body.len;
    http1_put_answer(&c->out, &answer);
    log_error("%s", err_text(err));
    buf_fini(&body);
}

/* The requests that one portion completed: each has at least four bytes of method, a path, a
 * version and two line ends. */
#define BATCH_MAX (PORTION / 16)

struct batch {
    struct http1_request requests[BATCH_MAX];
    unsigned count;
};

static void batch_clear(struct batch *batch)
{
    while (batch->count > 0) {
        http1_request_fini(&batch->requests[--batch->count]);
    }
}

/* True: go on. */
static bool handle(struct connection *c, struct batch *batch)
{
    const struct api_server_config *config = &c->server->config;
    bool goes_on = true;

    for (unsigned i = 0; goes_on && i < batch->count; i++) {
        goes_on = config->handle(config->owner, &batch->requests[i], &c->out);
    }
    batch_clear(batch);
    return goes_on;
}

static void put_continue(struct connection *c)
{
    struct http1_answer answer = {
        .version = c->parser.request.version, .status = 100, .server = API_SERVER_NAME};

    http1_put_answer(&c->out, &answer);
}

/* True: go on. */
static bool take(struct connection *c, const char *data, size_t len, struct batch *batch)
{
    bool goes_on = true;
    size_t used = 0;

    while (goes_on && used < len) {
        struct err err = {0};
        size_t step = 0;
        int r = http1_feed(&c->parser, data + used, len - used, &step,
                           &batch->requests[batch->count], &err);

        used += step;
        if (r < 0) {
            batch_clear(batch);
            put_syntax_error(c, &err);
            return true;
        }
        batch->count += r == HTTP1_READY;
        if (batch->count == BATCH_MAX || r == HTTP1_CONTINUE) {
            goes_on = handle(c, batch);
        }
        if (r == HTTP1_CONTINUE) {
            put_continue(c);
        }
    }
    return goes_on && handle(c, batch);
}

static void on_readable(struct connection *c)
{
    char data[PORTION];
    struct batch *batch;
    ssize_t n = recv(c->fd, data, sizeof(data), MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    batch = n > 0 ? calloc(1, sizeof(*batch)) : NULL;
    if (!batch) {
        drop(c);
        return;
    }
    if (take(c, data, (size_t)n, batch)) {
        (void)flush(c);
    } else {
        flush_last(c);
        c->server->config.finish(c->server->config.owner);
    }
    batch_clear(batch);
    free(batch);
}

static void on_event(void *owner, int fd, uint32_t events)
{
    struct connection *c = owner;

    (void)fd;
    if (events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR)) {
        drop(c);
    } else if (events & EPOLLOUT) {
        (void)flush(c);
    } else if (events & EPOLLIN) {
        on_readable(c);
    }
}

static void on_connect(void *owner, int fd, uint32_t events)
{
    struct api_server *server = owner;
    AUTO_CLOSE int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    (void)events;
    if (peer < 0) {
        return;
    }
    for (unsigned i = 0; i < CONNECTION_MAX; i++) {
        struct connection *c = &server->connections[i];

        if (c->fd >= 0) {
            continue;
        }
        c->fd = take_fd(&peer);
        http1_parser_init(&c->parser, server->config.body_max);
        if (loop_add_fd(server->loop, c->fd, EPOLLIN | EPOLLRDHUP, on_event, c) < 0) {
            drop(c);
        }
        return;
    }
    (void)send(peer, g_busy, sizeof(g_busy) - 1, MSG_NOSIGNAL);
}

/* --- life --- */

static int listen_at(const char *path, struct err *err)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    char text[OS_ERROR_MAX];

    if (strlen(path) >= sizeof(addr.sun_path)) {
        return err_set(err, -EINVAL, "path must be shorter than SUN_LEN");
    }
    memcpy(addr.sun_path, path, strlen(path) + 1);
    if (fd < 0 || bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0 ||
        listen(fd, SOMAXCONN) < 0) {
        return err_set(err, -errno, "%s", os_error(errno, text));
    }
    return take_fd(&fd);
}

int api_server_new(const struct api_server_config *config, struct api_server **ret_server,
                   struct err *err)
{
    struct api_server *server = calloc(1, sizeof(*server));
    int r;

    if (!server) {
        return err_set(err, -ENOMEM, "out of memory");
    }
    server->config = *config;
    for (unsigned i = 0; i < CONNECTION_MAX; i++) {
        server->connections[i] = (struct connection){.server = server, .fd = -1};
    }
    server->listen_fd = listen_at(config->path, err);
    r = server->listen_fd < 0 ? server->listen_fd : loop_new(&server->loop, err);
    if (r == 0) {
        r = loop_add_fd(server->loop, server->listen_fd, EPOLLIN, on_connect, server);
    }
    if (r < 0) {
        api_server_free(server);
        return r;
    }
    *ret_server = server;
    return 0;
}

int api_server_start(struct api_server *server, struct err *err)
{
    loop_on_start(server->loop, server->config.enter_thread, server->config.enter_owner);
    return loop_thread_start(server->loop, "fc_api", err);
}

void api_server_free(struct api_server *server)
{
    if (!server) {
        return;
    }
    if (server->loop) {
        loop_thread_stop(server->loop);
        for (unsigned i = 0; i < CONNECTION_MAX; i++) {
            if (server->connections[i].fd >= 0) {
                drop(&server->connections[i]);
            }
        }
        loop_free(server->loop);
    }
    auto_close(&server->listen_fd);
    free(server);
}
