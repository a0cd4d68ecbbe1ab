/* vsock_test.c — connections between a fake guest and programs on real Unix sockets. */
#include <dirent.h>
#include <pthread.h>

#include "base/clock.h"
#include "dev/vsock/vsock.h"
#include "tests/lib/fake_vsock.h"

#define HOST_PORT_FIRST 1073741824u

static struct fake_vsock g;

/* The device's books, looked at on its loop. */
static void count_conns(void *owner)
{
    *(unsigned *)owner = g.dev->conn_count;
}

static unsigned conn_count(void)
{
    unsigned count = 0;

    loop_call(g.loop, count_conns, &count);
    return count;
}

static bool conns_become(unsigned want)
{
    for (unsigned i = 0; i < 1000; i++) {
        if (conn_count() == want) {
            return true;
        }
        (void)usleep(2000);
    }
    return false;
}

/* A program connects to guest port 52 and the guest accepts. */
static int open_from_host(void)
{
    char line[64];
    int fd = fake_dial(g.path, "CONNECT 52\n");

    fake_vsock_expect(&g, VSOCK_OP_REQUEST);
    CHECK_INT(g.packet.hdr.dst_port, 52);
    CHECK_INT(g.packet.hdr.type, VSOCK_TYPE_STREAM);
    fake_vsock_send(&g, VSOCK_OP_RESPONSE, 52, g.packet.hdr.src_port, 0);
    fake_read_line(fd, line, sizeof(line));
    CHECK_HAS(line, "OK 107374");
    return fd;
}

/* The guest connects from port 9000 to a program at port 700. */
static int open_from_guest(int *ret_listener)
{
    int fd;

    *ret_listener = fake_listen(g.path, 700);
    fake_vsock_send(&g, VSOCK_OP_REQUEST, 9000, 700, 0);
    fake_vsock_expect(&g, VSOCK_OP_RESPONSE);
    CHECK_INT(g.packet.hdr.src_port, 700);
    CHECK_INT(g.packet.hdr.dst_port, 9000);
    CHECK_INT(g.packet.hdr.buf_alloc, VSOCK_BUF_BYTES);
    fd = accept4(*ret_listener, NULL, NULL, SOCK_CLOEXEC);
    CHECK(fd >= 0);
    return fd;
}

TEST(vsock, the_configuration_is_the_guest_cid)
{
    fake_vsock_init(&g);
    CHECK_INT(fake_reg_read(&g.drv, 0x008), VIRTIO_ID_VSOCK);
    CHECK_INT(fake_reg_read(&g.drv, 0x100), FAKE_CID);
    CHECK_INT(fake_reg_read(&g.drv, 0x104), 0);
    CHECK_INT(fake_reg_read(&g.drv, 0x108), 0);
    CHECK_INT(fake_reg_read(&g.drv, 0x034), 256);
    fake_reg_write(&g.drv, 0x100, 5);
    CHECK_INT(fake_reg_read(&g.drv, 0x100), FAKE_CID);
    fake_vsock_fini(&g);
}

TEST(vsock, a_host_connection_is_held_until_the_driver_is_up)
{
    char line[64];
    int fd;
    int gone;

    fake_vsock_init(&g);
    fd = fake_dial(g.path, "CONNECT 52\n");
    CHECK(conns_become(1));
    gone = fake_dial(g.path, "CONNECT 53\n");
    CHECK(conns_become(2));
    (void)close(gone); /* gave up: forgotten */
    CHECK(conns_become(1));
    fake_vsock_up(&g, FAKE_FEATURES | VIRTIO_F_EVENT_IDX);
    fake_vsock_expect(&g, VSOCK_OP_REQUEST);
    CHECK_INT(g.packet.hdr.src_port, HOST_PORT_FIRST);
    CHECK_INT(g.packet.hdr.dst_port, 52);
    CHECK(fake_vsock_is_silent(&g));
    fake_vsock_send(&g, VSOCK_OP_RESPONSE, 52, HOST_PORT_FIRST, 0);
    fake_read_line(fd, line, sizeof(line));
    CHECK_STR(line, "OK 1073741824\n");
    (void)close(fd);
    fake_vsock_expect(&g, VSOCK_OP_SHUTDOWN);
    CHECK_INT(g.packet.hdr.flags, VSOCK_SHUTDOWN_BOTH);
    fake_vsock_send(&g, VSOCK_OP_RST, 52, HOST_PORT_FIRST, 0);
    CHECK(conns_become(0));
    fake_vsock_fini(&g);
}

