/* vhost_user.c — see vhost_user.h.
 *
 * Theory of operation.  A message is a header of three 32-bit words (request, flags, size) and a
 * body; descriptors travel beside it.  Requests with an answer are answered in order, so a call is
 * a send and a receive.  Numbers: "Vhost-user Protocol" of QEMU's documentation.
 */
#include "host/vhost_user.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/bits.h"
#include "base/os_error.h"

enum request {
    GET_FEATURES = 1,
    SET_FEATURES = 2,
    SET_OWNER = 3,
    SET_MEM_TABLE = 5,
    SET_VRING_NUM = 8,
    SET_VRING_ADDR = 9,
    SET_VRING_BASE = 10,
    GET_VRING_BASE = 11,
    SET_VRING_KICK = 12,
    SET_VRING_CALL = 13,
    GET_PROTOCOL_FEATURES = 15,
    SET_PROTOCOL_FEATURES = 16,
    SET_VRING_ENABLE = 18,
    GET_CONFIG = 24,
};

#define FLAG_VERSION 1u
#define FLAG_REPLY   4u

#define F_PROTOCOL_FEATURES BIT(30)
#define PROTOCOL_F_CONFIG   BIT(9)
#define CONFIG_WRITABLE     1u

#define HEADER_BYTES 12u
#define CONFIG_HEAD  12u /* offset, size, flags */
#define REGION_BYTES 32u
#define BODY_MAX     (8u + (VHOST_REGION_MAX + 1u) * REGION_BYTES)
#define FD_MAX       (VHOST_REGION_MAX + 1)

#define PEER_TIMEOUT_S 2

struct vhost_user {
    struct vhost_port base;
    int sock;
    int ring_fd;
    bool has_protocol;
    bool has_config;
};

static struct vhost_user *user_of(struct vhost_port *port)
{
    return container_of(port, struct vhost_user, base);
}

/* --- messages --- */

static int send_all(int sock, struct msghdr *msg, size_t len)
{
    ssize_t n;

    do {
        n = sendmsg(sock, msg, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return errno == EAGAIN ? -ETIMEDOUT : -errno;
    }
    return (size_t)n == len ? 0 : -EIO;
}

static int send_msg(struct vhost_user *u, enum request request, const void *body, size_t len,
                    const int *fds, unsigned fd_count)
{
    uint8_t header[HEADER_BYTES];
    struct iovec iov[2] = {{.iov_base = header, .iov_len = sizeof(header)},
                           {.iov_base = (void *)(uintptr_t)body, .iov_len = len}};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * FD_MAX)];
    } control = {0};
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = len ? 2 : 1};

    store_le32(header, request);
    store_le32(header + 4, FLAG_VERSION);
    store_le32(header + 8, (uint32_t)len);
    if (fd_count > 0) {
        msg.msg_control = control.bytes;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
        *CMSG_FIRSTHDR(&msg) = (struct cmsghdr){.cmsg_level = SOL_SOCKET,
                                                .cmsg_type = SCM_RIGHTS,
                                                .cmsg_len = CMSG_LEN(sizeof(int) * fd_count)};
        memcpy(CMSG_DATA(CMSG_FIRSTHDR(&msg)), fds, sizeof(int) * fd_count);
    }
    return send_all(u->sock, &msg, HEADER_BYTES + len);
}

static int receive_all(int sock, void *data, size_t len)
{
    size_t done = 0;

    while (done < len) {
        ssize_t n = recv(sock, (uint8_t *)data + done, len - done, 0);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n == 0 ? -ECONNRESET : errno == EAGAIN ? -ETIMEDOUT : -errno;
        }
        done += (size_t)n;
    }
    return 0;
}

/* The answer to `request`, which has exactly `len` bytes. */
static int receive_reply(struct vhost_user *u, enum request request, void *body, size_t len)
{
    uint8_t header[HEADER_BYTES];
    int r = receive_all(u->sock, header, sizeof(header));

    if (r < 0) {
        return r;
    }
    if (load_le32(header) != (uint32_t)request || !(load_le32(header + 4) & FLAG_REPLY) ||
        load_le32(header + 8) != len) {
        return -EPROTO;
    }
    return receive_all(u->sock, body, len);
}

static int get_u64(struct vhost_user *u, enum request request, uint64_t *ret_value)
{
    uint8_t body[8];
    int r = send_msg(u, request, NULL, 0, NULL, 0);

    if (r == 0) {
        r = receive_reply(u, request, body, sizeof(body));
    }
    if (r == 0) {
        *ret_value = load_le64(body);
    }
    return r;
}

