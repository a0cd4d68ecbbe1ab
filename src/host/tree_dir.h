/* tree_dir.h — a directory of the host (or one file of it) as a tree_port.
 *
 * Without privilege everything happens as the monitor's user.  As root, what the guest creates
 * belongs to the guest's user and group.  Kernel file systems that are mounted below the root
 * (/proc, /sys and the like) appear as empty directories; devices, FIFOs and sockets appear, and
 * are never opened.
 *
 * A file as `path`: the tree is its parent directory, in which only that name exists and cannot be
 * created, removed or renamed.
 */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "dev/port/tree_port.h"

struct tree_dir_config {
    const char *path; /* of a directory or regular file; symbolic links in it are followed */
    bool is_read_only;
    bool closed_is_empty; /* directories that the monitor may not search or read look empty, so that
                             the guest's root can make things there in an overlay above */
    unsigned fd_max;      /* descriptors that this tree may hold, at least 16; 0: a quarter of what
                             RLIMIT_NOFILE allows after its soft limit was raised to the hard one, and
                             16384 at most */
};

/* To be freed with ret_tree->ops->free(ret_tree->owner). */
int tree_dir_new(const struct tree_dir_config *config, struct tree_port *ret_tree, struct err *err);
/* The one name in the tree when `path` was a file, else NULL.  Valid while the tree is. */
const char *tree_dir_only_name(const struct tree_port *tree);
