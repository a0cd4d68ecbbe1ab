/* job.c — one command that a client runs.
 *
 * Theory of operation.  The streams are flows (flow.h).  The end: when the process is reaped, its
 * pipes still hold what it wrote last: FIONREAD tells how much, and that must be read however long
 * the client takes.  Usually the pipes are at their end right then.  If not, a grandchild holds
 * them: it gets a short grace, then the exit status goes out and the rest is read and dropped, so
 * that the grandchild is not killed by SIGPIPE.  A terminal has no such count, but reading it ends
 * with EIO as soon as its last user is gone.
 *
 * A client that vanishes takes its command with it: SIGHUP to the process group, SIGKILL later.
 */
#include "guest/init/job.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/clock.h"
#include "guest/init/launch.h"
#include "guest/init/pty.h"
#include "proto/exec.pb-c.h"
#include "proto/exec_msg.h"

#define GRACE_NS     (100 * NS_PER_MS) /* for grandchildren that hold the output */
#define KILL_WAIT_NS (2 * NS_PER_S)    /* from SIGHUP to SIGKILL */

struct job {
    struct list link;
    struct jobs *jobs;
    struct grpc_call *call; /* NULL once closed */
    pid_t pid;              /* 0 before the start and after reaping */
    pid_t group;            /* stays */
    bool is_started;
    bool tty;

    struct inflow in;
    struct outflow out;
    struct outflow err;
    bool has_exited;
    bool is_finished; /* the exit status was sent */
    int wait_status;
    struct ticker grace;
    struct ticker killer;
};

void jobs_init(struct jobs *jobs, struct reactor *reactor)
{
    *jobs = (struct jobs){.reactor = reactor, .etc = "/etc"};
    list_init(&jobs->running);
    list_init(&jobs->leftovers);
}

/* ---- the rest of a pipe that a grandchild holds ---- */

struct leftover {
    struct list link;
    struct watch watch;
};

static void free_leftover(struct leftover *leftover)
{
    list_remove(&leftover->link);
    watch_drop(&leftover->watch);
    free(leftover);
}

static void on_leftover(struct watch *watch, uint32_t events)
{
    static uint8_t sink[4096];
    ssize_t got = read(watch->fd, sink, sizeof(sink));

    (void)events;
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) {
        free_leftover(container_of(watch, struct leftover, watch));
    }
}

static void drop_leftover(struct jobs *jobs, struct watch *watch)
{
    struct leftover *leftover = watch->fd >= 0 ? malloc(sizeof(*leftover)) : NULL;

    if (!leftover) {
        watch_drop(watch);
        return;
    }
    list_append(&jobs->leftovers, &leftover->link);
    watch_init(&leftover->watch, jobs->reactor, watch_take(watch), on_leftover);
    if (watch_want(&leftover->watch, EPOLLIN) < 0) {
        free_leftover(leftover);
    }
}

/* ---- answers ---- */

static void send_response(struct job *job, const Ec1__V1__ExecResponse *response, bool is_urgent)
{
    size_t size = ec1__v1__exec_response__get_packed_size(response);
    AUTO_FREE uint8_t *bytes = malloc(size ? size : 1);

    if (!bytes ||
        grpc_call_send(job->call, bytes, ec1__v1__exec_response__pack(response, bytes)) < 0) {
        grpc_call_finish(job->call, GRPC_RESOURCE_EXHAUSTED, "out of memory");
    }
    flow_touched(&job->jobs->host, job->call, is_urgent);
}

static void send_failure(struct job *job, enum spawn_fault fault, const struct err *err)
{
    static const Ec1__V1__Failure__Kind kinds[] = {
        [SPAWN_INTERNAL] = EC1__V1__FAILURE__KIND__INTERNAL,
        [SPAWN_NOT_FOUND] = EC1__V1__FAILURE__KIND__NOT_FOUND,
        [SPAWN_NOT_EXECUTABLE] = EC1__V1__FAILURE__KIND__NOT_EXECUTABLE,
        [SPAWN_BAD_REQUEST] = EC1__V1__FAILURE__KIND__BAD_REQUEST,
    };
    Ec1__V1__Failure failure = EC1__V1__FAILURE__INIT;
    Ec1__V1__ExecResponse response = EC1__V1__EXEC_RESPONSE__INIT;

    failure.kind = kinds[fault];
    failure.errno_value = -err->code;
    failure.message = (char *)(uintptr_t)err_text(err);
    response.what_case = EC1__V1__EXEC_RESPONSE__WHAT_FAILURE;
    response.failure = &failure;
    send_response(job, &response, true);
    grpc_call_finish(job->call, GRPC_OK, NULL);
}

