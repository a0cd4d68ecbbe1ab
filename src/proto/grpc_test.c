/* grpc_test.c — both ends of the gRPC layer, face to face over a socket pair. */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/buf.h"
#include "proto/grpc.h"
#include "tests/lib/test.h"

enum { MESSAGE_MAX = 32 * 1024 * 1024 };

struct end {
    struct grpc_conn *conn;
    struct grpc_call *call;
    struct buf got; /* payloads, one after the other */
    unsigned messages;
    size_t owed; /* credit that was kept back */
    bool keeps_credit;
    bool echoes;
    bool has_ended;
    bool is_closed;
    unsigned drained;
    unsigned status;
    char text[256];
    char path[64];
};

struct pair {
    int fds[2];
    struct end client;
    struct end server;
};

static void on_message(struct grpc_call *call, const uint8_t *data, size_t len, size_t credit)
{
    struct end *end = grpc_call_user(call);

    end->messages++;
    buf_append(&end->got, data, len);
    if (end->keeps_credit) {
        end->owed += credit;
    } else {
        grpc_call_credit(call, credit);
    }
    if (end->echoes) {
        CHECK_INT(grpc_call_send(call, data, len), 0);
    }
}

static void on_ended(struct grpc_call *call)
{
    struct end *end = grpc_call_user(call);

    end->has_ended = true;
    if (end->echoes) {
        grpc_call_finish(call, GRPC_OK, NULL);
    }
}

static void on_drained(struct grpc_call *call)
{
    ((struct end *)grpc_call_user(call))->drained++;
}

static void on_closed(struct grpc_call *call, unsigned status, const char *message)
{
    struct end *end = grpc_call_user(call);

    end->is_closed = true;
    end->call = NULL;
    end->status = status;
    (void)snprintf(end->text, sizeof(end->text), "%s", message ? message : "");
}

static const struct grpc_call_ops g_ops = {on_message, on_ended, on_drained, on_closed};

static void on_accept(void *owner, struct grpc_call *call, const char *path)
{
    struct end *end = owner;

    (void)snprintf(end->path, sizeof(end->path), "%s", path);
    if (strcmp(path, "/refuse") == 0) {
        grpc_call_finish(call, GRPC_FAILED_PRECONDITION, "100 % of \"caf\xc3\xa9\"\n");
        return;
    }
    end->call = call;
    grpc_call_bind(call, &g_ops, end);
}

static void set_up(struct pair *pair)
{
    *pair = (struct pair){0};
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair->fds) == 0);
    CHECK_INT(grpc_conn_new(pair->fds[0], NULL, &pair->client, MESSAGE_MAX, &pair->client.conn), 0);
    CHECK_INT(
        grpc_conn_new(pair->fds[1], on_accept, &pair->server, MESSAGE_MAX, &pair->server.conn), 0);
    CHECK(grpc_conn_owner(pair->server.conn) == &pair->server);
}

static void call(struct pair *pair, const char *path)
{
    pair->client.call = grpc_call_new(pair->client.conn, path, &g_ops, &pair->client);
    CHECK(pair->client.call && grpc_call_conn(pair->client.call) == pair->client.conn);
}

static void tear_down(struct pair *pair)
{
    grpc_conn_free(pair->client.conn);
    grpc_conn_free(pair->server.conn);
    buf_fini(&pair->client.got);
    buf_fini(&pair->server.got);
    (void)close(pair->fds[0]);
    (void)close(pair->fds[1]);
}

/* Until neither side has anything to do. */
static void settle(struct pair *pair)
{
    unsigned idle = 0;

    for (unsigned turn = 0; turn < 100000 && idle < 3; turn++) {
        bool is_busy =
            grpc_conn_wants_write(pair->client.conn) || grpc_conn_wants_write(pair->server.conn);

        CHECK_INT(grpc_conn_flush(pair->client.conn), 0);
        CHECK_INT(grpc_conn_read(pair->server.conn), 0);
        CHECK_INT(grpc_conn_flush(pair->server.conn), 0);
        CHECK_INT(grpc_conn_read(pair->client.conn), 0);
        idle = is_busy ? 0 : idle + 1;
    }
}

TEST(grpc, messages_go_both_ways_and_the_call_ends)
{
    struct pair pair;

    set_up(&pair);
    pair.server.echoes = true;
    call(&pair, "/a.b/C");
    CHECK_INT(grpc_call_send(pair.client.call, "one", 3), 0);
    CHECK_INT(grpc_call_send2(pair.client.call, "t", 1, "wo", 2), 0);
    CHECK_INT(grpc_call_send(pair.client.call, NULL, 0), 0);
    settle(&pair);
    CHECK_STR(pair.server.path, "/a.b/C");
    CHECK_INT(pair.client.messages, 3);
    CHECK_STR(buf_str(&pair.client.got), "onetwo");
    grpc_call_end(pair.client.call);
    CHECK_INT(grpc_call_send(pair.client.call, "late", 4), -EPIPE);
    settle(&pair);
    CHECK(pair.server.has_ended && pair.server.is_closed && pair.client.is_closed);
    CHECK_INT(pair.client.status, GRPC_OK);
    CHECK_INT(pair.server.status, GRPC_OK);
    tear_down(&pair);
}

