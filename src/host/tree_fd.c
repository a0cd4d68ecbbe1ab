/* tree_fd.c — the descriptors of a tree: counted, and made room for by closing cached ones. */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "host/tree_int.h"

static bool has_cached_fd(const struct tree_node *node)
{
    return node->data || (node->path_fd >= 0 && !node->is_pinned);
}

void tree_lru_touch(struct tree *tree, struct tree_node *node)
{
    list_remove(&node->lru);
    if (has_cached_fd(node)) {
        list_append(&tree->lru, &node->lru);
    }
}

static void close_cached(struct tree *tree, struct tree_node *node)
{
    if (node->data) {
        tree_file_free(tree, node->data);
    }
    if (node->path_fd >= 0 && !node->is_pinned) {
        tree_close(tree, node->path_fd);
        node->path_fd = -1;
    }
    list_remove(&node->lru);
}

/* Close up to `count` nodes' descriptors; false if there was none to close. */
static bool evict(struct tree *tree, unsigned count)
{
    bool any = false;

    list_for_each (pos, &tree->lru) {
        struct tree_node *node = container_of(pos, struct tree_node, lru);

        if (count == 0) {
            break;
        }
        if (node->busy) {
            continue;
        }
        close_cached(tree, node);
        any = true;
        count--;
    }
    return any;
}

int tree_openat(struct tree *tree, int dir_fd, const char *name, int flags, unsigned mode)
{
    int fd;

    while (tree->fd_used >= tree->fd_max) {
        if (!evict(tree, 1)) {
            return -ENFILE;
        }
    }
    for (;;) {
        fd = openat(dir_fd, name, flags | O_CLOEXEC, mode);
        if (fd >= 0) {
            tree->fd_used++;
            return fd;
        }
        if (errno == EINTR) {
            continue;
        }
        if ((errno != EMFILE && errno != ENFILE) || !evict(tree, 16)) {
            return -errno;
        }
    }
}

void tree_close(struct tree *tree, int fd)
{
    (void)close(fd);
    tree->fd_used--;
}

void tree_fd_path(char path[static TREE_FD_PATH_MAX], int fd, bool is_short)
{
    (void)snprintf(path, TREE_FD_PATH_MAX, "%s%d", is_short ? "" : "/proc/self/fd/", fd);
}

/* Without /proc: by name, and then see what that was. */
static int open_by_name(struct tree *tree, struct tree_node *node, int flags)
{
    struct stat st;
    int dir_fd;
    int fd;

    if (!node->parent) {
        return -ESTALE;
    }
    dir_fd = tree_node_hold(tree, node->parent);
    if (dir_fd < 0) {
        return dir_fd;
    }
    fd = tree_openat(tree, dir_fd, node->name,
                     (flags & ~O_TRUNC) | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0);
    tree_node_drop(tree, node->parent);
    if (fd < 0) {
        return fd == -ELOOP ? -ESTALE : fd;
    }
    if (fstat(fd, &st) < 0 || !tree_node_is(node, &st)) {
        tree_close(tree, fd);
        return -ESTALE;
    }
    if ((flags & O_TRUNC) && ftruncate(fd, 0) < 0) {
        int r = -errno;

        tree_close(tree, fd);
        return r;
    }
    return fd;
}

int tree_open_real(struct tree *tree, struct tree_node *node, int flags)
{
    char path[TREE_FD_PATH_MAX];
    int path_fd;
    int fd;

    if (node->is_hidden) {
        return -EACCES;
    }
    if (!S_ISREG(node->type) && !S_ISDIR(node->type)) {
        return -ENXIO;
    }
    path_fd = tree_node_hold(tree, node);
    if (path_fd < 0) {
        return path_fd;
    }
    if (tree->proc_fd >= 0) {
        tree_fd_path(path, path_fd, true);
        fd = tree_openat(tree, tree->proc_fd, path, flags | O_NOCTTY, 0);
    } else if (S_ISDIR(node->type)) {
        fd = tree_openat(tree, path_fd, ".", flags, 0);
    } else {
        fd = open_by_name(tree, node, flags);
    }
    tree_node_drop(tree, node);
    return fd;
}