TEST(vsock, a_refusing_guest_closes_the_host_connection)
{
    char byte;
    int fd;

    fake_vsock_init(&g);
    fake_vsock_up(&g, FAKE_FEATURES);
    fd = fake_dial(g.path, "CONNECT 99\n");
    fake_vsock_expect(&g, VSOCK_OP_REQUEST);
    fake_vsock_send(&g, VSOCK_OP_RST, 99, g.packet.hdr.src_port, 0);
    CHECK_INT(read(fd, &byte, 1), 0);
    CHECK(conns_become(0));
    (void)close(fd);
    fake_vsock_fini(&g);
}

TEST(vsock, a_program_that_wrote_and_left_is_still_heard)
{
    int fd;

    fake_vsock_init(&g);
    fd = fake_dial(g.path, "CONNECT 52\nlast words");
    CHECK(conns_become(1));
    (void)close(fd);
    (void)usleep(10000);
    fake_vsock_up(&g, FAKE_FEATURES);
    fake_vsock_expect(&g, VSOCK_OP_REQUEST);
    fake_vsock_send(&g, VSOCK_OP_RESPONSE, 52, HOST_PORT_FIRST, 0);
    fake_vsock_expect(&g, VSOCK_OP_RW);
    CHECK_INT(g.packet.len, 10);
    CHECK_MEM(g.packet.data, "last words", 10);
    fake_vsock_expect(&g, VSOCK_OP_SHUTDOWN);
    CHECK_INT(g.packet.hdr.flags, VSOCK_SHUTDOWN_BOTH);
    fake_vsock_fini(&g);
}

TEST(vsock, the_guest_reaches_programs_that_listen_and_only_those)
{
    char text[16] = {0};
    int listener;
    int fd;

    fake_vsock_init(&g);
    fake_vsock_up(&g, FAKE_FEATURES);
    fake_vsock_send(&g, VSOCK_OP_REQUEST, 9000, 701, 0);
    fake_vsock_expect(&g, VSOCK_OP_RST);
    CHECK_INT(g.packet.hdr.src_port, 701);
    CHECK_INT(g.packet.hdr.dst_port, 9000);
    fd = open_from_guest(&listener);
    fake_vsock_send_data(&g, 9000, 700, "ready", 5);
    CHECK_INT(read(fd, text, sizeof(text)), 5);
    CHECK_STR(text, "ready");
    CHECK_INT(write(fd, "go", 2), 2);
    fake_vsock_expect(&g, VSOCK_OP_RW);
    CHECK_INT(g.packet.hdr.fwd_cnt, 5);
    CHECK_MEM(g.packet.data, "go", 2);
    fake_vsock_send(&g, VSOCK_OP_REQUEST, 9000, 700, 0); /* it is open already */
    fake_vsock_expect(&g, VSOCK_OP_RST);
    CHECK_INT(read(fd, text, sizeof(text)), 0);
    CHECK(conns_become(0));
    (void)close(fd);
    fake_unlisten(listener, g.path, 700);
    fake_vsock_fini(&g);
}

/* -- volume ---------------------------------------------------------------------------------- */

#define VOLUME (6u << 20)

static uint8_t byte_at(uint32_t i)
{
    return (uint8_t)((i * 2654435761u) >> 23);
}

static void *write_volume(void *arg)
{
    int fd = *(int *)arg;
    static uint8_t chunk[100000];

    for (uint32_t at = 0; at < VOLUME;) {
        uint32_t len = VOLUME - at < sizeof(chunk) ? VOLUME - at : (uint32_t)sizeof(chunk);

        for (uint32_t i = 0; i < len; i++) {
            chunk[i] = byte_at(at + i);
        }
        for (uint32_t done = 0; done < len;) {
            ssize_t n = send(fd, chunk + done, len - done, MSG_NOSIGNAL);

            if (n < 0) {
                return (void *)1;
            }
            done += (uint32_t)n;
        }
        at += len;
    }
    (void)shutdown(fd, SHUT_WR);
    return NULL;
}

