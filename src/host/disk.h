/* disk.h — disk_port.h made real: a file or a block device of the host.
 *
 * Files are opened at once, so that it is this file which the guest gets, whatever happens to its
 * name; its size is that of this moment.  The errors are those of the microVM interface and name
 * the file.
 */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "dev/port/disk_port.h"

struct disk_config {
    const char *path;
    bool is_read_only;
    bool is_async; /* io_uring, else read(2) and write(2) on the device's thread */
};

/* A regular file or a block device. */
int disk_open(const struct disk_config *config, struct disk_port **ret_port, struct err *err);
