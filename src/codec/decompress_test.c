/* decompress_test.c — every format comes back whole, and no input does more than fail. */
#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"
#include "codec/decompress.h"
#include "tests/lib/pack.h"
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

static void check_one(enum codec_format format, const struct buf *sample)
{
    struct buf packed = {0};
    struct buf out = {0};
    struct err err = {0};

    pack_any(format, sample, &packed);
    CHECK_INT(codec_sniff(packed.data, packed.len), format);
    CHECK_OK(codec_decompress(format, packed.data, packed.len, sample->len, &out, &err), &err);
    CHECK_INT(out.len, sample->len);
    CHECK_MEM(out.data, sample->data, sample->len);

    /* The length word of Linux behind it. */
    buf_clear(&out);
    pack_le32(&packed, (uint32_t)sample->len);
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
        pack_any(f, &sample, &packed);
        pack_any(f, &sample, &packed);
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
        pack_any(f, &sample, &packed);
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
