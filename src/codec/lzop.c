/* lzop.c — the lzop file format over liblzo2, as Linux packs its LZO kernels.
 *
 * All numbers are big-endian.  Magic, versions, method, flags, mode, times, file name, header
 * checksum; then blocks: unpacked length (0 ends the file), packed length, the checksums that the
 * flags name, the bytes.  A block that would not shrink is stored as it is.
 */
#include <lzo/lzo1x.h>
#include <stdbool.h>
#include <string.h>

#include "base/bits.h"
#include "codec/sink.h"

#define MAGIC_LEN 9
#define BLOCK_MAX (64 * MIB) /* what lzop accepts */

/* Flags of the header. */
#define F_ADLER32_D     UINT32_C(0x00000001)
#define F_ADLER32_C     UINT32_C(0x00000002)
#define F_H_EXTRA_FIELD UINT32_C(0x00000040)
#define F_CRC32_D       UINT32_C(0x00000100)
#define F_CRC32_C       UINT32_C(0x00000200)
#define F_H_FILTER      UINT32_C(0x00000800)

#define VERSION_WITH_NEEDED 0x0940 /* since when the header has three more fields */

/* A read position that runs dry instead of off the end. */
struct input {
    const uint8_t *data;
    size_t left;
    bool is_dry;
};

static const uint8_t *take(struct input *in, size_t len)
{
    const uint8_t *at = in->data;

    if (len > in->left) {
        in->is_dry = true;
        in->left = 0;
        return NULL;
    }
    in->data += len;
    in->left -= len;
    return at;
}

static uint8_t take_u8(struct input *in)
{
    const uint8_t *p = take(in, 1);

    return p ? *p : 0;
}

static uint16_t take_be16(struct input *in)
{
    const uint8_t *p = take(in, 2);

    return p ? __builtin_bswap16(load_le16(p)) : 0;
}

static uint32_t take_be32(struct input *in)
{
    const uint8_t *p = take(in, 4);

    return p ? __builtin_bswap32(load_le32(p)) : 0;
}

static int parse_header(struct input *in, uint32_t *ret_flags)
{
    uint16_t version;
    uint8_t method;
    uint32_t flags;

    (void)take(in, MAGIC_LEN);
    version = take_be16(in);
    (void)take(in, 2); /* library version */
    if (version >= VERSION_WITH_NEEDED) {
        (void)take(in, 2);
    }
    method = take_u8(in);
    if (version >= VERSION_WITH_NEEDED) {
        (void)take(in, 1); /* level */
    }
    flags = take_be32(in);
    (void)take(in, flags & F_H_FILTER ? 4 : 0);
    (void)take(in, 8); /* mode, time */
    if (version >= VERSION_WITH_NEEDED) {
        (void)take(in, 4); /* time, high half */
    }
    (void)take(in, take_u8(in)); /* file name */
    (void)take(in, 4);           /* checksum */
    if (flags & F_H_EXTRA_FIELD) {
        (void)take(in, take_be32(in));
        (void)take(in, 4);
    }
    if (in->is_dry) {
        return -ENODATA;
    }
    if (method < 1 || method > 3 || (flags & F_H_FILTER)) { /* LZO1X in three strengths */
        return -EBADMSG;
    }
    *ret_flags = flags;
    return 0;
}

static size_t checksum_bytes(uint32_t flags, bool is_stored)
{
    size_t count = !!(flags & F_ADLER32_D) + (size_t) !!(flags & F_CRC32_D);

    if (!is_stored) {
        count += !!(flags & F_ADLER32_C) + (size_t) !!(flags & F_CRC32_C);
    }
    return count * 4;
}

/* 1: there may be more, 0: the end. */
static int unpack_block(struct input *in, uint32_t flags, struct sink *sink)
{
    uint32_t out_len = take_be32(in);
    uint32_t in_len;
    const uint8_t *packed;
    uint8_t *room = NULL;
    lzo_uint got = out_len;
    int r;

    if (in->is_dry || out_len == 0) {
        return in->is_dry ? -ENODATA : 0;
    }
    in_len = take_be32(in);
    (void)take(in, checksum_bytes(flags, in_len >= out_len));
    packed = take(in, in_len);
    if (!packed || in->is_dry) {
        return -ENODATA;
    }
    if (in_len == 0 || in_len > out_len || out_len > BLOCK_MAX) {
        return -EBADMSG;
    }
    r = sink_reserve(sink, out_len, &room);
    if (r < 0) {
        return r;
    }
    if (in_len == out_len) {
        memcpy(room, packed, out_len);
    } else if (lzo1x_decompress_safe(packed, in_len, room, &got, NULL) != LZO_E_OK ||
               got != out_len) {
        return -EBADMSG;
    }
    r = sink_commit(sink, out_len);
    return r < 0 ? r : 1;
}

int unpack_lzop(const uint8_t *data, size_t len, struct sink *sink, size_t *ret_used)
{
    struct input in = {.data = data, .left = len};
    uint32_t flags = 0;
    int r;

    if (lzo_init() != LZO_E_OK) {
        return -ENOMEM;
    }
    r = parse_header(&in, &flags);
    if (r < 0) {
        return r;
    }
    do {
        r = unpack_block(&in, flags, sink);
    } while (r > 0);
    *ret_used = len - in.left;
    return r;
}
