/* decompress.c — name a compressed stream and hand it to the library that knows it.
 *
 * Every adapter here unpacks one stream; codec_decompress() strings them together.  lz4.c and
 * lzop.c parse their framing themselves, because the libraries only know the blocks inside.
 */
#include "codec/decompress.h"

#define ZLIB_CONST /* next_in points to const */

#include <bzlib.h>
#include <limits.h>
#include <lzma.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "base/bits.h"
#include "codec/sink.h"

#define CHUNK_MIN       (256 * KIB)
#define XZ_MEMORY_LIMIT (512 * MIB) /* a dictionary of 128 MiB is what Linux uses at most */
#define ZSTD_WINDOW_LOG 28          /* Linux: level 22, window 2^27 */

uint8_t *sink_room(struct sink *sink, size_t *ret_len)
{
    size_t chunk = sink->out->cap > sink->out->len + 1 ? sink->out->cap - sink->out->len - 1 : 0;
    uint8_t *room;

    if (chunk < CHUNK_MIN) {
        chunk = CHUNK_MIN;
    }
    if (chunk > sink->limit) {
        chunk = sink->limit + 1;
    }
    room = buf_reserve(sink->out, chunk);
    *ret_len = room ? chunk : 0;
    return room;
}

int sink_reserve(struct sink *sink, size_t len, uint8_t **ret_room)
{
    uint8_t *room;

    if (len > sink->limit) {
        return -EFBIG;
    }
    room = buf_reserve(sink->out, len);
    if (!room) {
        return -ENOMEM;
    }
    *ret_room = room;
    return 0;
}

int sink_commit(struct sink *sink, size_t len)
{
    if (len > sink->limit) {
        return -EFBIG;
    }
    sink->limit -= len;
    sink->out->len += len;
    if (sink->out->data) {
        sink->out->data[sink->out->len] = 0;
    }
    return 0;
}

/* --- gzip ----------------------------------------------------------------------------------------
 */

static int gzip_step(z_stream *zs, struct sink *sink, bool *ret_end)
{
    size_t len;
    int r;

    zs->next_out = sink_room(sink, &len);
    if (!zs->next_out) {
        return -ENOMEM;
    }
    zs->avail_out = (uInt)(len < UINT_MAX ? len : UINT_MAX);
    len = zs->avail_out;
    r = inflate(zs, Z_NO_FLUSH);
    len -= zs->avail_out;
    *ret_end = r == Z_STREAM_END;
    if (r == Z_MEM_ERROR) {
        return -ENOMEM;
    }
    if (r == Z_BUF_ERROR || (r == Z_OK && len == 0 && zs->avail_in == 0)) {
        return -ENODATA;
    }
    if (r != Z_OK && r != Z_STREAM_END) {
        return -EBADMSG;
    }
    return sink_commit(sink, len);
}

int unpack_gzip(const uint8_t *data, size_t len, struct sink *sink, size_t *ret_used)
{
    z_stream zs = {0};
    bool end = false;
    int r = 0;

    if (inflateInit2(&zs, 16 + MAX_WBITS) != Z_OK) { /* 16: gzip framing */
        return -ENOMEM;
    }
    zs.next_in = data;
    zs.avail_in = (uInt)len; /* codec_decompress() keeps it below 4 GiB */
    while (r == 0 && !end) {
        r = gzip_step(&zs, sink, &end);
    }
    *ret_used = len - zs.avail_in;
    (void)inflateEnd(&zs);
    return r;
}

/* --- xz, lzma ------------------------------------------------------------------------------------
 */

static int lzma_step(lzma_stream *ls, struct sink *sink, bool *ret_end)
{
    size_t len;
    lzma_ret r;

    ls->next_out = sink_room(sink, &len);
    if (!ls->next_out) {
        return -ENOMEM;
    }
    ls->avail_out = len;
    r = lzma_code(ls, LZMA_FINISH);
    *ret_end = r == LZMA_STREAM_END;
    if (r == LZMA_MEM_ERROR || r == LZMA_MEMLIMIT_ERROR) {
        return -ENOMEM;
    }
    if (r == LZMA_BUF_ERROR) {
        return -ENODATA;
    }
    if (r != LZMA_OK && r != LZMA_STREAM_END) {
        return -EBADMSG;
    }
    return sink_commit(sink, len - ls->avail_out);
}

