/* tcp_test.c — the service as a guest's frames meet it, without any other TCP than the test's own
 * few segments. */
#include <lwip/priv/tcp_priv.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "dev/port/net_port.h"
#include "io/loop.h"
#include "metrics/metrics.h"
#include "mmds/mmds.h"
#include "tests/lib/test.h"

#define SYN 2u
#define RST 4u
#define ACK 16u
#define PSH 8u
#define FIN 1u

#define OWN_IP   0xa9fea9feu /* 169.254.169.254 */
#define GUEST_IP 0xa9fe0102u

struct rig {
    struct mmds *mmds;
    struct loop *loop;
    struct net_inner *inner[2];
    unsigned wakes;
};

/* What a segment says. */
struct seg {
    uint16_t port; /* the guest's */
    uint32_t seq, ack;
    unsigned flags;
    const char *data; /* or NULL */
    size_t len;
};

static void on_readable(void *owner)
{
    ((struct rig *)owner)->wakes++;
}

static void set_up(struct rig *rig, unsigned interfaces)
{
    struct net_client client = {.readable = on_readable, .owner = rig};
    struct err err = {0};

    metrics_reset();
    *rig = (struct rig){0};
    CHECK_OK(mmds_new("vm", 200000, &rig->mmds, &err), &err);
    CHECK_OK(loop_new(&rig->loop, &err), &err);
    for (unsigned i = 0; i < interfaces; i++) {
        CHECK_OK(mmds_inner_new(rig->mmds, &rig->inner[i], &err), &err);
        CHECK_INT(rig->inner[i]->ops->set_client(rig->inner[i], rig->loop, &client), 0);
    }
}

static void tear_down(struct rig *rig)
{
    mmds_inner_free(rig->inner[0]);
    mmds_inner_free(rig->inner[1]);
    mmds_free(rig->mmds);
    loop_free(rig->loop);
}

