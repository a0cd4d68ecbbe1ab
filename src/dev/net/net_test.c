/* net_test.c — frames between a driver's queues and a port, with every rule about buffers, limits
 * and hostile descriptors. */
#include <errno.h>

#include "dev/net/net_int.h"
#include "io/loop.h"
#include "state/state.h"
#include "tests/lib/fake_driver.h"

#define FRAMES_MAX 16
#define ALL_FEATURES                                                             \
    (FAKE_FEATURES_NET | NET_F_MRG_RXBUF | NET_F_GUEST_CSUM | NET_F_GUEST_TSO4 | \
     NET_F_GUEST_TSO6 | NET_F_GUEST_UFO)
#define FAKE_FEATURES_NET (VIRTIO_F_VERSION_1)

/* A port whose frames the test makes and keeps. */
struct fake_port {
    struct net_port base;
    struct net_client client;
    bool is_started;
    unsigned offload;
    unsigned in_count, in_at;
    size_t in_len[FRAMES_MAX];
    unsigned out_count;
    size_t out_len[FRAMES_MAX];
    uint8_t out[FRAMES_MAX][2048];
    int send_result;
};

struct rig {
    struct fake_driver drv;
    struct fake_port port;
    struct loop *loop;
    struct virtio_dev *dev;
    struct metrics_net *metrics;
};

static struct fake_port *port_of(struct net_port *base)
{
    return container_of(base, struct fake_port, base);
}

static int port_start(struct net_port *base, struct loop *loop, const struct net_client *client)
{
    (void)loop;
    port_of(base)->client = *client;
    port_of(base)->is_started = true;
    return 0;
}

static void port_stop(struct net_port *base)
{
    port_of(base)->is_started = false;
}

static int port_set_offload(struct net_port *base, unsigned offload)
{
    port_of(base)->offload = offload;
    return 0;
}

/* Byte i of a frame is i % 251, but for the header. */
static ssize_t port_recv(struct net_port *base, const struct iovec *iov, unsigned count)
{
    struct fake_port *port = port_of(base);
    size_t done = 0;

    if (port->in_at == port->in_count) {
        return -EAGAIN;
    }
    for (unsigned i = 0; i < count; i++) {
        for (size_t j = 0; j < iov[i].iov_len && done < port->in_len[port->in_at]; j++, done++) {
            ((uint8_t *)iov[i].iov_base)[j] = done < NET_HDR_BYTES ? 0 : (uint8_t)(done % 251);
        }
    }
    port->in_at++;
    return (ssize_t)done;
}

static int port_send(struct net_port *base, const struct iovec *iov, unsigned count)
{
    struct fake_port *port = port_of(base);
    size_t len = 0;

    CHECK(port->out_count < FRAMES_MAX);
    for (unsigned i = 0; i < count; i++) {
        for (size_t j = 0; j < iov[i].iov_len; j++, len++) {
            if (len < sizeof(port->out[0])) {
                port->out[port->out_count][len] = ((uint8_t *)iov[i].iov_base)[j];
            }
        }
    }
    port->out_len[port->out_count++] = len;
    return port->send_result;
}

static const struct net_port_ops port_ops = {.start = port_start,
                                             .stop = port_stop,
                                             .set_offload = port_set_offload,
                                             .recv = port_recv,
                                             .send = port_send};

static void set_up(struct rig *rig, struct net_config *config, uint64_t features)
{
    struct err err = {0};

    memset(rig, 0, sizeof(*rig));
    metrics_reset();
    rig->port.base.ops = &port_ops;
    config->id = "eth0";
    config->port = &rig->port.base;
    fake_driver_init(&rig->drv);
    CHECK_OK(loop_new(&rig->loop, &err), &err);
    CHECK_OK(net_new(config, rig->drv.mem, rig->loop, &rig->dev, &err), &err);
    rig->metrics = metrics_net("eth0");
    fake_driver_attach(&rig->drv, rig->dev);
    CHECK_OK(loop_thread_start(rig->loop, "net", &err), &err);
    if (features) {
        fake_driver_start(&rig->drv, features, NET_QUEUE_SIZE);
    }
}

static void tear_down(struct rig *rig)
{
    loop_thread_stop(rig->loop);
    fake_driver_fini(&rig->drv);
    loop_free(rig->loop);
}

static void do_readable(void *owner)
{
    struct rig *rig = owner;

    rig->port.client.readable(rig->port.client.owner);
}

/* A frame of `len` bytes, header included, came. */
static void arrive(struct rig *rig, size_t len)
{
    rig->port.in_len[rig->port.in_count++] = len;
    loop_call(rig->loop, do_readable, rig);
}

