/* tree_node.c — the nodes of a tree: found by number or by identity, kept while the guest or a call
 * refers to them, opened by name. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "host/tree_int.h"

/* Magic numbers of statfs(2): file systems that are windows into the kernel.  Reading some of their
 * files waits or acts, and /proc/self there would be the monitor. */
static const uint32_t kernel_fs[] = {
    0x9fa0,     /* proc */
    0x62656572, /* sysfs */
    0x64626720, /* debugfs */
    0x74726163, /* tracefs */
    0x73636673, /* securityfs */
    0x62656570, /* configfs */
    0x1cd1,     /* devpts */
    0x27e0eb,   /* cgroup */
    0x63677270, /* cgroup2 */
    0xcafe4a11, /* bpf */
    0x6165676c, /* pstore */
    0xde5e81e4, /* efivarfs */
    0x19800202, /* mqueue */
    0x42494e4d, /* binfmt_misc */
    0xf97cff8c, /* selinux */
    0x43415d53, /* smack */
    0x6e736673, /* nsfs */
    0x0187,     /* autofs */
    0x67596969, /* rpc_pipefs */
    0x65735543, /* fusectl */
};

static uint64_t mix(uint64_t value)
{
    value *= UINT64_C(0x9e3779b97f4a7c15);
    return value ^ (value >> 29);
}

static uint32_t bucket_of(const struct tree *tree, dev_t dev, ino_t ino, uint64_t mount)
{
    return (uint32_t)(mix(ino ^ mix(dev ^ mix(mount))) >> 16) & (tree->bucket_count - 1);
}

void tree_show(const struct tree *tree, struct stat *st)
{
    if (st->st_dev != tree->root_dev) {
        st->st_ino ^= mix(st->st_dev) & UINT64_C(0x7fff000000000000);
    }
}

int tree_statx(int dir_fd, const char *name, struct statx *ret_stx)
{
    int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | (*name ? 0 : AT_EMPTY_PATH);

    return statx(dir_fd, name, flags, STATX_BASIC_STATS | STATX_MNT_ID, ret_stx) < 0 ? -errno : 0;
}

static struct timespec time_of(struct statx_timestamp stamp)
{
    return (struct timespec){.tv_sec = stamp.tv_sec, .tv_nsec = stamp.tv_nsec};
}

void tree_stat_from_statx(struct stat *st, const struct statx *stx)
{
    *st = (struct stat){
        .st_dev = makedev(stx->stx_dev_major, stx->stx_dev_minor),
        .st_ino = stx->stx_ino,
        .st_mode = stx->stx_mode,
        .st_nlink = stx->stx_nlink,
        .st_uid = stx->stx_uid,
        .st_gid = stx->stx_gid,
        .st_rdev = makedev(stx->stx_rdev_major, stx->stx_rdev_minor),
        .st_size = (off_t)stx->stx_size,
        .st_blksize = stx->stx_blksize,
        .st_blocks = (blkcnt_t)stx->stx_blocks,
        .st_atim = time_of(stx->stx_atime),
        .st_mtim = time_of(stx->stx_mtime),
        .st_ctim = time_of(stx->stx_ctime),
    };
}

static uint64_t mount_of(const struct statx *stx)
{
    return (stx->stx_mask & STATX_MNT_ID) ? stx->stx_mnt_id : 0;
}

bool tree_node_is(const struct tree_node *node, const struct stat *st)
{
    return node->ino == st->st_ino && node->dev == st->st_dev &&
           node->type == (st->st_mode & S_IFMT);
}

struct tree_node *tree_node_get(const struct tree *tree, uint64_t id)
{
    return tree_ids_get(&tree->nodes, id);
}

struct tree_node *tree_node_find(const struct tree *tree, const struct statx *stx)
{
    dev_t dev = makedev(stx->stx_dev_major, stx->stx_dev_minor);
    uint64_t mount = mount_of(stx);
    struct tree_node *node = tree->buckets[bucket_of(tree, dev, stx->stx_ino, mount)];

    while (node && !(node->ino == stx->stx_ino && node->dev == dev && node->mount == mount &&
                     node->type == (stx->stx_mode & S_IFMT))) {
        node = node->hash_next;
    }
    return node;
}

static void hash_add(struct tree *tree, struct tree_node *node)
{
    struct tree_node **slot = &tree->buckets[bucket_of(tree, node->dev, node->ino, node->mount)];

    node->hash_next = *slot;
    *slot = node;
}

static void hash_del(struct tree *tree, struct tree_node *node)
{
    struct tree_node **slot = &tree->buckets[bucket_of(tree, node->dev, node->ino, node->mount)];

    while (*slot != node) {
        slot = &(*slot)->hash_next;
    }
    *slot = node->hash_next;
}

/* Twice the buckets; if there is no memory the chains just grow longer. */
static void hash_grow(struct tree *tree)
{
    uint32_t old_count = tree->bucket_count;
    struct tree_node **old = tree->buckets;
    struct tree_node **buckets = calloc((size_t)old_count * 2, sizeof(struct tree_node *));

    if (!buckets) {
        return;
    }
    tree->buckets = buckets;
    tree->bucket_count = old_count * 2;
    for (uint32_t i = 0; i < old_count; i++) {
        for (struct tree_node *node = old[i], *next; node; node = next) {
            next = node->hash_next;
            hash_add(tree, node);
        }
    }
    free(old);
}

