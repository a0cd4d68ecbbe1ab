/* connect.c — "CONNECT <port>\n" on the VM's vsock Unix socket, as Firecracker defines it. */
#include "exec/connect.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/str.h"

/* 1 when `fd` is readable, else a negative errno. */
static int wait_readable(int fd, int64_t deadline_ns, int cancel_fd)
{
    struct pollfd fds[2] = {{.fd = fd, .events = POLLIN}, {.fd = cancel_fd, .events = POLLIN}};

    for (;;) {
        int64_t left = deadline_ns ? deadline_ns - clock_mono_ns() : -1;
        int r;

        if (deadline_ns && left <= 0) {
            return -ETIMEDOUT;
        }
        r = poll(fds, 2, deadline_ns ? (int)(left / NS_PER_MS + 1) : -1);
        if (r < 0 && errno != EINTR) {
            return -errno;
        }
        if (r > 0) {
            return fds[1].revents ? -ECANCELED : 1;
        }
    }
}

/* The answer is one short line; what follows it belongs to the caller, so read no byte too many. */
static int read_line(int fd, int64_t deadline_ns, int cancel_fd, char *line, size_t size)
{
    for (size_t len = 0; len + 1 < size;) {
        int r = wait_readable(fd, deadline_ns, cancel_fd);
        ssize_t got;

        if (r < 0) {
            return r;
        }
        got = recv(fd, line + len, 1, 0);
        if (got <= 0) {
            return got == 0 ? -ECONNRESET : -errno;
        }
        if (line[len] == '\n') {
            line[len] = 0;
            return 0;
        }
        len++;
    }
    return -EPROTO;
}

static int open_socket(const char *path, struct err *err)
{
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof(addr.sun_path)) {
        return err_set(err, -ENAMETOOLONG, "socket path '%s': longer than %zu bytes", path,
                       sizeof(addr.sun_path) - 1);
    }
    memcpy(addr.sun_path, path, strlen(path));
    if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        return err_sys(err, "connect to the VM at '%s'", path);
    }
    return take_fd(&fd);
}

int exec_connect(const char *uds_path, uint32_t port, int64_t timeout_ns, int cancel_fd,
                 struct err *err)
{
    AUTO_CLOSE int fd = open_socket(uds_path, err);
    int64_t deadline_ns = timeout_ns ? clock_mono_ns() + timeout_ns : 0;
    char line[64];
    int len;
    int r;

    if (fd < 0) {
        return fd;
    }
    len = snprintf(line, sizeof(line), "CONNECT %u\n", port);
    if (send(fd, line, (size_t)len, MSG_NOSIGNAL) != len) {
        return err_sys(err, "ask the VM for port %u", port);
    }
    r = read_line(fd, deadline_ns, cancel_fd, line, sizeof(line));
    if (r == -ECONNRESET) {
        return err_set(err, r, "nothing in the VM listens on port %u", port);
    }
    if (r < 0) {
        return err_set(err, r, "connect to port %u of the VM: %s", port, strerror(-r));
    }
    if (!str_has_prefix(line, "OK ")) {
        return err_set(err, -EPROTO, "connect to port %u of the VM: answer '%s'", port, line);
    }
    return take_fd(&fd);
}
