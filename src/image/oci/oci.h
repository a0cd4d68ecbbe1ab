/* oci.h — an image by its name: pulled once, kept unpacked, shared by all who use it.
 *
 * Many processes may ask for the same image at once: one pulls, the others wait for it.  Nothing
 * half-pulled is ever used; what an earlier attempt left is gone on with.  An unpacked image that
 * was changed or lost files is noticed and pulled again.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"

struct oci_ref;

/* Called now and then while something is fetched; total 0: not known. */
struct oci_progress {
    void (*show)(void *owner, const char *what, uint64_t done, uint64_t total);
    void *owner;
};

/* An image in use: it stays as long as this does. */
struct oci_tree {
    char *path; /* folder with its files */
    int lock_fd;
};

/* `cache` is the user's cache folder, which exists.  `progress` may be NULL. */
int oci_get(const char *cache, const struct oci_ref *ref, const struct oci_progress *progress,
            struct oci_tree *ret_tree, struct err *err);
void oci_tree_fini(struct oci_tree *tree);
/* Remove all images that nobody uses; *ret_busy: how many somebody does. */
int oci_flush(const char *cache, unsigned *ret_busy, struct err *err);
