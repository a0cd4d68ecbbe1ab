/* vhost_user_test.c — agreeing with a peer, and peers that are not there, or not what they seem.
 * tests/fc drives a real one. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/clock.h"
#include "host/vhost_user.h"
#include "tests/lib/test.h"

enum mood { POLITE, CLOSES, SILENT, WRONG_REPLY, WRONG_SIZE, NO_PROTOCOL };

struct peer {
    char path[64];
    int listener;
    pthread_t thread;
    enum mood mood;
    uint32_t requests[32];
    unsigned count;
};

static void reply(int fd, const struct peer *p, uint32_t request, const void *body, uint32_t len)
{
    uint32_t header[3] = {p->mood == WRONG_REPLY ? request + 1 : request, 5,
                          p->mood == WRONG_SIZE ? len + 1 : len};

    (void)send(fd, header, sizeof(header), MSG_NOSIGNAL);
    (void)send(fd, body, len, MSG_NOSIGNAL);
}

static void serve(struct peer *p, int fd)
{
    uint32_t header[3];
    uint8_t body[1024];
    uint64_t features = UINT64_C(1) << 32 | (p->mood == NO_PROTOCOL ? 0 : 1u << 30) | 1u << 9;

    while (recv(fd, header, sizeof(header), MSG_WAITALL) == sizeof(header)) {
        if (p->mood == CLOSES) {
            return;
        }
        CHECK(header[2] <= sizeof(body));
        if (header[2] && recv(fd, body, header[2], MSG_WAITALL) != (ssize_t)header[2]) {
            return;
        }
        p->requests[p->count++ % 32] = header[0];
        if (p->mood == SILENT) {
            continue;
        }
        switch (header[0]) {
        case 1: reply(fd, p, 1, &features, 8); break;
        case 11: reply(fd, p, 11, body, 8); break;
        case 15: reply(fd, p, 15, &(uint64_t){UINT64_MAX}, 8); break;
        case 24:
            body[12] = 0x42;
            reply(fd, p, 24, body, header[2]);
            break;
        default: break;
        }
    }
}

static void *peer_main(void *arg)
{
    struct peer *p = arg;
    int fd = accept(p->listener, NULL, NULL);

    serve(p, fd);
    (void)close(fd);
    return NULL;
}

static void peer_start(struct peer *p, enum mood mood)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    memset(p, 0, sizeof(*p));
    p->mood = mood;
    (void)snprintf(p->path, sizeof(p->path), "/tmp/ec1-vhost-test-%d", getpid());
    (void)unlink(p->path);
    memcpy(addr.sun_path, p->path, strlen(p->path));
    p->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_INT(bind(p->listener, (const struct sockaddr *)&addr, sizeof(addr)), 0);
    CHECK_INT(listen(p->listener, 1), 0);
    CHECK_INT(pthread_create(&p->thread, NULL, peer_main, p), 0);
}

static void peer_stop(struct peer *p)
{
    (void)pthread_join(p->thread, NULL);
    (void)close(p->listener);
    (void)unlink(p->path);
}

TEST(vhost_user, both_agree_and_the_ring_is_served_in_the_order_of_the_protocol)
{
    static const uint32_t want[] = {3, 1, 15, 16, 24, 2, 5, 8, 9, 10, 13, 12, 18, 11};
    struct vhost_port *port = NULL;
    uint8_t config[VHOST_CONFIG_BYTES];
    struct vhost_region region = {.host = config, .len = 4096, .fd = 0};
    struct err err = {0};
    struct peer p;

    peer_start(&p, POLITE);
    CHECK_OK(vhost_user_open(p.path, vhost_block_features(false), &port, config, &err), &err);
    CHECK_INT(config[0], 0x42);
    CHECK(port->features == UINT64_C(1) << 32); /* FLUSH was not wanted */
    CHECK_INT(port->ops->start(port, port->features, &region, 1), 0);
    port->ops->stop(port);
    vhost_port_free(port);
    peer_stop(&p);
    CHECK_INT(p.count, ARRAY_LEN(want));
    CHECK_MEM(p.requests, want, sizeof(want));
}

TEST(vhost_user, a_peer_without_protocol_features_has_no_configuration)
{
    struct vhost_port *port = NULL;
    uint8_t config[VHOST_CONFIG_BYTES];
    struct err err = {0};
    struct peer p;

    peer_start(&p, NO_PROTOCOL);
    CHECK_OK(vhost_user_open(p.path, vhost_block_features(true), &port, config, &err), &err);
    CHECK_INT(config[0], 0);
    CHECK_INT(port->ops->read_config(port, config), -ENOTSUP);
    vhost_port_free(port);
    peer_stop(&p);
}

TEST(vhost_user, peers_that_fail_are_told_by_step_and_nobody_waits_for_ever)
{
    static const struct {
        enum mood mood;
        const char *text;
    } rows[] = {
        {CLOSES, "Get features failed: Connection reset by peer (os error 104)"},
        {SILENT, "Get features failed: Operation timed out (os error 110)"},
        {WRONG_REPLY, "Get features failed: Protocol error (os error 71)"},
        {WRONG_SIZE, "Get features failed: Protocol error (os error 71)"},
    };
    struct vhost_port *port = NULL;
    uint8_t config[VHOST_CONFIG_BYTES];
    struct err err = {0};

    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        int64_t before = clock_mono_ns();
        struct peer p;

        peer_start(&p, rows[i].mood);
        CHECK(vhost_user_open(p.path, 0, &port, config, &err) < 0);
        CHECK_STR(err.text, rows[i].text);
        CHECK(clock_mono_ns() - before < 10 * NS_PER_S);
        peer_stop(&p);
    }
    CHECK_INT(vhost_user_open("/nowhere", 0, &port, config, &err), -ENOENT);
    CHECK_STR(err.text, "Failed to connect to UDS Unix stream: No such file or directory (os error "
                        "2)");
}
