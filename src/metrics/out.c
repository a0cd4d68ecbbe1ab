/* out.c — where lines of metrics go. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "metrics/metrics_int.h"

/* With the lock of metrics_lock(), except that `fd` may be looked at. */
static struct {
    _Atomic int fd;  /* plus 1: 0 is none */
    struct buf head; /* what every line says after its time */
    char *line;
    size_t line_cap;
    bool is_torn; /* the last line did not get its end */
} g_out;

bool metrics_is_open(void)
{
    return atomic_load_explicit(&g_out.fd, memory_order_acquire) > 0;
}

int metrics_out_grow(void)
{
    size_t need = metrics_line_max() + g_out.head.len;
    char *line;

    if (!metrics_is_open() || need <= g_out.line_cap) {
        return 0;
    }
    line = realloc(g_out.line, need);
    if (!line) {
        return -ENOMEM;
    }
    g_out.line = line;
    g_out.line_cap = need;
    return 0;
}

void metrics_out_close(void)
{
    if (metrics_is_open()) {
        (void)close(g_out.fd - 1);
    }
    buf_fini(&g_out.head);
    free(g_out.line);
    memset(&g_out, 0, sizeof(g_out));
}

static int render_head(const struct metrics_options *options)
{
    struct buf *head = &g_out.head;

    buf_clear(head);
    if (options->id) {
        buf_printf(head, ",\"id\":\"%s\"", options->id);
    }
    if (options->properties_json) {
        buf_printf(head, ",\"properties\":%s", options->properties_json);
    }
    return buf_status(head);
}

/* O_RDWR: a FIFO without a reader opens, and its reader may come and go. */
static int open_locked(const struct metrics_options *options, struct err *err)
{
    int fd;
    int r;

    if (metrics_is_open()) {
        return err_set(err, -EALREADY, "the metrics have a destination already");
    }
    r = render_head(options);
    if (r < 0) {
        return err_set(err, r, "no memory for the metrics");
    }
    fd = open(options->path, O_RDWR | O_CREAT | O_NONBLOCK | O_CLOEXEC | O_NOCTTY, 0644);
    if (fd < 0) {
        return err_sys(err, "open '%s'", options->path);
    }
    g_out.fd = fd + 1;
    r = metrics_out_grow();
    if (r < 0) {
        metrics_out_close();
        return err_set(err, r, "no memory for the metrics");
    }
    return 0;
}

int metrics_open(const struct metrics_options *options, struct err *err)
{
    int r;

    if (!metrics_lock()) {
        return err_set(err, -EBUSY, "the metrics are being written");
    }
    r = open_locked(options, err);
    metrics_unlock();
    return r;
}

static int write_all(const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(g_out.fd - 1, data, len);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -errno;
        }
        g_out.is_torn = true;
        data += n;
        len -= (size_t)n;
    }
    g_out.is_torn = false;
    return 0;
}

static int write_locked(void)
{
    size_t len = metrics_line_render(g_out.line, g_out.line_cap, buf_str(&g_out.head));
    int r;

    if (len == 0) {
        metric_inc(&g_metrics.logger.metrics_fails);
        return -ENOSPC;
    }
    r = g_out.is_torn ? write_all("\n", 1) : 0;
    if (r == 0) {
        r = write_all(g_out.line, len);
    }
    if (r < 0) {
        metric_inc(&g_metrics.logger.missed_metrics_count);
    }
    return r;
}

int metrics_write(void)
{
    int r;

    if (!metrics_is_open()) {
        return 0;
    }
    if (!metrics_lock()) {
        metric_inc(&g_metrics.logger.missed_metrics_count);
        return -EBUSY;
    }
    r = write_locked();
    metrics_unlock();
    return r;
}
