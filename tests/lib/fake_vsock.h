/* fake_vsock.h — a guest's vsock driver, on a device with real Unix sockets behind it.
 *
 *     struct fake_vsock g;
 *     fake_vsock_init(&g);                 device held by a loop thread, driver not up
 *     fake_vsock_up(&g, FAKE_FEATURES);    driver up, rx buffers offered
 *     fake_vsock_recv(&g, &g.packet)       the next packet for the guest, false after a while
 *     fake_vsock_send(&g, op, ...)         a packet from the guest
 *     fake_vsock_fini(&g);
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/clock.h"
#include "dev/vsock/vsock_int.h"
#include "host/vsock_uds.h"
#include "io/loop.h"
#include "tests/lib/fake_driver.h"

#define FAKE_CID      77u
#define FAKE_RX_COUNT 64u
#define FAKE_RX_BYTES (VSOCK_HDR_BYTES + 4096)
#define FAKE_TX_MAX   65536u

struct fake_packet {
    struct vsock_hdr hdr;
    size_t len; /* of data, as the used ring has it */
    uint8_t data[65536];
};

struct fake_vsock {
    struct fake_driver drv;
    struct loop *loop;
    struct stream_port *port;
    struct vsock *dev;
    char path[64];
    gpa_t rx;
    gpa_t tx;
    bool no_refill; /* keep rx buffers once used */
    uint32_t buf_alloc;
    uint32_t fwd_cnt;
    uint16_t rx_taken[FAKE_RX_COUNT];
    unsigned rx_taken_count;
    struct fake_packet packet;
};

static inline void fake_vsock_init(struct fake_vsock *g)
{
    static unsigned serial;
    struct vsock_config config = {.guest_cid = FAKE_CID, .request_timeout_ns = 20 * NS_PER_S};
    struct virtio_dev *dev;
    struct err err = {0};

    memset(g, 0, sizeof(*g));
    g->buf_alloc = 1u << 18;
    (void)snprintf(g->path, sizeof(g->path), "/tmp/ec1-test-%d-%u.sock", getpid(), serial++);
    fake_driver_init(&g->drv);
    CHECK_OK(loop_new(&g->loop, &err), &err);
    CHECK_OK(vsock_uds_new(g->path, &g->port, &err), &err);
    config.port = g->port;
    CHECK_OK(vsock_new(&config, g->drv.mem, g->loop, &dev, &err), &err);
    g->dev = vsock_of(dev);
    fake_driver_attach(&g->drv, dev);
    CHECK_OK(loop_thread_start(g->loop, "vsock", &err), &err);
}

static inline void fake_vsock_fini(struct fake_vsock *g)
{
    loop_thread_stop(g->loop);
    fake_driver_fini(&g->drv);
    loop_free(g->loop);
    stream_port_free(g->port);
    CHECK(access(g->path, F_OK) < 0);
}

static inline void fake_vsock_offer_rx(struct fake_vsock *g, unsigned slot)
{
    fake_put_desc(&g->drv.queues[VSOCK_RX], slot, GPA(g->rx.v + slot * FAKE_RX_BYTES),
                  (uint32_t)FAKE_RX_BYTES, FAKE_WRITE, 0);
    fake_offer(&g->drv.queues[VSOCK_RX], (uint16_t)slot);
}

/* Driver up, without rx buffers. */
static inline void fake_vsock_up_bare(struct fake_vsock *g, uint64_t features)
{
    g->drv.brk = GPA(0x1000);
    fake_driver_start(&g->drv, features, FAKE_RX_COUNT);
    g->rx = fake_alloc(&g->drv, FAKE_RX_COUNT * FAKE_RX_BYTES, 64);
    g->tx = fake_alloc(&g->drv, VSOCK_HDR_BYTES + FAKE_TX_MAX, 64);
}

static inline void fake_vsock_offer_all(struct fake_vsock *g)
{
    for (unsigned i = 0; i < FAKE_RX_COUNT; i++) {
        fake_vsock_offer_rx(g, i);
    }
    fake_kick(&g->drv, VSOCK_RX);
}

static inline void fake_vsock_up(struct fake_vsock *g, uint64_t features)
{
    fake_vsock_up_bare(g, features);
    fake_vsock_offer_all(g);
}

/* Send bytes as they are, in two descriptors if they are longer than a header. */
static inline void fake_vsock_send_raw(struct fake_vsock *g, const void *hdr, size_t hdr_len,
                                       const void *data, size_t len)
{
    struct fake_queue *q = &g->drv.queues[VSOCK_TX];
    uint32_t id;
    uint32_t used;

    CHECK(len <= FAKE_TX_MAX);
    CHECK_INT(mem_write(g->drv.mem, g->tx, hdr, hdr_len), 0);
    if (len) {
        CHECK_INT(mem_write(g->drv.mem, GPA(g->tx.v + VSOCK_HDR_BYTES), data, len), 0);
        fake_put_desc(q, 1, GPA(g->tx.v + VSOCK_HDR_BYTES), (uint32_t)len, 0, 0);
    }
    fake_put_desc(q, 0, g->tx, (uint32_t)hdr_len, len ? FAKE_NEXT : 0, 1);
    fake_offer(q, 0);
    fake_kick(&g->drv, VSOCK_TX);
    CHECK(fake_wait_used(&g->drv, VSOCK_TX, &id, &used));
    CHECK_INT(id, 0);
    CHECK_INT(used, 0);
}