static int lzma_all(lzma_stream *ls, const uint8_t *data, size_t len, struct sink *sink,
                    size_t *ret_used)
{
    bool end = false;
    int r = 0;

    ls->next_in = data;
    ls->avail_in = len;
    while (r == 0 && !end) {
        r = lzma_step(ls, sink, &end);
    }
    *ret_used = len - ls->avail_in;
    lzma_end(ls);
    return r;
}

int unpack_xz(const uint8_t *data, size_t len, struct sink *sink, size_t *ret_used)
{
    lzma_stream ls = LZMA_STREAM_INIT;

    if (lzma_stream_decoder(&ls, XZ_MEMORY_LIMIT, 0) != LZMA_OK) {
        return -ENOMEM;
    }
    return lzma_all(&ls, data, len, sink, ret_used);
}

int unpack_lzma(const uint8_t *data, size_t len, struct sink *sink, size_t *ret_used)
{
    lzma_stream ls = LZMA_STREAM_INIT;

    if (lzma_alone_decoder(&ls, XZ_MEMORY_LIMIT) != LZMA_OK) {
        return -ENOMEM;
    }
    return lzma_all(&ls, data, len, sink, ret_used);
}

/* --- zstd ----------------------------------------------------------------------------------------
 */

static int zstd_step(ZSTD_DStream *zs, ZSTD_inBuffer *in, struct sink *sink, bool *ret_end)
{
    ZSTD_outBuffer to = {0};
    size_t before = in->pos;
    size_t r;

    to.dst = sink_room(sink, &to.size);
    if (!to.dst) {
        return -ENOMEM;
    }
    r = ZSTD_decompressStream(zs, &to, in);
    if (ZSTD_isError(r)) {
        return -EBADMSG;
    }
    *ret_end = r == 0;
    if (r != 0 && to.pos == 0 && in->pos == before) {
        return -ENODATA;
    }
    return sink_commit(sink, to.pos);
}

int unpack_zstd(const uint8_t *data, size_t len, struct sink *sink, size_t *ret_used)
{
    ZSTD_DStream *zs = ZSTD_createDStream();
    ZSTD_inBuffer in = {.src = data, .size = len};
    bool end = false;
    int r = 0;

    if (!zs) {
        return -ENOMEM;
    }
    if (ZSTD_isError(ZSTD_DCtx_setParameter(zs, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG))) {
        r = -ENOMEM;
    }
    while (r == 0 && !end) {
        r = zstd_step(zs, &in, sink, &end);
    }
    *ret_used = in.pos;
    (void)ZSTD_freeDStream(zs);
    return r;
}

/* --- bzip2 ---------------------------------------------------------------------------------------
 */

static int bzip2_step(bz_stream *bs, struct sink *sink, bool *ret_end)
{
    uint8_t *room;
    size_t len;
    int r;

    room = sink_room(sink, &len);
    if (!room) {
        return -ENOMEM;
    }
    bs->next_out = (char *)room;
    bs->avail_out = (unsigned)(len < UINT_MAX ? len : UINT_MAX);
    len = bs->avail_out;
    r = BZ2_bzDecompress(bs);
    len -= bs->avail_out;
    *ret_end = r == BZ_STREAM_END;
    if (r == BZ_MEM_ERROR) {
        return -ENOMEM;
    }
    if (r != BZ_OK && r != BZ_STREAM_END) {
        return -EBADMSG;
    }
    if (r == BZ_OK && len == 0 && bs->avail_in == 0) {
        return -ENODATA;
    }
    return sink_commit(sink, len);
}