static int node_new(struct tree *tree, const struct statx *stx, struct tree_node **ret_node)
{
    struct tree_node *node;

    if (tree->node_count >= TREE_NODE_MAX) {
        return -ENFILE;
    }
    node = calloc(1, sizeof(*node));
    if (!node) {
        return -ENOMEM;
    }
    node->id = tree_ids_add(&tree->nodes, node);
    if (!node->id) {
        free(node);
        return -ENOMEM;
    }
    node->dev = makedev(stx->stx_dev_major, stx->stx_dev_minor);
    node->ino = stx->stx_ino;
    node->mount = mount_of(stx);
    node->type = stx->stx_mode & S_IFMT;
    node->path_fd = -1;
    list_init(&node->lru);
    if (++tree->node_count > tree->bucket_count) {
        hash_grow(tree);
    }
    hash_add(tree, node);
    *ret_node = node;
    return 0;
}

/* Free the node itself; what refers to it is the caller's concern. */
static void node_free(struct tree *tree, struct tree_node *node)
{
    while (node->files) {
        tree_file_free(tree, node->files);
    }
    if (node->data) {
        tree_file_free(tree, node->data);
    }
    tree_locks_drop(tree, node, NULL);
    if (node->path_fd >= 0) {
        tree_close(tree, node->path_fd);
    }
    list_remove(&node->lru);
    hash_del(tree, node);
    tree_ids_del(&tree->nodes, node->id);
    tree->node_count--;
    free(node->name);
    free(node);
}

void tree_node_put(struct tree *tree, struct tree_node *node)
{
    while (node && node != tree->root && !node->lookups && !node->refs && !node->busy) {
        struct tree_node *parent = node->parent;

        node_free(tree, node);
        if (parent) {
            parent->refs--;
        }
        node = parent;
    }
}

int tree_nodes_init(struct tree *tree, int root_fd)
{
    struct statx stx;
    int r = tree_statx(root_fd, "", &stx);

    if (r < 0) {
        return r;
    }
    list_init(&tree->lru);
    tree->bucket_count = 64;
    tree->buckets = calloc(tree->bucket_count, sizeof(struct tree_node *));
    if (!tree->buckets) {
        return -ENOMEM;
    }
    r = node_new(tree, &stx, &tree->root);
    if (r < 0) {
        return r;
    }
    tree->root->path_fd = root_fd;
    tree->root->is_pinned = true;
    tree->root_dev = tree->root->dev;
    tree->fd_used++;
    return 0;
}

void tree_nodes_clear(struct tree *tree)
{
    for (uint32_t i = 1; i < tree->nodes.count; i++) {
        struct tree_node *node = tree->nodes.slots[i].ptr;

        if (node && node != tree->root) {
            node_free(tree, node);
        }
    }
    if (tree->root) {
        while (tree->root->files) {
            tree_file_free(tree, tree->root->files);
        }
        tree->root->refs = 0;
        tree->root->lookups = 0;
    }
}

void tree_nodes_fini(struct tree *tree)
{
    tree_nodes_clear(tree);
    if (tree->root) {
        node_free(tree, tree->root);
        tree->root = NULL;
    }
    tree_ids_fini(&tree->nodes);
    free(tree->buckets);
}

/* Open `node` by its name in `parent`, whose descriptor is there, and see that it is the same. */
static int open_child(struct tree *tree, struct tree_node *parent, struct tree_node *node)
{
    struct stat st;
    int fd;

    parent->busy++;
    fd = tree_openat(tree, parent->path_fd, node->name, O_PATH | O_NOFOLLOW, 0);
    parent->busy--;
    if (fd < 0) {
        return fd == -ENOENT || fd == -ENOTDIR ? -ESTALE : fd;
    }
    if (fstat(fd, &st) < 0 || !tree_node_is(node, &st)) {
        tree_close(tree, fd);
        return -ESTALE;
    }
    node->path_fd = fd;
    tree_lru_touch(tree, node);
    return 0;
}

int tree_node_path_fd(struct tree *tree, struct tree_node *node)
{
    struct tree_node *top = NULL;
    struct tree_node *from = node;

    if (node->path_fd >= 0) {
        tree_lru_touch(tree, node);
        return node->path_fd;
    }
    for (; from->path_fd < 0; from = from->parent) {
        if (!from->parent) {
            return -ESTALE;
        }
        from->walk = top;
        top = from;
    }
    for (; top; from = top, top = top->walk) {
        int r = open_child(tree, from, top);

        if (r < 0) {
            return r;
        }
    }
    return node->path_fd;
}

int tree_node_hold(struct tree *tree, struct tree_node *node)
{
    int fd = tree_node_path_fd(tree, node);

    if (fd >= 0) {
        node->busy++;
    }
    return fd;
}

void tree_node_drop(struct tree *tree, struct tree_node *node)
{
    node->busy--;
    tree_node_put(tree, node);
}