/* Post `count` receive buffers of `len` bytes each from slot `first` on; the first one's address.
 */
static gpa_t post(struct rig *rig, unsigned first, unsigned count, uint32_t len)
{
    gpa_t at = fake_alloc(&rig->drv, (uint64_t)count * len, 16);

    memset(fake_ptr(&rig->drv, at, (uint64_t)count * len), 0xee, (size_t)count * len);
    for (unsigned i = 0; i < count; i++) {
        fake_put_desc(&rig->drv.queues[NET_RX], first + i, GPA(at.v + (uint64_t)i * len), len,
                      FAKE_WRITE, 0);
        fake_offer(&rig->drv.queues[NET_RX], (uint16_t)(first + i));
    }
    fake_kick(&rig->drv, NET_RX);
    return at;
}

/* Has the loop done what it was asked to?  A doorbell wakes it through an eventfd, so wait. */
static bool eventually(const struct metric *metric, uint64_t want)
{
    for (unsigned i = 0; i < 1000 && metric_get(metric) < want; i++) {
        (void)usleep(1000);
    }
    return metric_get(metric) == want;
}

TEST(net, features_and_configuration_follow_what_was_configured)
{
    struct net_config plain = {0};
    struct net_config full = {
        .has_mac = true, .mac = {6, 0, 0xc0, 0xa8, 0, 2}, .has_mtu = true, .mtu = 1400};
    struct rig rig;

    set_up(&rig, &plain, 0);
    CHECK_INT(fake_reg_read(&rig.drv, 0x008), VIRTIO_ID_NET);
    CHECK_INT(fake_features_read(&rig.drv), 0x12000dd83);
    fake_reg_write(&rig.drv, 0x030, 0);
    CHECK_INT(fake_reg_read(&rig.drv, 0x034), 256);
    CHECK_INT(fake_reg_read(&rig.drv, 0x100), 0);
    tear_down(&rig);
    set_up(&rig, &full, 0);
    CHECK_INT(fake_features_read(&rig.drv), 0x12000ddab);
    CHECK_INT(fake_reg_read(&rig.drv, 0x100), 0xa8c00006);
    CHECK_INT(fake_reg_read(&rig.drv, 0x104), 0x00000200);
    CHECK_INT(fake_reg_read(&rig.drv, 0x108), 1400 << 16);
    CHECK_INT(fake_reg_read(&rig.drv, 0x10c), 0);
    fake_reg_write(&rig.drv, 0x100, 0x12345678);
    CHECK_INT(fake_reg_read(&rig.drv, 0x100), 0xa8c00006);
    CHECK_INT(metric_get(&rig.metrics->cfg_fails), 1);
    tear_down(&rig);
}

TEST(net, offload_follows_what_the_driver_accepted)
{
    static const struct {
        uint64_t features;
        unsigned offload;
    } cases[] = {{0, 0},
                 {NET_F_GUEST_TSO4, 0}, /* without checksums: nothing */
                 {NET_F_GUEST_CSUM, NET_OFFLOAD_CSUM},
                 {NET_F_GUEST_CSUM | NET_F_GUEST_TSO6, NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO6},
                 {ALL_FEATURES, 15}};

    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        struct net_config config = {0};
        struct rig rig;

        set_up(&rig, &config, FAKE_FEATURES_NET | cases[i].features);
        CHECK_INT(rig.port.offload, cases[i].offload);
        CHECK(rig.port.is_started);
        fake_reg_write(&rig.drv, 0x070, 0);
        CHECK(!rig.port.is_started);
        tear_down(&rig);
    }
}

TEST(net, a_frame_is_merged_from_as_many_buffers_as_it_needs)
{
    struct net_config config = {0};
    struct rig rig;
    const uint8_t *bytes;
    gpa_t at;
    uint32_t id;
    uint32_t len;

    set_up(&rig, &config, ALL_FEATURES);
    at = post(&rig, 0, 44, 1500);
    arrive(&rig, 3100); /* 1500 + 1500 + 100 */
    arrive(&rig, 60);
    for (unsigned i = 0; i < 4; i++) {
        static const uint32_t want[] = {1500, 1500, 100, 60};

        CHECK(fake_wait_used(&rig.drv, NET_RX, &id, &len));
        CHECK_INT(id, i);
        CHECK_INT(len, want[i]);
        if (i == 3) { /* 62 kB are left: too little for the largest frame, so the second waited */
            break;
        }
        if (i == 2) {
            CHECK(!fake_take_used(&rig.drv.queues[NET_RX], &id, &len));
            (void)post(&rig, 44, 3, 1500);
        }
    }
    bytes = fake_ptr(&rig.drv, at, 6000);
    CHECK_INT(load_le16(bytes + 10), 3);
    CHECK_INT(bytes[12], 12);
    CHECK_INT(bytes[3099], 3099 % 251);
    CHECK_INT(bytes[3100], 0xee);
    CHECK_INT(load_le16(bytes + 4510), 1);
    CHECK_INT(metric_get(&rig.metrics->rx_bytes_count), 3160);
    CHECK_INT(metric_get(&rig.metrics->rx_packets_count), 2);
    tear_down(&rig);
}