TEST(vsock, volume_from_the_host_arrives_whole_within_the_credit)
{
    pthread_t writer;
    void *result;
    uint32_t got = 0;
    uint32_t port;
    int fd;

    fake_vsock_init(&g);
    fake_vsock_up(&g, FAKE_FEATURES | VIRTIO_F_EVENT_IDX);
    g.buf_alloc = 50000;
    fd = open_from_host();
    port = g.packet.hdr.src_port;
    CHECK_INT(pthread_create(&writer, NULL, write_volume, &fd), 0);
    while (got < VOLUME) {
        CHECK(fake_vsock_recv(&g));
        if (g.packet.hdr.op == VSOCK_OP_RW) {
            for (uint32_t i = 0; i < g.packet.len; i++) {
                if (g.packet.data[i] != byte_at(got + i)) {
                    fail();
                }
            }
            got += (uint32_t)g.packet.len;
            CHECK(got - g.fwd_cnt <= g.buf_alloc);
        }
        if (got - g.fwd_cnt > 40000 || g.packet.hdr.op == VSOCK_OP_CREDIT_REQUEST) {
            g.fwd_cnt = got;
            fake_vsock_send(&g, VSOCK_OP_CREDIT_UPDATE, 52, port, 0);
        }
    }
    do {
        CHECK(fake_vsock_recv(&g));
    } while (g.packet.hdr.op == VSOCK_OP_CREDIT_REQUEST);
    CHECK_INT(g.packet.hdr.op, VSOCK_OP_SHUTDOWN);
    CHECK_INT(g.packet.hdr.flags, VSOCK_SHUTDOWN_SEND);
    CHECK_INT(pthread_join(writer, &result), 0);
    CHECK(result == NULL);
    (void)close(fd);
    fake_vsock_fini(&g);
}

struct reader {
    int fd;
    uint32_t got;
    bool is_wrong;
};

static void *read_volume(void *arg)
{
    struct reader *r = arg;
    static uint8_t chunk[30000];
    ssize_t n;

    while ((n = read(r->fd, chunk, sizeof(chunk))) > 0) {
        for (ssize_t i = 0; i < n; i++) {
            r->is_wrong |= chunk[i] != byte_at(r->got + (uint32_t)i);
        }
        r->got += (uint32_t)n;
        if (r->got % 7 == 0) {
            (void)usleep(300); /* fall behind now and then */
        }
    }
    return NULL;
}

TEST(vsock, volume_from_the_guest_arrives_whole_within_the_credit)
{
    static uint8_t chunk[FAKE_TX_MAX];
    struct reader reader = {0};
    pthread_t thread;
    uint32_t sent = 0;
    uint32_t fwd = 0;
    int listener;

    fake_vsock_init(&g);
    fake_vsock_up(&g, FAKE_FEATURES | VIRTIO_F_EVENT_IDX);
    reader.fd = open_from_guest(&listener);
    CHECK_INT(pthread_create(&thread, NULL, read_volume, &reader), 0);
    while (sent < VOLUME) {
        uint32_t len = VOLUME - sent < FAKE_TX_MAX ? VOLUME - sent : FAKE_TX_MAX;

        while (VSOCK_BUF_BYTES - (sent - fwd) < len) {
            fake_vsock_expect(&g, VSOCK_OP_CREDIT_UPDATE);
            fwd = g.packet.hdr.fwd_cnt;
        }
        for (uint32_t i = 0; i < len; i++) {
            chunk[i] = byte_at(sent + i);
        }
        fake_vsock_send_data(&g, 9000, 700, chunk, len);
        sent += len;
    }
    fake_vsock_send(&g, VSOCK_OP_SHUTDOWN, 9000, 700, VSOCK_SHUTDOWN_SEND);
    CHECK_INT(pthread_join(thread, NULL), 0);
    CHECK_INT(reader.got, VOLUME);
    CHECK(!reader.is_wrong);
    (void)close(reader.fd);
    fake_unlisten(listener, g.path, 700);
    fake_vsock_fini(&g);
}

