/* tree_io.c — data of open files: read, write, sync, allocate, seek, copy. */
#include <errno.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "host/tree_int.h"

#define COPY_MAX (UINT64_C(8) << 20) /* per request: the loop is not to be held up for long */

/* Copy `iov` without its first `skip` bytes into the tree's own array; returns the count. */
static unsigned iov_rest(struct tree *tree, const struct iovec *iov, unsigned count, size_t skip)
{
    unsigned n = 0;

    for (unsigned i = 0; i < count; i++) {
        if (skip >= iov[i].iov_len) {
            skip -= iov[i].iov_len;
            continue;
        }
        tree->iov[n].iov_base = (char *)iov[i].iov_base + skip;
        tree->iov[n].iov_len = iov[i].iov_len - skip;
        skip = 0;
        n++;
    }
    return n;
}

static size_t iov_bytes(const struct iovec *iov, unsigned count)
{
    size_t bytes = 0;

    for (unsigned i = 0; i < count; i++) {
        bytes += iov[i].iov_len;
    }
    return bytes;
}

typedef ssize_t (*transfer_fn)(int fd, const struct iovec *iov, int count, off_t offset, int flags);

/* Until all is done, the end of the file, or an error before the first byte. */
static ssize_t transfer_all(struct tree *tree, transfer_fn transfer, int fd,
                            const struct iovec *iov, unsigned count, uint64_t offset, int flags)
{
    size_t total = iov_bytes(iov, count);
    size_t done = 0;
    ssize_t n;

    if (count > TREE_IOV_MAX || offset > INT64_MAX - total) {
        return -EINVAL;
    }
    for (;;) {
        n = transfer(fd, iov, (int)count, (off_t)(offset + done), flags);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n < 0 && done == 0 ? -errno : (ssize_t)done;
        }
        done += (size_t)n;
        if (done == total) {
            return (ssize_t)done;
        }
        count = iov_rest(tree, iov, count, iov == tree->iov ? (size_t)n : done);
        iov = tree->iov;
    }
}

ssize_t tree_read(void *t, uint64_t node, uint64_t file_id, const struct iovec *iov, unsigned count,
                  uint64_t offset)
{
    struct tree_file *file = NULL;
    int r = tree_file_get(t, node, file_id, &file);

    return r < 0 ? r : transfer_all(t, preadv2, file->fd, iov, count, offset, 0);
}

ssize_t tree_write(void *t, uint64_t node, uint64_t file_id, const struct iovec *iov,
                   unsigned count, const struct tree_write *how)
{
    struct tree *tree = t;
    struct tree_file *file = NULL;
    ssize_t n;
    int r = tree->is_read_only ? -EROFS : tree_file_get(tree, node, file_id, &file);

    if (r < 0) {
        return r;
    }
    file->has_written = true;
    file->node->seen_ctime = (struct timespec){0};
    tree_suid_drop_enter(tree, how->drop_suid);
    n = transfer_all(tree, pwritev2, file->fd, iov, count, how->offset,
                     how->is_append ? RWF_APPEND : 0);
    tree_suid_drop_leave(tree, how->drop_suid);
    return n;
}

int tree_flush(void *t, uint64_t node, uint64_t file_id, uint64_t owner)
{
    struct tree *tree = t;
    struct tree_file *file = NULL;
    int r = tree_file_get(tree, node, file_id, &file);
    int fd;

    if (r < 0) {
        return r;
    }
    tree_locks_drop(tree, file->node, &owner);
    if (!file->has_written) {
        return 0;
    }
    file->has_written = false;
    fd = dup(file->fd); /* file systems report late write errors at close */
    return fd >= 0 && close(fd) < 0 && errno != EINTR ? -errno : 0;
}

int tree_sync(void *t, uint64_t node, uint64_t file_id, bool is_data_only)
{
    struct tree_file *file = NULL;
    int r = tree_file_get(t, node, file_id, &file);

    if (r < 0) {
        return r;
    }
    if (file->node->is_hidden || file->node->is_unlisted) {
        return 0;
    }
    return (is_data_only ? fdatasync(file->fd) : fsync(file->fd)) < 0 ? -errno : 0;
}

int tree_allocate(void *t, uint64_t node, uint64_t file_id, int mode, uint64_t offset, uint64_t len)
{
    struct tree *tree = t;
    struct tree_file *file = NULL;
    int r = tree->is_read_only ? -EROFS : tree_file_get(tree, node, file_id, &file);

    if (r < 0) {
        return r;
    }
    if (offset > INT64_MAX || len > INT64_MAX - offset) {
        return -EFBIG;
    }
    file->node->seen_ctime = (struct timespec){0};
    return fallocate(file->fd, mode, (off_t)offset, (off_t)len) < 0 ? -errno : 0;
}

int64_t tree_seek(void *t, uint64_t node, uint64_t file_id, uint64_t offset, unsigned whence)
{
    struct tree_file *file = NULL;
    off_t at;
    int r = tree_file_get(t, node, file_id, &file);

    if (r < 0) {
        return r;
    }
    if (!S_ISREG(file->node->type) || (whence != SEEK_DATA && whence != SEEK_HOLE)) {
        return -EINVAL; /* the guest does all others itself; a directory's position is ours */
    }
    if (offset > INT64_MAX) {
        return -ENXIO;
    }
    at = lseek(file->fd, (off_t)offset, (int)whence);
    return at < 0 ? -errno : at;
}

ssize_t tree_copy(void *t, const uint64_t from[2], uint64_t from_offset, const uint64_t to[2],
                  uint64_t to_offset, uint64_t len)
{
    struct tree *tree = t;
    struct tree_file *in = NULL;
    struct tree_file *out = NULL;
    off_t in_at = (off_t)from_offset;
    off_t out_at = (off_t)to_offset;
    ssize_t n;
    int r = tree->is_read_only ? -EROFS : tree_file_get(tree, from[0], from[1], &in);

    if (r == 0) {
        r = tree_file_get(tree, to[0], to[1], &out);
    }
    if (r < 0) {
        return r;
    }
    len = len < COPY_MAX ? len : COPY_MAX;
    if (from_offset > INT64_MAX - len || to_offset > INT64_MAX - len) {
        return -EINVAL;
    }
    out->has_written = true; /* NOLINT(clang-analyzer-core.NullDereference): r is 0, so it is set */
    out->node->seen_ctime = (struct timespec){0};
    n = copy_file_range(in->fd, &in_at, out->fd, &out_at, len, 0);
    return n < 0 ? -errno : n;
}
