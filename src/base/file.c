/* file.c — files by descriptor. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

int file_read_at(int fd, uint64_t offset, void *data, size_t len)
{
    uint8_t *to = data;

    while (len > 0) {
        ssize_t got = pread(fd, to, len, (off_t)offset);

        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return got < 0 ? -errno : -ENODATA;
        }
        to += got;
        offset += (uint64_t)got;
        len -= (size_t)got;
    }
    return 0;
}

int file_write_at(int fd, uint64_t offset, const void *data, size_t len)
{
    const uint8_t *from = data;

    while (len > 0) {
        ssize_t done = pwrite(fd, from, len, (off_t)offset);

        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done <= 0) {
            return done < 0 ? -errno : -EIO;
        }
        from += done;
        offset += (uint64_t)done;
        len -= (size_t)done;
    }
    return 0;
}

int file_open_below(int root_fd, const char *path, int flags)
{
    struct open_how how = {.flags = (unsigned)flags | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT};
    long fd = syscall(SYS_openat2, root_fd, path[0] ? path : ".", &how, sizeof(how));

    return fd < 0 ? -errno : (int)fd;
}