TEST(vsock, without_credit_nothing_is_sent_but_a_request_for_it)
{
    char text[3000];
    uint32_t port;
    int fd;

    memset(text, 'x', sizeof(text));
    fake_vsock_init(&g);
    fake_vsock_up(&g, FAKE_FEATURES);
    g.buf_alloc = 1000;
    fd = open_from_host();
    port = g.packet.hdr.src_port;
    CHECK_INT(write(fd, text, sizeof(text)), sizeof(text));
    fake_vsock_expect(&g, VSOCK_OP_RW);
    CHECK_INT(g.packet.len, 1000);
    fake_vsock_expect(&g, VSOCK_OP_CREDIT_REQUEST);
    CHECK(fake_vsock_is_silent(&g));
    g.buf_alloc = 10; /* takes back what it granted */
    fake_vsock_send(&g, VSOCK_OP_CREDIT_UPDATE, 52, port, 0);
    CHECK(fake_vsock_is_silent(&g));
    g.buf_alloc = 5000;
    fake_vsock_send(&g, VSOCK_OP_CREDIT_REQUEST, 52, port, 0);
    fake_vsock_expect(&g, VSOCK_OP_RW);
    CHECK_INT(g.packet.len, 2000);
    (void)close(fd);
    fake_vsock_fini(&g);
}

TEST(vsock, a_guest_that_ignores_its_credit_is_reset)
{
    static uint8_t chunk[FAKE_TX_MAX];
    int listener;
    int fd;

    fake_vsock_init(&g);
    fake_vsock_up(&g, FAKE_FEATURES);
    fd = open_from_guest(&listener); /* which does not read */
    for (unsigned i = 0; i < 20; i++) {
        fake_vsock_send_data(&g, 9000, 700, chunk, sizeof(chunk));
    }
    do {
        CHECK(fake_vsock_recv(&g));
    } while (g.packet.hdr.op == VSOCK_OP_CREDIT_UPDATE);
    CHECK_INT(g.packet.hdr.op, VSOCK_OP_RST);
    (void)close(fd);
    CHECK(conns_become(0));
    fake_unlisten(listener, g.path, 700);
    fake_vsock_fini(&g);
}

TEST(vsock, without_buffers_data_stays_in_the_socket)
{
    char text[200];
    int fd;
    uint32_t got = 0;

    memset(text, 'y', sizeof(text));
    fake_vsock_init(&g);
    fake_vsock_up_bare(&g, FAKE_FEATURES | VIRTIO_F_EVENT_IDX);
    g.no_refill = true;
    fake_vsock_offer_rx(&g, 0);
    fake_vsock_offer_rx(&g, 1);
    fake_kick(&g.drv, VSOCK_RX);
    fd = open_from_host();
    CHECK_INT(write(fd, text, sizeof(text)), sizeof(text));
    fake_vsock_expect(&g, VSOCK_OP_RW);
    for (unsigned i = 0; i < 50; i++) {
        CHECK_INT(write(fd, text, sizeof(text)), sizeof(text));
    }
    CHECK(fake_vsock_is_silent(&g));
    g.no_refill = false;
    for (unsigned i = 2; i < 6; i++) {
        fake_vsock_offer_rx(&g, i);
    }
    fake_kick(&g.drv, VSOCK_RX);
    while (got < 50 * sizeof(text)) {
        fake_vsock_expect(&g, VSOCK_OP_RW);
        got += (uint32_t)g.packet.len;
    }
    CHECK_INT(got, 50 * sizeof(text));
    (void)close(fd);
    fake_vsock_expect(&g, VSOCK_OP_SHUTDOWN);
    fake_vsock_fini(&g);
}

/* -- endings --------------------------------------------------------------------------------- */

TEST(vsock, half_closes_end_one_direction_each)
{
    char text[16] = {0};
    uint32_t port;
    int fd;

    fake_vsock_init(&g);
    fake_vsock_up(&g, FAKE_FEATURES);
    fd = open_from_host();
    port = g.packet.hdr.src_port;
    CHECK_INT(write(fd, "stdin", 5), 5);
    CHECK_INT(shutdown(fd, SHUT_WR), 0);
    fake_vsock_expect(&g, VSOCK_OP_RW);
    fake_vsock_expect(&g, VSOCK_OP_SHUTDOWN);
    CHECK_INT(g.packet.hdr.flags, VSOCK_SHUTDOWN_SEND);
    fake_vsock_send_data(&g, 52, port, "stdout", 6);
    CHECK_INT(read(fd, text, sizeof(text)), 6);
    CHECK_STR(text, "stdout");
    fake_vsock_send(&g, VSOCK_OP_SHUTDOWN, 52, port, VSOCK_SHUTDOWN_SEND);
    CHECK_INT(read(fd, text, sizeof(text)), 0);
    fake_vsock_expect(&g, VSOCK_OP_SHUTDOWN); /* both ends have ended: so has the connection */
    CHECK_INT(g.packet.hdr.flags, VSOCK_SHUTDOWN_BOTH);
    fake_vsock_send(&g, VSOCK_OP_SHUTDOWN, 52, port, VSOCK_SHUTDOWN_BOTH);
    fake_vsock_expect(&g, VSOCK_OP_RST);
    CHECK(conns_become(0));
    (void)close(fd);
    fake_vsock_fini(&g);
}

