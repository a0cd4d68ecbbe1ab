/* forward.c — TCP ports of this host that lead to ports of a VM's loopback interface.
 *
 * Theory of operation.  One connection to the init carries all: each client that a listening socket
 * (a door) accepts becomes a link, which is a socket and a call of Init.Connect.  Nothing is read
 * from a client before the VM says `connected`, so a port that nobody serves there costs one reset.
 * A link is over when its call is: regularly when both sides have ended their streams, else with a
 * reset, so that no client takes half of the data for all of it.
 *
 * All of it runs on the loop's thread, once forward_start() has returned.
 */
#include "exec/forward.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/list.h"
#include "exec/connect.h"
#include "exec/sink.h"
#include "io/loop.h"
#include "proto/exec.pb-c.h"
#include "proto/exec_msg.h"
#include "proto/grpc.h"

enum { BACKLOG = 128 };

/* The init is up when this is asked for: it answers at once, or is stuck. */
#define REACH_TIMEOUT_NS (60 * NS_PER_S)

struct door {
    struct forward *forward;
    int fd; /* -1: closed */
    uint16_t host;
    uint16_t guest;
    bool is_held; /* no descriptors are left for another client */
};

struct forward {
    struct loop *loop;
    struct door doors[FORWARD_PORTS_MAX];
    size_t door_count;
    int fd; /* to the init */
    struct grpc_conn *conn;
    uint32_t events; /* of fd */
    struct list links;
};

struct link {
    struct list list;
    struct forward *forward;
    int fd; /* the client; -1: closed */
    uint32_t events;
    struct grpc_call *call; /* NULL once closed */
    struct exec_sink sink;  /* to the client */
    bool is_connected;
    bool has_client_ended;
    bool has_vm_ended;
};

/* ---- links ---- */

