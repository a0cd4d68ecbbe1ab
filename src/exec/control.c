/* control.c — calls with one request and one answer. */
#include "exec/control.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/buf.h"
#include "base/clock.h"
#include "exec/connect.h"
#include "proto/exec_msg.h"
#include "proto/grpc.h"

struct unary {
    struct buf answer;
    bool has_answer;
    bool is_closed;
    unsigned status;
    char text[256];
};

static void on_message(struct grpc_call *call, const uint8_t *data, size_t len, size_t credit)
{
    struct unary *unary = grpc_call_user(call);

    grpc_call_credit(call, credit);
    if (!unary->has_answer) {
        unary->has_answer = true;
        buf_append(&unary->answer, data, len);
    }
}

static void on_nothing(struct grpc_call *call)
{
    (void)call;
}

static void on_closed(struct grpc_call *call, unsigned status, const char *message)
{
    struct unary *unary = grpc_call_user(call);

    unary->is_closed = true;
    unary->status = status;
    (void)snprintf(unary->text, sizeof(unary->text), "%s", message ? message : "");
}

/* One turn of the connection; negative errno when it is over. */
static int turn(struct grpc_conn *conn, int fd, int64_t deadline_ns)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    int64_t left = deadline_ns - clock_mono_ns();
    int r = grpc_conn_flush(conn);

    if (r < 0) {
        return r;
    }
    if (deadline_ns && left <= 0) {
        return -ETIMEDOUT;
    }
    if (grpc_conn_wants_write(conn)) {
        poll_fd.events |= POLLOUT;
    }
    r = poll(&poll_fd, 1, deadline_ns ? (int)(left / NS_PER_MS + 1) : -1);
    if (r < 0) {
        return errno == EINTR ? 0 : -errno;
    }
    return poll_fd.revents & (POLLIN | POLLHUP | POLLERR) ? grpc_conn_read(conn) : 0;
}

int exec_unary_on(int fd, const char *path, const void *data, size_t len, int64_t timeout_ns,
                  uint8_t **ret_data, size_t *ret_len, struct err *err)
{
    static const struct grpc_call_ops ops = {on_message, on_nothing, on_nothing, on_closed};
    AUTO_CALL(buf_fini) struct buf unused = {0};
    struct unary unary = {0};
    struct grpc_conn *conn;
    struct grpc_call *call;
    int64_t deadline_ns = timeout_ns ? clock_mono_ns() + timeout_ns : 0;
    int r = grpc_conn_new(fd, NULL, NULL, EXEC_RESPONSE_MAX, &conn);

    if (r < 0) {
        return err_set(err, r, "%s", strerror(-r));
    }
    call = grpc_call_new(conn, path, &ops, &unary);
    if (!call || grpc_call_send(call, data, len) < 0) {
        r = -ENOMEM;
    } else {
        grpc_call_end(call);
    }
    while (r == 0 && !unary.is_closed) {
        r = turn(conn, fd, deadline_ns);
    }
    if (r == 0 || unary.is_closed) {
        r = unary.status != GRPC_OK || !unary.has_answer || buf_status(&unary.answer) ? -EPROTO : 0;
    }
    grpc_conn_free(conn);
    unused = unary.answer;
    if (r < 0) {
        return err_set(err, r, "%s: %s", path,
                       unary.text[0] && r == -EPROTO ? unary.text : strerror(-r));
    }
    *ret_len = unused.len;
    *ret_data = TAKE_PTR(unused.data);
    return 0;
}

static int unary(const char *uds_path, const char *path, const void *data, size_t len,
                 int64_t timeout_ns, uint8_t **ret_data, size_t *ret_len, struct err *err)
{
    AUTO_CLOSE int fd = exec_connect(uds_path, EXEC_PORT, timeout_ns, -1, err);

    return fd < 0 ? fd : exec_unary_on(fd, path, data, len, timeout_ns, ret_data, ret_len, err);
}

int exec_info(const char *uds_path, int64_t timeout_ns, Ec1__V1__InfoResponse **ret_info,
              struct err *err)
{
    AUTO_FREE uint8_t *data = NULL;
    size_t len = 0;
    int r = unary(uds_path, EXEC_PATH_INFO, NULL, 0, timeout_ns, &data, &len, err);

    if (r < 0) {
        return r;
    }
    *ret_info = ec1__v1__info_response__unpack(NULL, len, data);
    return *ret_info ? 0 : err_set(err, -EPROTO, "the VM's InfoResponse is malformed");
}

int exec_shutdown(const char *uds_path, bool reboot, int64_t timeout_ns, struct err *err)
{
    Ec1__V1__ShutdownRequest request = EC1__V1__SHUTDOWN_REQUEST__INIT;
    AUTO_FREE uint8_t *data = NULL;
    uint8_t packed[16];
    size_t len;

    request.reboot = reboot;
    len = ec1__v1__shutdown_request__pack(&request, packed);
    return unary(uds_path, EXEC_PATH_SHUTDOWN, packed, len, timeout_ns, &data, &len, err);
}
