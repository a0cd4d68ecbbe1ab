/* container.h — compiled filters of several threads in one file.
 *
 *     bytes 0-7   "EC1BPF" and the version of the form, 16 bits: 1
 *     8-11        number of filters
 *     then each   length of its name (32 bits), number of instructions (32 bits), the name without
 *                 an end mark, the instructions: struct sock_filter, 8 bytes each
 *     last 4      CRC-32 (zlib's) of all before
 *
 * Numbers are little endian.  A reader takes nothing on trust: every length is held against what is
 * left, every program against seccomp_check().
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "seccomp/compile.h"

#define SECCOMP_NAME_MAX  64 /* bytes of a thread's name */
#define SECCOMP_COUNT_MAX 64 /* filters */

struct seccomp_filter {
    char name[SECCOMP_NAME_MAX + 1];
    struct seccomp_program program;
};

struct seccomp_container {
    struct seccomp_filter filters[SECCOMP_COUNT_MAX];
    unsigned count;
};

void seccomp_container_fini(struct seccomp_container *container);
/* To the end of `out`, whose state tells of a failure. */
void seccomp_container_write(const struct seccomp_container *container, struct buf *out);
/* 0, -EINVAL or -ENOMEM.  `container` is empty before, and after a failure. */
int seccomp_container_read(const void *data, size_t len, struct seccomp_container *container,
                           struct err *err);
