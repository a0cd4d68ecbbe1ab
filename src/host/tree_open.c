/* tree_open.c — open files and directories, and whether the guest's cached data is still good.
 *
 * A file's data may stay in the guest's cache over an open if nothing changed since the last open:
 * same times and size, the guest itself did not write, and the last change was long enough before
 * that the clock of the file system must have told a later one apart.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "host/tree_int.h"

#define OPEN_FLAGS    (O_ACCMODE | O_TRUNC | O_SYNC | O_DSYNC) /* taken over from the guest */
#define CLOCK_STEP_NS (100 * NS_PER_MS)

void tree_file_free(struct tree *tree, struct tree_file *file)
{
    struct tree_node *node = file->node;

    if (file->id) {
        struct tree_file **slot = &node->files;

        while (*slot != file) {
            slot = &(*slot)->next;
        }
        *slot = file->next;
        tree_ids_del(&tree->files, file->id);
        node->refs--;
        if (!node->files) {
            tree_locks_drop(tree, node, NULL);
        }
    } else {
        node->data = NULL;
    }
    tree_close(tree, file->fd);
    free(file->listing);
    free(file);
}

/* Takes over `fd`, also on failure. */
static int file_new(struct tree *tree, struct tree_node *node, int fd, unsigned flags,
                    struct tree_file **ret_file)
{
    struct tree_file *file = calloc(1, sizeof(*file));

    if (!file) {
        tree_close(tree, fd);
        return -ENOMEM;
    }
    *file = (struct tree_file){.node = node, .fd = fd, .access = flags & O_ACCMODE};
    *ret_file = file;
    return 0;
}

/* The same, with a number for the guest. */
static int file_give(struct tree *tree, struct tree_node *node, int fd, unsigned flags,
                     struct tree_file **ret_file)
{
    struct tree_file *file;
    int r = file_new(tree, node, fd, flags, &file);

    if (r < 0) {
        return r;
    }
    file->id = tree_ids_add(&tree->files, file);
    if (!file->id) {
        tree_close(tree, fd);
        free(file);
        return -ENOMEM;
    }
    file->next = node->files;
    node->files = file;
    node->refs++;
    *ret_file = file;
    return 0;
}

/* What a read-only tree reads from when the guest does not open. */
static int data_file(struct tree *tree, struct tree_node *node, struct tree_file **ret_file)
{
    int r = 0;

    if (!node->data) {
        int fd = tree_open_real(tree, node, O_RDONLY);

        r = fd < 0 ? fd : file_new(tree, node, fd, O_RDONLY, &node->data);
    }
    if (r == 0) {
        tree_lru_touch(tree, node);
        *ret_file = node->data;
    }
    return r;
}

int tree_file_get(struct tree *tree, uint64_t node_id, uint64_t file_id,
                  struct tree_file **ret_file)
{
    struct tree_node *node = tree_node_get(tree, node_id);
    struct tree_file *file;

    if (!node) {
        return -ESTALE;
    }
    if (file_id == 0 && tree->is_read_only) {
        return data_file(tree, node, ret_file);
    }
    file = tree_ids_get(&tree->files, file_id);
    if (!file || file->node != node) {
        return -EBADF;
    }
    *ret_file = file;
    return 0;
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

/* Compare with the last open and remember this one. */
static bool note_open(struct tree_node *node, int fd)
{
    struct stat st;
    bool same;

    if (fstat(fd, &st) < 0) {
        return false;
    }
    same = node->seen_ctime.tv_sec && same_time(&node->seen_ctime, &st.st_ctim) &&
           same_time(&node->seen_mtime, &st.st_mtim) && node->seen_size == st.st_size;
    node->seen_mtime = st.st_mtim;
    node->seen_ctime = st.st_ctim;
    node->seen_size = st.st_size;
    if (clock_wall_ns() - (st.st_ctim.tv_sec * NS_PER_S + st.st_ctim.tv_nsec) < CLOCK_STEP_NS) {
        node->seen_ctime = (struct timespec){0};
    }
    return same;
}

static int open_node(struct tree *tree, struct tree_node *node, unsigned flags, bool drop_suid,
                     struct tree_opened *ret_opened)
{
    struct tree_file *file;
    int fd;
    int r;

