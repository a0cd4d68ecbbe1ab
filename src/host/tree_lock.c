/* tree_lock.c — record locks and flock, so that host processes and other machines see them.
 *
 * A record lock of the guest belongs to an owner (a process of the guest), not to an open file, so
 * each owner gets an open file description of its own per node, with the lock on that ("open file
 * description locks").  An flock belongs to the open file, as on the host.  Nothing waits here: who
 * wants to wait tries again.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include "host/tree_int.h"

void tree_locks_drop(struct tree *tree, struct tree_node *node, const uint64_t *owner)
{
    struct tree_lock_owner **slot = &node->owners;

    while (*slot) {
        struct tree_lock_owner *one = *slot;

        if (owner && one->id != *owner) {
            slot = &one->next;
            continue;
        }
        *slot = one->next;
        tree_close(tree, one->fd);
        free(one);
    }
}

static struct tree_lock_owner *find_owner(const struct tree_node *node, uint64_t id)
{
    struct tree_lock_owner *one = node->owners;

    while (one && one->id != id) {
        one = one->next;
    }
    return one;
}

static int add_owner(struct tree *tree, struct tree_file *file, uint64_t id,
                     struct tree_lock_owner **ret_owner)
{
    struct tree_lock_owner *one = calloc(1, sizeof(*one));
    int fd;

    if (!one) {
        return -ENOMEM;
    }
    /* For both kinds of lock; a file that can only be read can only be locked for reading. */
    fd = tree_open_real(tree, file->node, O_RDWR);
    if (fd < 0) {
        fd = tree_open_real(tree, file->node, (int)file->access);
    }
    if (fd < 0) {
        free(one);
        return fd == -ENFILE || fd == -EMFILE ? -ENOLCK : fd;
    }
    *one = (struct tree_lock_owner){.next = file->node->owners, .id = id, .fd = fd};
    file->node->owners = one;
    *ret_owner = one;
    return 0;
}

static int to_flock(const struct tree_lock *lock, struct flock *ret_flock)
{
    if (lock->type != F_RDLCK && lock->type != F_WRLCK && lock->type != F_UNLCK) {
        return -EINVAL;
    }
    if (lock->start > INT64_MAX || lock->end < lock->start) { /* guest: any numbers */
        return -EINVAL;
    }
    *ret_flock = (struct flock){
        .l_type = (short)lock->type,
        .l_whence = SEEK_SET,
        .l_start = (off_t)lock->start,
        .l_len = lock->end >= INT64_MAX ? 0 : (off_t)(lock->end - lock->start + 1),
    };
    return 0;
}

static int lock_file(struct tree *tree, uint64_t node, uint64_t file_id,
                     struct tree_file **ret_file)
{
    int r;

    if (tree->is_read_only) {
        return -ENOSYS; /* the guest keeps its locks to itself */
    }
    r = tree_file_get(tree, node, file_id, ret_file);
    return r == 0 && !S_ISREG((*ret_file)->node->type) ? -EBADF : r;
}

int tree_get_lock(void *t, uint64_t node, uint64_t file_id, uint64_t owner, struct tree_lock *lock)
{
    struct tree_file *file = NULL;
    struct tree_lock_owner *own;
    struct flock flock;
    int r = lock_file(t, node, file_id, &file);

    if (r == 0) {
        r = to_flock(lock, &flock);
    }
    if (r < 0) {
        return r;
    }
    own = find_owner(file->node, owner);
    if (fcntl(own ? own->fd : file->fd, F_OFD_GETLK, &flock) < 0) {
        return -errno;
    }
    lock->type = (uint32_t)flock.l_type;
    if (flock.l_type != F_UNLCK) {
        lock->start = (uint64_t)flock.l_start;
        lock->end = flock.l_len ? (uint64_t)(flock.l_start + flock.l_len - 1) : INT64_MAX;
    }
    return 0;
}

int tree_set_lock(void *t, uint64_t node, uint64_t file_id, uint64_t owner,
                  const struct tree_lock *lock)
{
    struct tree *tree = t;
    struct tree_file *file = NULL;
    struct tree_lock_owner *own;
    struct flock flock;
    int r = lock_file(tree, node, file_id, &file);

    if (r == 0) {
        r = to_flock(lock, &flock);
    }
    if (r < 0) {
        return r;
    }
    own = find_owner(file->node, owner);
    if (!own) {
        if (lock->type == F_UNLCK) {
            return 0;
        }
        r = add_owner(tree, file, owner, &own);
        if (r < 0) {
            return r;
        }
    }
    if (fcntl(own->fd, F_OFD_SETLK, &flock) < 0) {
        return errno == EACCES ? -EAGAIN : -errno;
    }
    if (lock->type == F_UNLCK && lock->start == 0 && flock.l_len == 0) {
        tree_locks_drop(tree, file->node, &owner);
    }
    return 0;
}

int tree_set_flock(void *t, uint64_t node, uint64_t file_id, uint32_t type)
{
    struct tree_file *file = NULL;
    int how = type == F_RDLCK ? LOCK_SH : type == F_WRLCK ? LOCK_EX : LOCK_UN;
    int r = lock_file(t, node, file_id, &file);

    if (r < 0) {
        return r;
    }
    return flock(file->fd, how | LOCK_NB) < 0 ? -errno : 0;
}
