/* pmem_file.c — see pmem_file.h. */
#include "host/pmem_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/bits.h"
#include "base/os_error.h"

/* What a guest's kernel asks of the place and size of persistent memory. */
#define ALIGN_BYTES (2 * MIB)

struct pmem_file {
    struct pmem_port base;
    void *reserved;
    size_t reserved_bytes;
};

static struct pmem_file *file_of(struct pmem_port *port)
{
    return container_of(port, struct pmem_file, base);
}

static int file_sync(struct pmem_port *port)
{
    return msync(port->host, port->file_bytes, MS_SYNC) < 0 ? -errno : 0;
}

static void file_free(struct pmem_port *port)
{
    struct pmem_file *f = file_of(port);

    if (f->reserved) {
        (void)munmap(f->reserved, f->reserved_bytes);
    }
    free(f);
}

static const struct pmem_port_ops g_file_ops = {.sync = file_sync, .free = file_free};

static int failed(struct err *err, int code)
{
    char text[OS_ERROR_MAX];

    return err_set(err, code, "Error accessing backing file: %s", os_error(code, text));
}

static int check_file(int fd, uint64_t *ret_bytes, struct err *err)
{
    struct stat st;

    if (fstat(fd, &st) < 0) {
        return failed(err, -errno);
    }
    if (!S_ISREG(st.st_mode)) {
        return err_set(err, -EINVAL, "Error accessing backing file: it is no regular file");
    }
    if (st.st_size == 0) {
        return err_set(err, -EINVAL, "Error backing file size is 0");
    }
    *ret_bytes = (uint64_t)st.st_size;
    return 0;
}

/* The file at an aligned address, and memory behind it up to the next. */
static int map(struct pmem_file *f, int fd, uint64_t bytes)
{
    int prot = PROT_READ | (f->base.is_read_only ? 0 : PROT_WRITE);
    uint64_t len = align_up(bytes, ALIGN_BYTES);
    uint8_t *host;

    f->reserved_bytes = len + ALIGN_BYTES;
    f->reserved =
        mmap(NULL, f->reserved_bytes, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (f->reserved == MAP_FAILED) {
        f->reserved = NULL;
        return -errno;
    }
    /* NOLINTNEXTLINE(performance-no-int-to-ptr) */
    host = (uint8_t *)align_up((uintptr_t)f->reserved, ALIGN_BYTES);
    if (mmap(host, bytes, prot, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, fd, 0) == MAP_FAILED) {
        return -errno;
    }
    (void)madvise(host, len, MADV_DONTDUMP);
    f->base.host = host;
    f->base.len = len;
    f->base.file_bytes = bytes;
    return 0;
}

int pmem_file_open(const char *path, bool is_read_only, struct pmem_port **ret_port,
                   struct err *err)
{
    /* O_NONBLOCK: opening a FIFO must not wait for its other end */
    AUTO_CLOSE int fd = open(path, (is_read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK);
    struct pmem_file *f = NULL;
    uint64_t bytes = 0;
    int r = fd < 0 ? failed(err, -errno) : check_file(fd, &bytes, err);

    if (r < 0) {
        return r;
    }
    f = calloc(1, sizeof(*f));
    if (!f) {
        return err_set(err, -ENOMEM, "out of memory");
    }
    f->base = (struct pmem_port){.ops = &g_file_ops, .is_read_only = is_read_only};
    r = bytes > INT64_MAX - 2 * ALIGN_BYTES ? -EFBIG : map(f, fd, bytes);
    if (r < 0) {
        file_free(&f->base);
        return failed(err, r);
    }
    *ret_port = &f->base;
    return 0;
}