static void be16_put(uint8_t *p, unsigned v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static void be32_put(uint8_t *p, uint32_t v)
{
    be16_put(p, v >> 16);
    be16_put(p + 2, v & 0xffff);
}

static uint32_t be32_get(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* An Ethernet frame with the segment; checksums stay 0, as a driver with offload leaves them. */
static size_t build(const struct seg *s, uint8_t *frame)
{
    uint8_t *ip = frame + 14, *tcp = ip + 20;
    size_t len = s->data ? (s->len ? s->len : strlen(s->data)) : 0;

    memset(frame, 0, 54);
    memcpy(frame, "\x06\x01\x23\x45\x67\x01\x02\x00\x00\x00\x00\x07\x08\x00", 14);
    ip[0] = 0x45;
    be16_put(ip + 2, (unsigned)(40 + len));
    ip[8] = 64;
    ip[9] = 6;
    be32_put(ip + 12, GUEST_IP);
    be32_put(ip + 16, OWN_IP);
    be16_put(tcp, s->port);
    be16_put(tcp + 2, 80);
    be32_put(tcp + 4, s->seq);
    be32_put(tcp + 8, s->ack);
    tcp[12] = 0x50;
    tcp[13] = (uint8_t)s->flags;
    be16_put(tcp + 14, 65535);
    if (len) {
        memcpy(tcp + 20, s->data, len);
    }
    return 54 + len;
}

static void give(struct net_inner *inner, const uint8_t *frame, size_t len)
{
    CHECK(inner->ops->wants(inner, frame, len < 64 ? len : 64));
    inner->ops->take(inner, frame, len);
}

static void send_seg(struct net_inner *inner, struct seg s)
{
    static uint8_t frame[4000];

    give(inner, frame, build(&s, frame));
}

/* The next segment for the guest, data into `data`; false: there is none. */
static bool recv_seg(struct net_inner *inner, struct seg *ret, uint8_t *data)
{
    uint8_t frame[NET_INNER_FRAME_MAX];
    size_t len = inner->ops->give(inner, frame, sizeof(frame));
    const uint8_t *tcp = frame + 34;

    if (len == 0) {
        return false;
    }
    CHECK(len >= 54);
    CHECK_MEM(frame, "\x02\x00\x00\x00\x00\x07\x06\x01\x23\x45\x67\x01\x08\x00", 14);
    CHECK_INT(be32_get(frame + 26), OWN_IP);
    CHECK_INT(be32_get(frame + 30), GUEST_IP);
    *ret = (struct seg){.port = (uint16_t)(tcp[2] << 8 | tcp[3]),
                        .seq = be32_get(tcp + 4),
                        .ack = be32_get(tcp + 8),
                        .flags = tcp[13],
                        .len = len - 34 - (size_t)(tcp[12] >> 4) * 4};
    if (data) {
        memcpy(data, tcp + (size_t)(tcp[12] >> 4) * 4, ret->len);
    }
    return true;
}

/* Handshake from `port`; the service's first sequence number behind its SYN. */
static uint32_t open_conn(struct net_inner *inner, uint16_t port)
{
    struct seg s;

    send_seg(inner, (struct seg){.port = port, .seq = 1000, .flags = SYN});
    CHECK(recv_seg(inner, &s, NULL));
    CHECK_INT(s.flags, SYN | ACK);
    CHECK_INT(s.ack, 1001);
    send_seg(inner, (struct seg){.port = port, .seq = 1001, .ack = s.seq + 1, .flags = ACK});
    return s.seq + 1;
}

/* All data that comes, acknowledged until no more does; returns its bytes. */
static size_t collect(struct net_inner *inner, uint16_t port, uint32_t seq, uint8_t *data)
{
    size_t total = 0;
    struct seg s;

    while (recv_seg(inner, &s, data + total)) {
        CHECK_INT(s.port, port);
        if (s.len > 0) {
            total += s.len;
            send_seg(inner,
                     (struct seg){
                         .port = port, .seq = seq, .ack = s.seq + (uint32_t)s.len, .flags = ACK});
        }
    }
    return total;
}

TEST(mmds_tcp, arp_is_answered_for_the_address_alone)
{
    static const char request[] = "\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\7\x08\x06\0\1\x08\0\6\4\0\1"
                                  "\x02\0\0\0\0\7\xa9\xfe\1\2\0\0\0\0\0\0\xa9\xfe\xa9\xfe";
    static const char reply[] = "\x02\0\0\0\0\7\6\1\x23\x45\x67\1\x08\x06\0\1\x08\0\6\4\0\2"
                                "\6\1\x23\x45\x67\1\xa9\xfe\xa9\xfe\x02\0\0\0\0\7\xa9\xfe\1\2";
    uint8_t frame[NET_INNER_FRAME_MAX];
    struct rig rig;

    set_up(&rig, 1);
    memcpy(frame, request, 42);
    give(rig.inner[0], frame, 42);
    CHECK_INT(rig.wakes, 1);
    CHECK_INT(rig.inner[0]->ops->give(rig.inner[0], frame, sizeof(frame)), 42);
    CHECK_MEM(frame, reply, 42);
    CHECK_INT(rig.inner[0]->ops->give(rig.inner[0], frame, sizeof(frame)), 0);
    memcpy(frame, request, 42);
    frame[41] = 1; /* another address */
    CHECK(!rig.inner[0]->ops->wants(rig.inner[0], frame, 42));
    memcpy(frame, request, 42);
    CHECK(!rig.inner[0]->ops->wants(rig.inner[0], frame, 41));
    frame[21] = 2; /* no request */
    CHECK(!rig.inner[0]->ops->wants(rig.inner[0], frame, 42));
    CHECK(!rig.inner[0]->ops->wants(rig.inner[0], frame, 13));
    CHECK_INT(metric_get(&g_metrics.mmds.rx_bad_eth), 1);
    tear_down(&rig);
}

TEST(mmds_tcp, a_request_is_answered_and_the_connection_ends)
{
    struct rig rig;
    struct err err = {0};
    uint8_t data[4000];
    struct seg s;
    uint32_t ack;
    size_t len;

    set_up(&rig, 1);
    CHECK_OK(mmds_put(rig.mmds, "{\"a\":\"b\"}", 9, &err), &err);
    ack = open_conn(rig.inner[0], 4000);
    /* in two pieces, then two more requests at once */
    send_seg(rig.inner[0], (struct seg){4000, 1001, ack, ACK | PSH, "GET /a HT", 0});
    CHECK_INT(collect(rig.inner[0], 4000, 1010, data), 0);
    send_seg(rig.inner[0], (struct seg){4000, 1010, ack, ACK | PSH, "TP/1.1\r\n\r\n", 0});
    len = collect(rig.inner[0], 4000, 1020, data);
    data[len] = 0;
    CHECK_HAS((char *)data, "HTTP/1.1 200 ");
    CHECK_STR((char *)data + len - 5, "\r\n\r\nb");
    ack += (uint32_t)len;
    send_seg(rig.inner[0], (struct seg){4000, 1020, ack, ACK,
                                        "GET /a HTTP/1.0\r\n\r\nPOST / HTTP/1.0\r\n\r\n", 0});
    len = collect(rig.inner[0], 4000, 1058, data);
    data[len] = 0;
    CHECK_HAS((char *)data, "\r\n\r\nbHTTP/1.1 400 ");
    CHECK_HAS((char *)data, "Invalid HTTP Method: Unsupported HTTP method.");
    ack += (uint32_t)len;
    send_seg(rig.inner[0], (struct seg){4000, 1058, ack, ACK | FIN, NULL, 0});
    CHECK(recv_seg(rig.inner[0], &s, NULL));
    CHECK(s.flags & FIN || (recv_seg(rig.inner[0], &s, NULL) && s.flags & FIN));
    CHECK_INT(s.ack, 1059);
    send_seg(rig.inner[0], (struct seg){4000, 1059, s.seq + 1, ACK, NULL, 0});
    CHECK_INT(metric_get(&g_metrics.mmds.connections_created), 1);
    CHECK_INT(metric_get(&g_metrics.mmds.connections_destroyed), 1);
    tear_down(&rig);
}

TEST(mmds_tcp, a_body_that_is_not_all_there_is_no_request)
{
    static const char text[] =
        "PUT /latest/api/token HTTP/1.1\r\nX-metadata-token-ttl-seconds: 60\r\n"
        "Content-Length: 200\r\n\r\nabc";
    struct rig rig;
    uint8_t data[4000];
    uint32_t ack;
    size_t len;

    set_up(&rig, 1);
    ack = open_conn(rig.inner[0], 4000);
    send_seg(rig.inner[0], (struct seg){4000, 1001, ack, ACK | PSH, text, 0});
    len = collect(rig.inner[0], 4000, 1001 + sizeof(text) - 1, data);
    data[len] = 0;
    CHECK_HAS((char *)data, "HTTP/1.1 400 ");
    CHECK_HAS((char *)data, "Invalid request");
    tear_down(&rig);
}

TEST(mmds_tcp, answers_beyond_a_segment_and_beyond_the_send_buffer_arrive_whole)
{
    enum { BYTES = 150000 };
    struct rig rig;
    struct err err = {0};
    char *text = malloc(BYTES + 3);
    uint8_t *data = malloc(BYTES + 4000);
    uint32_t ack;
    size_t len;

    set_up(&rig, 1);
    memset(text, 'x', BYTES + 2);
    text[0] = text[BYTES + 1] = '"';
    CHECK_OK(mmds_put(rig.mmds, text, BYTES + 2, &err), &err);
    ack = open_conn(rig.inner[0], 4000);
    send_seg(rig.inner[0], (struct seg){4000, 1001, ack, ACK | PSH, "GET / HTTP/1.1\r\n\r\n", 0});
    len = collect(rig.inner[0], 4000, 1019, data);
    CHECK(len > BYTES);
    CHECK_MEM(data + len - BYTES, text + 1, BYTES);
    free(text);
    free(data);
    tear_down(&rig);
}

TEST(mmds_tcp, what_is_no_segment_for_the_service_is_swallowed)
{
    static const struct {
        unsigned at;
        uint8_t value;
    } cases[] = {
        {14 + 9, 17},   /* UDP */
        {14 + 6, 0x20}, /* a fragment */
        {14 + 7, 1},    /* the rest of one */
        {14 + 3, 60},   /* longer than the frame */
        {14 + 3, 39},   /* shorter than a TCP header */
        {14 + 0, 0x44}, /* shorter than an IP header */
        {14 + 0, 0x4f}, /* with options that are not there */
        {34 + 3, 81},   /* another port */
        {14 + 12, 127}, /* from loopback */
        {14 + 12, 224}, /* from a group */
    };
    struct seg syn = {.port = 4000, .seq = 1000, .flags = SYN};
    uint8_t frame[100];
    struct rig rig;

    set_up(&rig, 1);
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        size_t len = build(&syn, frame);

        frame[cases[i].at] = cases[i].value;
        give(rig.inner[0], frame, len);
        CHECK_INT(rig.inner[0]->ops->give(rig.inner[0], frame, sizeof(frame)), 0);
    }
    /* from the service's own address, and a TCP header longer than the packet */
    (void)build(&syn, frame);
    be32_put(frame + 26, OWN_IP);
    give(rig.inner[0], frame, 54);
    (void)build(&syn, frame);
    frame[34 + 12] = 0xf0;
    give(rig.inner[0], frame, 54);
    CHECK_INT(rig.inner[0]->ops->give(rig.inner[0], frame, sizeof(frame)), 0);
    CHECK_INT(metric_get(&g_metrics.mmds.rx_accepted), ARRAY_LEN(cases) + 2);
    CHECK_INT(metric_get(&g_metrics.mmds.rx_accepted_unusual), 1);
    CHECK_INT(metric_get(&g_metrics.mmds.rx_accepted_err), ARRAY_LEN(cases) + 1);
    CHECK_INT(metric_get(&g_metrics.mmds.connections_created), 0);
    tear_down(&rig);
}

TEST(mmds_tcp, segments_out_of_order_and_requests_without_end_are_not_kept)
{
    static char endless[2501];
    struct rig rig;
    struct seg s;
    uint32_t ack;

    set_up(&rig, 1);
    ack = open_conn(rig.inner[0], 4000);
    send_seg(rig.inner[0], (struct seg){4000, 1002, ack, ACK, "ET / HTTP/1.1\r\n\r\n", 0});
    CHECK(recv_seg(rig.inner[0], &s, NULL));
    CHECK_INT(s.flags, ACK);
    CHECK_INT(s.ack, 1001);
    /* from before, and of length 1: lwIP would end the process */
    send_seg(rig.inner[0], (struct seg){4000, 1001 - 70000, ack, ACK | FIN, NULL, 0});
    send_seg(rig.inner[0], (struct seg){4000, 1001 - 5, ack, ACK, "x", 0});
    CHECK(recv_seg(rig.inner[0], &s, NULL) && s.ack == 1001);
    CHECK(recv_seg(rig.inner[0], &s, NULL) && s.ack == 1001);
    CHECK_INT(metric_get(&g_metrics.mmds.rx_accepted_err), 3);
    memset(endless, 'x', sizeof(endless));
    send_seg(rig.inner[0], (struct seg){4000, 1001, ack, ACK, endless, 2500});
    CHECK(recv_seg(rig.inner[0], &s, NULL));
    CHECK(s.flags & RST);
    CHECK_INT(metric_get(&g_metrics.mmds.connections_destroyed), 1);
    tear_down(&rig);
}

TEST(mmds_tcp, the_thirty_first_connection_is_refused)
{
    struct rig rig;
    struct seg s;

    set_up(&rig, 1);
    for (unsigned i = 0; i < 30; i++) {
        (void)open_conn(rig.inner[0], (uint16_t)(4000 + i));
    }
    send_seg(rig.inner[0], (struct seg){.port = 5000, .seq = 1000, .flags = SYN});
    CHECK(recv_seg(rig.inner[0], &s, NULL));
    CHECK_INT(s.flags, RST | ACK);
    CHECK_INT(s.ack, 1001);
    CHECK_INT(metric_get(&g_metrics.mmds.connections_created), 30);
    /* one ends without a word: there is room again */
    send_seg(rig.inner[0], (struct seg){.port = 4000, .seq = 1001, .flags = RST});
    (void)open_conn(rig.inner[0], 5000);
    CHECK_INT(metric_get(&g_metrics.mmds.connections_destroyed), 1);
    tear_down(&rig);
    CHECK_INT(metric_get(&g_metrics.mmds.connections_destroyed), 31);
}

TEST(mmds_tcp, interfaces_with_one_address_are_kept_apart)
{
    struct rig rig;
    struct seg s;
    uint8_t data[2000];
    uint32_t ack[2];

    set_up(&rig, 2);
    for (unsigned i = 0; i < 2; i++) { /* from one address and port, too */
        ack[i] = open_conn(rig.inner[i], 4000);
        CHECK(!recv_seg(rig.inner[1 - i], &s, NULL));
    }
    for (unsigned i = 0; i < 2; i++) {
        send_seg(rig.inner[i], (struct seg){4000, 1001, ack[i], ACK, "GET / HTTP/1.1\r\n\r\n", 0});
        CHECK(!recv_seg(rig.inner[1 - i], &s, NULL));
        CHECK(collect(rig.inner[i], 4000, 1019, data) > 0);
    }
    /* a segment of no connection is refused where it came from */
    send_seg(rig.inner[0], (struct seg){4001, 1, 1, ACK, NULL, 0});
    CHECK(!recv_seg(rig.inner[1], &s, NULL));
    CHECK(recv_seg(rig.inner[0], &s, NULL));
    CHECK(s.flags & RST);
    /* one interface is reset; the other's connection lives */
    CHECK_INT(rig.inner[0]->ops->set_client(rig.inner[0], NULL, NULL), 0);
    CHECK_INT(metric_get(&g_metrics.mmds.connections_destroyed), 1);
    send_seg(rig.inner[1], (struct seg){4000, 1019, ack[1] + 150, ACK, "x", 0});
    tear_down(&rig);
}

/* A number below `limit`, the same in each run with the same seed. */
static unsigned pick(uint64_t *seed, unsigned limit)
{
    *seed = *seed * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (unsigned)(*seed >> 33) % limit;
}

TEST(mmds_tcp, frames_of_any_shape_do_no_harm)
{
    static const unsigned flags[] = {SYN, ACK, ACK | PSH, ACK | FIN, RST, SYN | ACK, 0};
    static const uint32_t seqs[] = {1000, 1000, 1001, 1001, 1001, 1000 + 35, 1000 - 70000, 900, 0};
    static const char data[] = "GET / HTTP/1.1\r\nAccept: */*\r\n\r\n";
    const char *seed_text = getenv("EC1_SEED");
    uint64_t seed = seed_text ? strtoull(seed_text, NULL, 10) : 1;
    static char large[20000];
    uint32_t acks[8] = {0};
    uint8_t frame[200];
    uint8_t out[NET_INNER_FRAME_MAX];
    struct rig rig;
    struct net_client client = {.readable = on_readable, .owner = &rig};

    set_up(&rig, 1);
    memset(large, 'x', sizeof(large));
    large[0] = large[sizeof(large) - 1] = '"';
    CHECK_INT(mmds_put(rig.mmds, large, sizeof(large), NULL), 0);
    for (unsigned i = 0; i < 50000; i++) {
        unsigned conn = pick(&seed, 8);
        struct seg s = {.port = (uint16_t)(4000 + conn),
                        .seq = seqs[pick(&seed, ARRAY_LEN(seqs))],
                        .ack = acks[conn] + (pick(&seed, 8) ? 0 : pick(&seed, 100000) - 50000),
                        .flags = flags[pick(&seed, ARRAY_LEN(flags))],
                        .data = pick(&seed, 2) ? data : NULL,
                        .len = pick(&seed, 3) ? 0 : 1};
        size_t len = build(&s, frame);
        size_t got;

        for (unsigned k = pick(&seed, 4); k > 0; k--) {
            frame[14 + pick(&seed, (unsigned)len - 14)] = (uint8_t)pick(&seed, 256);
        }
        len -= pick(&seed, 8) ? 0 : pick(&seed, (unsigned)len);
        if (pick(&seed, 64) == 0) {
            tcp_tmr(); /* a quarter of a second */
        }
        if (i % 500 == 0) { /* else half-open connections fill it */
            (void)rig.inner[0]->ops->set_client(rig.inner[0], rig.loop, &client);
        }
        if (rig.inner[0]->ops->wants(rig.inner[0], frame, len < 64 ? len : 64)) {
            rig.inner[0]->ops->take(rig.inner[0], frame, len);
        }
        while ((got = rig.inner[0]->ops->give(rig.inner[0], out, sizeof(out))) > 0) {
            unsigned port = (unsigned)out[36] << 8 | out[37];

            if (got >= 54 && port >= 4000 && port < 4008) {
                acks[port - 4000] = be32_get(out + 38) + 1;
            }
        }
    }
    CHECK(metric_get(&g_metrics.mmds.connections_created) > 100);
    tear_down(&rig);
    set_up(&rig, 1); /* nothing is left of it */
    (void)open_conn(rig.inner[0], 4000);
    tear_down(&rig);
}