static void send_exit(struct job *job)
{
    Ec1__V1__Exit result = EC1__V1__EXIT__INIT;
    Ec1__V1__ExecResponse response = EC1__V1__EXEC_RESPONSE__INIT;

    if (WIFSIGNALED(job->wait_status)) {
        result.signal = (uint32_t)WTERMSIG(job->wait_status);
        result.core_dumped = WCOREDUMP(job->wait_status);
    } else {
        result.status = (uint32_t)WEXITSTATUS(job->wait_status);
    }
    response.what_case = EC1__V1__EXEC_RESPONSE__WHAT_EXIT;
    response.exit = &result;
    send_response(job, &response, true);
    grpc_call_finish(job->call, GRPC_OK, NULL);
}

static void send_started(struct job *job)
{
    Ec1__V1__ExecResponse response = EC1__V1__EXEC_RESPONSE__INIT;

    response.what_case = EC1__V1__EXEC_RESPONSE__WHAT_STARTED;
    response.started = (uint32_t)job->pid;
    send_response(job, &response, false); /* a short command's exit takes it along */
}

/* ---- the end ---- */

static void free_job(struct job *job)
{
    ticker_cancel(&job->grace);
    ticker_cancel(&job->killer);
    inflow_fini(&job->in);
    drop_leftover(job->jobs, &job->out.watch);
    drop_leftover(job->jobs, &job->err.watch);
    list_remove(&job->link);
    free(job);
}

static void maybe_free(struct job *job)
{
    if (!job->call && !job->pid) {
        free_job(job);
    }
}

static void finish(struct job *job)
{
    if (job->is_finished || !job->call || job->jobs->holds_exits) {
        return;
    }
    job->is_finished = true;
    ticker_cancel(&job->grace);
    watch_drop(&job->in.watch);
    drop_leftover(job->jobs, &job->out.watch);
    drop_leftover(job->jobs, &job->err.watch);
    send_exit(job);
}

static void check_end(struct job *job)
{
    if (!job->has_exited || !job->call) {
        return;
    }
    if (job->out.watch.fd < 0 && job->err.watch.fd < 0) {
        finish(job);
    } else if (!ticker_is_armed(&job->grace)) {
        ticker_arm(&job->grace, GRACE_NS);
    }
}

static bool is_owed(const struct outflow *output)
{
    return output->watch.fd >= 0 && (output->must_read > 0 || !output->watch.events);
}

static void on_grace(struct ticker *ticker)
{
    struct job *job = container_of(ticker, struct job, grace);

    if (is_owed(&job->out) || is_owed(&job->err)) {
        ticker_arm(ticker, GRACE_NS); /* the client is slow */
    } else {
        finish(job);
    }
}

static void on_kill(struct ticker *ticker)
{
    struct job *job = container_of(ticker, struct job, killer);

    (void)kill(-job->group, SIGKILL);
}

static void note_left(struct outflow *output)
{
    int left = 0;

    if (output->watch.fd >= 0 && ioctl(output->watch.fd, FIONREAD, &left) == 0 && left > 0) {
        output->must_read = (size_t)left;
    }
}

bool jobs_reaped(struct jobs *jobs, pid_t pid, int wait_status)
{
    list_for_each (pos, &jobs->running) {
        struct job *job = container_of(pos, struct job, link);

        if (job->pid != pid) {
            continue;
        }
        job->pid = 0;
        job->has_exited = true;
        job->wait_status = wait_status;
        if (!job->tty) {
            note_left(&job->out);
        }
        note_left(&job->err);
        check_end(job);
        maybe_free(job);
        return true;
    }
    return false;
}

/* ---- streams ---- */

static void on_output_end(struct outflow *out, int code)
{
    (void)code; /* a terminal ends with EIO */
    check_end(out->owner);
}

static void on_drained(struct grpc_call *call)
{
    struct job *job = grpc_call_user(call);

    outflow_go_on(&job->out);
    outflow_go_on(&job->err);
}

static void end_input(struct inflow *in)
{
    struct job *job = container_of(in, struct job, in);

    if (job->tty) {
        pty_put_eof(in->watch.fd, in->last);
        in->ends = false; /* once */
        (void)watch_want(&in->watch, 0);
    } else {
        watch_drop(&in->watch);
    }
}

static void take_input(struct job *job, const uint8_t *data, size_t len, size_t credit)
{
    if (inflow_put(&job->in, data, len, credit) < 0) {
        grpc_call_finish(job->call, GRPC_RESOURCE_EXHAUSTED, "out of memory");
        flow_touched(&job->jobs->host, job->call, true);
    }
}

/* ---- requests ---- */

static void send_signal(struct job *job, uint32_t sig)
{
    pid_t group = 0;

    if (sig == 0 || sig >= NSIG || !job->pid) {
        return;
    }
    /* What a terminal would signal is its foreground group. */
    if (job->tty && job->in.watch.fd >= 0) {
        group = pty_foreground(job->in.watch.fd);
    }
    if (group <= 0 || kill(-group, (int)sig) < 0) {
        (void)kill(-job->group, (int)sig);
    }
}

static void start(struct job *job, const Ec1__V1__ExecStart *request);

