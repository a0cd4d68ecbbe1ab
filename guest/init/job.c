/* job.c — one command that a client runs.
 *
 * Theory of operation.  Output: a readable pipe is read into one chunk, which becomes one message
 * of the call; while the call's queue is full the pipe is not watched, so the command blocks when
 * the client is slow.  Input: messages go straight to the pipe; what it does not take waits in
 * `input`, and the client gets its credit back only for what the pipe took.
 *
 * The end.  When the process is reaped, its pipes still hold what it wrote last: FIONREAD tells how
 * much, and that must be read however long the client takes.  Usually the pipes are at their end
 * right then.  If not, a grandchild holds them: it gets a short grace, then the exit status goes
 * out and the rest is read and dropped, so that the grandchild is not killed by SIGPIPE.  A
 * terminal has no such count, but reading it ends with EIO as soon as its last user is gone.
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
#include "proto/byte_queue.h"
#include "proto/exec.pb-c.h"
#include "proto/exec_msg.h"

#define GRACE_NS     (100 * NS_PER_MS) /* for grandchildren that hold the output */
#define KILL_WAIT_NS (2 * NS_PER_S)    /* from SIGHUP to SIGKILL */

struct output {
    struct watch watch;
    struct job *job;
    unsigned field;   /* EXEC_FIELD_* */
    size_t must_read; /* bytes that the process itself left in the pipe */
};

struct job {
    struct list link;
    struct jobs *jobs;
    struct grpc_call *call; /* NULL once closed */
    pid_t pid;              /* 0 before the start and after reaping */
    pid_t group;            /* stays */
    bool is_started;
    bool tty;

    struct watch in;
    struct byte_queue input;
    size_t input_credit;
    bool input_ends;
    uint8_t input_last; /* tty: the last byte written */

