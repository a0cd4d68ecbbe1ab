/* tree_name.c — names in directories: look up, make, link, remove, rename. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "host/tree_int.h"

int tree_name_check(const struct tree *tree, const struct tree_node *dir, const char *name)
{
    size_t len = strnlen(name, TREE_NAME_MAX + 1); /* guest: any bytes */

    if (len > TREE_NAME_MAX) {
        return -ENAMETOOLONG;
    }
    if (len == 0 || strchr(name, '/') || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
        return -EINVAL;
    }
    if (dir->is_hidden || (tree->only && dir == tree->root && strcmp(name, tree->only) != 0)) {
        return -ENOENT;
    }
    return 0;
}

int tree_dir_hold(struct tree *tree, uint64_t id, const char *name, struct tree_node **ret_dir)
{
    struct tree_node *dir = tree_node_get(tree, id);
    int r;

    if (!dir) {
        return -ESTALE;
    }
    if (!S_ISDIR(dir->type)) {
        return -ENOTDIR;
    }
    r = tree_name_check(tree, dir, name);
    if (r < 0) {
        return r;
    }
    r = tree_node_hold(tree, dir);
    if (r >= 0) {
        *ret_dir = dir;
    }
    return r;
}

/* The same for a change: not in a read-only tree, nor to the one name of a tree of one file. */
static int hold_for_change(struct tree *tree, uint64_t id, const char *name,
                           struct tree_node **ret_dir)
{
    if (tree->is_read_only) {
        return -EROFS;
    }
    if (tree->only && id == TREE_ROOT) {
        return -EPERM;
    }
    return tree_dir_hold(tree, id, name, ret_dir);
}

static int learn(struct tree *tree, struct tree_node *dir, int dir_fd, const char *name,
                 struct tree_entry *ret_entry)
{
    struct statx stx;
    int r = tree_statx(dir_fd, name, &stx);

    return r < 0 ? r : tree_node_learn(tree, dir, dir_fd, name, &stx, ret_entry);
}

int tree_lookup(void *t, uint64_t dir_id, const char *name, struct tree_entry *ret_entry)
{
    struct tree *tree = t;
    struct tree_node *dir;
    int dir_fd = tree_dir_hold(tree, dir_id, name, &dir);
    int r;

    if (dir_fd < 0) {
        return dir_fd;
    }
    r = learn(tree, dir, dir_fd, name, ret_entry);
    tree_node_drop(tree, dir);
    return r;
}

int tree_ref(void *t, uint64_t id)
{
    struct tree_node *node = tree_node_get(t, id);

    if (!node) {
        return -ESTALE;
    }
    node->lookups++;
    return 0;
}

void tree_forget(void *t, uint64_t id, uint64_t count)
{
    struct tree *tree = t;
    struct tree_node *node = tree_node_get(tree, id);

    if (node) {
        node->lookups -= count < node->lookups ? count : node->lookups; /* guest: any count */
        tree_node_put(tree, node);
    }
}

static int make_one(int dir_fd, const char *name, const struct tree_make *make)
{
    mode_t mode = make->mode & 07777;
    int r;

    switch (make->mode & S_IFMT) {
    case S_IFDIR: r = mkdirat(dir_fd, name, mode); break;
    case S_IFLNK: r = symlinkat(make->target, dir_fd, name); break;
    case S_IFCHR:
        if (make->rdev != makedev(0, 0)) { /* an overlay's whiteout is harmless */
            return -EPERM;
        }
        r = mknodat(dir_fd, name, make->mode, make->rdev);
        break;
    case S_IFREG:
    case S_IFIFO:
    case S_IFSOCK: r = mknodat(dir_fd, name, (make->mode & S_IFMT) | mode, 0); break;
    case S_IFBLK: return -EPERM;
    default: return -EINVAL;
    }
    return r < 0 ? -errno : 0;
}

int tree_make(void *t, uint64_t dir_id, const char *name, const struct tree_make *make,
              struct tree_entry *ret_entry)
{
    struct tree *tree = t;
    struct tree_node *dir;
    struct tree_cred cred;
    int dir_fd = hold_for_change(tree, dir_id, name, &dir);
    int r;

    if (dir_fd < 0) {
        return dir_fd;
    }
    r = tree_cred_enter(tree, make->uid, make->gid, &cred);
    if (r == 0) {
        r = make_one(dir_fd, name, make);
        tree_cred_leave(&cred);
    }
    if (r == 0) {
        r = learn(tree, dir, dir_fd, name, ret_entry);
    }
    tree_node_drop(tree, dir);
    return r;
}

