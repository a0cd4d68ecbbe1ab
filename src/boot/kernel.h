/* kernel.h — a Linux kernel file: what is in it, and its way into guest memory.
 *
 * Accepted are a bzImage (boot protocol 2.08 and later, any packing Linux knows) and an x86-64
 * vmlinux, also when the whole file is compressed.  The guest never runs its own decompressor: the
 * ELF inside the bzImage is unpacked here and entered directly; boot/kaslr.h does what else it
 * does.
 *
 * Unpacking takes 50 to 300 ms, so the ELF can be kept in a cache directory, keyed by the content
 * of the kernel file.  A cache that cannot be read or written is not an error.
 *
 * Every number in the file is hostile.  Errors are one sentence that names the file.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "boot/bzimage.h"
#include "boot/elf.h"

struct mem_map;

struct kernel {
    struct elf elf;       /* parsed; its bytes are in `image` or in `fd` */
    struct bzimage setup; /* of the bzImage, or made up for a plain ELF */
    struct buf image;     /* the unpacked ELF, unless it is in a file */
    int fd;               /* -1 if it is in `image` */
    const char *packing;  /* "lz4", "none", "cached" */
    char *path;
};

/* Read, unpack and check.  `cache_dir` is made if it is missing; NULL: no cache. */
int kernel_open(const char *path, const char *cache_dir, struct kernel **ret_kernel,
                struct err *err);
/* The same of a file that is open already and stays the caller's; `path` names it in errors. */
int kernel_open_fd(int fd, const char *path, const char *cache_dir, struct kernel **ret_kernel,
                   struct err *err);
void kernel_close(struct kernel *kernel);

/* Copy the segments to their physical addresses.  -ENOSPC when they do not fit into memory.  The
 * kernel may be closed afterwards. */
int kernel_load(const struct kernel *kernel, struct mem_map *mem, struct err *err);
