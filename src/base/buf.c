/* buf.c — a growable run of bytes. */
#include "base/buf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/bits.h"

void buf_fini(struct buf *buf)
{
    if (buf) {
        free(buf->data);
        *buf = (struct buf){0};
    }
}

void buf_clear(struct buf *buf)
{
    buf->len = 0;
    buf->failed = false;
    if (buf->data) {
        buf->data[0] = 0;
    }
}

void *buf_reserve(struct buf *buf, size_t more)
{
    size_t want;

    if (buf->failed || __builtin_add_overflow(buf->len, more, &want) ||
        __builtin_add_overflow(want, 1, &want)) {
        buf->failed = true;
        return NULL;
    }
    if (want > buf->cap) {
        size_t cap = buf->cap ? buf->cap : 64;
        uint8_t *data;

        while (cap < want) {
            cap += cap / 2 + 64;
        }
        data = realloc(buf->data, cap);
        if (!data) {
            buf->failed = true;
            return NULL;
        }
        buf->data = data;
        buf->cap = cap;
    }
    return buf->data + buf->len;
}

void buf_append(struct buf *buf, const void *data, size_t len)
{
    void *to = buf_reserve(buf, len);

    if (to) {
        if (len) {
            memcpy(to, data, len);
        }
        buf->len += len;
        buf->data[buf->len] = 0;
    }
}

void buf_append_str(struct buf *buf, const char *str)
{
    buf_append(buf, str, strlen(str));
}

void buf_append_zero(struct buf *buf, size_t len)
{
    void *to = buf_reserve(buf, len);

    if (to) {
        memset(to, 0, len);
        buf->len += len;
        buf->data[buf->len] = 0;
    }
}

void buf_append_u8(struct buf *buf, uint8_t value)
{
    buf_append(buf, &value, sizeof(value));
}

void buf_append_le16(struct buf *buf, uint16_t value)
{
    uint8_t bytes[2];

    store_le16(bytes, value);
    buf_append(buf, bytes, sizeof(bytes));
}

void buf_append_le32(struct buf *buf, uint32_t value)
{
    uint8_t bytes[4];

    store_le32(bytes, value);
    buf_append(buf, bytes, sizeof(bytes));
}

void buf_append_le64(struct buf *buf, uint64_t value)
{
    uint8_t bytes[8];

    store_le64(bytes, value);
    buf_append(buf, bytes, sizeof(bytes));
}

void buf_printf(struct buf *buf, const char *fmt, ...)
{
    va_list ap;
    va_list again;
    int len;

    va_start(ap, fmt);
    va_copy(again, ap);
    len = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (len < 0) {
        buf->failed = true;
    } else {
        char *to = buf_reserve(buf, (size_t)len + 1);

        if (to) {
            (void)vsnprintf(to, (size_t)len + 1, fmt, again);
            buf->len += (size_t)len;
        }
    }
    va_end(again);
}

void buf_consume(struct buf *buf, size_t len)
{
    if (len >= buf->len) {
        buf_clear(buf);
        return;
    }
    memmove(buf->data, buf->data + len, buf->len - len + 1);
    buf->len -= len;
}

int buf_status(const struct buf *buf)
{
    return buf->failed ? -ENOMEM : 0;
}

const char *buf_str(const struct buf *buf)
{
    return buf->data ? (const char *)buf->data : "";
}

int buf_read_file(struct buf *buf, const char *path, size_t max)
{
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0) {
        return -errno;
    }
    for (;;) {
        uint8_t *to = buf_reserve(buf, 65536);
        ssize_t got;

        if (!to) {
            return -ENOMEM;
        }
        got = read(fd, to, 65536);
        if (got < 0) {
            if (errno == EINTR) {
                continue;
            }
            return -errno;
        }
        if (got == 0) {
            buf->data[buf->len] = 0;
            return 0;
        }
        buf->len += (size_t)got;
        if (buf->len > max) {
            return -EFBIG;
        }
    }
}