    if (!S_ISREG(node->type)) {
        return S_ISDIR(node->type) ? -EISDIR : S_ISLNK(node->type) ? -ELOOP : -ENXIO;
    }
    if (tree->is_read_only && ((flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC))) {
        return -EROFS;
    }
    drop_suid = drop_suid && (flags & O_TRUNC);
    tree_suid_drop_enter(tree, drop_suid);
    fd = tree_open_real(tree, node, (int)(flags & OPEN_FLAGS)); /* guest: any flags */
    tree_suid_drop_leave(tree, drop_suid);
    if (fd < 0) {
        return fd;
    }
    ret_opened->is_unchanged = note_open(node, fd);
    r = file_give(tree, node, fd, flags, &file);
    if (r == 0) {
        ret_opened->file = file->id;
    }
    return r;
}

int tree_open(void *t, uint64_t id, unsigned flags, bool drop_suid, struct tree_opened *ret_opened)
{
    struct tree_node *node = tree_node_get(t, id);

    return node ? open_node(t, node, flags, drop_suid, ret_opened) : -ESTALE;
}

/* Make the file `name`, which is not there yet, and open it. */
static int create_new(struct tree *tree, int dir_fd, const char *name, const struct tree_make *make,
                      unsigned flags)
{
    struct tree_cred cred;
    int fd = tree_cred_enter(tree, make->uid, make->gid, &cred);

    if (fd < 0) {
        return fd;
    }
    fd = tree_openat(tree, dir_fd, name, (int)(flags & OPEN_FLAGS) | O_CREAT | O_EXCL | O_NOFOLLOW,
                     make->mode & 07777);
    tree_cred_leave(&cred);
    return fd;
}

static int create_held(struct tree *tree, struct tree_node *dir, int dir_fd, const char *name,
                       const struct tree_make *make, unsigned flags, struct tree_entry *ret_entry,
                       struct tree_opened *ret_opened)
{
    struct tree_file *file;
    struct statx stx;
    int fd = create_new(tree, dir_fd, name, make, flags);
    int r;

    if (fd < 0) {
        return fd;
    }
    r = tree_statx(fd, "", &stx);
    if (r == 0) {
        r = tree_node_learn(tree, dir, dir_fd, name, &stx, ret_entry);
    }
    if (r < 0) {
        tree_close(tree, fd);
        return r;
    }
    r = file_give(tree, tree_node_get(tree, ret_entry->node), fd, flags, &file);
    if (r < 0) {
        tree_forget(tree, ret_entry->node, 1);
        return r;
    }
    *ret_opened = (struct tree_opened){.file = file->id};
    return 0;
}

/* Somebody on the host was faster: open what is there, as open(2) without O_EXCL does. */
static int open_existing(struct tree *tree, uint64_t dir, const char *name, unsigned flags,
                         struct tree_entry *ret_entry, struct tree_opened *ret_opened)
{
    int r = tree_lookup(tree, dir, name, ret_entry);

    if (r < 0) {
        return r;
    }
    r = tree_open(tree, ret_entry->node, flags, false, ret_opened);
    if (r < 0) {
        tree_forget(tree, ret_entry->node, 1);
    } else if (flags & O_TRUNC) {
        ret_entry->st.st_size = 0;
    }
    return r;
}

int tree_create(void *t, uint64_t dir_id, const char *name, const struct tree_make *make,
                unsigned flags, struct tree_entry *ret_entry, struct tree_opened *ret_opened)
{
    struct tree *tree = t;
    struct tree_node *dir;
    int dir_fd;
    int r;

    if (tree->is_read_only) {
        return -EROFS;
    }
    dir_fd = tree_dir_hold(tree, dir_id, name, &dir);
    if (dir_fd < 0) {
        return dir_fd;
    }
    if (tree->only && dir == tree->root) {
        r = -EEXIST; /* tree_dir_hold() let only the one name pass */
    } else {
        r = create_held(tree, dir, dir_fd, name, make, flags, ret_entry, ret_opened);
    }
    if (r == -EEXIST && !(flags & O_EXCL)) {
        r = open_existing(tree, dir_id, name, flags, ret_entry, ret_opened);
    }
    tree_node_drop(tree, dir);
    return r;
}

int tree_open_dir(void *t, uint64_t id, struct tree_opened *ret_opened)
{
    struct tree *tree = t;
    struct tree_node *node = tree_node_get(tree, id);
    struct tree_file *file;
    int fd;
    int r;

    if (!node || !S_ISDIR(node->type)) {
        return node ? -ENOTDIR : -ESTALE;
    }
    if (node->is_hidden || node->is_unlisted) { /* shown empty: a descriptor that is not read */
        fd = tree_openat(tree, tree->root->path_fd, ".", O_PATH, 0);
    } else {
        fd = tree_open_real(tree, node, O_RDONLY | O_DIRECTORY);
    }
    if (fd < 0) {
        return fd;
    }
    r = file_give(tree, node, fd, O_RDONLY, &file);
    if (r == 0) {
        *ret_opened = (struct tree_opened){.file = file->id};
    }
    return r;
}

int tree_release(void *t, uint64_t node_id, uint64_t file_id)
{
    struct tree *tree = t;
    struct tree_node *node = tree_node_get(tree, node_id);
    struct tree_file *file = tree_ids_get(&tree->files, file_id);

    if (!file || file->node != node) {
        return file_id == 0 && tree->is_read_only ? 0 : -EBADF;
    }
    tree_file_free(tree, file);
    tree_node_put(tree, node);
    return 0;
}
