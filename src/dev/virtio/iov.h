/* iov.h — runs of bytes that lie in pieces, as the buffers of a request do. */
#pragma once

#include <stddef.h>
#include <sys/uio.h>

#include "dev/virtio/queue.h"

/* Copy the first `len` bytes out, or `len` bytes in at `offset`; returns how many there were. */
size_t iov_read(const struct iovec *iov, unsigned count, void *data, size_t len);
size_t iov_write(const struct iovec *iov, unsigned count, size_t offset, const void *data,
                 size_t len);
/* The run [skip, skip+len) of `from`, into `to`; returns the count. */
unsigned iov_slice(const struct iovec *from, unsigned count, size_t skip, size_t len,
                   struct iovec to[static VIRTQ_SEG_MAX]);