TEST(vsock, the_guest_may_end_its_half_first)
{
    char text[16] = {0};
    int listener;
    int fd;

    fake_vsock_init(&g);
    fake_vsock_up(&g, FAKE_FEATURES);
    fd = open_from_guest(&listener);
    fake_vsock_send(&g, VSOCK_OP_SHUTDOWN, 9000, 700, VSOCK_SHUTDOWN_SEND);
    CHECK_INT(read(fd, text, sizeof(text)), 0);
    CHECK_INT(write(fd, "later", 5), 5);
    fake_vsock_expect(&g, VSOCK_OP_RW);
    fake_vsock_send_data(&g, 9000, 700, "x", 1); /* it said it would not */
    fake_vsock_expect(&g, VSOCK_OP_RST);
    (void)close(fd);
    fd = open_from_guest(&listener);
    fake_vsock_send(&g, VSOCK_OP_SHUTDOWN, 9000, 700, VSOCK_SHUTDOWN_RCV);
    (void)usleep(20000);
    CHECK(send(fd, "x", 1, MSG_NOSIGNAL) < 0);
    fake_vsock_send_data(&g, 9000, 700, "still", 5);
    CHECK_INT(read(fd, text, 5), 5);
    (void)close(fd);
    fake_vsock_expect(&g, VSOCK_OP_SHUTDOWN);
    CHECK_INT(g.packet.hdr.flags, VSOCK_SHUTDOWN_BOTH);
    fake_unlisten(listener, g.path, 700);
    fake_vsock_fini(&g);
}