static void close_client(struct link *link, bool is_reset)
{
    const struct linger at_once = {.l_onoff = 1}; /* closing then sends a reset */

    if (link->fd < 0) {
        return;
    }
    if (is_reset) {
        (void)setsockopt(link->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    }
    loop_del_fd(link->forward->loop, link->fd);
    exec_sink_fini(&link->sink);
    exec_sink_init(&link->sink, -1);
    (void)close(link->fd);
    link->fd = -1;
}

static void free_link(struct link *link)
{
    struct forward *forward = link->forward;
    for (size_t i = 0; i < forward->door_count; i++) {
        struct door *door = &forward->doors[i];

        if (door->is_held && door->fd >= 0) {
            door->is_held = false;
            (void)loop_mod_fd(forward->loop, door->fd, EPOLLIN);
        }
    }
    list_remove(&link->list);
    exec_sink_fini(&link->sink);
    free(link);
}

/* `closed` frees it when there is a call. */
static void reset_link(struct link *link)
{
    close_client(link, true);
    if (link->call) {
        grpc_call_cancel(link->call);
    } else {
        free_link(link);
    }
}

static void watch_client(struct link *link)
{
    uint32_t events = exec_sink_is_empty(&link->sink) ? 0 : EPOLLOUT;

    if (link->fd < 0) {
        return;
    }
    if (link->call && link->is_connected && !link->has_client_ended &&
        grpc_call_queued(link->call) < GRPC_QUEUE_LOW) {
        events |= EPOLLIN;
    }
    if (events != link->events) {
        link->events = events;
        (void)loop_mod_fd(link->forward->loop, link->fd, events);
    }
}

/* After something was written, or nothing more comes. */
static void check_end(struct link *link)
{
    bool is_all_written = link->has_vm_ended && exec_sink_is_empty(&link->sink);

    if (link->fd < 0) {
        return;
    }
    if (link->sink.code) {
        reset_link(link);
    } else if (is_all_written && link->has_client_ended) {
        close_client(link, false);
        if (!link->call) {
            free_link(link);
        }
    } else {
        if (is_all_written) {
            (void)shutdown(link->fd, SHUT_WR);
        }
        watch_client(link);
    }
}

static void take_input(struct link *link)
{
    static _Thread_local uint8_t chunk[EXEC_CHUNK];
    uint8_t head[EXEC_DATA_HEAD_MAX];
    ssize_t got = recv(link->fd, chunk, sizeof(chunk), MSG_DONTWAIT);

    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (got == 0) {
        link->has_client_ended = true;
        grpc_call_end(link->call);
        check_end(link);
        return;
    }
    if (got < 0 || grpc_call_send2(link->call, head,
                                   exec_msg_data_head(head, EXEC_FIELD_TO_PORT, (uint32_t)got),
                                   chunk, (size_t)got) < 0) {
        reset_link(link);
        return;
    }
    watch_client(link);
}

/* ---- what the VM says ---- */

static void on_message(struct grpc_call *call, const uint8_t *data, size_t len, size_t credit)
{
    struct link *link = grpc_call_user(call);
    Ec1__V1__ConnectResponse *response;
    const uint8_t *bytes;
    unsigned field;
    size_t count;

    if (exec_msg_is_data(data, len, &field, &bytes, &count) && field == EXEC_FIELD_FROM_PORT) {
        grpc_call_credit(call, exec_sink_put(&link->sink, bytes, count, credit));
        check_end(link);
        return;
    }
    grpc_call_credit(call, credit);
    response = ec1__v1__connect_response__unpack(NULL, len, data);
    if (!response) {
        reset_link(link);
        return;
    }
    link->is_connected |= response->what_case == EC1__V1__CONNECT_RESPONSE__WHAT_CONNECTED;
    link->has_vm_ended |= response->what_case == EC1__V1__CONNECT_RESPONSE__WHAT_EOF;
    ec1__v1__connect_response__free_unpacked(response, NULL);
    check_end(link);
}

static void on_ended(struct grpc_call *call)
{
    (void)call;
}

static void on_drained(struct grpc_call *call)
{
    watch_client(grpc_call_user(call));
}

static void on_closed(struct grpc_call *call, unsigned status, const char *message)
{
    struct link *link = grpc_call_user(call);

    (void)message;
    link->call = NULL;
    if (status != GRPC_OK) {
        close_client(link, true);
    }
    if (link->fd < 0) {
        free_link(link);
    } else {
        link->has_vm_ended = true;
        link->has_client_ended = true;
        check_end(link);
    }
}

/* ---- the loop ---- */

static void close_doors(struct forward *forward)
{
    for (size_t i = 0; i < forward->door_count; i++) {
        struct door *door = &forward->doors[i];

        if (door->fd >= 0) {
            loop_del_fd(forward->loop, door->fd);
            (void)close(door->fd);
            door->fd = -1;
        }
    }
}

/* Nobody is there to connect to: clients are refused from now on. */
static void hang_up(struct forward *forward)
{
    close_doors(forward);
    grpc_conn_free(forward->conn);
    forward->conn = NULL;
    if (forward->fd >= 0) {
        loop_del_fd(forward->loop, forward->fd);
        (void)close(forward->fd);
        forward->fd = -1;
    }
    list_for_each (pos, &forward->links) { /* whose calls were over, but not their bytes */
        reset_link(container_of(pos, struct link, list));
    }
}

/* The last act of each callback: links and the connection may be gone after it. */
static void flush(struct forward *forward)
{
    uint32_t events;

    if (!forward->conn) {
        return;
    }
    if (grpc_conn_flush(forward->conn) < 0) {
        hang_up(forward);
        return;
    }
    events = EPOLLIN | (grpc_conn_wants_write(forward->conn) ? EPOLLOUT : 0U);
    if (events != forward->events) {
        forward->events = events;
        (void)loop_mod_fd(forward->loop, forward->fd, events);
    }
}

static void on_conn(void *owner, int fd, uint32_t events)
{
    struct forward *forward = owner;

    (void)fd;
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && grpc_conn_read(forward->conn) < 0) {
        hang_up(forward);
        return;
    }
    flush(forward);
}

static void on_client(void *owner, int fd, uint32_t events)
{
    struct link *link = owner;
    struct forward *forward = link->forward;
    bool can_read = link->call && link->is_connected && !link->has_client_ended;

    (void)fd;
    if ((events & EPOLLERR) || ((events & EPOLLHUP) && !can_read)) {
        reset_link(link);
    } else if (events & EPOLLOUT) {
        size_t credit = exec_sink_push(&link->sink);

        if (link->call) {
            grpc_call_credit(link->call, credit);
        }
        check_end(link);
    } else if (can_read) { /* EPOLLHUP, too: both have shut down, and what is left is little */
        take_input(link);
    }
    flush(forward);
}

static int send_start(struct link *link, uint16_t port)
{
    Ec1__V1__ConnectRequest request = EC1__V1__CONNECT_REQUEST__INIT;
    Ec1__V1__ConnectStart start = EC1__V1__CONNECT_START__INIT;
    uint8_t packed[16];

    start.port = port;
    request.what_case = EC1__V1__CONNECT_REQUEST__WHAT_START;
    request.start = &start;
    return grpc_call_send(link->call, packed, ec1__v1__connect_request__pack(&request, packed));
}