TEST(net, without_merging_each_frame_has_one_buffer)
{
    struct net_config config = {0};
    struct rig rig;
    uint32_t id;
    uint32_t len;

    set_up(&rig, &config, FAKE_FEATURES_NET);
    (void)post(&rig, 0, 1, 1525); /* too small to receive into: comes back */
    CHECK(fake_wait_used(&rig.drv, NET_RX, &id, &len));
    CHECK_INT(len, 0);
    (void)post(&rig, 1, 50, 1526);
    arrive(&rig, 2000); /* cut off */
    CHECK(fake_wait_used(&rig.drv, NET_RX, &id, &len));
    CHECK_INT(id, 1);
    CHECK_INT(len, 1526);
    CHECK(!fake_take_used(&rig.drv.queues[NET_RX], &id, &len));
    CHECK_INT(metric_get(&rig.metrics->rx_fails), 1);
    tear_down(&rig);
}

TEST(net, buffers_in_small_pieces_are_filled_across)
{
    struct net_config config = {0};
    struct rig rig;
    gpa_t at;
    gpa_t large;
    uint32_t id;
    uint32_t len;

    set_up(&rig, &config, ALL_FEATURES);
    at = fake_alloc(&rig.drv, 64, 1);
    large = fake_alloc(&rig.drv, 70000, 1);
    /* the header in pieces of 7 and 4 bytes, its last byte with the frame */
    fake_put_desc(&rig.drv.queues[NET_RX], 0, at, 7, FAKE_WRITE | FAKE_NEXT, 1);
    fake_put_desc(&rig.drv.queues[NET_RX], 1, GPA(at.v + 20), 4, FAKE_WRITE | FAKE_NEXT, 2);
    fake_put_desc(&rig.drv.queues[NET_RX], 2, large, 70000, FAKE_WRITE, 0);
    fake_offer(&rig.drv.queues[NET_RX], 0);
    fake_kick(&rig.drv, NET_RX);
    arrive(&rig, 100);
    CHECK(fake_wait_used(&rig.drv, NET_RX, &id, &len));
    CHECK_INT(len, 100);
    CHECK_INT(*(uint8_t *)fake_ptr(&rig.drv, GPA(at.v + 23), 1), 1);
    CHECK_INT(*(uint8_t *)fake_ptr(&rig.drv, large, 1), 0);
    CHECK_INT(((uint8_t *)fake_ptr(&rig.drv, large, 89))[88], 99);
    tear_down(&rig);
}

/* Offer a frame of `len` bytes with the source address `mac`. */
static void offer_tx(struct rig *rig, uint16_t slot, uint32_t len, const uint8_t *mac)
{
    gpa_t at = fake_alloc(&rig->drv, len, 1);
    uint8_t *frame = fake_ptr(&rig->drv, at, len);

    memset(frame, 0, len);
    if (len >= NET_HDR_BYTES + NET_ETH_BYTES) {
        memcpy(frame + NET_HDR_BYTES + 6, mac, 6);
    }
    fake_put_desc(&rig->drv.queues[NET_TX], slot, at, len, 0, 0);
    fake_offer(&rig->drv.queues[NET_TX], slot);
}

TEST(net, frames_are_sent_whole_and_impossible_ones_dropped)
{
    static const uint8_t mac[6] = {6, 1, 2, 3, 4, 5}, other[6] = {6};
    struct net_config config = {.has_mac = true, .mac = {6, 1, 2, 3, 4, 5}};
    struct rig rig;
    uint32_t id;
    uint32_t len;

    set_up(&rig, &config, ALL_FEATURES | NET_F_MAC);
    offer_tx(&rig, 0, 100, mac);
    offer_tx(&rig, 1, 11, mac);
    offer_tx(&rig, 2, NET_FRAME_MAX + 1, mac);
    offer_tx(&rig, 3, 200, other);
    offer_tx(&rig, 4, NET_FRAME_MAX, mac);
    fake_kick(&rig.drv, NET_TX);
    for (unsigned i = 0; i < 5; i++) {
        CHECK(fake_wait_used(&rig.drv, NET_TX, &id, &len));
        CHECK_INT(id, i);
        CHECK_INT(len, 0);
    }
    CHECK_INT(rig.port.out_count, 3);
    CHECK_INT(rig.port.out_len[0], 100);
    CHECK_INT(rig.port.out_len[1], 200);
    CHECK_INT(rig.port.out_len[2], NET_FRAME_MAX);
    CHECK_MEM(rig.port.out[0] + 18, mac, 6);
    CHECK_INT(metric_get(&rig.metrics->tx_malformed_frames), 2);
    CHECK_INT(metric_get(&rig.metrics->tx_spoofed_mac_count), 1);
    CHECK_INT(metric_get(&rig.metrics->tx_bytes_count), 300 + NET_FRAME_MAX);
    CHECK_INT(metric_get(&rig.metrics->tx_packets_count), 3);
    tear_down(&rig);
}