TEST(vsock, what_the_guest_sent_before_it_closed_reaches_the_host)
{
    static uint8_t chunk[FAKE_TX_MAX];
    struct reader reader = {0};
    int listener;

    for (uint32_t i = 0; i < sizeof(chunk); i++) {
        chunk[i] = byte_at(i);
    }
    fake_vsock_init(&g);
    fake_vsock_up(&g, FAKE_FEATURES);
    for (unsigned round = 0; round < 3; round++) {
        int small = 4096;

        reader = (struct reader){.fd = open_from_guest(&listener)};
        (void)setsockopt(reader.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
        for (unsigned i = 0; i < 4; i++) {
            for (uint32_t k = 0; k < sizeof(chunk); k++) {
                chunk[k] = byte_at(i * (uint32_t)sizeof(chunk) + k);
            }
            fake_vsock_send_data(&g, 9000, 700, chunk, sizeof(chunk));
        }
        if (round == 0) { /* an orderly end, an abrupt one, a reset of the device */
            fake_vsock_send(&g, VSOCK_OP_SHUTDOWN, 9000, 700, VSOCK_SHUTDOWN_BOTH);
        } else if (round == 1) {
            fake_vsock_send(&g, VSOCK_OP_RST, 9000, 700, 0);
        } else {
            fake_reg_write(&g.drv, 0x070, 0);
        }
        (void)read_volume(&reader);
        CHECK_INT(reader.got, 4 * sizeof(chunk));
        CHECK(!reader.is_wrong);
        CHECK(conns_become(0));
        (void)close(reader.fd);
        fake_unlisten(listener, g.path, 700);
        if (round == 0) {
            do {
                CHECK(fake_vsock_recv(&g));
            } while (g.packet.hdr.op == VSOCK_OP_CREDIT_UPDATE);
            CHECK_INT(g.packet.hdr.op, VSOCK_OP_RST);
        }
        while (round < 2 && !fake_vsock_is_silent(&g)) {
            CHECK_INT(g.packet.hdr.op, VSOCK_OP_CREDIT_UPDATE);
        }
    }
    fake_vsock_fini(&g);
}

TEST(vsock, a_host_that_leaves_with_the_guest_sending_is_noticed)
{
    int listener;
    int fd;

    fake_vsock_init(&g);
    fake_vsock_up(&g, FAKE_FEATURES);
    fd = open_from_guest(&listener);
    CHECK_INT(write(fd, "bye", 3), 3);
    (void)close(fd);
    fake_vsock_expect(&g, VSOCK_OP_RW);
    fake_vsock_expect(&g, VSOCK_OP_SHUTDOWN);
    CHECK_INT(g.packet.hdr.flags, VSOCK_SHUTDOWN_BOTH);
    fake_vsock_send_data(&g, 9000, 700, "crossing", 8); /* on the way already: harmless */
    CHECK(fake_vsock_is_silent(&g));
    fake_vsock_send(&g, VSOCK_OP_RST, 9000, 700, 0);
    CHECK(conns_become(0));
    fake_unlisten(listener, g.path, 700);
    fake_vsock_fini(&g);
}

TEST(vsock, a_reset_closes_what_is_open_and_holds_what_was_asked)
{
    char byte;
    int open;
    int asked;

    fake_vsock_init(&g);
    fake_vsock_up(&g, FAKE_FEATURES);
    open = open_from_host();
    asked = fake_dial(g.path, "CONNECT 60\n");
    fake_vsock_expect(&g, VSOCK_OP_REQUEST);
    fake_reg_write(&g.drv, 0x070, 0);
    CHECK_INT(read(open, &byte, 1), 0);
    CHECK_INT(conn_count(), 1);
    fake_vsock_up(&g, FAKE_FEATURES);
    fake_vsock_expect(&g, VSOCK_OP_REQUEST);
    CHECK_INT(g.packet.hdr.dst_port, 60);
    (void)close(asked); /* before the answer */
    fake_vsock_expect(&g, VSOCK_OP_RST);
    CHECK(conns_become(0));
    (void)close(open);
    fake_vsock_fini(&g);
}

/* -- many ------------------------------------------------------------------------------------ */

static unsigned open_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned count = 0;

    CHECK(dir != NULL);
    while (readdir(dir)) {
        count++;
    }
    (void)closedir(dir);
    return count;
}

TEST(vsock, a_thousand_connections_come_and_go_without_a_trace)
{
    unsigned before;
    char text[4];

    fake_vsock_init(&g);
    fake_vsock_up(&g, FAKE_FEATURES | VIRTIO_F_EVENT_IDX);
    before = open_fds();
    for (unsigned i = 0; i < 1000; i++) {
        int fd = open_from_host();
        uint32_t port = g.packet.hdr.src_port;

        CHECK_INT(port, HOST_PORT_FIRST + i);
        fake_vsock_send_data(&g, 52, port, "hi", 2);
        CHECK_INT(read(fd, text, 2), 2);
        if (i % 2) {
            (void)close(fd);
            fake_vsock_expect(&g, VSOCK_OP_SHUTDOWN);
            fake_vsock_send(&g, VSOCK_OP_RST, 52, port, 0);
        } else {
            fake_vsock_send(&g, VSOCK_OP_SHUTDOWN, 52, port, VSOCK_SHUTDOWN_BOTH);
            fake_vsock_expect(&g, VSOCK_OP_RST);
            (void)close(fd);
        }
    }
    CHECK(conns_become(0));
    CHECK_INT(open_fds(), before);
    fake_vsock_fini(&g);
}

TEST(vsock, connections_beyond_the_limit_are_refused)
{
    static int fds[VSOCK_CONN_MAX + 1];
    char byte;

    fake_vsock_init(&g);
    for (unsigned i = 0; i < VSOCK_CONN_MAX; i++) {
        fds[i] = fake_dial(g.path, "CONNECT 52\n");
    }
    CHECK(conns_become(VSOCK_CONN_MAX));
    fds[VSOCK_CONN_MAX] = fake_dial(g.path, "CONNECT 52\n");
    CHECK_INT(read(fds[VSOCK_CONN_MAX], &byte, 1), 0);
    fake_vsock_up(&g, FAKE_FEATURES);
    for (unsigned i = 0; i < VSOCK_CONN_MAX; i++) {
        fake_vsock_expect(&g, VSOCK_OP_REQUEST);
    }
    for (unsigned i = 0; i <= VSOCK_CONN_MAX; i++) {
        (void)close(fds[i]);
    }
    for (unsigned i = 0; i < VSOCK_CONN_MAX; i++) {
        fake_vsock_expect(&g, VSOCK_OP_RST);
    }
    CHECK(conns_become(0));
    fake_vsock_fini(&g);
}

