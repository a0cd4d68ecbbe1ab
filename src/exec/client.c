/* client.c — run one command in a VM.
 *
 * Theory of operation.  One poll(2) loop over the connection, stdin, the outputs that are behind,
 * the signal pipe and the caller's cancel descriptor.  poll and not epoll, which refuses regular
 * files. stdin is read while the call's queue has room; output is written at once, and the credit
 * for what was written goes back to the VM.  The loop ends when the call is closed and all output
 * is written.
 *
 * Is the VM stuck?  The first Ctrl-C is forwarded, and a ping goes with it.  A second Ctrl-C while
 * the ping has no answer for STUCK_NS ends the wait.
 */
#include "exec/client.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/clock.h"
#include "exec/connect.h"
#include "exec/signals.h"
#include "exec/sink.h"
#include "exec/start.h"
#include "exec/tty.h"
#include "proto/exec.pb-c.h"
#include "proto/exec_msg.h"
#include "proto/grpc.h"

#define STUCK_NS NS_PER_S

struct session {
    const struct exec_request *request;
    struct exec_result *result;
    int fd;
    struct grpc_conn *conn;
    struct grpc_call *call; /* NULL once closed */
    struct exec_sink out;
    struct exec_sink err;
    struct exec_signals signals;
    bool is_in_open;
    bool is_raw;
    bool has_started;
    bool has_result;
    int code; /* negative errno that ended it */
    char why[ERR_TEXT_MAX];

    bool is_pinged;
    unsigned pongs;
    int64_t pinged_ns;
    bool is_urged; /* a second Ctrl-C came while pinged */
};

static void stop(struct session *session, int code, const char *why)
{
    if (!session->code && !session->has_result) {
        session->code = code;
        (void)snprintf(session->why, sizeof(session->why), "%s", why);
    }
    if (session->call) {
        grpc_call_cancel(session->call);
    }
}

/* ---- answers ---- */

static void take_failure(struct session *session, const Ec1__V1__Failure *failure)
{
    struct exec_result *result = session->result;

    result->status = failure->kind == EC1__V1__FAILURE__KIND__NOT_FOUND        ? 127
                     : failure->kind == EC1__V1__FAILURE__KIND__NOT_EXECUTABLE ? 126
                                                                               : 125;
    (void)snprintf(result->message, sizeof(result->message), "%s",
                   failure->message[0] ? failure->message : "the VM gave no reason");
    session->has_result = true;
}

static void take_started(struct session *session)
{
    if (session->request->on_started && !session->has_started) {
        session->request->on_started(session->request->started_arg);
    }
    session->has_started = true;
}

static void take_exit(struct session *session, const Ec1__V1__Exit *status)
{
    /* guest: keep to the ranges. */
    session->result->signal = (int)(status->signal & 127);
    session->result->core_dumped = status->core_dumped;
    session->result->status =
        session->result->signal ? 128 + session->result->signal : (int)(status->status & 255);
    session->has_result = true;
}

static void check_sink(struct session *session, const struct exec_sink *sink, const char *name)
{
    char why[128];

    if (!sink->code || session->has_result || session->code) {
        return;
    }
    if (sink->code == -EPIPE) {
        /* As if the command itself had written to a pipe that nobody reads. */
        session->result->status = 128 + SIGPIPE;
        session->result->signal = SIGPIPE;
        session->has_result = true;
        if (session->call) {
            grpc_call_cancel(session->call);
        }
        return;
    }
    (void)snprintf(why, sizeof(why), "write to %s: %s", name, strerror(-sink->code));
    stop(session, sink->code, why);
}

static void take_output(struct session *session, unsigned field, const uint8_t *data, size_t len,
                        size_t credit)
{
    struct exec_sink *sink = field == EXEC_FIELD_STDOUT ? &session->out : &session->err;

    grpc_call_credit(session->call, exec_sink_put(sink, data, len, credit));
    if (field == EXEC_FIELD_STDOUT) {
        check_sink(session, sink, "stdout");
    }
}

