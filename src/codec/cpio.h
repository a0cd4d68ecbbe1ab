/* cpio.h — write a "newc" cpio archive, the format of Linux's initramfs
 * (Documentation/driver-api/early-userspace/buffer-format.rst).
 *
 *     struct cpio cpio;
 *     cpio_init(&cpio, &buf);
 *     cpio_dir(&cpio, "dev", 0755);
 *     cpio_file(&cpio, "init", 0755, data, len);
 *     r = cpio_end(&cpio);
 *
 * Appends to the buffer and keeps the archive's start aligned to 4 bytes within it.  Errors are
 * sticky and come out of cpio_end().  Everything belongs to root, with a time of 0, so equal input
 * gives equal bytes.  Names have no leading slash; a directory comes before what is in it.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"

struct cpio {
    struct buf *out;
    uint32_t next_inode;
    int status;
};

void cpio_init(struct cpio *cpio, struct buf *out);
/* `mode` is the permission bits. */
void cpio_dir(struct cpio *cpio, const char *name, mode_t mode);
void cpio_file(struct cpio *cpio, const char *name, mode_t mode, const void *data, size_t len);
void cpio_symlink(struct cpio *cpio, const char *name, const char *target);
/* `mode` with its type: S_IFCHR | 0600. */
void cpio_node(struct cpio *cpio, const char *name, mode_t mode, unsigned major, unsigned minor);
/* Write the trailer.  0, -ENOMEM, -EINVAL for an empty or absolute name, -EFBIG for a file that the
 * format cannot hold. */
int cpio_end(struct cpio *cpio);