    struct output out;
    struct output err;
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

static void touched(struct job *job)
{
    job->jobs->touched(job->jobs->owner, grpc_call_conn(job->call), true);
}

static void send_response(struct job *job, const Ec1__V1__ExecResponse *response, bool is_urgent)
{
    size_t size = ec1__v1__exec_response__get_packed_size(response);
    AUTO_FREE uint8_t *bytes = malloc(size ? size : 1);

    if (!bytes ||
        grpc_call_send(job->call, bytes, ec1__v1__exec_response__pack(response, bytes)) < 0) {
        grpc_call_finish(job->call, GRPC_RESOURCE_EXHAUSTED, "out of memory");
    }
    job->jobs->touched(job->jobs->owner, grpc_call_conn(job->call), is_urgent);
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
    watch_drop(&job->in);
    drop_leftover(job->jobs, &job->out.watch);
    drop_leftover(job->jobs, &job->err.watch);
    byte_queue_fini(&job->input);
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
    watch_drop(&job->in);
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

static bool is_owed(const struct output *output)
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

static void note_left(struct output *output)
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

/* ---- output ---- */

static void pause_or_go_on(struct output *output)
{
    bool is_full = grpc_call_queued(output->job->call) >= GRPC_QUEUE_LOW;

    (void)watch_want(&output->watch, is_full ? 0 : EPOLLIN);
}

static void on_output(struct watch *watch, uint32_t events)
{
    static uint8_t chunk[EXEC_CHUNK];
    struct output *output = container_of(watch, struct output, watch);
    struct job *job = output->job;
    uint8_t head[EXEC_DATA_HEAD_MAX];
    ssize_t got = read(watch->fd, chunk, sizeof(chunk));

    (void)events;
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (got <= 0) { /* a terminal ends with EIO */
        watch_drop(watch);
        check_end(job);
        return;
    }
    output->must_read -= output->must_read < (size_t)got ? output->must_read : (size_t)got;
    if (grpc_call_send2(job->call, head, exec_msg_data_head(head, output->field, (uint32_t)got),
                        chunk, (size_t)got) < 0) {
        grpc_call_cancel(job->call);
    }
    touched(job);
    pause_or_go_on(output);
}

static void on_drained(struct grpc_call *call)
{
    struct job *job = grpc_call_user(call);

    pause_or_go_on(&job->out);
    pause_or_go_on(&job->err);
}

/* ---- input ---- */

static void return_credit(struct job *job, size_t written)
{
    size_t credit = job->input_credit;

    if (byte_queue_len(&job->input) > 0 && written < credit) {
        credit = written;
    }
    job->input_credit -= credit;
    if (job->call && credit) {
        grpc_call_credit(job->call, credit);
        /* Bulk must not wait for its window; anything else can. */
        job->jobs->touched(job->jobs->owner, grpc_call_conn(job->call), credit > EXEC_CHUNK / 4);
    }
}

static void end_input(struct job *job)
{
    if (job->tty) {
        pty_put_eof(job->in.fd, job->input_last);
        job->input_ends = false; /* once */
        (void)watch_want(&job->in, 0);
    } else {
        watch_drop(&job->in);
    }
}

/* Nobody reads: take everything, so that the client does not stall. */
static void lose_input(struct job *job)
{
    watch_drop(&job->in);
    byte_queue_fini(&job->input);
    return_credit(job, 0);
}

static void push_input(struct job *job)
{
    while (job->in.fd >= 0 && byte_queue_len(&job->input)) {
        const uint8_t *data = byte_queue_data(&job->input);
        ssize_t put = write(job->in.fd, data, byte_queue_len(&job->input));

        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put < 0 && errno == EAGAIN) {
            (void)watch_want(&job->in, EPOLLOUT);
            return;
        }
        if (put < 0) {
            lose_input(job);
            return;
        }
        job->input_last = data[put - 1];
        byte_queue_take(&job->input, (size_t)put);
        return_credit(job, (size_t)put);
    }
    if (job->in.fd >= 0) {
        (void)watch_want(&job->in, 0);
        if (job->input_ends) {
            end_input(job);
        }
    }
}

static void on_input_room(struct watch *watch, uint32_t events)
{
    (void)events;
    push_input(container_of(watch, struct job, in));
}

static void take_input(struct job *job, const uint8_t *data, size_t len, size_t credit)
{
    job->input_credit += credit;
    if (job->in.fd < 0 || job->input_ends) {
        lose_input(job);
        return;
    }
    if (byte_queue_put(&job->input, data, len) < 0) {
        grpc_call_finish(job->call, GRPC_RESOURCE_EXHAUSTED, "out of memory");
        touched(job);
        return;
    }
    if (!job->in.events) {
        push_input(job);
    }
    return_credit(job, 0);
}

static void take_eof(struct job *job)
{
    job->input_ends = true;
    if (job->in.fd >= 0 && !job->in.events) {
        push_input(job);
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
    if (job->tty && job->in.fd >= 0) {
        group = pty_foreground(job->in.fd);
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
        touched(job);
        return;
    }
    if (request->what_case == EC1__V1__EXEC_REQUEST__WHAT_START && !job->is_started) {
        start(job, request->start);
    } else if (!job->is_started || request->what_case == EC1__V1__EXEC_REQUEST__WHAT_START) {
        grpc_call_finish(job->call, GRPC_INVALID_ARGUMENT,
                         "the first request, and no other, must carry `start`");
        touched(job);
    } else if (request->what_case == EC1__V1__EXEC_REQUEST__WHAT_STDIN) {
        take_input(job, request->stdin.data, request->stdin.len, 0);
    } else if (request->what_case == EC1__V1__EXEC_REQUEST__WHAT_STDIN_EOF) {
        take_eof(job);
    } else if (request->what_case == EC1__V1__EXEC_REQUEST__WHAT_SIGNAL) {
        send_signal(job, request->signal);
    } else if (request->what_case == EC1__V1__EXEC_REQUEST__WHAT_WINDOW && job->tty) {
        pty_resize(job->in.fd, request->window->rows, request->window->cols);
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
    /* Whatever else it is, it is dealt with now. */
    job->input_credit += credit;
    take_request(job, data, len);
    return_credit(job, credit);
}

static void on_ended(struct grpc_call *call)
{
    struct job *job = grpc_call_user(call);

    if (!job->is_started) {
        grpc_call_finish(call, GRPC_INVALID_ARGUMENT, "the call ended without a request");
        touched(job);
    } else {
        take_eof(job);
    }
}

static void on_closed(struct grpc_call *call, unsigned status, const char *message)
{
    struct job *job = grpc_call_user(call);

    (void)status;
    (void)message;
    job->call = NULL;
    ticker_cancel(&job->grace);
    watch_drop(&job->in);
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
    struct reactor *reactor = job->jobs->reactor;
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
    watch_init(&job->in, reactor, launched.in, on_input_room);
    watch_init(&job->out.watch, reactor, launched.out, on_output);
    watch_init(&job->err.watch, reactor, launched.err, on_output);
    (void)watch_want(&job->out.watch, EPOLLIN);
    (void)watch_want(&job->err.watch, EPOLLIN);
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
    job->out.job = job;
    job->out.field = EXEC_FIELD_STDOUT;
    job->err.job = job;
    job->err.field = EXEC_FIELD_STDERR;
    watch_init(&job->in, jobs->reactor, -1, on_input_room);
    watch_init(&job->out.watch, jobs->reactor, -1, on_output);
    watch_init(&job->err.watch, jobs->reactor, -1, on_output);
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
