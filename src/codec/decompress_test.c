/* decompress_test.c — every format comes back whole, and no input does more than fail. */
#include <bzlib.h>
#include <errno.h>
#include <lz4.h>
#include <lz4hc.h>
#include <lzma.h>
#include <lzo/lzo1x.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

#include "base/bits.h"
#include "codec/decompress.h"
#include "tests/lib/test.h"

#define SAMPLE_LEN (9 * MIB + 12345) /* more than one LZ4 block */

static uint64_t g_seed = 0x9e3779b97f4a7c15;

static uint64_t next_random(void)
{
    g_seed ^= g_seed << 13;
    g_seed ^= g_seed >> 7;
    g_seed ^= g_seed << 17;
    return g_seed;
}

/* Text-like: compressible, but with no long runs. */
static void fill(struct buf *buf, size_t len)
{
    uint8_t *p = buf_reserve(buf, len);

    for (size_t i = 0; i < len; i++) {
        p[i] = (uint8_t)((i >> 9) * 31 + (next_random() & 3));
    }
    buf->len = len;
}

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

static void put_le32(struct buf *out, uint32_t value)
{
    buf_append(out, &value, 4);
}

static void pack_lz4(const struct buf *in, struct buf *out)
{
    put_le32(out, 0x184c2102);
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

static void put_be(struct buf *out, uint32_t value, unsigned len)
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
    put_be(out, 0x1030, 2);
    put_be(out, 0x2080, 2);
    put_be(out, 0x0940, 2);
    put_be(out, 1, 1);
    put_be(out, 5, 1);
    put_be(out, 0x1 | 0x40, 4); /* adler32 of the unpacked data; extra field */
    put_be(out, 0100644, 4);
    put_be(out, 0, 4);
    put_be(out, 0, 4);
    put_be(out, 3, 1);
    buf_append(out, "abc", 3);
    put_be(out, 0, 4);
    put_be(out, 5, 4);
    buf_append(out, "extra", 5);
    put_be(out, 0, 4);
    for (size_t at = 0; at < in->len; at += 256 * KIB) {
        size_t len = in->len - at < 256 * KIB ? in->len - at : 256 * KIB;
        lzo_uint got = 0;

        CHECK_INT(lzo1x_1_compress(in->data + at, len, block, &got, work), LZO_E_OK);
        put_be(out, (uint32_t)len, 4);
        put_be(out, (uint32_t)(got < len && at ? got : len), 4);
        put_be(out, 0, 4); /* checksum: not looked at */
        buf_append(out, got < len && at ? block : in->data + at, got < len && at ? got : len);
    }
    put_be(out, 0, 4);
}

static void pack(enum codec_format format, const struct buf *in, struct buf *out)
{
    switch (format) {
#define X(constant, name, function) \
    case constant: pack_##function(in, out); break;
        CODEC_FORMATS(X)
#undef X
    case CODEC_UNKNOWN: fail();
    }
}

static void check_one(enum codec_format format, const struct buf *sample)
{
    struct buf packed = {0};
    struct buf out = {0};
    struct err err = {0};

    pack(format, sample, &packed);
    CHECK_INT(codec_sniff(packed.data, packed.len), format);
    CHECK_OK(codec_decompress(format, packed.data, packed.len, sample->len, &out, &err), &err);
    CHECK_INT(out.len, sample->len);
    CHECK_MEM(out.data, sample->data, sample->len);

    /* The length word of Linux behind it. */
    buf_clear(&out);
    put_le32(&packed, (uint32_t)sample->len);
    CHECK_OK(codec_decompress(format, packed.data, packed.len, sample->len, &out, &err), &err);
    CHECK_INT(out.len, sample->len);
    CHECK_INT(codec_decompress(format, packed.data, packed.len, sample->len - 1, &out, &err),
              -EFBIG);
    CHECK_HAS(err_text(&err), "unpacks to more than");
    CHECK_INT(codec_decompress(format, packed.data, packed.len / 2, 2 * sample->len, &out, &err),
              -ENODATA);
    CHECK_HAS(err_text(&err), "ends too early");
    CHECK_HAS(err_text(&err), codec_name(format));
    buf_fini(&packed);
    buf_fini(&out);
}

TEST(codec, every_format_comes_back_whole)
{
    struct buf sample = {0};

    fill(&sample, SAMPLE_LEN);
#define X(constant, name, function) check_one(constant, &sample);
    CODEC_FORMATS(X)
#undef X
    buf_fini(&sample);
}

TEST(codec, streams_in_a_row_are_one)
{
    struct buf sample = {0};
    struct buf packed = {0};
    struct buf out = {0};
    struct err err = {0};

    fill(&sample, 5000);
    for (enum codec_format f = CODEC_GZIP; f <= CODEC_LZOP; f++) {
        buf_clear(&packed);
        buf_clear(&out);
        pack(f, &sample, &packed);
        pack(f, &sample, &packed);
        CHECK_OK(codec_decompress(f, packed.data, packed.len, MIB, &out, &err), &err);
        CHECK_INT(out.len, 10000);
        CHECK_MEM(out.data + 5000, sample.data, 5000);
    }
    buf_fini(&sample);
    buf_fini(&packed);
    buf_fini(&out);
}

static void flip_bits(enum codec_format format, const struct buf *packed)
{
    struct buf bad = {0};
    struct buf out = {0};
    struct err err;

    buf_append(&bad, packed->data, packed->len);
    for (unsigned n = 1 + (unsigned)(next_random() % 4); n > 0; n--) {
        /* Half of the flips into the headers. */
        size_t span = next_random() & 1 ? 64 : bad.len;

        bad.data[next_random() % span] ^= (uint8_t)(1u << (next_random() & 7));
    }
    err.code = 0;
    if (codec_decompress(format, bad.data, next_random() % 8 ? bad.len : bad.len / 2, 256 * KIB,
                         &out, &err) < 0) {
        CHECK(err.code < 0);
        CHECK(err.text[0] != 0);
    }
    CHECK(out.len <= 256 * KIB);
    buf_fini(&bad);
    buf_fini(&out);
}

TEST(codec, damaged_input_only_fails)
{
    struct buf sample = {0};
    struct buf packed = {0};

    fill(&sample, 20000);
    for (enum codec_format f = CODEC_GZIP; f <= CODEC_LZOP; f++) {
        buf_clear(&packed);
        pack(f, &sample, &packed);
        for (unsigned i = 0; i < 300; i++) {
            flip_bits(f, &packed);
        }
    }
    buf_fini(&sample);
    buf_fini(&packed);
}

TEST(codec, unknown_bytes_are_named_unknown)
{
    struct buf out = {0};
    struct err err = {0};

    CHECK_INT(codec_sniff("\x1f\x8b\x08", 3), CODEC_UNKNOWN);
    CHECK_INT(codec_sniff(NULL, 0), CODEC_UNKNOWN);
    CHECK_STR(codec_name(CODEC_UNKNOWN), "unknown");
    CHECK_INT(codec_decompress(CODEC_UNKNOWN, "abc", 3, 100, &out, &err), -EBADMSG);
    CHECK_INT(codec_decompress(CODEC_GZIP, "", (size_t)UINT32_MAX + 1, 100, &out, &err), -EFBIG);
    buf_fini(&out);
}
