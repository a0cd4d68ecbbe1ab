/* vsock_uds.c — programs of the host meet the guest over Unix sockets.
 *
 * Theory of operation.  A program that connected is a `caller` until its one line is complete; it
 * has CALLER_TIMEOUT_NS for that, and at most CALLER_MAX are served at once: beyond, the listening
 * socket is not read, so that the rest waits in the kernel's queue.  Bytes after the line belong to
 * the guest: the line is looked at with MSG_PEEK and only then taken out of the socket.
 */
#include "host/vsock_uds.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/list.h"
#include "base/str.h"
#include "dev/port/stream_port.h"
#include "io/loop.h"

#define LINE_MAX_BYTES    32 /* "CONNECT 4294967295\n" has 19 */
#define CALLER_MAX        64
#define CALLER_TIMEOUT_NS (2 * NS_PER_S)
#define ACCEPT_BATCH      16
#define ACCEPT_PAUSE_NS   (100 * NS_PER_MS) /* after running out of descriptors */
#define PATH_MAX_BYTES    (sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1)

struct vsock_uds {
    struct stream_port base;
    struct loop *loop; /* while started */
    struct stream_client client;
    char *path;
    int fd;         /* listens; -1 before bind */
    bool is_bound;  /* `path` is ours */
    bool is_paused; /* fd is not watched */
    bool is_started;
    dev_t device; /* of the bound socket, to know it again */
    ino_t inode;
    struct loop_timer *pause;
    struct list callers;
    unsigned caller_count;
};

struct caller {
    struct list link;
    struct vsock_uds *uds;
    int fd;
    bool is_watched;
    struct loop_timer *timer;
    unsigned len;
    char line[LINE_MAX_BYTES + 1];
};

static struct vsock_uds *uds_of(struct stream_port *port)
{
    return container_of(port, struct vsock_uds, base);
}

static void watch_listener(struct vsock_uds *u, bool on);

/* Ends the caller; its descriptor is closed unless it was handed on (fd is -1 then). */
static void caller_free(struct caller *c)
{
    if (c->fd >= 0) {
        if (c->is_watched) {
            loop_del_fd(c->uds->loop, c->fd);
        }
        (void)close(c->fd);
    }
    loop_del_timer(c->uds->loop, c->timer);
    list_remove(&c->link);
    c->uds->caller_count--;
    free(c);
}

static void caller_end(struct caller *c)
{
    struct vsock_uds *u = c->uds;

    caller_free(c);
    watch_listener(u, true);
}

static void on_caller_timeout(void *owner)
{
    struct caller *c = owner;

    c->timer = NULL; /* it frees itself */
    caller_end(c);
}

/* "CONNECT <port>", as any case of letters. */
static int parse_line(char *line, uint32_t *ret_port)
{
    uint64_t port;
    size_t len = strlen(line);

    if (len > 0 && line[len - 1] == '\r') {
        line[len - 1] = '\0';
    }
    if (strncasecmp(line, "connect ", 8) != 0 ||
        str_to_u64("port", line + 8, 0, UINT32_MAX, &port, NULL) < 0) {
        return -EPROTO;
    }
    *ret_port = (uint32_t)port;
    return 0;
}

/* Take what is there of the line.  1: complete; 0: more to come; negative errno: drop the caller.
 */
static int read_line(struct caller *c)
{
    char *at = c->line + c->len;
    const char *end;
    ssize_t n = recv(c->fd, at, LINE_MAX_BYTES - c->len, MSG_PEEK | MSG_DONTWAIT);
    size_t take;

    if (n < 0) {
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    }
    if (n == 0) {
        return -EPIPE;
    }
    end = memchr(at, '\n', (size_t)n);
    take = end ? (size_t)(end - at) + 1 : (size_t)n;
    if (recv(c->fd, at, take, MSG_DONTWAIT) != (ssize_t)take) {
        return -EIO;
    }
    c->len += (unsigned)take;
    if (end) {
        c->line[c->len - 1] = '\0';
        return 1;
    }
    return c->len == LINE_MAX_BYTES ? -EPROTO : 0;
}

/* Hand the caller on to the device. */
static void introduce(struct caller *c, uint32_t port)
{
    struct vsock_uds *u = c->uds;

    if (c->is_watched) {
        loop_del_fd(u->loop, c->fd);
        c->is_watched = false;
    }
    if (u->client.offer(u->client.owner, c->fd, port) == 0) {
        c->fd = -1;
    }
    caller_end(c);
}

static void on_caller(void *owner, int fd, uint32_t events);

/* Make progress with the line; `c` may be gone after. */
static void serve_caller(struct caller *c)
{
    uint32_t port;
    int r = read_line(c);

    if (r == 1) {
        r = parse_line(c->line, &port);
        if (r == 0) {
            introduce(c, port);
            return;
        }
    }
    if (r == 0 && !c->is_watched) {
        r = loop_add_fd(c->uds->loop, c->fd, EPOLLIN, on_caller, c);
        c->is_watched = r == 0;
    }
    if (r < 0) {
        caller_end(c);
    }
}

static void on_caller(void *owner, int fd, uint32_t events)
{
    (void)fd;
    (void)events;
    serve_caller(owner);
}

static void add_caller(struct vsock_uds *u, int fd)
{
    struct caller *c = calloc(1, sizeof(*c));

    if (!c) {
        (void)close(fd);
        return;
    }
    c->uds = u;
    c->fd = fd;
    c->timer = loop_add_timer(u->loop, CALLER_TIMEOUT_NS, on_caller_timeout, c);
    list_append(&u->callers, &c->link);
    u->caller_count++;
    serve_caller(c);
}