TEST(net, what_the_host_refuses_is_lost_and_counted)
{
    static const uint8_t mac[6] = {0};
    struct net_config config = {0};
    struct rig rig;
    uint32_t id;
    uint32_t len;

    set_up(&rig, &config, ALL_FEATURES);
    rig.port.send_result = -EIO;
    offer_tx(&rig, 0, 100, mac);
    fake_kick(&rig.drv, NET_TX);
    CHECK(fake_wait_used(&rig.drv, NET_TX, &id, &len));
    CHECK_INT(metric_get(&rig.metrics->tap_write_fails), 1);
    CHECK_INT(metric_get(&rig.metrics->tx_packets_count), 0);
    tear_down(&rig);
}

TEST(net, a_refused_frame_waits_for_its_limiter)
{
    static const uint8_t mac[6] = {0};
    struct net_config config = {.rx.ops = {.size = 1, .refill_ms = 50},
                                .tx.ops = {.size = 1, .refill_ms = 50}};
    struct rig rig;
    uint32_t id;
    uint32_t len;

    set_up(&rig, &config, ALL_FEATURES);
    (void)post(&rig, 0, 3, 65562);
    arrive(&rig, 60);
    arrive(&rig, 61);
    offer_tx(&rig, 0, 100, mac);
    offer_tx(&rig, 1, 101, mac);
    fake_kick(&rig.drv, NET_TX);
    for (unsigned i = 0; i < 2; i++) {
        CHECK(fake_wait_used(&rig.drv, NET_RX, &id, &len));
        CHECK_INT(len, 60 + i);
        CHECK(fake_wait_used(&rig.drv, NET_TX, &id, &len));
        CHECK_INT(rig.port.out_len[i], 100 + i);
    }
    CHECK(eventually(&rig.metrics->rx_rate_limiter_throttled, 1));
    CHECK(eventually(&rig.metrics->tx_rate_limiter_throttled, 1));
    CHECK_INT(metric_get(&rig.metrics->rx_event_rate_limiter_count), 1);
    CHECK_INT(metric_get(&rig.metrics->tx_rate_limiter_event_count), 1);
    tear_down(&rig);
}

TEST(net, a_reset_forgets_buffers_and_the_frame_that_waited)
{
    struct net_config config = {.rx.bandwidth = {.size = 100, .refill_ms = 600000}};
    struct rig rig;
    uint32_t id;
    uint32_t len;

    set_up(&rig, &config, ALL_FEATURES);
    (void)post(&rig, 0, 3, 65562);
    arrive(&rig, 60);
    CHECK(fake_wait_used(&rig.drv, NET_RX, &id, &len));
    arrive(&rig, 61);
    CHECK(eventually(&rig.metrics->rx_rate_limiter_throttled, 1));
    fake_driver_start(&rig.drv, ALL_FEATURES, 16);
    CHECK_INT(net_of(rig.dev)->held, 0);
    CHECK_INT(net_of(rig.dev)->pool.count, 0);
    CHECK(!fake_take_used(&rig.drv.queues[NET_RX], &id, &len));
    tear_down(&rig);
}

