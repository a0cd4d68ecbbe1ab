/* forward_test.c — both ends of forwarded ports together: the host's doors, the init's tunnels. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "exec/forward.h"
#include "guest/init/serve_test.h"
#include "tests/lib/test.h"

enum { MANY = 100, LARGE = 24 << 20 };

/* A forward to a listening socket of ours, which stands for one in the VM. */
struct setup {
    struct serve serve;
    struct forward *forward;
    int listener;
};

static int listen_here(int family, uint16_t *ret_port)
{
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(v6);
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    CHECK((family == AF_INET ? bind(fd, (struct sockaddr *)&v4, sizeof(v4))
                             : bind(fd, (struct sockaddr *)&v6, sizeof(v6))) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)&v6, &size) == 0);
    *ret_port = ntohs(v6.sin6_port);
    return fd;
}

static void setup(struct setup *s, int family, bool listens)
{
    struct forward_ports ports = {.items = {{.address = "127.0.0.1"}}, .count = 1};
    struct err err = {0};

    serve_start(&s->serve);
    s->listener = listen_here(family, &ports.items[0].guest);
    CHECK(!listens || listen(s->listener, MANY) == 0);
    CHECK_OK(forward_open(&ports, &s->forward, &err), &err);
    CHECK_OK(forward_start_on(s->forward, serve_connect(&s->serve), &err), &err);
}

static void teardown(struct setup *s)
{
    forward_close(s->forward);
    (void)close(s->listener);
    serve_stop(&s->serve);
}

static int dial(const struct setup *s)
{
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                               .sin_port = htons(forward_host_port(s->forward, 0))};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    CHECK(connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0);
    return fd;
}

static int accept_one(const struct setup *s)
{
    int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);

    CHECK(fd >= 0);
    return fd;
}

/* The `i`th byte of a stream. */
static uint8_t byte_at(size_t i)
{
    return (uint8_t)(i * 2654435761U >> 13);
}

static void *send_large(void *arg)
{
    static _Thread_local uint8_t block[65536];
    int fd = *(int *)arg;

    for (size_t at = 0; at < LARGE; at += sizeof(block)) {
        for (size_t i = 0; i < sizeof(block); i++) {
            block[i] = byte_at(at + i);
        }
        for (size_t done = 0; done < sizeof(block);) {
            ssize_t put = send(fd, block + done, sizeof(block) - done, MSG_NOSIGNAL);

            CHECK(put > 0);
            done += (size_t)put;
        }
    }
    CHECK(shutdown(fd, SHUT_WR) == 0);
    return NULL;
}

static size_t count_right(int fd)
{
    static _Thread_local uint8_t block[65536];
    size_t at = 0;
    ssize_t got;

    while ((got = recv(fd, block, sizeof(block), 0)) > 0) {
        for (size_t i = 0; i < (size_t)got; i++) {
            CHECK_INT(block[i], byte_at(at + i));
        }
        at += (size_t)got;
    }
    CHECK_INT(got, 0);
    return at;
}

TEST(forward, both_directions_are_complete_at_once)
{
    struct setup s;
    pthread_t threads[2];
    int client;
    int served;

    setup(&s, AF_INET, true);
    client = dial(&s);
    served = accept_one(&s);
    CHECK(pthread_create(&threads[0], NULL, send_large, &client) == 0);
    CHECK(pthread_create(&threads[1], NULL, send_large, &served) == 0);
    CHECK_INT(count_right(client), LARGE);
    CHECK_INT(count_right(served), LARGE);
    (void)pthread_join(threads[0], NULL);
    (void)pthread_join(threads[1], NULL);
    (void)close(client);
    (void)close(served);
    teardown(&s);
}

static void check_line(int fd, const char *want)
{
    char line[64] = "";
    size_t len = 0;

    while (len < strlen(want)) {
        ssize_t got = recv(fd, line + len, sizeof(line) - 1 - len, 0);

        CHECK(got > 0);
        len += (size_t)got;
    }
    CHECK_STR(line, want);
}

TEST(forward, the_end_of_one_direction_leaves_the_other_open)
{
    struct setup s;
    char c;

    setup(&s, AF_INET, true);
    for (unsigned first = 0; first < 2; first++) {
        int fds[2] = {dial(&s), accept_one(&s)};
        int ends = fds[first];
        int goes_on = fds[!first];

        CHECK_INT(send(ends, "request", 7, 0), 7);
        CHECK(shutdown(ends, SHUT_WR) == 0);
        check_line(goes_on, "request");
        CHECK_INT(recv(goes_on, &c, 1, 0), 0);
        CHECK_INT(send(goes_on, "answer", 6, 0), 6);
        check_line(ends, "answer");
        (void)close(goes_on);
        CHECK_INT(recv(ends, &c, 1, 0), 0);
        (void)close(ends);
    }
    teardown(&s);
}