static void take_request(struct job *job, const uint8_t *data, size_t len)
{
    Ec1__V1__ExecRequest *request = ec1__v1__exec_request__unpack(NULL, len, data);

    if (!request) {
        grpc_call_finish(job->call, GRPC_INVALID_ARGUMENT, "this is not an ExecRequest");
        flow_touched(&job->jobs->host, job->call, true);
        return;
    }
    if (request->what_case == EC1__V1__EXEC_REQUEST__WHAT_START && !job->is_started) {
        start(job, request->start);
    } else if (!job->is_started || request->what_case == EC1__V1__EXEC_REQUEST__WHAT_START) {
        grpc_call_finish(job->call, GRPC_INVALID_ARGUMENT,
                         "the first request, and no other, must carry `start`");
        flow_touched(&job->jobs->host, job->call, true);
    } else if (request->what_case == EC1__V1__EXEC_REQUEST__WHAT_STDIN) {
        take_input(job, request->stdin.data, request->stdin.len, 0);
    } else if (request->what_case == EC1__V1__EXEC_REQUEST__WHAT_STDIN_EOF) {
        inflow_end(&job->in);
    } else if (request->what_case == EC1__V1__EXEC_REQUEST__WHAT_SIGNAL) {
        send_signal(job, request->signal);
    } else if (request->what_case == EC1__V1__EXEC_REQUEST__WHAT_WINDOW && job->tty) {
        pty_resize(job->in.watch.fd, request->window->rows, request->window->cols);
    }
    ec1__v1__exec_request__free_unpacked(request, NULL);
}

static void on_message(struct grpc_call *call, const uint8_t *data, size_t len, size_t credit)
{
    struct job *job = grpc_call_user(call);
    const uint8_t *bytes;
    unsigned field;
    size_t count;

    if (job->is_started && exec_msg_is_data(data, len, &field, &bytes, &count) &&
        field == EXEC_FIELD_STDIN) {
        take_input(job, bytes, count, credit);
        return;
    }
    take_request(job, data, len);
    inflow_credit(&job->in, credit); /* whatever else it was, it has been dealt with */
}

static void on_ended(struct grpc_call *call)
{
    struct job *job = grpc_call_user(call);

    if (!job->is_started) {
        grpc_call_finish(call, GRPC_INVALID_ARGUMENT, "the call ended without a request");
        flow_touched(&job->jobs->host, job->call, true);
    } else {
        inflow_end(&job->in);
    }
}

static void on_closed(struct grpc_call *call, unsigned status, const char *message)
{
    struct job *job = grpc_call_user(call);

    (void)status;
    (void)message;
    job->call = NULL;
    job->in.call = NULL;
    ticker_cancel(&job->grace);
    watch_drop(&job->in.watch);
    watch_drop(&job->out.watch);
    watch_drop(&job->err.watch);
    if (job->pid) {
        (void)kill(-job->group, SIGHUP);
        (void)kill(-job->group, SIGCONT);
        ticker_arm(&job->killer, KILL_WAIT_NS);
    }
    maybe_free(job);
}

/* ---- the start ---- */

static void start(struct job *job, const Ec1__V1__ExecStart *request)
{
    enum spawn_fault fault = SPAWN_INTERNAL;
    struct launched launched;
    struct err err = {0};

    job->is_started = true;
    job->tty = request->tty;
    if (launch(request, job->jobs->etc, &launched, &fault, &err) < 0) {
        send_failure(job, fault, &err);
        return;
    }
    job->pid = launched.pid;
    job->group = launched.pid;
    inflow_open(&job->in, launched.in);
    outflow_open(&job->out, launched.out);
    outflow_open(&job->err, launched.err);
    send_started(job);
}

void job_accept(struct jobs *jobs, struct grpc_call *call)
{
    static const struct grpc_call_ops ops = {
        .message = on_message,
        .ended = on_ended,
        .drained = on_drained,
        .closed = on_closed,
    };
    struct job *job = calloc(1, sizeof(*job));

    if (!job) {
        grpc_call_finish(call, GRPC_RESOURCE_EXHAUSTED, "out of memory");
        return;
    }
    job->jobs = jobs;
    job->call = call;
    inflow_init(&job->in, jobs->reactor, &jobs->host, call, end_input);
    outflow_init(&job->out, jobs->reactor, &jobs->host, call, EXEC_FIELD_STDOUT);
    outflow_init(&job->err, jobs->reactor, &jobs->host, call, EXEC_FIELD_STDERR);
    job->out.owner = job;
    job->err.owner = job;
    job->out.ended = on_output_end;
    job->err.ended = on_output_end;
    ticker_init(&job->grace, jobs->reactor, on_grace);
    ticker_init(&job->killer, jobs->reactor, on_kill);
    list_append(&jobs->running, &job->link);
    grpc_call_bind(call, &ops, job);
}

void jobs_fini(struct jobs *jobs)
{
    list_for_each (pos, &jobs->running) {
        free_job(container_of(pos, struct job, link));
    }
    list_for_each (pos, &jobs->leftovers) {
        free_leftover(container_of(pos, struct leftover, link));
    }
}