TEST(net, descriptors_outside_memory_come_back_and_nothing_else_happens)
{
    static const uint8_t mac[6] = {0};
    struct net_config config = {0};
    struct rig rig;
    uint32_t id;
    uint32_t len;

    set_up(&rig, &config, ALL_FEATURES);
    fake_put_desc(&rig.drv.queues[NET_TX], 0, GPA(FAKE_MEM_BYTES - 8), 64, 0, 0);
    fake_put_desc(&rig.drv.queues[NET_TX], 1, GPA(0x1000), 64, FAKE_NEXT, 1); /* a loop */
    fake_put_desc(&rig.drv.queues[NET_TX], 2, GPA(0x1000), 64, FAKE_WRITE, 0);
    for (uint16_t i = 0; i < 3; i++) {
        fake_offer(&rig.drv.queues[NET_TX], i);
    }
    offer_tx(&rig, 3, 100, mac);
    fake_kick(&rig.drv, NET_TX);
    for (unsigned i = 0; i < 4; i++) {
        CHECK(fake_wait_used(&rig.drv, NET_TX, &id, &len));
        CHECK_INT(id, i);
        CHECK_INT(len, 0);
    }
    CHECK_INT(metric_get(&rig.metrics->tx_malformed_frames), 3);
    CHECK_INT(rig.port.out_count, 1);
    /* receive: beyond memory, and one to read from */
    fake_put_desc(&rig.drv.queues[NET_RX], 0, GPA(FAKE_MEM_BYTES - 8), 64, FAKE_WRITE, 0);
    fake_put_desc(&rig.drv.queues[NET_RX], 1, GPA(0x1000), 64, 0, 0);
    fake_offer(&rig.drv.queues[NET_RX], 0);
    fake_offer(&rig.drv.queues[NET_RX], 1);
    (void)post(&rig, 2, 1, 65562);
    arrive(&rig, 60);
    for (unsigned i = 0; i < 3; i++) {
        CHECK(fake_wait_used(&rig.drv, NET_RX, &id, &len));
        CHECK_INT(id, i);
        CHECK_INT(len, i == 2 ? 60 : 0);
    }
    tear_down(&rig);
}

TEST(net, a_driver_that_offers_more_than_it_has_must_reset)
{
    struct net_config config = {0};
    struct rig rig;

    set_up(&rig, &config, ALL_FEATURES);
    for (unsigned i = 0; i <= NET_QUEUE_SIZE; i++) {
        fake_offer(&rig.drv.queues[NET_TX], 0);
    }
    fake_kick(&rig.drv, NET_TX);
    for (unsigned i = 0; i < 1000 && !(fake_reg_read(&rig.drv, 0x070) & VIRTIO_STATUS_NEEDS_RESET);
         i++) {
        (void)usleep(1000);
    }
    CHECK(fake_reg_read(&rig.drv, 0x070) & VIRTIO_STATUS_NEEDS_RESET);
    tear_down(&rig);
}

struct walk {
    struct virtio_dev *dev;
    struct state *state;
};

static void do_save(void *owner)
{
    struct walk *w = owner;

    w->dev->ops->save(w->dev, w->state);
}

TEST(net, a_snapshot_gives_back_buffers_and_keeps_budgets)
{
    struct net_config limited = {.rx.bandwidth = {.size = 1000, .refill_ms = 600000},
                                 .tx.ops = {.size = 5, .refill_ms = 600000}};
    struct net_config plain = {0};
    struct state_file out = {0};
    struct state_file in = {0};
    struct limiter_state kept;
    struct err err = {0};
    struct state s;
    struct rig rig;
    struct walk walk;
    uint32_t id;
    uint32_t len;

    set_up(&rig, &limited, ALL_FEATURES);
    (void)post(&rig, 0, 3, 65562);
    arrive(&rig, 60);
    CHECK(fake_wait_used(&rig.drv, NET_RX, &id, &len));
    arrive(&rig, 950); /* waits for its limiter, in the second buffer */
    CHECK(eventually(&rig.metrics->rx_rate_limiter_throttled, 1));
    state_file_begin(&out);
    state_save(&out, &s, "net");
    walk = (struct walk){.dev = rig.dev, .state = &s};
    loop_call(rig.loop, do_save, &walk);
    CHECK_OK(state_close(&s, &err), &err);
    CHECK_OK(state_file_finish(&out, &err), &err);
    CHECK_INT(rig.dev->queues[NET_RX].avail_seen, 1);
    CHECK_INT(net_of(rig.dev)->held, 0);
    tear_down(&rig);

    set_up(&rig, &plain, 0);
    CHECK_OK(state_file_check(&in, &out.bytes, &err), &err);
    CHECK_OK(state_load(&in, &s, &err, "net"), &err);
    rig.dev->ops->load(rig.dev, &s);
    CHECK_OK(state_close(&s, &err), &err);
    limiter_save(&net_of(rig.dev)->rx_limiter, &kept);
    CHECK_INT(kept.bandwidth.config.size, 1000);
    CHECK_INT(kept.bandwidth.budget, 940);
    limiter_save(&net_of(rig.dev)->tx_limiter, &kept);
    CHECK_INT(kept.ops.budget, 5);
    tear_down(&rig);
    state_file_fini(&out);
    state_file_fini(&in);
}