TEST(forward, many_connections_at_once)
{
    static int fds[2][MANY];
    struct setup s;
    char text[16];

    setup(&s, AF_INET, true);
    for (int i = 0; i < MANY; i++) {
        fds[0][i] = dial(&s);
        (void)snprintf(text, sizeof(text), "n%03d", i);
        CHECK_INT(send(fds[0][i], text, 4, 0), 4);
    }
    for (int i = 0; i < MANY; i++) { /* in any order: each answers with what it heard */
        fds[1][i] = accept_one(&s);
        CHECK_INT(recv(fds[1][i], text, 4, MSG_WAITALL), 4);
        CHECK_INT(send(fds[1][i], text, 4, 0), 4);
    }
    for (int i = 0; i < MANY; i++) {
        (void)snprintf(text, sizeof(text), "n%03d", i);
        check_line(fds[0][i], text);
        (void)close(fds[0][i]);
    }
    for (int i = 0; i < MANY; i++) {
        CHECK_INT(recv(fds[1][i], text, 1, 0), 0);
        (void)close(fds[1][i]);
    }
    teardown(&s);
}

static void check_reset(int fd)
{
    char c;

    CHECK_INT(recv(fd, &c, 1, 0), -1);
    CHECK_INT(errno, ECONNRESET);
    (void)close(fd);
}

TEST(forward, a_port_that_nobody_serves_is_a_reset)
{
    struct setup s;

    setup(&s, AF_INET, false);
    check_reset(dial(&s));
    CHECK(listen(s.listener, 1) == 0); /* and is no end of the forward */
    (void)close(dial(&s));
    (void)close(accept_one(&s));
    teardown(&s);
}

TEST(forward, a_reset_is_passed_on)
{
    const struct linger at_once = {.l_onoff = 1};
    struct setup s;

    setup(&s, AF_INET, true);
    for (unsigned first = 0; first < 2; first++) {
        int fds[2] = {dial(&s), accept_one(&s)};

        CHECK_INT(send(fds[first], "x", 1, 0), 1);
        check_line(fds[!first], "x"); /* it is connected all the way */
        CHECK(setsockopt(fds[first], SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)) == 0);
        (void)close(fds[first]);
        check_reset(fds[!first]);
    }
    teardown(&s);
}

/* Bytes until the socket takes no more for a while. */
static size_t fill(int fd)
{
    static uint8_t block[65536];
    struct pollfd room = {.fd = fd, .events = POLLOUT};
    size_t sum = 0;

    while (poll(&room, 1, 1000) == 1) {
        ssize_t put = send(fd, block, sizeof(block), MSG_DONTWAIT | MSG_NOSIGNAL);

        CHECK(put > 0);
        sum += (size_t)put;
        CHECK(sum < (size_t)256 << 20);
    }
    return sum;
}

TEST(forward, who_does_not_read_holds_only_his_own_sender)
{
    struct setup s;

    setup(&s, AF_INET, true);
    for (unsigned first = 0; first < 2; first++) {
        int stuck[2] = {dial(&s), accept_one(&s)};
        int other[2];

        CHECK(fill(stuck[first]) > 0);
        other[0] = dial(&s);
        other[1] = accept_one(&s);
        CHECK_INT(send(other[0], "ping", 4, 0), 4);
        check_line(other[1], "ping");
        CHECK_INT(send(other[1], "pong", 4, 0), 4);
        check_line(other[0], "pong");
        for (unsigned i = 0; i < 2; i++) {
            (void)close(stuck[i]);
            (void)close(other[i]);
        }
    }
    teardown(&s);
}

TEST(forward, a_server_on_ipv6_alone_is_found)
{
    struct setup s;
    int client;
    int served;
    int probe = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in6 here = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};

    if (bind(probe, (struct sockaddr *)&here, sizeof(here)) < 0) {
        (void)close(probe);
        SKIP("this host has no IPv6");
    }
    (void)close(probe);
    setup(&s, AF_INET6, true);
    client = dial(&s);
    served = accept_one(&s);
    CHECK_INT(send(client, "six", 3, 0), 3);
    check_line(served, "six");
    (void)close(client);
    (void)close(served);
    teardown(&s);
}

TEST(forward, the_end_of_the_vm_resets_and_then_refuses)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct setup s;
    int client;
    int served;
    int late;

    setup(&s, AF_INET, true);
    client = dial(&s);
    served = accept_one(&s);
    CHECK_INT(send(client, "x", 1, 0), 1);
    check_line(served, "x");
    serve_stop(&s.serve);
    check_reset(client);
    addr.sin_port = htons(forward_host_port(s.forward, 0));
    late = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_INT(connect(late, (struct sockaddr *)&addr, sizeof(addr)), -1);
    CHECK_INT(errno, ECONNREFUSED);
    (void)close(late);
    (void)close(served);
    forward_close(s.forward);
    (void)close(s.listener);
}

TEST(forward, a_port_that_is_taken_is_named)
{
    struct forward_ports ports = {.items = {{.address = "127.0.0.1", .guest = 1}}, .count = 1};
    struct forward *forward;
    struct err err = {0};
    int fd = listen_here(AF_INET, &ports.items[0].host);
    char want[32];

    CHECK(listen(fd, 1) == 0);
    CHECK_INT(forward_open(&ports, &forward, &err), -EADDRINUSE);
    (void)snprintf(want, sizeof(want), "port %u of 127.0.0.1", ports.items[0].host);
    CHECK_HAS(err_text(&err), want);
    (void)close(fd);
}
