/* server.c — the init's gRPC service.
 *
 * Each packet to the host costs the guest an exit and the host a wake-up, so what nobody waits for
 * (settings, acknowledgements, the note that a command has started) stays up to LAZY_NS and leaves
 * with the first frame that somebody does wait for.  A short command then has one answer.
 */
#include "guest/init/server.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/buf.h"
#include "base/clock.h"
#include "proto/exec.pb-c.h"
#include "proto/exec_msg.h"

#define LAZY_NS (2 * NS_PER_MS)

struct peer {
    struct list link;
    struct server *server;
    struct watch watch;
    struct grpc_conn *conn;
    bool is_touched;
    bool is_lazy;     /* touched, without haste */
    bool asks_reboot; /* with asks_shutdown */
    bool asks_shutdown;
};

static void peer_free(struct peer *peer)
{
    list_remove(&peer->link);
    grpc_conn_free(peer->conn);
    watch_drop(&peer->watch);
    (void)watch_want(&peer->server->listener, EPOLLIN); /* there is a descriptor again */
    free(peer);
}

static void touch_lazily(struct peer *peer)
{
    peer->is_lazy = true;
    if (!ticker_is_armed(&peer->server->lazy)) {
        ticker_arm(&peer->server->lazy, LAZY_NS);
    }
}

static void on_lazy(struct ticker *ticker)
{
    struct server *server = container_of(ticker, struct server, lazy);

    list_for_each (pos, &server->peers) {
        struct peer *peer = container_of(pos, struct peer, link);

        peer->is_touched |= peer->is_lazy;
    }
}

static void touched(void *owner, struct grpc_conn *conn, bool is_urgent)
{
    struct peer *peer = grpc_conn_owner(conn);

    (void)owner;
    if (is_urgent) {
        peer->is_touched = true;
    } else {
        touch_lazily(peer);
    }
}

/* ---- calls with one request and one answer ---- */

static void answer(struct grpc_call *call, const void *data, size_t len)
{
    (void)grpc_call_send(call, data, len);
    grpc_call_finish(call, GRPC_OK, NULL);
    ((struct peer *)grpc_call_user(call))->is_touched = true;
}

static void on_info(struct grpc_call *call, const uint8_t *data, size_t len, size_t credit)
{
    struct peer *peer = grpc_call_user(call);
    AUTO_CALL(buf_fini) struct buf info = {0};

    (void)data;
    (void)len;
    grpc_call_credit(call, credit);
    if (report_pack_info(peer->server->report, &info) < 0) {
        grpc_call_finish(call, GRPC_RESOURCE_EXHAUSTED, "out of memory");
        return;
    }
    answer(call, info.data, info.len);
}

static void on_shutdown(struct grpc_call *call, const uint8_t *data, size_t len, size_t credit)
{
    struct peer *peer = grpc_call_user(call);
    Ec1__V1__ShutdownRequest *request = ec1__v1__shutdown_request__unpack(NULL, len, data);

    grpc_call_credit(call, credit);
    if (!request) {
        grpc_call_finish(call, GRPC_INVALID_ARGUMENT, "this is not a ShutdownRequest");
        return;
    }
    peer->asks_shutdown = true;
    peer->asks_reboot = request->reboot;
    ec1__v1__shutdown_request__free_unpacked(request, NULL);
    answer(call, NULL, 0);
}

static void on_unary_ended(struct grpc_call *call)
{
    grpc_call_finish(call, GRPC_INVALID_ARGUMENT, "the call ended without a request");
}

static void on_nothing(struct grpc_call *call)
{
    (void)call;
}

static void on_unary_closed(struct grpc_call *call, unsigned status, const char *message)
{
    (void)call;
    (void)status;
    (void)message;
}

static void accept_call(void *owner, struct grpc_call *call, const char *path)
{
    static const struct grpc_call_ops info = {on_info, on_unary_ended, on_nothing, on_unary_closed};
    static const struct grpc_call_ops shutdown = {on_shutdown, on_unary_ended, on_nothing,
                                                  on_unary_closed};
    struct peer *peer = owner;

    if (strcmp(path, EXEC_PATH_EXEC) == 0) {
        job_accept(&peer->server->jobs, call);
    } else if (strcmp(path, EXEC_PATH_CONNECT) == 0) {
        tunnel_accept(&peer->server->tunnels, call);
    } else if (strcmp(path, EXEC_PATH_INFO) == 0) {
        grpc_call_bind(call, &info, peer);
    } else if (strcmp(path, EXEC_PATH_SHUTDOWN) == 0) {
        grpc_call_bind(call, &shutdown, peer);
    } else {
        grpc_call_finish(call, GRPC_UNIMPLEMENTED, "no such method");
    }
}

