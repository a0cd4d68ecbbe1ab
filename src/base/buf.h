/* buf.h — a growable run of bytes.
 *
 * Zero-initialise (`struct buf b = {0}`) and end with buf_fini().  Growth failures are sticky:
 * after one, `failed` stays set and further appends do nothing, so a sequence of appends is checked
 * once at its end with buf_status().  `data` is NULL while nothing was appended; a NUL byte always
 * follows the last byte once something was (it is not counted in `len`).
 */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
    uint8_t *data;
    size_t len;
    size_t cap;
    bool failed;
};

void buf_fini(struct buf *buf);
/* Drop the content, keep the storage. */
void buf_clear(struct buf *buf);
/* Room for `more` further bytes; returns where they go (len is not changed), NULL on failure. */
void *buf_reserve(struct buf *buf, size_t more);
void buf_append(struct buf *buf, const void *data, size_t len);
void buf_append_str(struct buf *buf, const char *str);
void buf_append_zero(struct buf *buf, size_t len);
/* Integers, little endian. */
void buf_append_u8(struct buf *buf, uint8_t value);
void buf_append_le16(struct buf *buf, uint16_t value);
void buf_append_le32(struct buf *buf, uint32_t value);
void buf_append_le64(struct buf *buf, uint64_t value);
void buf_printf(struct buf *buf, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Remove `len` bytes from the front. */
void buf_consume(struct buf *buf, size_t len);
/* 0, or -ENOMEM if any append failed. */
int buf_status(const struct buf *buf);
/* The content as a C string, "" when empty.  Owned by the buffer. */
const char *buf_str(const struct buf *buf);
/* Read a whole file, at most `max` bytes (-EFBIG beyond).  Returns 0 or -errno. */
int buf_read_file(struct buf *buf, const char *path, size_t max);
