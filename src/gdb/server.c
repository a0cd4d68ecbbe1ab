/* server.c — see server.h.
 *
 * One thread, one poll().  While an answer has not been taken by the peer, nothing more is read
 * from it, so what it can make us keep is one answer.  A second peer is turned away at once: it
 * would else wait for the first to go, without knowing.
 */
#include "gdb/server.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/buf.h"
#include "gdb/address.h"
#include "gdb/session.h"

#define READ_BYTES 4096

struct gdb_server {
    struct gdb_target target;
    char address[GDB_ADDRESS_MAX];
    int listener;
    int end_fd; /* eventfd: the guest has ended, `status` is set */
    int status;
    int peer;        /* -1: nobody */
    bool has_served; /* a gdb has been here */
    struct gdb_session *session;
    pthread_t thread;
    bool has_thread;
};

static void hang_up(struct gdb_server *server)
{
    server->has_served |= gdb_session_has_talked(server->session);
    gdb_session_free(server->session, !server->has_served);
    server->session = NULL;
    (void)close(server->peer);
    server->peer = -1;
}

/* As much as the peer takes now. */
static void send_output(struct gdb_server *server)
{
    struct buf *out = gdb_session_output(server->session);
    ssize_t len = 1;

    while (out->len > 0 && len > 0) {
        len = send(server->peer, out->data, out->len, MSG_NOSIGNAL);
        if (len > 0) {
            buf_consume(out, (size_t)len);
        }
    }
    if ((len < 0 && errno != EAGAIN && errno != EINTR) ||
        (out->len == 0 && gdb_session_is_over(server->session))) {
        hang_up(server);
    }
}

static void welcome(struct gdb_server *server)
{
    int on = 1;
    int fd = accept4(server->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd < 0) {
        return;
    }
    if (server->session || !server->target.ops->stop(server->target.owner)) {
        (void)close(fd);
        return;
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    server->peer = fd;
    server->session = gdb_session_new(&server->target);
    if (!server->session) {
        (void)close(fd); /* the guest stands still until the next one comes */
        server->peer = -1;
    }
}

static void read_input(struct gdb_server *server)
{
    uint8_t data[READ_BYTES];
    ssize_t len = recv(server->peer, data, sizeof(data), 0);

    if (len > 0) {
        gdb_session_input(server->session, data, (size_t)len);
        send_output(server);
    } else if (len == 0 || (errno != EAGAIN && errno != EINTR)) {
        hang_up(server);
    }
}

static void serve_peer(struct gdb_server *server, short events)
{
    if (events & POLLOUT) {
        send_output(server);
    } else if (events) {
        read_input(server);
    }
}

static short wanted(struct gdb_server *server)
{
    if (!server->session) {
        return 0;
    }
    return gdb_session_output(server->session)->len ? POLLOUT : POLLIN;
}

/* The end of the guest: what gdb takes of the news at once, it gets. */
static void say_goodbye(struct gdb_server *server)
{
    if (server->session) {
        gdb_session_exited(server->session, server->status);
        send_output(server);
    }
    if (server->session) {
        hang_up(server);
    }
}

static void *serve(void *arg)
{
    struct gdb_server *server = arg;

    for (;;) {
        struct pollfd fds[] = {
            {.fd = server->end_fd, .events = POLLIN},
            {.fd = server->listener, .events = POLLIN},
            {.fd = server->session ? server->target.stop_fd : -1, .events = POLLIN},
            {.fd = server->peer, .events = wanted(server)}};

        if (poll(fds, ARRAY_LEN(fds), -1) < 0 && errno != EINTR) {
            return NULL;
        }
        if (fds[0].revents) {
            say_goodbye(server);
            return NULL;
        }
        if (fds[2].revents) {
            gdb_session_stopped(server->session);
            send_output(server);
        } else if (server->session) {
            serve_peer(server, fds[3].revents);
        }
        if (fds[1].revents) {
            welcome(server);
        }
    }
}

int gdb_server_new(const char *address, const struct gdb_target *target,
                   struct gdb_server **ret_server, struct err *err)
{
    struct gdb_server *server = calloc(1, sizeof(*server));

    if (!server) {
        return err_set(err, -ENOMEM, "gdb: out of memory");
    }
    server->target = *target;
    server->peer = -1;
    server->end_fd = -1;
    server->listener = gdb_listen(address, server->address, err);
    if (server->listener < 0) {
        int r = server->listener;

        free(server);
        return r;
    }
    server->end_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (server->end_fd < 0) {
        int r = err_sys(err, "gdb: eventfd");

        gdb_server_free(server, 0);
        return r;
    }
    *ret_server = server;
    return 0;
}

const char *gdb_server_address(const struct gdb_server *server)
{
    return server->address;
}

int gdb_server_start(struct gdb_server *server, struct err *err)
{
    int r = pthread_create(&server->thread, NULL, serve, server);

    if (r) {
        return err_set(err, -r, "start the thread of the gdb server: %s", strerror(r));
    }
    server->has_thread = true;
    (void)pthread_setname_np(server->thread, "gdb");
    return 0;
}

void gdb_server_free(struct gdb_server *server, int status)
{
    uint64_t one = 1;

    if (!server) {
        return;
    }
    if (server->has_thread) {
        server->status = status;
        (void)!write(server->end_fd, &one, sizeof(one));
        (void)pthread_join(server->thread, NULL);
    }
    (void)close(server->listener);
    gdb_unlisten(server->address);
    if (server->end_fd >= 0) {
        (void)close(server->end_fd);
    }
    free(server);
}
