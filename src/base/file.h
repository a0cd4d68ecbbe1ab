/* file.h — files by descriptor. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Read exactly `len` bytes at `offset`.  0, -ENODATA where the file ends before, or -errno.  The
 * file's position stays. */
int file_read_at(int fd, uint64_t offset, void *data, size_t len);
/* Write all of it at `offset`: 0 or -errno. */
int file_write_at(int fd, uint64_t offset, const void *data, size_t len);
/* Open `path` as if the folder `root_fd` were the root of all files: no link in it leads out.  ""
 * is the folder itself.  A descriptor or -errno. */
int file_open_below(int root_fd, const char *path, int flags);
