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

/* A descriptor that fgetxattr() takes, or -1: saves the walk through /proc.  A read-only tree is
 * asked for security.capability before a program is read, so its data is opened already. */
static int open_fd(struct tree *tree, const struct tree_node *node)
{
    struct tree_file *file = node->files ? node->files : node->data;

    if (!file && tree->is_read_only && S_ISREG(node->type) &&
        tree_file_get(tree, node->id, 0, &file) < 0) {
        return -1;
    }
    return file ? file->fd : -1;
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
    struct tree_node *node = tree_node_get(tree, id);
    char path[TREE_FD_PATH_MAX];
    ssize_t n;
    int fd;
    int r;

    if (!node) {
        return -ESTALE;
    }
    if (is_trusted(name) && (tree->is_read_only || !tree->is_root)) {
        return -ENODATA;
    }
    fd = node->is_hidden ? -1 : open_fd(tree, node);
    if (fd >= 0) {
        n = fgetxattr(fd, name, size ? value : NULL, size);
        return n < 0 ? -errno : n;
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

/* The same, for a change. */
static int writable_path(struct tree *tree, uint64_t id, const char *name,
                         char path[static TREE_FD_PATH_MAX])
{
    if (tree->is_read_only) {
        return -EROFS;
    }
    if (tree->only && id == TREE_ROOT) {
        return -EPERM;
    }
    return xattr_path(tree, id, name, path);
}

int tree_set_xattr(void *t, uint64_t id, const char *name, const void *value, size_t size,
                   int flags)
{
    struct tree *tree = t;
    char path[TREE_FD_PATH_MAX];
    int r;

    r = writable_path(tree, id, name, path);
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

    r = writable_path(tree, id, name, path);
    if (r < 0) {
        return r;
    }
    return removexattr(path, name) < 0 ? -errno : 0;
}