static int set_u64(struct vhost_user *u, enum request request, uint64_t value, int fd)
{
    uint8_t body[8];

    store_le64(body, value);
    return send_msg(u, request, body, sizeof(body), &fd, fd < 0 ? 0 : 1);
}

/* A number about ring 0. */
static int set_ring(struct vhost_user *u, enum request request, uint32_t value)
{
    return set_u64(u, request, (uint64_t)value << 32, -1);
}

/* --- serving --- */

static int read_config(struct vhost_port *port, uint8_t ret_config[VHOST_CONFIG_BYTES])
{
    struct vhost_user *u = user_of(port);
    uint8_t body[CONFIG_HEAD + VHOST_CONFIG_BYTES] = {0};
    int r;

    if (!u->has_config) {
        return -ENOTSUP;
    }
    store_le32(body + 4, VHOST_CONFIG_BYTES);
    store_le32(body + 8, CONFIG_WRITABLE);
    r = send_msg(u, GET_CONFIG, body, sizeof(body), NULL, 0);
    if (r == 0) {
        r = receive_reply(u, GET_CONFIG, body, sizeof(body));
    }
    if (r == 0) {
        memcpy(ret_config, body + CONFIG_HEAD, VHOST_CONFIG_BYTES);
    }
    return r;
}

static void put_region(uint8_t *to, const struct vhost_region *region)
{
    /* Guest addresses are what the ring holds: host addresses. */
    store_le64(to, (uintptr_t)region->host);
    store_le64(to + 8, region->len);
    store_le64(to + 16, (uintptr_t)region->host);
    store_le64(to + 24, region->offset);
}

static int set_memory(struct vhost_user *u, const struct vhost_region *regions, unsigned count)
{
    struct vhost_region ring = {
        .host = u->base.ring, .len = VHOST_RING_BYTES, .fd = u->ring_fd, .offset = 0};
    uint8_t body[BODY_MAX] = {0};
    int fds[FD_MAX];

    if (count > VHOST_REGION_MAX) {
        return -ENOSPC;
    }
    store_le32(body, count + 1);
    for (unsigned i = 0; i <= count; i++) {
        const struct vhost_region *region = i < count ? &regions[i] : &ring;

        put_region(body + 8 + (size_t)REGION_BYTES * i, region);
        fds[i] = region->fd;
    }
    return send_msg(u, SET_MEM_TABLE, body, 8 + (size_t)REGION_BYTES * (count + 1), fds, count + 1);
}

static int set_address(struct vhost_user *u)
{
    uintptr_t ring = (uintptr_t)u->base.ring;
    uint8_t body[40] = {0}; /* index, flags, descriptors, used, available, log */

    store_le64(body + 8, ring + VHOST_RING_DESC);
    store_le64(body + 16, ring + VHOST_RING_USED);
    store_le64(body + 24, ring + VHOST_RING_AVAIL);
    return send_msg(u, SET_VRING_ADDR, body, sizeof(body), NULL, 0);
}

static int start(struct vhost_port *port, uint64_t features, const struct vhost_region *regions,
                 unsigned count)
{
    struct vhost_user *u = user_of(port);
    uint64_t all = features | (u->has_protocol ? F_PROTOCOL_FEATURES : 0);
    int r = set_u64(u, SET_FEATURES, all, -1);

    memset(port->ring, 0, VHOST_RING_BYTES);
    if (r == 0) {
        r = set_memory(u, regions, count);
    }
    if (r == 0) {
        r = set_ring(u, SET_VRING_NUM, VHOST_RING_SIZE);
    }
    if (r == 0) {
        r = set_address(u);
    }
    if (r == 0) {
        r = set_ring(u, SET_VRING_BASE, 0);
    }
    if (r == 0) {
        r = set_u64(u, SET_VRING_CALL, 0, port->call_fd);
    }
    if (r == 0) {
        r = set_u64(u, SET_VRING_KICK, 0, port->kick_fd);
    }
    /* without protocol features a ring is enabled from its start on */
    return r == 0 && u->has_protocol ? set_ring(u, SET_VRING_ENABLE, 1) : r;
}

static void stop(struct vhost_port *port)
{
    struct vhost_user *u = user_of(port);
    uint8_t body[8] = {0};

    if (send_msg(u, GET_VRING_BASE, body, sizeof(body), NULL, 0) == 0) {
        (void)receive_reply(u, GET_VRING_BASE, body, sizeof(body));
    }
}

