/* sink.h — where the decoders of this room put their output: a buffer with a limit. */
#pragma once

#include <errno.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct sink {
    struct buf *out;
    size_t limit; /* bytes that may still come */
};

/* Somewhere to put at least one byte; how much goes to *ret_len.  There is always one byte more
 * than the limit, so that the decoder shows whether it has more.  NULL when out of memory. */
uint8_t *sink_room(struct sink *sink, size_t *ret_len);

/* Exactly `len` bytes of room.  *ret_room is set on success. */
int sink_reserve(struct sink *sink, size_t len, uint8_t **ret_room);

/* Say that `len` bytes were put there.  -EFBIG when that went beyond the limit. */
int sink_commit(struct sink *sink, size_t len);

/* One decoder: unpack the stream at `data`, say how many bytes of input it took.  0, -EBADMSG,
 * -ENODATA, -EFBIG or -ENOMEM. */
int unpack_gzip(const uint8_t *data, size_t len, struct sink *sink, size_t *ret_used);
int unpack_xz(const uint8_t *data, size_t len, struct sink *sink, size_t *ret_used);
int unpack_lzma(const uint8_t *data, size_t len, struct sink *sink, size_t *ret_used);
int unpack_lz4(const uint8_t *data, size_t len, struct sink *sink, size_t *ret_used);
int unpack_zstd(const uint8_t *data, size_t len, struct sink *sink, size_t *ret_used);
int unpack_bzip2(const uint8_t *data, size_t len, struct sink *sink, size_t *ret_used);
int unpack_lzop(const uint8_t *data, size_t len, struct sink *sink, size_t *ret_used);