int unpack_bzip2(const uint8_t *data, size_t len, struct sink *sink, size_t *ret_used)
{
    bz_stream bs = {0};
    bool end = false;
    int r = 0;

    if (BZ2_bzDecompressInit(&bs, 0, 0) != BZ_OK) {
        return -ENOMEM;
    }
    /* The library's pointer is not const, but it only reads. */
    memcpy(&bs.next_in, &(const char *){(const char *)data}, sizeof(bs.next_in));
    bs.avail_in = (unsigned)len; /* codec_decompress() keeps it below 4 GiB */
    while (r == 0 && !end) {
        r = bzip2_step(&bs, sink, &end);
    }
    *ret_used = len - bs.avail_in;
    (void)BZ2_bzDecompressEnd(&bs);
    return r;
}

/* --- all -----------------------------------------------------------------------------------------
 */

struct magic {
    enum codec_format format;
    uint8_t len;     /* of the magic */
    uint8_t min_len; /* of anything that can be a stream */
    uint8_t bytes[9];
};

static const struct magic magics[] = {
    {CODEC_GZIP, 3, 18, {0x1f, 0x8b, 8}}, /* RFC 1952; method 8 is the only one */
    {CODEC_XZ, 6, 12, {0xfd, '7', 'z', 'X', 'Z', 0}},
    /* No magic of its own: the properties byte of lc=3 lp=0 pb=2, then a dictionary size that is a
     * multiple of 64 KiB, which is what every tool writes. */
    {CODEC_LZMA, 3, 14, {0x5d, 0, 0}},
    {CODEC_LZ4, 4, 8, {0x02, 0x21, 0x4c, 0x18}},
    {CODEC_ZSTD, 4, 8, {0x28, 0xb5, 0x2f, 0xfd}},
    {CODEC_BZIP2, 3, 14, {'B', 'Z', 'h'}},
    {CODEC_LZOP, 9, 34, {0x89, 'L', 'Z', 'O', 0, 0x0d, 0x0a, 0x1a, 0x0a}},
};

enum codec_format codec_sniff(const void *data, size_t len)
{
    for (size_t i = 0; i < ARRAY_LEN(magics); i++) {
        if (len >= magics[i].min_len && memcmp(data, magics[i].bytes, magics[i].len) == 0) {
            return magics[i].format;
        }
    }
    return CODEC_UNKNOWN;
}

const char *codec_name(enum codec_format format)
{
    switch (format) {
#define X(constant, name, function) \
    case constant: return name;
        CODEC_FORMATS(X)
#undef X
    case CODEC_UNKNOWN: break;
    }
    return "unknown";
}

static int unpack_one(enum codec_format format, const uint8_t *data, size_t len, struct sink *sink,
                      size_t *ret_used)
{
    switch (format) {
#define X(constant, name, function) \
    case constant: return unpack_##function(data, len, sink, ret_used);
        CODEC_FORMATS(X)
#undef X
    case CODEC_UNKNOWN: break;
    }
    return -EBADMSG;
}

static int explain(enum codec_format format, int r, size_t limit, struct err *err)
{
    const char *name = codec_name(format);

    if (r == -ENODATA) {
        return err_set(err, r, "%s data ends too early", name);
    }
    if (r == -EFBIG) {
        return err_set(err, r, "%s data unpacks to more than %zu bytes", name, limit);
    }
    if (r == -ENOMEM) {
        return err_set(err, r, "out of memory while unpacking %s data", name);
    }
    return err_set(err, r, "%s data is damaged", name);
}

int codec_decompress(enum codec_format format, const void *data, size_t len, size_t limit,
                     struct buf *out, struct err *err)
{
    struct sink sink = {.out = out, .limit = limit};
    const uint8_t *at = data;

    if (len > UINT32_MAX) {
        return err_set(err, -EFBIG, "%s data of %zu bytes: must be below 4 GiB", codec_name(format),
                       len);
    }
    do {
        size_t used = 0;
        int r = unpack_one(format, at, len, &sink, &used);

        if (r < 0) {
            return explain(format, r, limit, err);
        }
        at += used;
        len -= used;
    } while (codec_sniff(at, len) == format);
    return 0;
}