static inline struct vsock_hdr fake_vsock_header(const struct fake_vsock *g, unsigned op,
                                                 uint32_t guest_port, uint32_t host_port)
{
    return (struct vsock_hdr){.src_cid = FAKE_CID,
                              .dst_cid = VSOCK_HOST_CID,
                              .src_port = guest_port,
                              .dst_port = host_port,
                              .type = VSOCK_TYPE_STREAM,
                              .op = (uint16_t)op,
                              .buf_alloc = g->buf_alloc,
                              .fwd_cnt = g->fwd_cnt};
}

static inline void fake_vsock_send(struct fake_vsock *g, unsigned op, uint32_t guest_port,
                                   uint32_t host_port, uint32_t flags)
{
    struct vsock_hdr hdr = fake_vsock_header(g, op, guest_port, host_port);

    hdr.flags = flags;
    fake_vsock_send_raw(g, &hdr, sizeof(hdr), NULL, 0);
}

static inline void fake_vsock_send_data(struct fake_vsock *g, uint32_t guest_port,
                                        uint32_t host_port, const void *data, size_t len)
{
    struct vsock_hdr hdr = fake_vsock_header(g, VSOCK_OP_RW, guest_port, host_port);

    hdr.len = (uint32_t)len;
    fake_vsock_send_raw(g, &hdr, sizeof(hdr), data, len);
}

/* The next packet, if one comes within `ms`.  The buffer is offered again at once. */
static inline bool fake_vsock_recv_ms(struct fake_vsock *g, unsigned ms)
{
    struct fake_packet *p = &g->packet;
    uint32_t id;
    uint32_t len;

    for (unsigned waited = 0; !fake_take_used(&g->drv.queues[VSOCK_RX], &id, &len);) {
        if (waited >= ms) {
            return false;
        }
        if (!fake_arm_irq(&g->drv.queues[VSOCK_RX])) {
            waited += fake_wait_irq(&g->drv, 2) ? 0 : 2;
        }
    }
    CHECK(id < FAKE_RX_COUNT);
    CHECK(len >= VSOCK_HDR_BYTES && len <= FAKE_RX_BYTES);
    p->len = len - VSOCK_HDR_BYTES;
    CHECK_INT(mem_read(g->drv.mem, GPA(g->rx.v + id * FAKE_RX_BYTES), &p->hdr, sizeof(p->hdr)), 0);
    CHECK_INT(
        mem_read(g->drv.mem, GPA(g->rx.v + id * FAKE_RX_BYTES + VSOCK_HDR_BYTES), p->data, p->len),
        0);
    CHECK_INT(p->hdr.len, p->len);
    CHECK_INT(p->hdr.src_cid, VSOCK_HOST_CID);
    CHECK_INT(p->hdr.dst_cid, FAKE_CID);
    if (g->no_refill) {
        return true;
    }
    fake_vsock_offer_rx(g, id);
    fake_kick(&g->drv, VSOCK_RX);
    return true;
}

static inline bool fake_vsock_recv(struct fake_vsock *g)
{
    return fake_vsock_recv_ms(g, 5000);
}

/* The next packet must be `op`. */
static inline void fake_vsock_expect(struct fake_vsock *g, enum vsock_op op)
{
    CHECK(fake_vsock_recv(g));
    CHECK_INT(g->packet.hdr.op, op);
}

static inline bool fake_vsock_is_silent(struct fake_vsock *g)
{
    return !fake_vsock_recv_ms(g, 30);
}

/* -- the host's programs --------------------------------------------------------------------- */

static inline struct sockaddr_un fake_addr(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    (void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
    return addr;
}

static inline int fake_dial(const char *path, const char *line)
{
    struct sockaddr_un addr = fake_addr(path);
    struct timeval patience = {.tv_sec = 10};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    CHECK(fd >= 0);
    CHECK_INT(connect(fd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
    CHECK_INT(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
    CHECK_INT(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)), 0);
    CHECK_INT(send(fd, line, strlen(line), MSG_NOSIGNAL), strlen(line));
    return fd;
}

static inline int fake_listen(const char *path, uint32_t port)
{
    char full[100];
    struct sockaddr_un addr;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)snprintf(full, sizeof(full), "%s_%u", path, port);
    (void)unlink(full);
    addr = fake_addr(full);
    CHECK(fd >= 0);
    CHECK_INT(bind(fd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
    CHECK_INT(listen(fd, 128), 0);
    return fd;
}

static inline void fake_unlisten(int fd, const char *path, uint32_t port)
{
    char full[100];

    (void)snprintf(full, sizeof(full), "%s_%u", path, port);
    (void)close(fd);
    CHECK_INT(unlink(full), 0);
}

/* Everything up to the newline, byte by byte; "" at the end of the stream. */
static inline void fake_read_line(int fd, char *line, size_t max)
{
    size_t len = 0;

    while (len + 1 < max && read(fd, line + len, 1) == 1) {
        if (line[len++] == '\n') {
            break;
        }
    }
    line[len] = '\0';
}
