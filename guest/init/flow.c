/* flow.c — bytes between a call and descriptors of this machine. */
#include "guest/init/flow.h"

#include <errno.h>
#include <unistd.h>

#include "proto/exec_msg.h"

void flow_touched(const struct flow_host *host, struct grpc_call *call, bool is_urgent)
{
    host->touched(host->owner, grpc_call_conn(call), is_urgent);
}

/* ---- from the client ---- */

/* After `written` bytes: what waits keeps its share of the credit. */
static void return_credit(struct inflow *in, size_t written)
{
    size_t credit = in->credit;

    if (byte_queue_len(&in->queue) > 0 && written < credit) {
        credit = written;
    }
    in->credit -= credit;
    if (in->call && credit) {
        grpc_call_credit(in->call, credit);
        /* Bulk must not wait for its window; anything else can. */
        flow_touched(in->host, in->call, credit > EXEC_CHUNK / 4);
    }
}

/* Nobody reads: take everything, so that the client does not stall. */
static void lose(struct inflow *in)
{
    bool is_news = in->watch.fd >= 0;

    inflow_fini(in);
    return_credit(in, 0);
    if (is_news && in->lost) {
        in->lost(in);
    }
}

static void push(struct inflow *in)
{
    while (in->watch.fd >= 0 && byte_queue_len(&in->queue)) {
        const uint8_t *data = byte_queue_data(&in->queue);
        ssize_t put = write(in->watch.fd, data, byte_queue_len(&in->queue));

        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put < 0 && errno == EAGAIN) {
            (void)watch_want(&in->watch, EPOLLOUT);
            return;
        }
        if (put < 0) {
            lose(in);
            return;
        }
        in->last = data[put - 1];
        byte_queue_take(&in->queue, (size_t)put);
        return_credit(in, (size_t)put);
    }
    if (in->watch.fd >= 0) {
        (void)watch_want(&in->watch, 0);
        if (in->ends) {
            in->finish(in);
        }
    }
}

static void on_room(struct watch *watch, uint32_t events)
{
    (void)events;
    push(container_of(watch, struct inflow, watch));
}

void inflow_init(struct inflow *in, struct reactor *reactor, const struct flow_host *host,
                 struct grpc_call *call, void (*finish)(struct inflow *in))
{
    *in = (struct inflow){.host = host, .call = call, .finish = finish};
    watch_init(&in->watch, reactor, -1, on_room);
}

void inflow_open(struct inflow *in, int fd)
{
    watch_init(&in->watch, in->watch.reactor, fd, on_room);
}

int inflow_put(struct inflow *in, const uint8_t *data, size_t len, size_t credit)
{
    in->credit += credit;
    if (in->watch.fd < 0 || in->ends) {
        lose(in);
        return 0;
    }
    if (byte_queue_put(&in->queue, data, len) < 0) {
        return -ENOMEM;
    }
    if (!in->watch.events) {
        push(in);
    }
    return_credit(in, 0);
    return 0;
}

void inflow_credit(struct inflow *in, size_t credit)
{
    if (in->call && credit) {
        grpc_call_credit(in->call, credit);
        flow_touched(in->host, in->call, false);
    }
}

void inflow_end(struct inflow *in)
{
    in->ends = true;
    if (in->watch.fd >= 0 && !in->watch.events) {
        push(in);
    }
}

void inflow_fini(struct inflow *in)
{
    watch_drop(&in->watch);
    byte_queue_fini(&in->queue);
}

/* ---- to the client ---- */

void outflow_go_on(struct outflow *out)
{
    bool is_full = grpc_call_queued(out->call) >= GRPC_QUEUE_LOW;

    (void)watch_want(&out->watch, is_full ? 0 : EPOLLIN);
}

static void on_output(struct watch *watch, uint32_t events)
{
    static uint8_t chunk[EXEC_CHUNK];
    struct outflow *out = container_of(watch, struct outflow, watch);
    uint8_t head[EXEC_DATA_HEAD_MAX];
    ssize_t got = read(watch->fd, chunk, sizeof(chunk));

    (void)events;
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (got <= 0) {
        int code = got < 0 ? -errno : 0;

        watch_drop(watch);
        out->ended(out, code);
        return;
    }
    out->must_read -= out->must_read < (size_t)got ? out->must_read : (size_t)got;
    if (grpc_call_send2(out->call, head, exec_msg_data_head(head, out->field, (uint32_t)got), chunk,
                        (size_t)got) < 0) {
        grpc_call_cancel(out->call);
    }
    flow_touched(out->host, out->call, true);
    outflow_go_on(out);
}

void outflow_init(struct outflow *out, struct reactor *reactor, const struct flow_host *host,
                  struct grpc_call *call, unsigned field)
{
    *out = (struct outflow){.host = host, .call = call, .field = field};
    watch_init(&out->watch, reactor, -1, on_output);
}

void outflow_open(struct outflow *out, int fd)
{
    watch_init(&out->watch, out->watch.reactor, fd, on_output);
    (void)watch_want(&out->watch, EPOLLIN);
}
