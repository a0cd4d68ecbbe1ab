/* tree_attr.c — attributes of nodes, symbolic links' targets, permissions, file system totals. */
#include <errno.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "host/tree_int.h"

/* A descriptor that leads to the node, if one is open. */
static int any_fd(const struct tree_node *node, const struct tree_file *file)
{
    if (file) {
        return file->fd;
    }
    if (node->path_fd >= 0) {
        return node->path_fd;
    }
    if (node->data) {
        return node->data->fd;
    }
    return node->files ? node->files->fd : -1;
}

static int stat_by_name(struct tree *tree, struct tree_node *node, struct stat *ret_st)
{
    struct tree_node *parent = node->parent;
    int dir_fd = parent ? tree_node_hold(tree, parent) : -ESTALE;
    int r;

    if (dir_fd < 0) {
        return dir_fd;
    }
    r = fstatat(dir_fd, node->name, ret_st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) < 0 ? -errno : 0;
    if (r == -ENOENT || r == -ENOTDIR || (r == 0 && !tree_node_is(node, ret_st))) {
        r = -ESTALE;
    }
    tree_node_drop(tree, parent);
    return r;
}

int tree_node_stat(struct tree *tree, struct tree_node *node, const struct tree_file *file,
                   struct stat *ret_st)
{
    int fd = any_fd(node, file);
    int r;

    if (fd >= 0) {
        r = fstat(fd, ret_st) < 0 ? -errno : 0;
    } else {
        r = stat_by_name(tree, node, ret_st);
    }
    if (r == 0) {
        tree_show(tree, ret_st);
    }
    return r;
}

/* The node, and the file if a number is given. */
static int node_and_file(struct tree *tree, uint64_t id, uint64_t file_id,
                         struct tree_node **ret_node, struct tree_file **ret_file)
{
    *ret_node = tree_node_get(tree, id);
    *ret_file = NULL;
    if (!*ret_node) {
        return -ESTALE;
    }
    return file_id ? tree_file_get(tree, id, file_id, ret_file) : 0;
}

int tree_get_attr(void *t, uint64_t id, uint64_t file_id, struct stat *ret_st)
{
    struct tree_node *node;
    struct tree_file *file;
    int r = node_and_file(t, id, file_id, &node, &file);

    return r < 0 ? r : tree_node_stat(t, node, file, ret_st);
}

static int set_owner(const struct tree_change *change, int fd)
{
    uid_t uid = (change->valid & TREE_SET_UID) ? change->uid : (uid_t)-1;
    gid_t gid = (change->valid & TREE_SET_GID) ? change->gid : (gid_t)-1;

    return fchownat(fd, "", uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif

static int set_mode(const struct tree *tree, const struct tree_node *node, int fd, mode_t mode)
{
    char path[TREE_FD_PATH_MAX];
    int r;

    if (S_ISLNK(node->type)) {
        return -EOPNOTSUPP;
    }
    if (tree->proc_fd >= 0) {
        tree_fd_path(path, fd, true);
        r = fchmodat(tree->proc_fd, path, mode, 0);
    } else {
        r = (int)syscall(SYS_fchmodat2, fd, "", mode, AT_EMPTY_PATH);
    }
    return r < 0 ? -errno : 0;
}

static int set_times(const struct tree *tree, int fd, const struct tree_change *change)
{
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_OMIT}};
    char path[TREE_FD_PATH_MAX];
    int r;

    if (change->valid & TREE_SET_ATIME) {
        times[0] = change->atime;
    }
    if (change->valid & TREE_SET_MTIME) {
        times[1] = change->mtime;
    }
    if (tree->proc_fd >= 0) {
        tree_fd_path(path, fd, true);
        r = utimensat(tree->proc_fd, path, times, 0);
    } else {
        r = utimensat(fd, "", times, AT_EMPTY_PATH);
    }
    return r < 0 ? -errno : 0;
}