/* Takes over `fd`. */
static void add_link(struct door *door, int fd)
{
    static const struct grpc_call_ops ops = {on_message, on_ended, on_drained, on_closed};
    struct forward *forward = door->forward;
    struct link *link = calloc(1, sizeof(*link));
    int on = 1;

    if (!link || loop_add_fd(forward->loop, fd, 0, on_client, link) < 0) {
        free(link);
        (void)close(fd);
        return;
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    link->forward = forward;
    link->fd = fd;
    exec_sink_init(&link->sink, fd);
    list_append(&forward->links, &link->list);
    link->call = grpc_call_new(forward->conn, EXEC_PATH_CONNECT, &ops, link);
    if (!link->call || send_start(link, door->guest) < 0) {
        reset_link(link);
    }
}

static void on_door(void *owner, int fd, uint32_t events)
{
    struct door *door = owner;
    struct forward *forward = door->forward;
    int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

    (void)events;
    if (client >= 0) {
        add_link(door, client);
    } else if ((errno == EMFILE || errno == ENFILE) && !list_is_empty(&forward->links)) {
        door->is_held = true;
        (void)loop_mod_fd(forward->loop, fd, 0);
    }
    flush(forward);
}

/* ---- life ---- */

static int bind_door(int fd, const struct forward_port *port)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port->host)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port->host)};

    if (inet_pton(AF_INET, port->address, &v4.sin_addr) == 1) {
        return bind(fd, (struct sockaddr *)&v4, sizeof(v4));
    }
    (void)inet_pton(AF_INET6, port->address, &v6.sin6_addr);
    return bind(fd, (struct sockaddr *)&v6, sizeof(v6));
}

static int open_door(struct door *door, const struct forward_port *port, struct err *err)
{
    struct in_addr v4;
    int family = inet_pton(AF_INET, port->address, &v4) == 1 ? AF_INET : AF_INET6;
    struct sockaddr_in6 name = {0}; /* the larger of the two; the port is at the same place */
    socklen_t size = sizeof(name);
    int on = 1;

    _Static_assert(offsetof(struct sockaddr_in, sin_port) ==
                       offsetof(struct sockaddr_in6, sin6_port),
                   "one of them serves for both");
    door->guest = port->guest;
    door->fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* Connections of an earlier run that wait for their end do not hold the port. */
    if (door->fd < 0 || setsockopt(door->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
        bind_door(door->fd, port) < 0 || listen(door->fd, BACKLOG) < 0 ||
        getsockname(door->fd, (struct sockaddr *)&name, &size) < 0) {
        return err_sys(err, "publish port %u of %s", port->host, port->address);
    }
    door->host = ntohs(name.sin6_port);
    return 0;
}

static void close_slot(struct forward **slot)
{
    forward_close(*slot);
}

int forward_open(const struct forward_ports *ports, struct forward **ret_forward, struct err *err)
{
    AUTO_CALL(close_slot) struct forward *forward = calloc(1, sizeof(*forward));
    int r;

    if (!forward) {
        return err_set(err, -ENOMEM, "publish: out of memory");
    }
    forward->fd = -1;
    list_init(&forward->links);
    r = loop_new(&forward->loop, err);
    for (size_t i = 0; i < ports->count && r == 0; i++) {
        forward->doors[i] = (struct door){.forward = forward, .fd = -1};
        forward->door_count++;
        r = open_door(&forward->doors[i], &ports->items[i], err);
    }
    if (r < 0) {
        return r;
    }
    *ret_forward = TAKE_PTR(forward);
    return 0;
}

uint16_t forward_host_port(const struct forward *forward, size_t index)
{
    return forward->doors[index].host;
}

int forward_start(struct forward *forward, const char *uds_path, struct err *err)
{
    int fd = exec_connect(uds_path, EXEC_PORT, REACH_TIMEOUT_NS, -1, err);

    return fd < 0 ? fd : forward_start_on(forward, fd, err);
}

int forward_start_on(struct forward *forward, int fd, struct err *err)
{
    int r;

    forward->fd = fd;
    forward->events = EPOLLIN | EPOLLOUT;
    r = grpc_conn_new(forward->fd, NULL, forward, EXEC_RESPONSE_MAX, &forward->conn);
    if (r == 0) {
        r = loop_add_fd(forward->loop, forward->fd, forward->events, on_conn, forward);
    }
    for (size_t i = 0; i < forward->door_count && r == 0; i++) {
        r = loop_add_fd(forward->loop, forward->doors[i].fd, EPOLLIN, on_door, &forward->doors[i]);
    }
    if (r < 0) {
        return err_set(err, r, "publish: %s", strerror(-r));
    }
    return loop_thread_start(forward->loop, "forward", err);
}

void forward_close(struct forward *forward)
{
    if (!forward) {
        return;
    }
    if (forward->loop) {
        loop_thread_stop(forward->loop);
        hang_up(forward);
    }
    loop_free(forward->loop);
    free(forward);
}
