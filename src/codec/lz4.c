/* lz4.c — the legacy LZ4 frame, as `lz4 -l` writes it and Linux packs its kernels.
 *
 * A magic number, then blocks: a 32-bit length, that many bytes of LZ4.  Every block unpacks to 8
 * MiB, only the last to less.  There is no end mark: the data ends where the file ends, which for a
 * kernel is a 32-bit word (the unpacked size) too late.
 */
#include <lz4.h>
#include <string.h>

#include "base/bits.h"
#include "codec/sink.h"

#define LEGACY_MAGIC UINT32_C(0x184c2102)
#define BLOCK_MAX    (8 * MIB)

static int unpack_block(const uint8_t *data, size_t len, struct sink *sink)
{
    size_t room_len = sink->limit < BLOCK_MAX ? sink->limit : BLOCK_MAX;
    uint8_t *room = NULL;
    int got;
    int r = sink_reserve(sink, room_len, &room);

    if (r < 0) {
        return r;
    }
    got = LZ4_decompress_safe((const char *)data, (char *)room, (int)len, (int)room_len);
    if (got < 0) {
        /* Damaged and too large look the same from here. */
        return room_len < BLOCK_MAX ? -EFBIG : -EBADMSG;
    }
    return sink_commit(sink, (size_t)got);
}

int unpack_lz4(const uint8_t *data, size_t len, struct sink *sink, size_t *ret_used)
{
    size_t at = 4;

    while (len - at >= 4) {
        uint32_t block_len = load_le32(data + at);
        int r;

        if (len - at == 4 || block_len == LEGACY_MAGIC) {
            break; /* the length word of Linux, or the next frame */
        }
        if (block_len == 0 || block_len > (uint32_t)LZ4_COMPRESSBOUND(BLOCK_MAX)) {
            return -EBADMSG;
        }
        if (block_len > len - at - 4) {
            return -ENODATA;
        }
        r = unpack_block(data + at + 4, block_len, sink);
        if (r < 0) {
            return r;
        }
        at += 4 + block_len;
    }
    *ret_used = at;
    return 0;
}
