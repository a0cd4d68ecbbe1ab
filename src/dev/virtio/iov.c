/* iov.c — runs of bytes that lie in pieces. */
#include "dev/virtio/iov.h"

#include <stdint.h>
#include <string.h>

size_t iov_read(const struct iovec *iov, unsigned count, void *data, size_t len)
{
    size_t done = 0;

    for (unsigned i = 0; i < count && done < len; i++) {
        size_t n = iov[i].iov_len < len - done ? iov[i].iov_len : len - done;

        memcpy((uint8_t *)data + done, iov[i].iov_base, n);
        done += n;
    }
    return done;
}

size_t iov_write(const struct iovec *iov, unsigned count, size_t offset, const void *data,
                 size_t len)
{
    size_t done = 0;

    for (unsigned i = 0; i < count && done < len; i++) {
        size_t room = iov[i].iov_len;
        size_t n;

        if (offset >= room) {
            offset -= room;
            continue;
        }
        room -= offset;
        n = room < len - done ? room : len - done;
        memcpy((uint8_t *)iov[i].iov_base + offset, (const uint8_t *)data + done, n);
        offset = 0;
        done += n;
    }
    return done;
}

unsigned iov_slice(const struct iovec *from, unsigned count, size_t skip, size_t len,
                   struct iovec to[static VIRTQ_SEG_MAX])
{
    unsigned n = 0;

    for (unsigned i = 0; i < count && len > 0 && n < VIRTQ_SEG_MAX; i++) {
        size_t room = from[i].iov_len;

        if (skip >= room) {
            skip -= room;
            continue;
        }
        room -= skip;
        to[n].iov_base = (uint8_t *)from[i].iov_base + skip;
        to[n].iov_len = room < len ? room : len;
        len -= to[n].iov_len;
        skip = 0;
        n++;
    }
    return n;
}