/* -- listening ------------------------------------------------------------------------------- */

static void on_pause_over(void *owner)
{
    struct vsock_uds *u = owner;

    u->pause = NULL;
    watch_listener(u, true);
}

static void on_listener(void *owner, int listener, uint32_t events)
{
    struct vsock_uds *u = owner;

    (void)events;
    for (unsigned i = 0; i < ACCEPT_BATCH; i++) {
        int fd;

        if (u->caller_count == CALLER_MAX) {
            watch_listener(u, false);
            return;
        }
        fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            add_caller(u, fd);
        } else if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED) {
            return;
        } else {
            u->pause = loop_add_timer(u->loop, ACCEPT_PAUSE_NS, on_pause_over, u);
            watch_listener(u, false);
            return;
        }
    }
}

static void watch_listener(struct vsock_uds *u, bool on)
{
    if (!on && !u->is_paused) {
        loop_del_fd(u->loop, u->fd);
        u->is_paused = true;
    } else if (on && u->is_paused && !u->pause) {
        u->is_paused = loop_add_fd(u->loop, u->fd, EPOLLIN, on_listener, u) < 0;
    }
}

static int uds_start(struct stream_port *port, struct loop *loop,
                     const struct stream_client *client)
{
    struct vsock_uds *u = uds_of(port);
    int r = loop_add_fd(loop, u->fd, EPOLLIN, on_listener, u);

    if (r == 0) {
        u->loop = loop;
        u->client = *client;
        u->is_started = true;
    }
    return r;
}

static void uds_stop(struct stream_port *port)
{
    struct vsock_uds *u = uds_of(port);

    if (!u->is_started) {
        return;
    }
    list_for_each (pos, &u->callers) {
        caller_free(container_of(pos, struct caller, link));
    }
    if (!u->is_paused) {
        loop_del_fd(u->loop, u->fd);
    }
    loop_del_timer(u->loop, u->pause);
    u->pause = NULL;
    u->is_paused = u->is_started = false;
    u->loop = NULL;
}

/* -- towards the host ------------------------------------------------------------------------ */

static int new_socket(void)
{
    return socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

static int uds_connect(struct stream_port *port, uint32_t host_port)
{
    struct vsock_uds *u = uds_of(port);
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int len = snprintf(addr.sun_path, sizeof(addr.sun_path), "%s_%u", u->path, host_port);
    AUTO_CLOSE int fd = -1;

    if (len < 0 || (size_t)len > PATH_MAX_BYTES) {
        return -ENAMETOOLONG;
    }
    fd = new_socket();
    if (fd < 0 || connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0) {
        return -errno;
    }
    return take_fd(&fd);
}

static int uds_accepted(struct stream_port *port, int fd, uint32_t host_port)
{
    char line[LINE_MAX_BYTES];
    int len = snprintf(line, sizeof(line), "OK %u\n", host_port);
    ssize_t n = send(fd, line, (size_t)len, MSG_NOSIGNAL | MSG_DONTWAIT);

    (void)port;
    if (n < 0) {
        return -errno;
    }
    return n == len ? 0 : -EIO;
}

/* -- life ------------------------------------------------------------------------------------ */

/* Remove the socket, unless somebody put another one in its place. */
static void unbind(const struct vsock_uds *u)
{
    struct stat st;

    if (u->is_bound && lstat(u->path, &st) == 0 && st.st_dev == u->device &&
        st.st_ino == u->inode) {
        (void)unlink(u->path);
    }
}

static void uds_free(struct stream_port *port)
{
    struct vsock_uds *u = port ? uds_of(port) : NULL;

    if (!u) {
        return;
    }
    if (u->fd >= 0) {
        (void)close(u->fd);
    }
    unbind(u);
    free(u->path);
    free(u);
}

static int bind_and_listen(struct vsock_uds *u, struct err *err)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct stat st;

    memcpy(addr.sun_path, u->path, strlen(u->path) + 1); /* its length was checked */
    u->fd = new_socket();
    if (u->fd < 0) {
        return err_sys(err, "create the vsock socket '%s'", u->path);
    }
    if (bind(u->fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0) {
        return err_sys(err, "bind the vsock socket '%s'", u->path);
    }
    if (lstat(u->path, &st) == 0) {
        u->device = st.st_dev;
        u->inode = st.st_ino;
        u->is_bound = true;
    }
    if (listen(u->fd, SOMAXCONN) < 0) {
        return err_sys(err, "listen on the vsock socket '%s'", u->path);
    }
    return 0;
}

static const struct stream_port_ops uds_ops = {
    .start = uds_start,
    .stop = uds_stop,
    .connect = uds_connect,
    .accepted = uds_accepted,
    .free = uds_free,
};

int vsock_uds_new(const char *path, struct stream_port **ret_port, struct err *err)
{
    size_t len = strlen(path);
    struct vsock_uds *u;
    int r;

    if (len == 0 || len > PATH_MAX_BYTES) {
        return err_set(err, -ENAMETOOLONG, "vsock socket path '%s' of %zu bytes: must be 1 to %zu",
                       path, len, PATH_MAX_BYTES);
    }
    u = calloc(1, sizeof(*u));
    if (!u) {
        return err_set(err, -ENOMEM, "vsock socket '%s': out of memory", path);
    }
    u->base.ops = &uds_ops;
    u->fd = -1;
    list_init(&u->callers);
    u->path = strdup(path);
    r = u->path ? bind_and_listen(u, err) : err_set(err, -ENOMEM, "out of memory");
    if (r < 0) {
        uds_free(&u->base);
        return r;
    }
    *ret_port = &u->base;
    return 0;
}