static void on_message(struct grpc_call *call, const uint8_t *data, size_t len, size_t credit)
{
    struct session *session = grpc_call_user(call);
    Ec1__V1__ExecResponse *response;
    const uint8_t *bytes;
    unsigned field;
    size_t count;

    if (exec_msg_is_data(data, len, &field, &bytes, &count) &&
        (field == EXEC_FIELD_STDOUT || field == EXEC_FIELD_STDERR)) {
        take_output(session, field, bytes, count, credit);
        return;
    }
    grpc_call_credit(call, credit);
    response = ec1__v1__exec_response__unpack(NULL, len, data);
    if (!response) {
        stop(session, -EPROTO, "the VM sent something that is not an ExecResponse");
        return;
    }
    if (session->has_result) {
        /* nothing may follow */
    } else if (response->what_case == EC1__V1__EXEC_RESPONSE__WHAT_STDOUT) {
        take_output(session, EXEC_FIELD_STDOUT, response->stdout.data, response->stdout.len, 0);
    } else if (response->what_case == EC1__V1__EXEC_RESPONSE__WHAT_STDERR) {
        take_output(session, EXEC_FIELD_STDERR, response->stderr.data, response->stderr.len, 0);
    } else if (response->what_case == EC1__V1__EXEC_RESPONSE__WHAT_EXIT) {
        take_exit(session, response->exit);
    } else if (response->what_case == EC1__V1__EXEC_RESPONSE__WHAT_FAILURE) {
        take_failure(session, response->failure);
    } else if (response->what_case == EC1__V1__EXEC_RESPONSE__WHAT_STARTED) {
        take_started(session);
    }
    ec1__v1__exec_response__free_unpacked(response, NULL);
}

static void on_nothing(struct grpc_call *call)
{
    (void)call;
}

static void on_closed(struct grpc_call *call, unsigned status, const char *message)
{
    struct session *session = grpc_call_user(call);

    session->call = NULL;
    if (!session->has_result && !session->code) {
        session->code = status == GRPC_UNAVAILABLE ? -ECONNRESET : -EPROTO;
        (void)snprintf(session->why, sizeof(session->why), "the VM ended the command: %s (%u)",
                       message && message[0] ? message : "no reason", status);
    }
}

/* ---- requests ---- */

static void send_request(struct session *session, const Ec1__V1__ExecRequest *request)
{
    uint8_t packed[64];

    if (session->call && ec1__v1__exec_request__get_packed_size(request) <= sizeof(packed)) {
        size_t len = ec1__v1__exec_request__pack(request, packed);

        if (grpc_call_send(session->call, packed, len) < 0) {
            stop(session, -ENOMEM, "out of memory");
        }
    }
}

static void send_window(struct session *session)
{
    Ec1__V1__ExecRequest request = EC1__V1__EXEC_REQUEST__INIT;
    Ec1__V1__WindowSize window = EC1__V1__WINDOW_SIZE__INIT;

    if (session->request->tty &&
        exec_start_window(session->request->in, session->request->out, &window)) {
        request.what_case = EC1__V1__EXEC_REQUEST__WHAT_WINDOW;
        request.window = &window;
        send_request(session, &request);
    }
}

static void send_signal(struct session *session, int sig)
{
    Ec1__V1__ExecRequest request = EC1__V1__EXEC_REQUEST__INIT;

    request.what_case = EC1__V1__EXEC_REQUEST__WHAT_SIGNAL;
    request.signal = (uint32_t)sig;
    send_request(session, &request);
}

static void end_input(struct session *session)
{
    Ec1__V1__ExecRequest request = EC1__V1__EXEC_REQUEST__INIT;

    session->is_in_open = false;
    request.what_case = EC1__V1__EXEC_REQUEST__WHAT_STDIN_EOF;
    request.stdin_eof = 1;
    send_request(session, &request);
}

/* ---- Ctrl-C ---- */

static void note_interrupt(struct session *session)
{
    if (session->is_pinged) {
        session->is_urged = true;
        return;
    }
    session->is_pinged = true;
    session->is_urged = false;
    session->pongs = grpc_conn_pongs(session->conn);
    session->pinged_ns = clock_mono_ns();
    grpc_conn_ping(session->conn);
}

/* Milliseconds until the VM counts as stuck, -1: it does not.  */
static int check_stuck(struct session *session)
{
    int64_t left;

    if (session->is_pinged && grpc_conn_pongs(session->conn) != session->pongs) {
        session->is_pinged = false;
        session->is_urged = false;
    }
    if (!session->is_urged || session->code) {
        return -1;
    }
    left = session->pinged_ns + STUCK_NS - clock_mono_ns();
    if (left > 0) {
        return (int)(left / NS_PER_MS + 1);
    }
    session->code = -EINTR;
    (void)snprintf(session->why, sizeof(session->why), "interrupted; the VM does not answer");
    return 0;
}

