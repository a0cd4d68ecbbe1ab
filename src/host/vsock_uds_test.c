/* vsock_uds_test.c — programs are introduced by their first line, and socket files are looked
 * after. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "dev/port/stream_port.h"
#include "host/vsock_uds.h"
#include "io/loop.h"
#include "tests/lib/test.h"

#define PATH "/tmp/ec1-test-uds.sock"

/* Takes every offer and remembers it. */
struct fake_device {
    struct loop *loop;
    struct stream_port *port;
    atomic_uint count;
    int fd;
    uint32_t guest_port;
    int answer;
    int pipe[2]; /* a byte per offer */
};

static struct fake_device d;

static int on_offer(void *owner, int fd, uint32_t guest_port)
{
    (void)owner;
    d.count++;
    d.guest_port = guest_port;
    if (d.answer == 0) {
        d.fd = fd;
    }
    CHECK_INT(write(d.pipe[1], "x", 1), 1);
    return d.answer;
}

static void device_init(void)
{
    struct stream_client client = {.offer = on_offer, .owner = &d};
    struct err err = {0};

    memset(&d, 0, sizeof(d));
    CHECK_INT(pipe2(d.pipe, O_CLOEXEC), 0);
    CHECK_OK(loop_new(&d.loop, &err), &err);
    CHECK_OK(vsock_uds_new(PATH, &d.port, &err), &err);
    CHECK_INT(d.port->ops->start(d.port, d.loop, &client), 0);
    CHECK_OK(loop_thread_start(d.loop, "uds", &err), &err);
}

static void device_fini(void)
{
    loop_thread_stop(d.loop);
    d.port->ops->stop(d.port);
    stream_port_free(d.port);
    loop_free(d.loop);
    (void)close(d.pipe[0]);
    (void)close(d.pipe[1]);
    CHECK(access(PATH, F_OK) < 0);
}

static void await_offer(void)
{
    char byte;

    CHECK_INT(read(d.pipe[0], &byte, 1), 1);
}

static int dial(void)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX, .sun_path = PATH};
    struct timeval patience = {.tv_sec = 10};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    CHECK(fd >= 0);
    CHECK_INT(connect(fd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
    CHECK_INT(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
    return fd;
}

static void say(int fd, const char *text)
{
    CHECK_INT(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

TEST(vsock_uds, the_first_line_names_the_port_and_the_rest_is_the_guests)
{
    static const struct {
        const char *parts[3];
        uint32_t port;
    } rows[] = {
        {{"CONNECT 52\n", "", ""}, 52},
        {{"connect 0\nrest", "", ""}, 0},
        {{"Connect 4294967295\r\n", "", ""}, UINT32_MAX},
        {{"CON", "NECT 12", "34\nrest"}, 1234},
    };

    device_init();
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int fd = dial();
        char rest[8] = {0};
        char line[32] = {0};

        for (unsigned k = 0; k < 3; k++) {
            say(fd, rows[i].parts[k]);
            (void)usleep(3000);
        }
        await_offer();
        CHECK_INT(d.guest_port, rows[i].port);
        if (strstr(rows[i].parts[0], "rest") || strstr(rows[i].parts[2], "rest")) {
            CHECK_INT(recv(d.fd, rest, sizeof(rest), 0), 4);
            CHECK_STR(rest, "rest");
        }
        CHECK(fcntl(d.fd, F_GETFL) & O_NONBLOCK);
        CHECK_INT(d.port->ops->accepted(d.port, d.fd, (1u << 30) + i), 0);
        CHECK(read(fd, line, sizeof(line)) > 0);
        CHECK_HAS(line, "OK 107374182");
        (void)close(fd);
        CHECK(d.port->ops->accepted(d.port, d.fd, 5) < 0); /* nobody there: no signal either */
        (void)close(d.fd);
    }
    device_fini();
}

TEST(vsock_uds, anything_else_is_dropped)
{
    static const char *const lines[] = {
        "\n",
        "CONNECT\n",
        "CONNECT \n",
        "CONNECT -1\n",
        "CONNECT 4294967296\n",
        "CONNECT 12x\n",
        "CONNECTED 12\n",
        "GET / HTTP/1.1\r\n",
        "CONNECT 000000000000000000000000000000000000000000000000052\n",
        "no line at all, but more than any line would have",
        "OK 12\n",
    };

    device_init();
    for (unsigned i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        int fd = dial();
        char byte;

        say(fd, lines[i]);
        CHECK(read(fd, &byte, 1) <= 0);
        CHECK(errno != EAGAIN);
        (void)close(fd);
    }
    (void)close(dial()); /* comes and goes */
    d.answer = -ENOSPC;  /* no room for another */
    {
        int fd = dial();
        char byte;

        say(fd, "CONNECT 1\n");
        CHECK_INT(read(fd, &byte, 1), 0);
        (void)close(fd);
    }
    CHECK_INT(d.count, 1);
    device_fini();
}

TEST(vsock_uds, callers_without_a_line_time_out_and_let_others_in)
{
    int silent[70];
    int64_t begin = clock_mono_ns();
    int fd;
    char byte;

    device_init();
    for (unsigned i = 0; i < 70; i++) {
        silent[i] = dial();
    }
    say(silent[3], "CONN");
    fd = dial();
    say(fd, "CONNECT 8\n");
    await_offer(); /* after the first 64 were dropped */
    CHECK_INT(d.guest_port, 8);
    CHECK_INT(read(silent[3], &byte, 1), 0);
    CHECK(clock_mono_ns() - begin > NS_PER_S);
    CHECK(clock_mono_ns() - begin < 8 * NS_PER_S);
    (void)close(fd);
    (void)close(d.fd);
    for (unsigned i = 0; i < 70; i++) {
        (void)close(silent[i]);
    }
    device_fini();
}

static void take_fds(int *fds, unsigned max, unsigned *ret_count)
{
    *ret_count = 0;
    while (*ret_count < max && (fds[*ret_count] = dup(0)) >= 0) {
        (*ret_count)++;
    }
}

TEST(vsock_uds, running_out_of_descriptors_is_survived)
{
    static int fds[4096];
    struct rlimit old;
    struct rlimit low;
    unsigned count;
    int fd;

    device_init();
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_INT(getrlimit(RLIMIT_NOFILE, &old), 0);
    low = (struct rlimit){.rlim_cur = 128, .rlim_max = old.rlim_max};
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &low), 0);
    take_fds(fds, 4096, &count);
    {
        struct sockaddr_un addr = {.sun_family = AF_UNIX, .sun_path = PATH};

        CHECK_INT(connect(fd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
        say(fd, "CONNECT 7\n");
        (void)usleep(30000);
        CHECK_INT(d.count, 0);
    }
    for (unsigned i = 0; i < count; i++) {
        (void)close(fds[i]);
    }
    await_offer();
    CHECK_INT(d.guest_port, 7);
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &old), 0);
    (void)close(fd);
    (void)close(d.fd);
    device_fini();
}

TEST(vsock_uds, the_guest_connects_to_the_path_with_its_port)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX, .sun_path = PATH "_1024"};
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct stream_port *deep;
    struct err err = {0};
    char path[108];
    int fd;
    int peer;

    device_init();
    (void)unlink(addr.sun_path);
    CHECK_INT(d.port->ops->connect(d.port, 1024), -ENOENT);
    CHECK_INT(bind(listener, (const struct sockaddr *)&addr, sizeof(addr)), 0);
    CHECK_INT(d.port->ops->connect(d.port, 1024), -ECONNREFUSED);
    CHECK_INT(listen(listener, 5), 0);
    fd = d.port->ops->connect(d.port, 1024);
    CHECK(fd >= 0);
    CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
    CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    peer = accept(listener, NULL, NULL);
    CHECK(peer >= 0);
    (void)close(peer);
    (void)close(fd);
    (void)close(listener);
    (void)unlink(addr.sun_path);
    (void)snprintf(path, sizeof(path), "/tmp/ec1-test-%090d", 1);
    CHECK_OK(vsock_uds_new(path, &deep, &err), &err);
    CHECK_INT(deep->ops->connect(deep, 1000), -ENAMETOOLONG);
    stream_port_free(deep);
    CHECK(access(path, F_OK) < 0);
    device_fini();
}

