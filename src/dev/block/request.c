/* request.c — what a driver asks for with one chain.
 *
 * The layout is fixed (and part of the microVM interface): a header of 16 bytes, at most one buffer
 * of data, a status byte.  Only a flush may come without data.  Whatever deviates is malformed.
 */
#include "base/bits.h"
#include "dev/block/block_int.h"

/* virtio 1.2, 5.2.6 */
#define HEADER_BYTES 16u

enum type { TYPE_IN = 0, TYPE_OUT = 1, TYPE_FLUSH = 4, TYPE_GET_ID = 8 };

/* Does a range of the disk, in whole sectors, lie within it? */
static bool is_on_disk(uint64_t sector, uint32_t len, uint64_t sectors)
{
    return len % SECTOR_BYTES == 0 && range_within(sector, len / SECTOR_BYTES, sectors);
}

static enum block_request_kind parse_transfer(struct block_request *req, uint32_t type,
                                              uint64_t sector, uint64_t sectors, bool is_for_device)
{
    /* guest: data that the device reads can only be written to disk, and the other way round */
    if (is_for_device != (type == TYPE_OUT) || !is_on_disk(sector, req->io.len, sectors)) {
        return BLOCK_MALFORMED;
    }
    req->io.op = type == TYPE_OUT ? DISK_WRITE : DISK_READ;
    req->io.offset = sector * SECTOR_BYTES;
    return BLOCK_IO;
}

enum block_request_kind block_parse(const struct virtq_chain *chain, uint64_t sectors,
                                    struct block_request *ret)
{
    unsigned count = chain->readable_count + chain->writable_count;
    const struct iovec *data = count == 3 ? &chain->iov[1] : NULL;
    uint8_t header[HEADER_BYTES];
    uint32_t type;
    uint64_t sector;

    if (count < 2 || count > 3 || chain->readable_count == 0 || chain->writable_count == 0 ||
        chain->iov[0].iov_len < HEADER_BYTES) {
        return BLOCK_MALFORMED;
    }
    (void)virtq_chain_read(chain, 0, header, sizeof(header)); /* guest: once */
    type = load_le32(header);
    sector = load_le64(header + 8);
    *ret = (struct block_request){.head = chain->head, .status = chain->iov[count - 1].iov_base};
    if (data) {
        ret->io.data = data->iov_base;
        ret->io.len = (uint32_t)data->iov_len; /* of one descriptor */
    }
    if (type == TYPE_FLUSH) {
        ret->io.op = DISK_FLUSH;
        return BLOCK_IO;
    }
    if (!data) {
        return BLOCK_MALFORMED;
    }
    switch (type) {
    case TYPE_IN:
    case TYPE_OUT: return parse_transfer(ret, type, sector, sectors, chain->readable_count == 2);
    case TYPE_GET_ID:
        return chain->readable_count == 2 || ret->io.len < DISK_ID_BYTES ? BLOCK_MALFORMED
                                                                         : BLOCK_GET_ID;
    default: return BLOCK_UNSUPPORTED;
    }
}

uint32_t block_request_bytes(enum block_request_kind kind, const struct block_request *req)
{
    return kind == BLOCK_IO && req->io.op != DISK_FLUSH ? req->io.len : 0;
}