static void take_signals(struct session *session)
{
    uint8_t list[64];
    ssize_t got = read(session->signals.fd, list, sizeof(list));

    for (ssize_t i = 0; i < got; i++) {
        if (list[i] == SIGWINCH) {
            send_window(session);
        } else if (list[i] == SIGCONT) {
            exec_tty_again();
            send_window(session);
        } else {
            send_signal(session, list[i]);
            if (list[i] != SIGUSR1 && list[i] != SIGUSR2) {
                note_interrupt(session);
            }
        }
    }
}

/* ---- stdin ---- */

static void take_input(struct session *session)
{
    static _Thread_local uint8_t chunk[EXEC_CHUNK];
    uint8_t head[EXEC_DATA_HEAD_MAX];
    ssize_t got = read(session->request->in, chunk, sizeof(chunk));

    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (got <= 0) {
        end_input(session);
        return;
    }
    if (session->is_raw && memchr(chunk, 3, (size_t)got)) {
        note_interrupt(session); /* Ctrl-C is a byte here */
    }
    if (grpc_call_send2(session->call, head,
                        exec_msg_data_head(head, EXEC_FIELD_STDIN, (uint32_t)got), chunk,
                        (size_t)got) < 0) {
        stop(session, -ENOMEM, "out of memory");
    }
}

/* ---- the loop ---- */

enum slot { SLOT_CONN, SLOT_SIGNALS, SLOT_CANCEL, SLOT_IN, SLOT_OUT, SLOT_ERR, SLOT_COUNT };

static void push_sink(struct session *session, struct exec_sink *sink, const char *name)
{
    size_t credit = exec_sink_push(sink);

    if (session->call) {
        grpc_call_credit(session->call, credit);
    }
    if (sink == &session->out) {
        check_sink(session, sink, name);
    }
}

static void prepare(const struct session *session, struct pollfd fds[SLOT_COUNT])
{
    bool is_live = session->call != NULL;
    bool wants_in =
        is_live && session->is_in_open && grpc_call_queued(session->call) < GRPC_QUEUE_LOW;

    for (unsigned i = 0; i < SLOT_COUNT; i++) {
        fds[i] = (struct pollfd){.fd = -1, .events = POLLIN};
    }
    if (is_live) {
        fds[SLOT_CONN].fd = session->fd;
        fds[SLOT_CONN].events =
            (short)(grpc_conn_wants_write(session->conn) ? POLLIN | POLLOUT : POLLIN);
    }
    fds[SLOT_SIGNALS].fd = session->signals.fd;
    fds[SLOT_CANCEL].fd = session->request->cancel_fd;
    fds[SLOT_IN].fd = wants_in ? session->request->in : -1;
    if (!exec_sink_is_empty(&session->out)) {
        fds[SLOT_OUT] = (struct pollfd){.fd = exec_sink_poll_fd(&session->out), .events = POLLOUT};
    }
    if (!exec_sink_is_empty(&session->err)) {
        fds[SLOT_ERR] = (struct pollfd){.fd = exec_sink_poll_fd(&session->err), .events = POLLOUT};
    }
}

static void handle(struct session *session, const struct pollfd fds[SLOT_COUNT])
{
    if (fds[SLOT_CANCEL].revents) {
        stop(session, -ECANCELED, "cancelled");
    }
    if (fds[SLOT_SIGNALS].revents) {
        take_signals(session);
    }
    if (fds[SLOT_OUT].revents) {
        push_sink(session, &session->out, "stdout");
    }
    if (fds[SLOT_ERR].revents) {
        push_sink(session, &session->err, "stderr");
    }
    if (fds[SLOT_CONN].revents & (POLLIN | POLLHUP | POLLERR)) {
        int r = grpc_conn_read(session->conn);

        if (r < 0 && session->call) {
            stop(session, r == -EPIPE ? -ECONNRESET : r,
                 r == -EPROTO ? "the VM does not speak the protocol"
                              : "the connection to the VM "
                                "is gone");
            session->call = NULL;
        }
    }
    if (fds[SLOT_IN].revents && session->call) {
        take_input(session);
    }
}