static void user_free(struct vhost_port *port)
{
    struct vhost_user *u = user_of(port);
    int fds[] = {u->sock, u->ring_fd, port->kick_fd, port->call_fd};

    if (port->ring) {
        (void)munmap(port->ring, VHOST_RING_BYTES);
    }
    for (unsigned i = 0; i < ARRAY_LEN(fds); i++) {
        if (fds[i] >= 0) {
            (void)close(fds[i]);
        }
    }
    free(u);
}

static const struct vhost_port_ops g_user_ops = {
    .read_config = read_config, .start = start, .stop = stop, .free = user_free};

/* --- opening --- */

static int connect_to(const char *path, int *ret_sock)
{
    AUTO_CLOSE int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct timeval limit = {.tv_sec = PEER_TIMEOUT_S};

    if (sock < 0) {
        return -errno;
    }
    if (strlen(path) >= sizeof(addr.sun_path)) {
        return -EINVAL;
    }
    memcpy(addr.sun_path, path, strlen(path));
    if (setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ||
        setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0 ||
        connect(sock, (const struct sockaddr *)&addr, sizeof(addr)) < 0) {
        return -errno;
    }
    *ret_sock = take_fd(&sock);
    return 0;
}

static int make_ring(struct vhost_user *u)
{
    void *ring;

    u->ring_fd = memfd_create("vring", MFD_CLOEXEC);
    if (u->ring_fd < 0 || ftruncate(u->ring_fd, VHOST_RING_BYTES) < 0) {
        return -errno;
    }
    ring = mmap(NULL, VHOST_RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, u->ring_fd, 0);
    if (ring == MAP_FAILED) {
        return -errno;
    }
    u->base.ring = ring;
    u->base.kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    u->base.call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return u->base.kick_fd < 0 || u->base.call_fd < 0 ? -errno : 0;
}

static int failed(struct err *err, int code, const char *what)
{
    char text[OS_ERROR_MAX];

    return err_set(err, code, "%s: %s", what, os_error(code, text));
}

static int agree_on_protocol(struct vhost_user *u, struct err *err)
{
    uint64_t offered = 0;
    int r = get_u64(u, GET_PROTOCOL_FEATURES, &offered);

    if (r < 0) {
        return failed(err, r, "Get protocol features failed");
    }
    u->has_protocol = true;
    u->has_config = (offered & PROTOCOL_F_CONFIG) != 0;
    r = set_u64(u, SET_PROTOCOL_FEATURES, offered & PROTOCOL_F_CONFIG, -1);
    return r < 0 ? failed(err, r, "Set protocol features failed") : 0;
}

static int agree(struct vhost_user *u, uint64_t features, uint8_t ret_config[VHOST_CONFIG_BYTES],
                 struct err *err)
{
    uint64_t offered = 0;
    int r = send_msg(u, SET_OWNER, NULL, 0, NULL, 0);

    if (r < 0) {
        return failed(err, r, "Set owner failed");
    }
    r = get_u64(u, GET_FEATURES, &offered);
    if (r < 0) {
        return failed(err, r, "Get features failed");
    }
    u->base.features = offered & features;
    if (offered & F_PROTOCOL_FEATURES) {
        r = agree_on_protocol(u, err);
    }
    if (r == 0 && u->has_config) {
        r = read_config(&u->base, ret_config);
        r = r < 0 ? failed(err, r, "Get config failed") : 0;
    }
    return r;
}

int vhost_user_open(const char *path, uint64_t features, struct vhost_port **ret_port,
                    uint8_t ret_config[VHOST_CONFIG_BYTES], struct err *err)
{
    struct vhost_user *u = calloc(1, sizeof(*u));
    int r;

    if (!u) {
        return err_set(err, -ENOMEM, "out of memory");
    }
    u->base = (struct vhost_port){.ops = &g_user_ops, .kick_fd = -1, .call_fd = -1};
    u->sock = u->ring_fd = -1;
    memset(ret_config, 0, VHOST_CONFIG_BYTES);
    r = connect_to(path, &u->sock);
    if (r < 0) {
        (void)failed(err, r, "Failed to connect to UDS Unix stream");
    } else if ((r = make_ring(u)) < 0) {
        (void)failed(err, r, "Failed to create a ring");
    } else {
        r = agree(u, features, ret_config, err);
    }
    if (r < 0) {
        user_free(&u->base);
        return r;
    }
    *ret_port = &u->base;
    return 0;
}