static int set_size(struct tree *tree, struct tree_node *node, const struct tree_file *file,
                    const struct tree_change *change)
{
    int fd = file && (file->access & (O_WRONLY | O_RDWR)) ? file->fd : -1;
    int own = -1;
    int r;

    if (change->size > INT64_MAX) {
        return -EINVAL;
    }
    if (fd < 0) {
        if (!S_ISREG(node->type)) {
            return S_ISDIR(node->type) ? -EISDIR : -EINVAL;
        }
        own = tree_open_real(tree, node, O_WRONLY);
        if (own < 0) {
            return own;
        }
        fd = own;
    }
    tree_suid_drop_enter(tree, change->drop_suid);
    r = ftruncate(fd, (off_t)change->size) < 0 ? -errno : 0;
    tree_suid_drop_leave(tree, change->drop_suid);
    if (own >= 0) {
        tree_close(tree, own);
    }
    node->seen_ctime = (struct timespec){0};
    return r;
}

static int apply(struct tree *tree, struct tree_node *node, const struct tree_file *file, int fd,
                 const struct tree_change *change)
{
    int r = 0;

    if (change->valid & (TREE_SET_UID | TREE_SET_GID)) {
        r = set_owner(change, fd);
    }
    if (r == 0 && (change->valid & TREE_SET_MODE)) {
        r = set_mode(tree, node, fd, change->mode & 07777);
    }
    if (r == 0 && (change->valid & TREE_SET_SIZE)) {
        r = set_size(tree, node, file, change);
    }
    if (r == 0 && (change->valid & (TREE_SET_ATIME | TREE_SET_MTIME))) {
        r = set_times(tree, fd, change);
    }
    return r;
}

int tree_set_attr(void *t, uint64_t id, uint64_t file_id, const struct tree_change *change,
                  struct stat *ret_st)
{
    struct tree *tree = t;
    struct tree_node *node;
    struct tree_file *file;
    int fd;
    int r = node_and_file(tree, id, file_id, &node, &file);

    if (r < 0) {
        return r;
    }
    if (tree->is_read_only) {
        return -EROFS;
    }
    if (node->is_hidden || (tree->only && node == tree->root)) {
        return -EPERM;
    }
    fd = tree_node_hold(tree, node);
    if (fd < 0) {
        return fd;
    }
    r = apply(tree, node, file, fd, change);
    if (r == 0) {
        r = tree_node_stat(tree, node, file, ret_st);
    }
    tree_node_drop(tree, node);
    return r;
}

int tree_read_link(void *t, uint64_t id, char *buf, size_t size)
{
    struct tree *tree = t;
    struct tree_node *node = tree_node_get(tree, id);
    ssize_t n;
    int fd;

    if (!node || !S_ISLNK(node->type)) {
        return node ? -EINVAL : -ESTALE;
    }
    fd = tree_node_path_fd(tree, node);
    if (fd < 0) {
        return fd;
    }
    n = readlinkat(fd, "", buf, size);
    return n < 0 ? -errno : (int)n;
}

int tree_access(void *t, uint64_t id, unsigned mask)
{
    struct tree *tree = t;
    struct tree_node *node = tree_node_get(tree, id);
    int fd;

    if (!node) {
        return -ESTALE;
    }
    if ((mask & W_OK) && tree->is_read_only) {
        return -EROFS;
    }
    fd = tree_node_path_fd(tree, node);
    if (fd < 0) {
        return fd;
    }
    mask &= R_OK | W_OK | X_OK; /* guest: any bits */
    return syscall(SYS_faccessat2, fd, "", mask, AT_EMPTY_PATH | AT_EACCESS) < 0 ? -errno : 0;
}

int tree_stat_fs(void *t, uint64_t id, struct statvfs *ret_st)
{
    struct tree *tree = t;
    struct tree_node *node = tree_node_get(tree, id);
    int fd = node ? tree_node_path_fd(tree, node) : -ESTALE;

    if (fd < 0) {
        return fd;
    }
    return fstatvfs(fd, ret_st) < 0 ? -errno : 0;
}
