/* decompress.h — name a compressed stream by its first bytes and unpack it into memory.
 *
 * Input is hostile: nothing is allocated on the word of a header, and output beyond `limit` bytes
 * is an error.  Several streams of the same format in a row are unpacked one after the other; what
 * follows the last one (the length word that Linux puts behind its payload, padding, garbage) is
 * ignored.  Pure functions, any thread.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

/* X(constant, name, function of decompress.c) */
#define CODEC_FORMATS(X)           \
    X(CODEC_GZIP, "gzip", gzip)    \
    X(CODEC_XZ, "xz", xz)          \
    X(CODEC_LZMA, "lzma", lzma)    \
    X(CODEC_LZ4, "lz4", lz4)       \
    X(CODEC_ZSTD, "zstd", zstd)    \
    X(CODEC_BZIP2, "bzip2", bzip2) \
    X(CODEC_LZOP, "lzop", lzop)

enum codec_format {
    CODEC_UNKNOWN,
#define X(constant, name, function) constant,
    CODEC_FORMATS(X)
#undef X
};

/* CODEC_LZ4 is the legacy frame (magic 184C2102H) that Linux uses, and what `lz4 -l` writes. */
enum codec_format codec_sniff(const void *data, size_t len);

/* "gzip"; "unknown" for CODEC_UNKNOWN. */
const char *codec_name(enum codec_format format);

/* Append what `data` unpacks to.  Storage reserved in `out` beforehand is used.  -EBADMSG: damaged
 * or not of this format, -ENODATA: ends too early, -EFBIG: more than `limit` bytes, -ENOMEM.  On
 * failure `out` holds what came out until then. */
int codec_decompress(enum codec_format format, const void *data, size_t len, size_t limit,
                     struct buf *out, struct err *err);