TEST(vsock_uds, nothing_that_is_at_the_path_is_replaced_or_removed)
{
    struct stream_port *first = NULL;
    struct stream_port *second = NULL;
    struct err err = {0};
    struct stat st;
    char path[200];
    int fd;

    CHECK_OK(vsock_uds_new(PATH, &first, &err), &err);
    CHECK_INT(vsock_uds_new(PATH, &second, &err), -EADDRINUSE); /* it is listened on */
    CHECK_HAS(err_text(&err), PATH);
    CHECK_INT(rename(PATH, PATH ".old"), 0);
    stream_port_free(first); /* its file is not at PATH any more */
    CHECK_INT(rename(PATH ".old", PATH), 0);
    CHECK_INT(vsock_uds_new(PATH, &second, &err), -EADDRINUSE); /* nobody listens on it */
    CHECK_INT(unlink(PATH), 0);
    CHECK_OK(vsock_uds_new(PATH, &second, &err), &err);
    CHECK_INT(unlink(PATH), 0);
    fd = open(PATH, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    stream_port_free(second); /* somebody else's file now */
    CHECK_INT(stat(PATH, &st), 0);
    (void)close(fd);
    CHECK_INT(unlink(PATH), 0);

    memset(path, 'a', sizeof(path));
    path[108] = '\0';
    CHECK_INT(vsock_uds_new(path, &second, &err), -ENAMETOOLONG);
    CHECK_HAS(err_text(&err), "of 108 bytes: must be 1 to 107");
    CHECK_INT(vsock_uds_new("", &second, &err), -ENAMETOOLONG);
    CHECK_INT(vsock_uds_new("/nonexistent/x.sock", &second, &err), -ENOENT);
    stream_port_free(NULL);
}

TEST(vsock_uds, who_connects_between_two_devices_is_served_by_the_second)
{
    struct stream_client client = {.offer = on_offer, .owner = &d};
    struct err err = {0};
    int fd;

    device_init();
    loop_thread_stop(d.loop);
    d.port->ops->stop(d.port);
    loop_free(d.loop);
    CHECK_OK(loop_new(&d.loop, &err), &err);
    fd = dial();
    CHECK_INT(write(fd, "CONNECT 52\n", 11), 11);
    CHECK_INT(d.port->ops->start(d.port, d.loop, &client), 0);
    CHECK_OK(loop_thread_start(d.loop, "uds", &err), &err);
    await_offer();
    CHECK_INT(d.guest_port, 52);
    (void)close(d.fd);
    (void)close(fd);
    device_fini();
}
