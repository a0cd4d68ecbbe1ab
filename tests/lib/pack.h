/* pack.h — compress in every format that codec/decompress.h unpacks, for tests. */
#pragma once

/* clang-format off */
#include <bzlib.h>
#include <lz4.h>
#include <lzma.h>
#include <lzo/lzo1x.h>
#include <zlib.h>
#include <zstd.h>
/* clang-format on */

#include "base/bits.h"
#include "base/buf.h"
#include "codec/decompress.h"
#include "tests/lib/test.h"

static void pack_gzip(const struct buf *in, struct buf *out)
{
    z_stream zs = {0};

    CHECK_INT(deflateInit2(&zs, 1, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
    zs.next_out = buf_reserve(out, in->len + 1000);
    zs.avail_out = (uInt)(in->len + 1000);
    zs.next_in = in->data;
    zs.avail_in = (uInt)in->len;
    CHECK_INT(deflate(&zs, Z_FINISH), Z_STREAM_END);
    out->len += zs.total_out;
    (void)deflateEnd(&zs);
}

static void pack_xz(const struct buf *in, struct buf *out)
{
    uint8_t *to = buf_reserve(out, in->len + 100000);
    size_t at = 0;

    CHECK_INT(
        lzma_easy_buffer_encode(0, LZMA_CHECK_CRC32, NULL, in->data, in->len, to, &at, in->len),
        LZMA_OK);
    out->len += at;
}

static void pack_lzma(const struct buf *in, struct buf *out)
{
    lzma_stream ls = LZMA_STREAM_INIT;
    lzma_options_lzma options;

    CHECK(!lzma_lzma_preset(&options, 0));
    CHECK_INT(lzma_alone_encoder(&ls, &options), LZMA_OK);
    ls.next_in = in->data;
    ls.avail_in = in->len;
    ls.next_out = buf_reserve(out, in->len + 1000);
    ls.avail_out = in->len + 1000;
    CHECK_INT(lzma_code(&ls, LZMA_FINISH), LZMA_STREAM_END);
    out->len += ls.total_out;
    lzma_end(&ls);
}

static void pack_le32(struct buf *out, uint32_t value)
{
    buf_append(out, &value, 4);
}

static void pack_lz4(const struct buf *in, struct buf *out)
{
    pack_le32(out, 0x184c2102);
    for (size_t at = 0; at < in->len; at += 8 * MIB) {
        size_t len = in->len - at < 8 * MIB ? in->len - at : 8 * MIB;
        char *to = buf_reserve(out, 4 + (size_t)LZ4_compressBound((int)len));
        int got = LZ4_compress_default((const char *)in->data + at, to + 4, (int)len,
                                       LZ4_compressBound((int)len));

        CHECK(got > 0);
        store_le32(to, (uint32_t)got);
        out->len += 4 + (size_t)got;
    }
}

static void pack_zstd(const struct buf *in, struct buf *out)
{
    void *to = buf_reserve(out, ZSTD_compressBound(in->len));
    size_t got = ZSTD_compress(to, ZSTD_compressBound(in->len), in->data, in->len, 1);

    CHECK(!ZSTD_isError(got));
    out->len += got;
}

static void pack_bzip2(const struct buf *in, struct buf *out)
{
    unsigned len = (unsigned)in->len + 100000;
    char *to = buf_reserve(out, len);

    CHECK_INT(BZ2_bzBuffToBuffCompress(to, &len, (char *)in->data, (unsigned)in->len, 1, 0, 0),
              BZ_OK);
    out->len += len;
}

static void pack_be(struct buf *out, uint32_t value, unsigned len)
{
    while (len-- > 0) {
        uint8_t byte = (uint8_t)(value >> (8 * len));

        buf_append(out, &byte, 1);
    }
}

static void pack_lzop(const struct buf *in, struct buf *out)
{
    static uint8_t work[LZO1X_1_MEM_COMPRESS];
    static uint8_t block[512 * 1024];

    CHECK_INT(lzo_init(), LZO_E_OK);
    buf_append(out, "\x89LZO\0\r\n\x1a\n", 9);
    pack_be(out, 0x1030, 2);
    pack_be(out, 0x2080, 2);
    pack_be(out, 0x0940, 2);
    pack_be(out, 1, 1);
    pack_be(out, 5, 1);
    pack_be(out, 0x1 | 0x40, 4); /* adler32 of the unpacked data; extra field */
    pack_be(out, 0100644, 4);
    pack_be(out, 0, 4);
    pack_be(out, 0, 4);
    pack_be(out, 3, 1);
    buf_append(out, "abc", 3);
    pack_be(out, 0, 4);
    pack_be(out, 5, 4);
    buf_append(out, "extra", 5);
    pack_be(out, 0, 4);
    for (size_t at = 0; at < in->len; at += 256 * KIB) {
        size_t len = in->len - at < 256 * KIB ? in->len - at : 256 * KIB;
        lzo_uint got = 0;

        CHECK_INT(lzo1x_1_compress(in->data + at, len, block, &got, work), LZO_E_OK);
        pack_be(out, (uint32_t)len, 4);
        pack_be(out, (uint32_t)(got < len && at ? got : len), 4);
        pack_be(out, 0, 4); /* checksum: not looked at */
        buf_append(out, got < len && at ? block : in->data + at, got < len && at ? got : len);
    }
    pack_be(out, 0, 4);
}

static void pack_any(enum codec_format format, const struct buf *in, struct buf *out)
{
    switch (format) {
#define X(constant, name, function) \
    case constant: pack_##function(in, out); break;
        CODEC_FORMATS(X)
#undef X
    case CODEC_UNKNOWN: fail();
    }
}