/* -- hostile --------------------------------------------------------------------------------- */

TEST(vsock, hostile_headers_are_dropped_or_reset)
{
    static const struct {
        struct vsock_hdr hdr;
        bool is_reset; /* else silence */
    } rows[] = {
        {{FAKE_CID, 2, 1, 2, 0, 1, VSOCK_OP_RW, 0, 0, 0}, true},
        {{FAKE_CID, 2, 1, 2, 0, 1, VSOCK_OP_RST, 0, 0, 0}, false},
        {{FAKE_CID, 2, 1, 2, 0, 1, VSOCK_OP_SHUTDOWN, 3, 0, 0}, true},
        {{FAKE_CID, 2, 1, 2, 0, 1, VSOCK_OP_RESPONSE, 0, 0, 0}, true},
        {{FAKE_CID, 2, 1, 2, 0, 1, 0, 0, 0, 0}, true},
        {{FAKE_CID, 2, 1, 2, 0, 1, 99, 0, 0, 0}, true},
        {{FAKE_CID, 2, 1, 2, 0, 2, VSOCK_OP_REQUEST, 0, 0, 0}, true}, /* not a stream */
        {{FAKE_CID, 2, 1, 2, 1, 1, VSOCK_OP_RW, 0, 0, 0}, false},     /* longer than it is */
        {{FAKE_CID, 2, 1, 2, UINT32_MAX, 1, VSOCK_OP_RW, 0, 0, 0}, false},
        {{FAKE_CID + 1, 2, 1, 2, 0, 1, VSOCK_OP_REQUEST, 0, 0, 0}, false}, /* not its CID */
        {{2, 2, 1, 2, 0, 1, VSOCK_OP_REQUEST, 0, 0, 0}, false},
        {{FAKE_CID, 3, 1, 2, 0, 1, VSOCK_OP_REQUEST, 0, 0, 0}, false}, /* not the host */
    };
    int fd;

    fake_vsock_init(&g);
    fake_vsock_up(&g, FAKE_FEATURES);
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        fake_vsock_send_raw(&g, &rows[i].hdr, sizeof(rows[i].hdr), NULL, 0);
        if (rows[i].is_reset) {
            fake_vsock_expect(&g, VSOCK_OP_RST);
            CHECK_INT(g.packet.hdr.type, rows[i].hdr.type);
            CHECK_INT(g.packet.hdr.src_port, 2);
            CHECK_INT(g.packet.hdr.dst_port, 1);
        } else {
            CHECK(fake_vsock_is_silent(&g));
        }
    }
    fake_vsock_send_raw(&g, &rows[0].hdr, 43, NULL, 0); /* cut off */
    CHECK(fake_vsock_is_silent(&g));
    fd = open_from_host();
    fake_vsock_send(&g, 42, 52, g.packet.hdr.src_port, 0); /* no such operation */
    fake_vsock_expect(&g, VSOCK_OP_RST);
    (void)close(fd);
    fd = fake_dial(g.path, "CONNECT 52\n");
    fake_vsock_expect(&g, VSOCK_OP_REQUEST);
    fake_vsock_send_data(&g, 52, g.packet.hdr.src_port, "x", 1); /* did not accept yet */
    fake_vsock_expect(&g, VSOCK_OP_RST);
    (void)close(fd);
    CHECK(conns_become(0));
    fake_vsock_fini(&g);
}

