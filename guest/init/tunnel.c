/* tunnel.c — a TCP connection to a port of the VM's loopback interface, carried by a call.
 *
 * Theory of operation.  The socket is tried at 127.0.0.1, then at ::1.  Once it is connected it has
 * two descriptors: one that is read to the client, one that is written from it (flow.h), because
 * each has its own end.  End of stream is passed on as such in both directions (shutdown(2), and
 * `eof` of the protocol); a connection that breaks ends the call with an error, and a call that is
 * cancelled resets the connection, so neither side takes half of the data for all of it.
 */
#include "guest/init/tunnel.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/auto.h"
#include "proto/exec.pb-c.h"
#include "proto/exec_msg.h"

struct tunnel {
    struct tunnels *tunnels;
    struct grpc_call *call;
    uint16_t port;
    bool is_asked;
    bool is_connected;
    bool has_sent_all; /* the client, and it was written */
    bool has_read_all; /* from the port */
    struct watch dial; /* the socket while it connects */
    struct inflow in;
    struct outflow out;
};

static void touched(struct tunnel *tunnel)
{
    flow_touched(&tunnel->tunnels->host, tunnel->call, true);
}

static void refuse(struct tunnel *tunnel, enum grpc_status status, const char *why)
{
    grpc_call_finish(tunnel->call, status, why);
    touched(tunnel);
}

static void send_response(struct tunnel *tunnel, const Ec1__V1__ConnectResponse *response)
{
    uint8_t packed[16];

    /* `connected` and `eof` are two bytes each. */
    if (grpc_call_send(tunnel->call, packed, ec1__v1__connect_response__pack(response, packed)) <
        0) {
        grpc_call_cancel(tunnel->call);
    }
    touched(tunnel);
}

/* ---- the end ---- */

