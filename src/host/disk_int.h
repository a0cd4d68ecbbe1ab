/* disk_int.h — what the engines below a disk share. */
#pragma once

#include "host/disk.h"

/* Both take over `fd` on success and leave `base.bytes` and `base.id` to their caller. */
int disk_sync_new(int fd, struct disk_port **ret_port, struct err *err);
int disk_uring_new(int fd, struct disk_port **ret_port, struct err *err);
