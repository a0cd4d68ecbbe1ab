/* unpack.h — layers become a tree of files, and nothing outside it is ever touched.
 *
 * Names and links come from strangers: every step of a path is resolved below the tree's root
 * (openat2(2), RESOLVE_IN_ROOT), what is there already is replaced and never written through, and
 * special files are left out.  Files belong to the caller, who can read and remove all of them;
 * owners, set-id bits and extended attributes are dropped.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"

/* Put the layer in `fd` (tar, perhaps compressed) on top of what is in the folder `root_fd`.
 * `budget` is how many bytes the files may have; what was used is taken from it. */
int oci_unpack_layer(int fd, int root_fd, uint64_t *budget, struct err *err);