/* ---- connections ---- */

static void on_peer(struct watch *watch, uint32_t events)
{
    struct peer *peer = container_of(watch, struct peer, watch);

    touch_lazily(peer);
    peer->is_touched |= (events & EPOLLOUT) != 0;
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && grpc_conn_read(peer->conn) < 0) {
        peer_free(peer);
    }
}

static void on_listener(struct watch *watch, uint32_t events)
{
    struct server *server = container_of(watch, struct server, listener);
    AUTO_CLOSE int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct peer *peer = fd >= 0 ? calloc(1, sizeof(*peer)) : NULL;

    (void)events;
    if (fd < 0 && (errno == EMFILE || errno == ENFILE) && !list_is_empty(&server->peers)) {
        (void)watch_want(watch, 0); /* until a connection ends */
    }
    if (!peer) {
        return;
    }
    peer->server = server;
    list_init(&peer->link);
    if (grpc_conn_new(fd, accept_call, peer, EXEC_REQUEST_MAX, &peer->conn) < 0) {
        free(peer);
        return;
    }
    watch_init(&peer->watch, server->reactor, take_fd(&fd), on_peer);
    list_append(&server->peers, &peer->link);
    if (watch_want(&peer->watch, EPOLLIN) < 0) {
        peer_free(peer);
    }
}

static void flush_peer(struct peer *peer)
{
    struct server *server = peer->server;

    peer->is_touched = false;
    peer->is_lazy = false;
    if (grpc_conn_flush(peer->conn) < 0) {
        peer_free(peer);
        return;
    }
    if (grpc_conn_wants_write(peer->conn)) {
        (void)watch_want(&peer->watch, EPOLLIN | EPOLLOUT);
        return;
    }
    (void)watch_want(&peer->watch, EPOLLIN);
    if (peer->asks_shutdown && server->shutdown) {
        peer->asks_shutdown = false;
        server->shutdown(server->owner, peer->asks_reboot);
    }
}

void server_flush(struct server *server)
{
    bool again = true;

    /* Freeing one connection ends jobs, which touches none of the others; but be exact. */
    while (again) {
        again = false;
        list_for_each (pos, &server->peers) {
            struct peer *peer = container_of(pos, struct peer, link);

            if (peer->is_touched) {
                again = true;
                flush_peer(peer);
            }
        }
    }
}

/* ---- children ---- */

static void on_children(struct watch *watch, uint32_t events)
{
    struct server *server = container_of(watch, struct server, children);
    struct signalfd_siginfo info;
    int status;
    pid_t pid;

    (void)events;
    (void)!read(watch->fd, &info, sizeof(info));
    /* PID 1 is the parent of every orphan. */
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        (void)jobs_reaped(&server->jobs, pid, status);
    }
}

int server_init(struct server *server, struct reactor *reactor, int listen_fd,
                const struct report *report)
{
    sigset_t child;
    int fd;
    int r;

    (void)sigemptyset(&child);
    (void)sigaddset(&child, SIGCHLD);
    if (sigprocmask(SIG_BLOCK, &child, NULL) < 0) {
        return -errno;
    }
    fd = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0) {
        return -errno;
    }
    *server = (struct server){.reactor = reactor, .report = report};
    list_init(&server->peers);
    jobs_init(&server->jobs, reactor);
    ticker_init(&server->lazy, reactor, on_lazy);
    server->jobs.host = (struct flow_host){.touched = touched, .owner = server};
    server->tunnels = (struct tunnels){.reactor = reactor, .host = server->jobs.host};
    watch_init(&server->children, reactor, fd, on_children);
    watch_init(&server->listener, reactor, listen_fd, on_listener);
    r = watch_want(&server->children, EPOLLIN);
    return r < 0 ? r : watch_want(&server->listener, EPOLLIN);
}

void server_fini(struct server *server)
{
    watch_drop(&server->listener);
    list_for_each (pos, &server->peers) {
        peer_free(container_of(pos, struct peer, link));
    }
    jobs_fini(&server->jobs);
    ticker_cancel(&server->lazy);
    watch_drop(&server->children);
}
