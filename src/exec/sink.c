/* sink.c — write without blocking to a descriptor that may block. */
#include "exec/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

void exec_sink_init(struct exec_sink *sink, int fd)
{
    struct stat st;
    char path[64];

    *sink = (struct exec_sink){.kind = EXEC_SINK_FILE, .fd = fd, .reopened = -1};
    if (fd < 0) {
        return;
    }
    if (fstat(fd, &st) < 0) {
        sink->fd = -1;
        return;
    }
    if (S_ISSOCK(st.st_mode)) {
        sink->kind = EXEC_SINK_SOCKET;
        return;
    }
    if (!S_ISFIFO(st.st_mode) && !isatty(fd)) {
        return; /* files and /dev/null do not block for long */
    }
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    sink->reopened = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    sink->kind = sink->reopened < 0 ? EXEC_SINK_CAREFUL : EXEC_SINK_REOPENED;
}

void exec_sink_fini(struct exec_sink *sink)
{
    byte_queue_fini(&sink->queue);
    if (sink->reopened >= 0) {
        (void)close(sink->reopened);
        sink->reopened = -1;
    }
}

static ssize_t write_careful(int fd, const void *data, size_t len)
{
    struct pollfd room = {.fd = fd, .events = POLLOUT};

    if (poll(&room, 1, 0) <= 0) {
        errno = EAGAIN;
        return -1;
    }
    return write(fd, data, len < PIPE_BUF ? len : PIPE_BUF);
}

static ssize_t write_some(const struct exec_sink *sink, const void *data, size_t len)
{
    switch (sink->kind) {
    case EXEC_SINK_FILE: return write(sink->fd, data, len);
    case EXEC_SINK_SOCKET: return send(sink->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    case EXEC_SINK_REOPENED: return write(sink->reopened, data, len);
    case EXEC_SINK_CAREFUL: return write_careful(sink->fd, data, len);
    }
    return -1;
}

/* How much of `data` went out; less than `len` means no room, or a failure in sink->code. */
static size_t write_most(struct exec_sink *sink, const uint8_t *data, size_t len)
{
    size_t done = 0;

    while (done < len && !sink->code) {
        ssize_t put = write_some(sink, data + done, len - done);

        if (put >= 0) {
            done += (size_t)put;
        } else if (errno == EAGAIN) {
            break;
        } else if (errno != EINTR) {
            sink->code = -errno;
        }
    }
    return done;
}

static size_t take_credit(struct exec_sink *sink, size_t written)
{
    size_t credit = sink->credit;

    if (!exec_sink_is_empty(sink) && written < credit) {
        credit = written;
    }
    sink->credit -= credit;
    return credit;
}

size_t exec_sink_push(struct exec_sink *sink)
{
    size_t len = byte_queue_len(&sink->queue);
    size_t done = write_most(sink, byte_queue_data(&sink->queue), len);

    byte_queue_take(&sink->queue, sink->code ? len : done);
    return take_credit(sink, done);
}

size_t exec_sink_put(struct exec_sink *sink, const void *data, size_t len, size_t credit)
{
    const uint8_t *bytes = data;
    size_t done = 0;

    sink->credit += credit;
    if (sink->fd < 0 || sink->code) {
        return take_credit(sink, len);
    }
    if (exec_sink_is_empty(sink)) {
        done = write_most(sink, bytes, len);
    }
    if (done < len && !sink->code && byte_queue_put(&sink->queue, bytes + done, len - done) < 0) {
        sink->code = -ENOMEM;
    }
    return take_credit(sink, done);
}

bool exec_sink_is_empty(const struct exec_sink *sink)
{
    return byte_queue_len(&sink->queue) == 0;
}

int exec_sink_poll_fd(const struct exec_sink *sink)
{
    return sink->kind == EXEC_SINK_REOPENED ? sink->reopened : sink->fd;
}
