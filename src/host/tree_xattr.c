/* tree_xattr.c — extended attributes, as the host's kernel lets the monitor have them.
 *
 * Two exceptions.  "trusted." names do not exist in a read-only tree: an overlay of the guest that
 * has it as its lower layer asks for its own on every name, and must not take those of an overlay
 * on the host for them.  Without privilege they never exist, so the host is not asked.
 */
#include <errno.h>
#include <linux/limits.h>
#include <string.h>
#include <sys/xattr.h>

#include "host/tree_int.h"

static bool is_trusted(const char *name)
{
    return strncmp(name, "trusted.", 8) == 0;
}

/* The path by which an xattr call reaches the node. */
static int xattr_path(struct tree *tree, uint64_t id, const char *name,
                      char path[static TREE_FD_PATH_MAX])
{
    struct tree_node *node = tree_node_get(tree, id);
    int fd;

    if (!node) {
        return -ESTALE;
    }
    if (node->is_hidden || tree->proc_fd < 0) {
        return -EOPNOTSUPP;
    }
    if (name && strnlen(name, XATTR_NAME_MAX + 1) > XATTR_NAME_MAX) {
        return -ERANGE;
    }
    fd = tree_node_path_fd(tree, node);
    if (fd < 0) {
        return fd;
    }
    tree_fd_path(path, fd, false);
    return 0;
}

ssize_t tree_get_xattr(void *t, uint64_t id, const char *name, void *value, size_t size)
{
    struct tree *tree = t;
    char path[TREE_FD_PATH_MAX];
    ssize_t n;
    int r;

    if (is_trusted(name) && (tree->is_read_only || !tree->is_root)) {
        return tree_node_get(tree, id) ? -ENODATA : -ESTALE;
    }
    r = xattr_path(tree, id, name, path);
    if (r < 0) {
        return r;
    }
    n = getxattr(path, name, size ? value : NULL, size);
    return n < 0 ? -errno : n;
}

/* Take the "trusted." names out of a list. */
static size_t drop_trusted(char *list, size_t len)
{
    size_t kept = 0;

    for (size_t at = 0; at < len;) {
        size_t name_len = strnlen(list + at, len - at - 1) + 1;

        if (!is_trusted(list + at)) {
            memmove(list + kept, list + at, name_len);
            kept += name_len;
        }
        at += name_len;
    }
    return kept;
}

ssize_t tree_list_xattr(void *t, uint64_t id, char *list, size_t size)
{
    struct tree *tree = t;
    char path[TREE_FD_PATH_MAX];
    ssize_t n;
    int r = xattr_path(tree, id, NULL, path);

    if (r < 0) {
        return r;
    }
    n = listxattr(path, size ? list : NULL, size);
    if (n < 0) {
        return -errno;
    }
    return size && tree->is_read_only ? (ssize_t)drop_trusted(list, (size_t)n) : n;
}

int tree_set_xattr(void *t, uint64_t id, const char *name, const void *value, size_t size,
                   int flags)
{
    struct tree *tree = t;
    char path[TREE_FD_PATH_MAX];
    int r;

    if (tree->is_read_only) {
        return -EROFS;
    }
    if (tree->only && id == TREE_ROOT) {
        return -EPERM;
    }
    r = xattr_path(tree, id, name, path);
    if (r < 0) {
        return r;
    }
    return setxattr(path, name, value, size, flags) < 0 ? -errno : 0;
}

int tree_remove_xattr(void *t, uint64_t id, const char *name)
{
    struct tree *tree = t;
    char path[TREE_FD_PATH_MAX];
    int r;

    if (tree->is_read_only) {
        return -EROFS;
    }
    if (tree->only && id == TREE_ROOT) {
        return -EPERM;
    }
    r = xattr_path(tree, id, name, path);
    if (r < 0) {
        return r;
    }
    return removexattr(path, name) < 0 ? -errno : 0;
}