static int link_to(struct tree *tree, struct tree_node *node, int dir_fd, const char *name)
{
    char path[TREE_FD_PATH_MAX];
    int fd = tree_node_path_fd(tree, node);
    int r;

    if (fd < 0) {
        return fd;
    }
    if (tree->proc_fd >= 0) {
        tree_fd_path(path, fd, true);
        r = linkat(tree->proc_fd, path, dir_fd, name, AT_SYMLINK_FOLLOW);
    } else {
        r = linkat(fd, "", dir_fd, name, AT_EMPTY_PATH);
    }
    return r < 0 ? -errno : 0;
}

int tree_link(void *t, uint64_t id, uint64_t dir_id, const char *name, struct tree_entry *ret_entry)
{
    struct tree *tree = t;
    struct tree_node *node = tree_node_get(tree, id);
    struct tree_node *dir;
    int dir_fd = hold_for_change(tree, dir_id, name, &dir);
    int r;

    if (dir_fd < 0) {
        return dir_fd;
    }
    r = node ? link_to(tree, node, dir_fd, name) : -ESTALE;
    if (r == 0) {
        r = learn(tree, dir, dir_fd, name, ret_entry);
    }
    tree_node_drop(tree, dir);
    return r;
}

/* The node that the guest knows under a name that is about to go, made to outlive it.  0 with NULL
 * if it knows none. */
static int pin_victim(struct tree *tree, int dir_fd, const char *name, struct tree_node **ret_node)
{
    struct statx stx;
    int r = tree_statx(dir_fd, name, &stx);

    *ret_node = NULL;
    if (r < 0) {
        return r;
    }
    *ret_node = tree_node_find(tree, &stx);
    return *ret_node ? tree_node_pin(tree, *ret_node, dir_fd, name) : 0;
}

int tree_remove(void *t, uint64_t dir_id, const char *name, bool is_dir)
{
    struct tree *tree = t;
    struct tree_node *dir;
    struct tree_node *node;
    int dir_fd = hold_for_change(tree, dir_id, name, &dir);
    int r;

    if (dir_fd < 0) {
        return dir_fd;
    }
    r = pin_victim(tree, dir_fd, name, &node);
    if (r == 0) {
        r = unlinkat(dir_fd, name, is_dir ? AT_REMOVEDIR : 0) < 0 ? -errno : 0;
        if (node && r == 0) {
            tree_node_unname(tree, node, dir, name);
        } else if (node) {
            tree_node_unpin(tree, node);
        }
    }
    tree_node_drop(tree, dir);
    return r;
}

struct place {
    struct tree_node *dir;
    int dir_fd;
    const char *name;
    struct tree_node *node; /* what the guest knows there, or NULL */
};

static void rename_nodes(struct tree *tree, const struct place *from, const struct place *to,
                         unsigned flags)
{
    if (flags & RENAME_EXCHANGE) {
        if (to->node) {
            (void)tree_node_rename(tree, to->node, from->dir, from->name);
        }
    } else if (to->node && to->node != from->node) {
        tree_node_unname(tree, to->node, to->dir, to->name);
    }
    if (from->node) {
        (void)tree_node_rename(tree, from->node, to->dir, to->name);
    }
}

static int rename_held(struct tree *tree, struct place *from, struct place *to, unsigned flags)
{
    struct statx stx;
    int r = tree_statx(from->dir_fd, from->name, &stx);

    if (r < 0) {
        return r;
    }
    from->node = tree_node_find(tree, &stx);
    r = pin_victim(tree, to->dir_fd, to->name, &to->node);
    if (r < 0 && r != -ENOENT) {
        return r;
    }
    r = renameat2(from->dir_fd, from->name, to->dir_fd, to->name, flags) < 0 ? -errno : 0;
    if (r == 0) {
        rename_nodes(tree, from, to, flags);
    } else if (to->node) {
        tree_node_unpin(tree, to->node);
    }
    return r;
}

int tree_rename(void *t, uint64_t dir, const char *name, uint64_t new_dir, const char *new_name,
                unsigned flags)
{
    struct tree *tree = t;
    struct place from = {.name = name};
    struct place to = {.name = new_name};
    int r;

    if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT)) {
        return -EINVAL;
    }
    from.dir_fd = hold_for_change(tree, dir, name, &from.dir);
    if (from.dir_fd < 0) {
        return from.dir_fd;
    }
    to.dir_fd = hold_for_change(tree, new_dir, new_name, &to.dir);
    if (to.dir_fd < 0) {
        tree_node_drop(tree, from.dir);
        return to.dir_fd;
    }
    r = rename_held(tree, &from, &to, flags);
    tree_node_drop(tree, to.dir);
    tree_node_drop(tree, from.dir);
    return r;
}
