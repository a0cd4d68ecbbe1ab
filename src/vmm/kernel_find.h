/* kernel_find.h — from what a user calls a kernel to its image and its module tree. */
#pragma once

#include "base/err.h"
#include "image/oci/oci.h"
#include "vmm/kernel_release.h"

/* Longer paths are refused. */
#define KERNEL_PATH_MAX 1024

struct kernel_choice {
    char image[KERNEL_PATH_MAX];      /* the file to boot */
    char modules[KERNEL_PATH_MAX];    /* .../lib/modules/<release>; "" if there is none */
    char release[KERNEL_RELEASE_MAX]; /* "6.1.0-56-cloud-amd64"; "" if unknown */
    char files[KERNEL_PATH_MAX];      /* the folder or image that was named; "" for a file and the
                                         default */
    struct oci_tree tree;             /* the image that holds them; path NULL: none */
};

/* `which` is a kernel file, an image (image/oci/ref.h), or a folder with boot/vmlinux* or
 * boot/vmlinuz* (vmlinux wins) and lib/modules/<release>.  NULL: $EC1_KERNEL, else the default
 * kernel of the user's cache (put there by tools/fetch-kernel), else the newest readable one in
 * /boot. `progress`, which may be NULL, is for an image that is pulled.  End it with
 * kernel_choice_fini(). */
int kernel_find(const char *which, const struct oci_progress *progress,
                struct kernel_choice *ret_choice, struct err *err);
void kernel_choice_fini(struct kernel_choice *choice);

/* The user's cache folder, created: $XDG_CACHE_HOME/ec1 or ~/.cache/ec1.  -ENOENT without a home.
 */
int kernel_cache_dir(char out[static KERNEL_PATH_MAX], struct err *err);
