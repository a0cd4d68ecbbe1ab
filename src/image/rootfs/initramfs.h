/* initramfs.h — the initramfs of a VM: our init, the modules it needs, and its orders. */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "image/rootfs/modules.h"
#include "proto/exec.pb-c.h"

struct initramfs_request {
    const char *init_path; /* the static binary ec1-init */
    const char
        *modules_dir; /* ".../lib/modules/<release>"; NULL: the kernel has everything built in */
    unsigned needed;  /* masks of enum module_feature */
    unsigned wanted;
    const Ec1__V1__BootConfig *config; /* its `modules` are not used: they are filled in */
};

/* Appends an uncompressed cpio archive; equal input gives equal bytes.  `ret_found`: struct
 * module_list's, 0 without a tree. */
int initramfs_make(const struct initramfs_request *request, struct buf *ret_archive,
                   unsigned *ret_found, struct err *err);

/* How many bytes of a module file are the module, without a signature at its end. */
size_t initramfs_module_size(const void *data, size_t len);