TEST(grpc, a_message_may_be_larger_than_the_window)
{
    enum { SIZE = 20 * 1024 * 1024 };
    struct pair pair;
    uint8_t *data = malloc(SIZE);

    for (size_t i = 0; i < SIZE; i++) {
        data[i] = (uint8_t)(i * 7 + i / 1000);
    }
    set_up(&pair);
    call(&pair, "/x");
    CHECK_INT(grpc_call_send(pair.client.call, data, SIZE), 0);
    settle(&pair);
    CHECK_INT(pair.server.got.len, SIZE);
    CHECK_MEM(pair.server.got.data, data, SIZE);
    CHECK_INT(grpc_call_queued(pair.client.call), 0);
    CHECK(pair.client.drained > 0);
    tear_down(&pair);
    free(data);
}

TEST(grpc, credit_kept_back_stops_that_call_alone)
{
    static uint8_t chunk[65536];
    struct pair pair;
    struct end other = {0};
    struct grpc_call *second;

    set_up(&pair);
    pair.server.keeps_credit = true;
    call(&pair, "/x");
    for (unsigned i = 0; i < 64; i++) {
        CHECK_INT(grpc_call_send(pair.client.call, chunk, sizeof(chunk)), 0);
    }
    settle(&pair);
    CHECK(pair.server.got.len <= GRPC_WINDOW && pair.server.got.len >= GRPC_WINDOW / 2);
    CHECK(grpc_call_queued(pair.client.call) > 0);

    /* A neighbour is not held up. */
    second = grpc_call_new(pair.client.conn, "/refuse", &g_ops, &other);
    CHECK(second != NULL);
    settle(&pair);
    CHECK(other.is_closed);

    /* Credit lets it go on. */
    pair.server.keeps_credit = false;
    grpc_call_credit(pair.server.call, pair.server.owed);
    settle(&pair);
    CHECK_INT(pair.server.got.len, 64 * sizeof(chunk));
    tear_down(&pair);
    buf_fini(&other.got);
}

TEST(grpc, an_error_keeps_its_code_and_text)
{
    struct pair pair;

    set_up(&pair);
    call(&pair, "/refuse");
    settle(&pair);
    CHECK(pair.client.is_closed);
    CHECK_INT(pair.client.status, GRPC_FAILED_PRECONDITION);
    CHECK_STR(pair.client.text, "100 % of \"caf\xc3\xa9\"\n");
    tear_down(&pair);
}

TEST(grpc, a_message_beyond_the_limit_is_refused_by_either_side)
{
    struct pair pair;
    uint8_t *data = calloc(1, MESSAGE_MAX + 1);

    set_up(&pair);
    call(&pair, "/x");
    CHECK_INT(grpc_call_send(pair.client.call, data, MESSAGE_MAX + 1), 0);
    settle(&pair);
    CHECK_INT(pair.client.status, GRPC_RESOURCE_EXHAUSTED);
    tear_down(&pair);

    set_up(&pair);
    call(&pair, "/x");
    settle(&pair);
    CHECK_INT(grpc_call_send(pair.server.call, data, MESSAGE_MAX + 1), 0);
    settle(&pair);
    CHECK_INT(pair.client.status, GRPC_RESOURCE_EXHAUSTED);
    CHECK_STR(pair.client.text, "the message is too large");
    tear_down(&pair);
    free(data);
}

TEST(grpc, cancelling_tells_the_other_side)
{
    struct pair pair;

    set_up(&pair);
    call(&pair, "/x");
    settle(&pair);
    grpc_call_cancel(pair.client.call);
    settle(&pair);
    CHECK(pair.server.is_closed && pair.client.is_closed);
    CHECK_INT(pair.server.status, GRPC_CANCELLED);
    tear_down(&pair);
}

TEST(grpc, a_lost_connection_closes_calls)
{
    struct pair pair;

    set_up(&pair);
    call(&pair, "/x");
    settle(&pair);
    (void)shutdown(pair.fds[1], SHUT_RDWR);
    CHECK_INT(grpc_conn_read(pair.client.conn), -EPIPE);
    grpc_conn_free(pair.client.conn);
    pair.client.conn = NULL;
    CHECK(pair.client.is_closed);
    CHECK_INT(pair.client.status, GRPC_UNAVAILABLE);
    tear_down(&pair);
}

TEST(grpc, a_ping_is_answered)
{
    struct pair pair;

    set_up(&pair);
    settle(&pair);
    CHECK_INT(grpc_conn_pongs(pair.client.conn), 0);
    grpc_conn_ping(pair.client.conn);
    settle(&pair);
    CHECK_INT(grpc_conn_pongs(pair.client.conn), 1);
    tear_down(&pair);
}

TEST(grpc, noise_ends_the_connection)
{
    static const char noise[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    struct pair pair;
    int r;

    set_up(&pair);
    r = grpc_conn_feed(pair.server.conn, (const uint8_t *)noise, sizeof(noise) - 1);
    CHECK_INT(r, -EPROTO);
    r = grpc_conn_feed(pair.client.conn, (const uint8_t *)noise, sizeof(noise) - 1);
    CHECK(r == -EPROTO ||
          (grpc_conn_flush(pair.client.conn), grpc_conn_flush(pair.client.conn)) < 0);
    tear_down(&pair);
}