static bool is_done(const struct session *session)
{
    if (session->code == -ECANCELED || session->code == -EINTR) {
        return true; /* whoever asked for that does not wait for a slow reader */
    }
    return !session->call && exec_sink_is_empty(&session->out) && exec_sink_is_empty(&session->err);
}

static void run_loop(struct session *session)
{
    while (!is_done(session)) {
        struct pollfd fds[SLOT_COUNT];
        int wait_ms;
        int r = session->call ? grpc_conn_flush(session->conn) : 0;

        if (r < 0 && session->call) {
            stop(session, -ECONNRESET, "the connection to the VM is gone");
            session->call = NULL;
        }
        wait_ms = check_stuck(session);
        if (is_done(session)) {
            break;
        }
        prepare(session, fds);
        r = poll(fds, SLOT_COUNT, wait_ms);
        if (r > 0) {
            handle(session, fds);
        } else if (r < 0 && errno != EINTR) {
            stop(session, -errno, strerror(errno));
        }
    }
}

static int begin(struct session *session)
{
    static const struct grpc_call_ops ops = {on_message, on_nothing, on_nothing, on_closed};
    AUTO_CALL(buf_fini) struct buf start = {0};
    int r = exec_start_pack(session->request, &start);

    if (r < 0) {
        return r;
    }
    r = grpc_conn_new(session->fd, NULL, session, EXEC_RESPONSE_MAX, &session->conn);
    if (r < 0) {
        return r;
    }
    session->call = grpc_call_new(session->conn, EXEC_PATH_EXEC, &ops, session);
    if (!session->call) {
        return -ENOMEM;
    }
    return grpc_call_send(session->call, start.data, start.len);
}

/* A write to a pipe without readers must be EPIPE and not the end of the process. */
static void block_sigpipe(sigset_t *ret_old)
{
    sigset_t pipe;

    (void)sigemptyset(&pipe);
    (void)sigaddset(&pipe, SIGPIPE);
    (void)pthread_sigmask(SIG_BLOCK, &pipe, ret_old);
}

static void unblock_sigpipe(const sigset_t *old)
{
    const struct timespec now = {0};
    sigset_t pipe;

    (void)sigemptyset(&pipe);
    (void)sigaddset(&pipe, SIGPIPE);
    if (sigismember(old, SIGPIPE) == 0) {
        (void)sigtimedwait(&pipe, NULL, &now);
        (void)pthread_sigmask(SIG_SETMASK, old, NULL);
    }
}

int exec_run_on(int fd, const struct exec_request *request, struct exec_result *ret_result,
                struct err *err)
{
    struct exec_result result = {0};
    struct session session = {.request = request,
                              .result = &result,
                              .fd = fd,
                              .signals.fd = -1,
                              .is_in_open = request->in >= 0};
    sigset_t old_mask;

    block_sigpipe(&old_mask);
    exec_sink_init(&session.out, request->out);
    exec_sink_init(&session.err, request->err);
    session.code = begin(&session);
    if (session.code < 0) {
        (void)snprintf(session.why, sizeof(session.why), "start the command: %s",
                       strerror(-session.code));
    } else {
        if (request->forward_signals) {
            (void)exec_signals_open(&session.signals); /* -EBUSY: another command has them */
        }
        session.is_raw = request->tty && request->in >= 0 && exec_tty_raw(request->in) == 0;
        run_loop(&session);
        exec_tty_restore();
        exec_signals_close(&session.signals);
    }
    if (session.conn) {
        session.has_result |= session.code == 0; /* what follows is no news */
        grpc_conn_free(session.conn);
    }
    exec_sink_fini(&session.out);
    exec_sink_fini(&session.err);
    unblock_sigpipe(&old_mask);
    if (session.code < 0) {
        return err_set(err, session.code, "%s", session.why);
    }
    *ret_result = result;
    return 0;
}

int exec_run(const char *uds_path, const struct exec_request *request,
             struct exec_result *ret_result, struct err *err)
{
    AUTO_CLOSE int fd =
        exec_connect(uds_path, EXEC_PORT, request->timeout_ns, request->cancel_fd, err);

    return fd < 0 ? fd : exec_run_on(fd, request, ret_result, err);
}