static void drop_socket(struct tunnel *tunnel, bool is_reset)
{
    const struct linger at_once = {.l_onoff = 1}; /* closing then sends a reset */
    int fd = tunnel->out.watch.fd >= 0 ? tunnel->out.watch.fd : tunnel->in.watch.fd;

    if (is_reset) {
        (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    }
    watch_drop(&tunnel->dial);
    watch_drop(&tunnel->out.watch);
    inflow_fini(&tunnel->in);
}

static void break_off(struct tunnel *tunnel, int code)
{
    char why[96];

    (void)snprintf(why, sizeof(why), "port %u: %s", tunnel->port, strerror(-code));
    drop_socket(tunnel, true);
    refuse(tunnel, GRPC_UNAVAILABLE, why);
}

static void check_end(struct tunnel *tunnel)
{
    if (tunnel->has_sent_all && tunnel->has_read_all) {
        refuse(tunnel, GRPC_OK, NULL);
    }
}

static void on_sent_all(struct inflow *in)
{
    struct tunnel *tunnel = container_of(in, struct tunnel, in);

    (void)shutdown(in->watch.fd, SHUT_WR);
    watch_drop(&in->watch);
    tunnel->has_sent_all = true;
    check_end(tunnel);
}

static void on_lost(struct inflow *in)
{
    break_off(container_of(in, struct tunnel, in), -EPIPE);
}

static void on_read_all(struct outflow *out, int code)
{
    struct tunnel *tunnel = out->owner;
    Ec1__V1__ConnectResponse response = EC1__V1__CONNECT_RESPONSE__INIT;

    if (code < 0) {
        break_off(tunnel, code);
        return;
    }
    tunnel->has_read_all = true;
    response.what_case = EC1__V1__CONNECT_RESPONSE__WHAT_EOF;
    response.eof = 1;
    send_response(tunnel, &response);
    check_end(tunnel);
}

/* ---- the beginning ---- */

static void dial(struct tunnel *tunnel, int family);

static void on_connected(struct tunnel *tunnel)
{
    Ec1__V1__ConnectResponse response = EC1__V1__CONNECT_RESPONSE__INIT;
    int fd = watch_take(&tunnel->dial);
    int other = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    int on = 1;

    if (other < 0) {
        int code = -errno;

        (void)close(fd);
        break_off(tunnel, code);
        return;
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    tunnel->is_connected = true;
    inflow_open(&tunnel->in, other);
    outflow_open(&tunnel->out, fd);
    response.what_case = EC1__V1__CONNECT_RESPONSE__WHAT_CONNECTED;
    response.connected = 1;
    send_response(tunnel, &response);
    if (tunnel->in.ends) { /* the client had no more to say than `start` */
        inflow_end(&tunnel->in);
    }
}

static void on_dialled(struct tunnel *tunnel, int family, int code)
{
    if (code == 0) {
        on_connected(tunnel);
        return;
    }
    watch_drop(&tunnel->dial);
    if (family == AF_INET) {
        dial(tunnel, AF_INET6);
    } else {
        break_off(tunnel, -ECONNREFUSED); /* whatever ::1 said: 127.0.0.1 refused, too */
    }
}

static void on_dial(struct watch *watch, uint32_t events)
{
    struct tunnel *tunnel = container_of(watch, struct tunnel, dial);
    int code = 0;
    int family = AF_INET;
    socklen_t size = sizeof(code);

    (void)events;
    (void)getsockopt(watch->fd, SOL_SOCKET, SO_DOMAIN, &family, &size);
    size = sizeof(code);
    (void)getsockopt(watch->fd, SOL_SOCKET, SO_ERROR, &code, &size);
    on_dialled(tunnel, family, -code);
}

static int start_connect(int fd, int family, uint16_t port)
{
    struct sockaddr_in v4 = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 v6 = {
        .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int r = family == AF_INET ? connect(fd, (struct sockaddr *)&v4, sizeof(v4))
                              : connect(fd, (struct sockaddr *)&v6, sizeof(v6));

    return r < 0 ? -errno : 0;
}

static void dial(struct tunnel *tunnel, int family)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int r = fd < 0 ? -errno : start_connect(fd, family, tunnel->port);

    watch_init(&tunnel->dial, tunnel->tunnels->reactor, fd, on_dial);
    if (r == -EINPROGRESS) {
        (void)watch_want(&tunnel->dial, EPOLLOUT);
    } else {
        on_dialled(tunnel, family, r);
    }
}

/* ---- requests ---- */

static void take_start(struct tunnel *tunnel, const uint8_t *data, size_t len)
{
    Ec1__V1__ConnectRequest *request = ec1__v1__connect_request__unpack(NULL, len, data);
    uint32_t port = 0;

    if (request && request->what_case == EC1__V1__CONNECT_REQUEST__WHAT_START) {
        port = request->start->port;
    }
    if (request) {
        ec1__v1__connect_request__free_unpacked(request, NULL);
    }
    if (tunnel->is_asked || port == 0 || port > UINT16_MAX) {
        refuse(tunnel, GRPC_INVALID_ARGUMENT,
               "the first request, and no other, must carry `start` with a port from 1 to 65535");
        return;
    }
    tunnel->is_asked = true;
    tunnel->port = (uint16_t)port;
    dial(tunnel, AF_INET);
}

static void on_message(struct grpc_call *call, const uint8_t *data, size_t len, size_t credit)
{
    struct tunnel *tunnel = grpc_call_user(call);
    const uint8_t *bytes;
    unsigned field;
    size_t count;

    if (tunnel->is_connected && exec_msg_is_data(data, len, &field, &bytes, &count) &&
        field == EXEC_FIELD_TO_PORT) {
        if (inflow_put(&tunnel->in, bytes, count, credit) < 0) {
            break_off(tunnel, -ENOMEM);
        }
        return;
    }
    inflow_credit(&tunnel->in, credit);
    take_start(tunnel, data, len);
}

static void on_ended(struct grpc_call *call)
{
    struct tunnel *tunnel = grpc_call_user(call);

    if (!tunnel->is_asked) {
        refuse(tunnel, GRPC_INVALID_ARGUMENT, "the call ended without a request");
    } else {
        inflow_end(&tunnel->in);
    }
}

static void on_drained(struct grpc_call *call)
{
    struct tunnel *tunnel = grpc_call_user(call);

    outflow_go_on(&tunnel->out);
}

static void on_closed(struct grpc_call *call, unsigned status, const char *message)
{
    struct tunnel *tunnel = grpc_call_user(call);

    (void)message;
    tunnel->in.call = NULL;
    drop_socket(tunnel, status != GRPC_OK);
    free(tunnel);
}

void tunnel_accept(struct tunnels *tunnels, struct grpc_call *call)
{
    static const struct grpc_call_ops ops = {
        .message = on_message,
        .ended = on_ended,
        .drained = on_drained,
        .closed = on_closed,
    };
    struct tunnel *tunnel = calloc(1, sizeof(*tunnel));

    if (!tunnel) {
        grpc_call_finish(call, GRPC_RESOURCE_EXHAUSTED, "out of memory");
        return;
    }
    tunnel->tunnels = tunnels;
    tunnel->call = call;
    watch_init(&tunnel->dial, tunnels->reactor, -1, on_dial);
    inflow_init(&tunnel->in, tunnels->reactor, &tunnels->host, call, on_sent_all);
    tunnel->in.lost = on_lost;
    outflow_init(&tunnel->out, tunnels->reactor, &tunnels->host, call, EXEC_FIELD_FROM_PORT);
    tunnel->out.owner = tunnel;
    tunnel->out.ended = on_read_all;
    grpc_call_bind(call, &ops, tunnel);
}