TEST(vsock, resets_are_never_lost_and_never_pile_up)
{
    struct vsock_hdr hdr;
    struct fake_queue *tx;
    uint32_t id;
    uint32_t len;
    unsigned sent = 0;
    unsigned done = 0;

    fake_vsock_init(&g);
    fake_vsock_up_bare(&g, FAKE_FEATURES);
    hdr = fake_vsock_header(&g, VSOCK_OP_RW, 5, 6);
    tx = &g.drv.queues[VSOCK_TX];
    CHECK_INT(mem_write(g.drv.mem, g.tx, &hdr, sizeof(hdr)), 0);
    for (unsigned i = 0; i < tx->size; i++) {
        fake_put_desc(tx, i, g.tx, sizeof(hdr), 0, 0);
    }
    for (unsigned round = 0; round < 200; round++) {
        while (sent - done < tx->size && sent < 1000) {
            fake_offer(tx, (uint16_t)(sent++ % tx->size));
        }
        fake_kick(&g.drv, VSOCK_TX);
        (void)usleep(100);
        while (fake_take_used(tx, &id, &len)) {
            done++;
        }
    }
    CHECK_INT(done, VSOCK_STRAY_MAX); /* no buffer to tell the guest: it waits */
    fake_vsock_offer_all(&g);
    for (unsigned i = 0; i < 1000; i++) {
        while (sent - done < tx->size && sent < 1000) {
            fake_offer(tx, (uint16_t)(sent++ % tx->size));
        }
        fake_kick(&g.drv, VSOCK_TX);
        fake_vsock_expect(&g, VSOCK_OP_RST);
        while (fake_take_used(tx, &id, &len)) {
            done++;
        }
    }
    fake_vsock_fini(&g);
}

TEST(vsock, buffers_too_small_for_a_header_come_back_empty)
{
    uint32_t id;
    uint32_t len;
    int fd;

    fake_vsock_init(&g);
    fake_vsock_up_bare(&g, FAKE_FEATURES);
    fake_put_desc(&g.drv.queues[VSOCK_RX], 9, g.rx, 44, FAKE_WRITE, 0);
    fake_offer(&g.drv.queues[VSOCK_RX], 9);
    fake_put_desc(&g.drv.queues[VSOCK_RX], 10, g.rx, 44, 0, 0); /* not writable */
    fake_offer(&g.drv.queues[VSOCK_RX], 10);
    fake_vsock_offer_rx(&g, 0);
    fake_kick(&g.drv, VSOCK_RX);
    fd = fake_dial(g.path, "CONNECT 52\n");
    CHECK(fake_wait_used(&g.drv, VSOCK_RX, &id, &len));
    CHECK_INT(id, 9);
    CHECK_INT(len, 0);
    CHECK(fake_wait_used(&g.drv, VSOCK_RX, &id, &len));
    CHECK_INT(id, 10);
    fake_vsock_expect(&g, VSOCK_OP_REQUEST);
    (void)close(fd);
    fake_vsock_fini(&g);
}

TEST(vsock, random_packets_leave_the_device_alive)
{
    unsigned seed = 4711;
    int64_t until;
    int listener;
    int fd;

    fake_vsock_init(&g);
    fake_vsock_up(&g, FAKE_FEATURES);
    listener = fake_listen(g.path, 1);
    CHECK_INT(fcntl(listener, F_SETFL, O_NONBLOCK), 0);
    until = clock_mono_ns() + NS_PER_S / 2;
    while (clock_mono_ns() < until) {
        uint8_t data[64];
        struct vsock_hdr hdr =
            fake_vsock_header(&g, (unsigned)rand_r(&seed) % 9, (uint32_t)rand_r(&seed) % 4,
                              (uint32_t)rand_r(&seed) % 3);
        size_t len = (size_t)rand_r(&seed) % sizeof(data);

        memset(data, 1, sizeof(data));
        hdr.len = rand_r(&seed) % 4 ? (uint32_t)len : (uint32_t)rand_r(&seed);
        hdr.flags = (uint32_t)rand_r(&seed) % 5;
        hdr.buf_alloc = rand_r(&seed) % 4 ? 4096 : (uint32_t)rand_r(&seed);
        hdr.fwd_cnt = rand_r(&seed) % 4 ? 0 : (uint32_t)rand_r(&seed);
        fake_vsock_send_raw(&g, &hdr, sizeof(hdr), data, len);
        while (fake_vsock_recv_ms(&g, 0)) {
        }
        fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0) {
            (void)!write(fd, data, sizeof(data));
            (void)close(fd);
        }
    }
    fake_unlisten(listener, g.path, 1);
    fake_reg_write(&g.drv, 0x070, 0);
    CHECK(conns_become(0));
    fake_vsock_up(&g, FAKE_FEATURES);
    fd = open_from_host();
    (void)close(fd);
    fake_vsock_fini(&g);
}