static bool is_below(const struct tree_node *node, const struct tree_node *top)
{
    while (node && node != top) {
        node = node->parent;
    }
    return node != NULL;
}

static void forget_name(struct tree *tree, struct tree_node *node)
{
    struct tree_node *parent = node->parent;

    free(node->name);
    node->name = NULL;
    node->parent = NULL;
    if (parent) {
        parent->refs--;
        tree_node_put(tree, parent);
    }
}

int tree_node_rename(struct tree *tree, struct tree_node *node, struct tree_node *dir,
                     const char *name)
{
    char *copy;

    if (node == tree->root || (node->parent == dir && strcmp(node->name, name) == 0)) {
        return 0;
    }
    if (S_ISDIR(node->type) && is_below(dir, node)) {
        /* The host moved directories about and our idea of where `dir` is has become wrong. */
        return -ESTALE;
    }
    copy = strdup(name);
    if (!copy) {
        return -ENOMEM;
    }
    dir->refs++;
    forget_name(tree, node);
    node->parent = dir;
    node->name = copy;
    node->is_pinned = false;
    tree_lru_touch(tree, node);
    return 0;
}

int tree_node_pin(struct tree *tree, struct tree_node *node, int dir_fd, const char *name)
{
    struct stat st;
    int fd;

    if (node->path_fd < 0) {
        fd = tree_openat(tree, dir_fd, name, O_PATH | O_NOFOLLOW, 0);
        if (fd < 0) {
            return fd;
        }
        if (fstat(fd, &st) < 0 || !tree_node_is(node, &st)) {
            tree_close(tree, fd);
            return -ESTALE;
        }
        node->path_fd = fd;
    }
    node->is_pinned = true;
    tree_lru_touch(tree, node);
    return 0;
}

void tree_node_unname(struct tree *tree, struct tree_node *node, const struct tree_node *dir,
                      const char *name)
{
    if (node->parent == dir && strcmp(node->name, name) == 0) {
        forget_name(tree, node);
    } else {
        tree_node_unpin(tree, node);
    }
}

void tree_node_unpin(struct tree *tree, struct tree_node *node)
{
    if (node->parent) {
        node->is_pinned = false;
        tree_lru_touch(tree, node);
    }
}

static bool is_kernel_fs(struct tree *tree, int dir_fd, const char *name)
{
    struct statfs st;
    bool found = false;
    int fd = tree_openat(tree, dir_fd, name, O_PATH | O_NOFOLLOW, 0);

    if (fd < 0) {
        return true; /* unknown: rather not */
    }
    if (fstatfs(fd, &st) == 0) {
        for (size_t i = 0; i < ARRAY_LEN(kernel_fs); i++) {
            found |= (uint32_t)st.f_type == kernel_fs[i];
        }
    }
    tree_close(tree, fd);
    return found;
}

/* Is the file system of a new node one that is not shown? */
static bool is_hidden_dev(struct tree *tree, dev_t dev, int dir_fd, const char *name)
{
    unsigned known =
        tree->dev_count < ARRAY_LEN(tree->devs) ? tree->dev_count : (unsigned)ARRAY_LEN(tree->devs);
    unsigned slot = tree->dev_count % ARRAY_LEN(tree->devs);

    if (dev == tree->root_dev) {
        return false;
    }
    for (unsigned i = 0; i < known; i++) {
        if (tree->devs[i].dev == dev) {
            return tree->devs[i].is_hidden;
        }
    }
    tree->devs[slot].dev = dev;
    tree->devs[slot].is_hidden = is_kernel_fs(tree, dir_fd, name);
    tree->dev_count++;
    return tree->devs[slot].is_hidden;
}

/* Note which directories are closed to the monitor's user. */
static void see_access(const struct tree *tree, struct tree_node *node, int dir_fd,
                       const char *name)
{
    const unsigned flags = AT_EACCESS | AT_SYMLINK_NOFOLLOW;

    if (!tree->closed_is_empty || !S_ISDIR(node->type) || node->is_hidden ||
        syscall(SYS_faccessat2, dir_fd, name, R_OK | X_OK, flags) == 0) {
        return;
    }
    if (syscall(SYS_faccessat2, dir_fd, name, X_OK, flags) == 0) {
        node->is_unlisted = true;
    } else {
        node->is_hidden = true;
    }
}

int tree_node_learn(struct tree *tree, struct tree_node *dir, int dir_fd, const char *name,
                    const struct statx *stx, struct tree_entry *ret_entry)
{
    struct tree_node *node = tree_node_find(tree, stx);
    int r = 0;

    if (!node) {
        r = node_new(tree, stx, &node);
        if (r < 0) {
            return r;
        }
        node->is_hidden = is_hidden_dev(tree, node->dev, dir_fd, name);
        see_access(tree, node, dir_fd, name);
    }
    node->lookups++;
    r = tree_node_rename(tree, node, dir, name);
    if (r < 0) {
        node->lookups--;
        tree_node_put(tree, node);
        return r;
    }
    ret_entry->node = node->id;
    tree_stat_from_statx(&ret_entry->st, stx);
    tree_show(tree, &ret_entry->st);
    return 0;
}
