/* ready.c — hear from the init.
 *
 * Theory of operation.  The listening socket and the one accepted connection stand in an epoll
 * instance, whose descriptor is what the caller watches.  Frames are a little-endian length and a
 * body: the first carries a Ready, empty ones are heartbeats.  A newer connection replaces an older
 * one: after a restore the init dials again while our end of the old connection still looks alive.
 */
#include "exec/ready.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/bits.h"
#include "base/buf.h"
#include "base/clock.h"
#include "proto/exec_msg.h"

struct exec_ready {
    int epoll;
    int listener;
    int link; /* -1: none */
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
    struct buf in;
    enum exec_ready_state state;
    Ec1__V1__Ready *message;
    int64_t heard_ns;
};

static int watch(const struct exec_ready *ready, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

    return epoll_ctl(ready->epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int listen_on(struct exec_ready *ready, const char *uds_path, struct err *err)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int len = snprintf(addr.sun_path, sizeof(addr.sun_path), "%s_%d", uds_path, READY_PORT);

    if (len < 0 || (size_t)len >= sizeof(addr.sun_path)) {
        return err_set(err, -ENAMETOOLONG, "socket path '%s_%d': longer than %zu bytes", uds_path,
                       READY_PORT, sizeof(addr.sun_path) - 1);
    }
    ready->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    (void)unlink(addr.sun_path);
    if (ready->listener < 0 || bind(ready->listener, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
        listen(ready->listener, 4) < 0) {
        return err_sys(err, "listen on '%s'", addr.sun_path);
    }
    memcpy(ready->path, addr.sun_path, sizeof(ready->path));
    return 0;
}

int exec_ready_open(const char *uds_path, struct exec_ready **ret_ready, struct err *err)
{
    struct exec_ready *ready = calloc(1, sizeof(*ready));
    int r;

    if (!ready) {
        return err_set(err, -ENOMEM, "out of memory");
    }
    *ready = (struct exec_ready){.epoll = epoll_create1(EPOLL_CLOEXEC), .listener = -1, .link = -1};
    ready->heard_ns = clock_mono_ns();
    r = ready->epoll < 0 ? err_sys(err, "create an epoll instance")
                         : listen_on(ready, uds_path, err);
    if (r == 0) {
        r = watch(ready, ready->listener);
    }
    if (r < 0) {
        exec_ready_close(ready);
        return r;
    }
    *ret_ready = ready;
    return 0;
}

static void hang_up(struct exec_ready *ready)
{
    if (ready->link >= 0) {
        (void)close(ready->link);
        ready->link = -1;
    }
    buf_clear(&ready->in);
}

static void drop_message(struct exec_ready *ready)
{
    if (ready->message) {
        ec1__v1__ready__free_unpacked(ready->message, NULL);
        ready->message = NULL;
    }
}

void exec_ready_close(struct exec_ready *ready)
{
    if (!ready) {
        return;
    }
    hang_up(ready);
    drop_message(ready);
    if (ready->listener >= 0) {
        (void)close(ready->listener);
    }
    if (ready->path[0]) {
        (void)unlink(ready->path);
    }
    if (ready->epoll >= 0) {
        (void)close(ready->epoll);
    }
    buf_fini(&ready->in);
    free(ready);
}

int exec_ready_fd(const struct exec_ready *ready)
{
    return ready->epoll;
}

static void lose(struct exec_ready *ready)
{
    hang_up(ready);
    if (ready->state == EXEC_READY_UP) {
        ready->state = EXEC_READY_GONE;
    }
}

static void take_message(struct exec_ready *ready, const uint8_t *data, size_t len)
{
    Ec1__V1__Ready *message = ec1__v1__ready__unpack(NULL, len, data);

    if (!message) {
        lose(ready);
        return;
    }
    drop_message(ready);
    ready->message = message;
    ready->state = message->error[0] ? EXEC_READY_FAILED : EXEC_READY_UP;
}

/* guest: lengths are the init's word. */
static void take_frames(struct exec_ready *ready)
{
    while (ready->link >= 0 && ready->in.len >= 4) {
        uint32_t len = load_le32(ready->in.data);

        if (len > EXEC_READY_MAX) {
            lose(ready);
            return;
        }
        if (ready->in.len - 4 < len) {
            return;
        }
        if (len) {
            take_message(ready, ready->in.data + 4, len);
        }
        if (ready->link >= 0) {
            buf_consume(&ready->in, 4 + (size_t)len);
        }
    }
}

static void read_link(struct exec_ready *ready)
{
    uint8_t *to = buf_reserve(&ready->in, 4096);
    ssize_t got = to ? recv(ready->link, to, 4096, MSG_DONTWAIT) : 0;

    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (got <= 0) {
        lose(ready);
        return;
    }
    ready->in.len += (size_t)got;
    ready->heard_ns = clock_mono_ns();
    take_frames(ready);
}

/* See exec.proto: the guest sets its clock by this. */
static void tell_time(int fd)
{
    uint8_t now[8];

    store_le64(now, (uint64_t)clock_wall_ns());
    (void)send(fd, now, sizeof(now), MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void take_link(struct exec_ready *ready)
{
    int fd = accept4(ready->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd < 0) {
        return;
    }
    hang_up(ready);
    if (watch(ready, fd) < 0) {
        (void)close(fd);
        return;
    }
    ready->link = fd;
    tell_time(fd);
}

enum exec_ready_state exec_ready_step(struct exec_ready *ready)
{
    struct epoll_event events[2];
    int count;

    while ((count = epoll_wait(ready->epoll, events, 2, 0)) > 0) {
        for (int i = 0; i < count; i++) {
            if (events[i].data.fd == ready->listener) {
                take_link(ready);
            } else if (events[i].data.fd == ready->link) {
                read_link(ready);
            }
        }
    }
    return ready->state;
}

static int outcome(const struct exec_ready *ready, struct err *err)
{
    if (ready->state == EXEC_READY_FAILED) {
        return err_set(err, -EHOSTDOWN, "%s", ready->message->error);
    }
    return ready->state == EXEC_READY_UP ? 0 : err_set(err, -ECONNRESET, "the VM's init is gone");
}

int exec_ready_wait(struct exec_ready *ready, int64_t timeout_ns, int cancel_fd, struct err *err)
{
    struct pollfd fds[2] = {{.fd = ready->epoll, .events = POLLIN},
                            {.fd = cancel_fd, .events = POLLIN}};
    int64_t deadline_ns = clock_mono_ns() + timeout_ns;

    while (exec_ready_step(ready) == EXEC_READY_WAITING) {
        int64_t left = deadline_ns - clock_mono_ns();

        if (timeout_ns && left <= 0) {
            return err_set(err, -ETIMEDOUT, "the VM's init did not report within %.1f s",
                           (double)timeout_ns / (double)NS_PER_S);
        }
        if (poll(fds, 2, timeout_ns ? (int)(left / NS_PER_MS + 1) : -1) < 0 && errno != EINTR) {
            return err_sys(err, "wait for the VM's init");
        }
        if (fds[1].revents && exec_ready_step(ready) == EXEC_READY_WAITING) {
            return err_set(err, -ECANCELED, "the VM ended before its init was ready");
        }
    }
    return outcome(ready, err);
}

const Ec1__V1__Ready *exec_ready_message(const struct exec_ready *ready)
{
    return ready->message;
}

int64_t exec_ready_silence_ns(const struct exec_ready *ready)
{
    return clock_mono_ns() - ready->heard_ns;
}
