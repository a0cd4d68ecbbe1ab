/* tree_dir.c — a host directory as a tree: its beginning, its end, and the table of its calls. */
#include "host/tree_dir.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/auto.h"
#include "host/tree_int.h"

#define FD_MAX_DEFAULT 16384u
#define FD_MAX_LEAST   16u

static void tree_reset(void *t)
{
    tree_nodes_clear(t);
}

static void tree_free(void *t)
{
    struct tree *tree = t;

    if (!tree) {
        return;
    }
    tree_nodes_fini(tree);
    tree_ids_fini(&tree->files);
    if (tree->proc_fd >= 0) {
        (void)close(tree->proc_fd);
    }
    free(tree->only);
    free(tree);
}

static const struct tree_ops ops = {
    .reset = tree_reset,
    .free = tree_free,
    .lookup = tree_lookup,
    .ref = tree_ref,
    .forget = tree_forget,
    .get_attr = tree_get_attr,
    .set_attr = tree_set_attr,
    .read_link = tree_read_link,
    .access = tree_access,
    .stat_fs = tree_stat_fs,
    .make = tree_make,
    .link = tree_link,
    .remove = tree_remove,
    .rename = tree_rename,
    .create = tree_create,
    .open = tree_open,
    .open_dir = tree_open_dir,
    .release = tree_release,
    .read = tree_read,
    .write = tree_write,
    .flush = tree_flush,
    .sync = tree_sync,
    .allocate = tree_allocate,
    .seek = tree_seek,
    .copy = tree_copy,
    .read_dir = tree_read_dir,
    .get_xattr = tree_get_xattr,
    .list_xattr = tree_list_xattr,
    .set_xattr = tree_set_xattr,
    .remove_xattr = tree_remove_xattr,
    .get_lock = tree_get_lock,
    .set_lock = tree_set_lock,
    .set_flock = tree_set_flock,
};

/* Raise the soft limit as far as it goes, and take a share of it. */
static unsigned default_fd_max(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) {
        return FD_MAX_LEAST;
    }
    if (limit.rlim_cur < limit.rlim_max) {
        struct rlimit raised = {.rlim_cur = limit.rlim_max, .rlim_max = limit.rlim_max};

        if (setrlimit(RLIMIT_NOFILE, &raised) == 0) {
            limit = raised;
        }
    }
    limit.rlim_cur /= 4;
    if (limit.rlim_cur > FD_MAX_DEFAULT) {
        return FD_MAX_DEFAULT;
    }
    return limit.rlim_cur < FD_MAX_LEAST ? FD_MAX_LEAST : (unsigned)limit.rlim_cur;
}

/* The directory to serve, and the one name in it if `path` is a file. */
static int open_root(const char *path, char **ret_only, struct err *err)
{
    AUTO_FREE char *real = realpath(path, NULL);
    struct stat st;
    char *slash;
    int fd;

    if (!real || stat(real, &st) < 0) {
        return err_sys(err, "share '%s'", path);
    }
    if (!S_ISDIR(st.st_mode)) {
        if (!S_ISREG(st.st_mode)) {
            return err_set(err, -EINVAL, "share '%s': must be a directory or a regular file", path);
        }
        slash = strrchr(real, '/');
        *ret_only = strdup(slash + 1);
        if (!*ret_only) {
            return err_set(err, -ENOMEM, "share '%s': out of memory", path);
        }
        slash[slash == real] = '\0';
    }
    fd = open(real, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? err_sys(err, "share '%s'", path) : fd;
}

int tree_dir_new(const struct tree_dir_config *config, struct tree_port *ret_tree, struct err *err)
{
    struct tree *tree = calloc(1, sizeof(*tree));
    int root_fd;
    int r;

    if (!tree) {
        return err_set(err, -ENOMEM, "share '%s': out of memory", config->path);
    }
    tree->proc_fd = -1;
    tree->is_read_only = config->is_read_only;
    tree->closed_is_empty = config->closed_is_empty;
    tree->is_root = geteuid() == 0;
    tree->fd_max = config->fd_max ? config->fd_max : default_fd_max();
    tree->fd_max = tree->fd_max < FD_MAX_LEAST ? FD_MAX_LEAST : tree->fd_max;
    list_init(&tree->lru);
    root_fd = open_root(config->path, &tree->only, err);
    if (root_fd < 0) {
        tree_free(tree);
        return root_fd;
    }
    tree->proc_fd = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
    r = tree_nodes_init(tree, root_fd);
    if (r < 0) {
        (void)close(root_fd);
        tree_free(tree);
        return err_set(err, r, "share '%s': %s", config->path, strerror(-r));
    }
    *ret_tree = (struct tree_port){.ops = &ops, .owner = tree};
    return 0;
}

const char *tree_dir_only_name(const struct tree_port *tree)
{
    return ((const struct tree *)tree->owner)->only;
}
