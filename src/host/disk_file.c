/* disk_file.c — open a disk, and the engine that does one operation after the other where it is
 * called. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/bits.h"
#include "base/os_error.h"
#include "host/disk_int.h"

/* --- the engine --- */

struct disk_sync {
    struct disk_port base;
    int fd;
};

static struct disk_sync *sync_of(struct disk_port *port)
{
    return container_of(port, struct disk_sync, base);
}

static int sync_attach(struct disk_port *port, struct loop *loop, const struct disk_client *client)
{
    (void)port; /* answers at once, so it never calls */
    (void)loop;
    (void)client;
    return 0;
}

static void sync_nothing(struct disk_port *port)
{
    (void)port;
}

/* One pread or pwrite at `done` bytes into the operation. */
static ssize_t transfer(int fd, const struct disk_io *io, uint32_t done)
{
    uint8_t *at = (uint8_t *)io->data + done;
    off_t offset = (off_t)(io->offset + done);

    return io->op == DISK_READ ? pread(fd, at, io->len - done, offset)
                               : pwrite(fd, at, io->len - done, offset);
}

static int64_t sync_submit(struct disk_port *port, struct disk_io *io)
{
    int fd = sync_of(port)->fd;
    uint32_t done = 0;

    if (io->op == DISK_FLUSH) {
        return fsync(fd) < 0 ? -errno : 0;
    }
    while (done < io->len) {
        ssize_t n = transfer(fd, io, done);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) { /* what a short transfer got through, counts */
            return n < 0 && done == 0 ? -errno : (int64_t)done;
        }
        done += (uint32_t)n;
    }
    return done;
}

static void sync_free(struct disk_port *port)
{
    (void)close(sync_of(port)->fd);
    free(sync_of(port));
}

static const struct disk_port_ops g_sync_ops = {
    .attach = sync_attach,
    .detach = sync_nothing,
    .submit = sync_submit,
    .commit = sync_nothing,
    .drain = sync_nothing,
    .free = sync_free,
};

int disk_sync_new(int fd, struct disk_port **ret_port, struct err *err)
{
    struct disk_sync *disk = calloc(1, sizeof(*disk));

    if (!disk) {
        return err_set(err, -ENOMEM, "out of memory");
    }
    disk->base.ops = &g_sync_ops;
    disk->fd = fd;
    *ret_port = &disk->base;
    return 0;
}

/* --- opening --- */

static int file_error(struct err *err, int code, const char *path)
{
    char text[OS_ERROR_MAX];

    return err_set(err, code, "Error manipulating the backing file: %s %s", os_error(code, text),
                   path);
}

static int read_size(int fd, const struct stat *st, uint64_t *ret_bytes)
{
    if (S_ISREG(st->st_mode)) {
        *ret_bytes = (uint64_t)st->st_size;
        return 0;
    }
    if (S_ISBLK(st->st_mode)) {
        return ioctl(fd, BLKGETSIZE64, ret_bytes) < 0 ? -errno : 0;
    }
    return -EINVAL;
}

/* What GET_ID answers: the numbers that tell this file from others on the host. */
static void make_id(const struct stat *st, char id[static DISK_ID_BYTES])
{
    char text[3 * DISK_ID_BYTES + 4]; /* three numbers of at most 20 digits */

    (void)snprintf(text, sizeof(text), "%" PRIu64 "%" PRIu64 "%" PRIu64, (uint64_t)st->st_dev,
                   (uint64_t)st->st_rdev, (uint64_t)st->st_ino);
    memset(id, 0, DISK_ID_BYTES);
    memcpy(id, text, strnlen(text, DISK_ID_BYTES));
}

static int refuse_kind(const struct stat *st, const char *path, struct err *err)
{
    const char *kind = S_ISDIR(st->st_mode)    ? "a directory"
                       : S_ISFIFO(st->st_mode) ? "a FIFO"
                       : S_ISSOCK(st->st_mode) ? "a socket"
                                               : "a character device";

    return err_set(err, -EINVAL,
                   "Error manipulating the backing file: it is %s, and must be a regular file or a "
                   "block device %s",
                   kind, path);
}

int disk_open(const struct disk_config *config, struct disk_port **ret_port, struct err *err)
{
    int flags = (config->is_read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC;
    /* O_NONBLOCK: opening a FIFO must not wait for its other end; files do not care */
    AUTO_CLOSE int fd = open(config->path, flags | O_NONBLOCK);
    struct disk_port *port = NULL;
    struct stat st;
    uint64_t bytes = 0;
    int r;

    if (fd < 0 || fstat(fd, &st) < 0) {
        return file_error(err, -errno, config->path);
    }
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
        return refuse_kind(&st, config->path, err);
    }
    r = read_size(fd, &st, &bytes);
    if (r < 0) {
        return file_error(err, r, config->path);
    }
    (void)fcntl(fd, F_SETFL, flags & ~O_CLOEXEC);
    r = config->is_async ? disk_uring_new(fd, &port, err) : disk_sync_new(fd, &port, err);
    if (r < 0 || !port) {
        return r;
    }
    (void)take_fd(&fd);
    port->bytes = bytes;
    make_id(&st, port->id);
    *ret_port = port;
    return 0;
}
