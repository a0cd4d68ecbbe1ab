/* file.c — requests about open files and directories: data, entries, locks.
 *
 * A read-only tree answers OPEN and OPENDIR with ENOSYS where the guest's kernel understands that:
 * it then never opens nor closes again, and reads by node with file number 0.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "dev/fs/fs_int.h"

static int reply_open(struct fs_req *r, const struct tree_opened *opened, uint32_t flags)
{
    const struct tree_port *tree = &r->s->tree;
    struct fuse_open_out out = {.fh = opened->file, .open_flags = flags};
    int n = fs_req_reply(r, &out, sizeof(out));

    if (n < 0) {
        (void)tree->ops->release(tree->owner, r->head.nodeid, opened->file);
    }
    return n;
}

int fs_op_open(struct fs_req *r)
{
    const struct fuse_open_in *in = FS_ARG(r, fuse_open_in);
    const struct tree_port *tree = &r->s->tree;
    struct tree_opened opened;
    int n;

    if (r->s->is_read_only && ((in->flags & O_ACCMODE) != O_RDONLY || (in->flags & O_TRUNC))) {
        return -EROFS;
    }
    if (r->s->can_skip_open) {
        return -ENOSYS;
    }
    n = tree->ops->open(tree->owner, r->head.nodeid, in->flags,
                        in->open_flags & FUSE_OPEN_KILL_SUIDGID, &opened);
    return n < 0 ? n : reply_open(r, &opened, opened.is_unchanged ? FOPEN_KEEP_CACHE : 0);
}

int fs_op_opendir(struct fs_req *r)
{
    const struct tree_port *tree = &r->s->tree;
    struct tree_opened opened;
    int n;

    if (r->s->can_skip_opendir) {
        return -ENOSYS;
    }
    n = tree->ops->open_dir(tree->owner, r->head.nodeid, &opened);
    return n < 0 ? n : reply_open(r, &opened, 0);
}

int fs_op_create(struct fs_req *r)
{
    const struct fuse_create_in *in = FS_ARG(r, fuse_create_in);
    const struct tree_port *tree = &r->s->tree;
    const char *name = fs_req_string(r);
    struct tree_make how = {.uid = r->head.uid, .gid = r->head.gid, .mode = in->mode};
    struct {
        struct fuse_entry_out entry;
        struct fuse_open_out open;
    } out = {0};
    struct tree_entry entry;
    struct tree_opened opened;
    int n;

    if (!name) {
        return -EINVAL;
    }
    n = tree->ops->create(tree->owner, r->head.nodeid, name, &how, in->flags, &entry, &opened);
    if (n < 0) {
        return n;
    }
    fs_fill_entry(r->s, &out.entry, &entry);
    out.open.fh = opened.file;
    n = fs_req_reply(r, &out, sizeof(out));
    if (n < 0) {
        (void)tree->ops->release(tree->owner, entry.node, opened.file);
        tree->ops->forget(tree->owner, entry.node, 1);
    }
    return n;
}

int fs_op_read(struct fs_req *r)
{
    const struct fuse_read_in *in = FS_ARG(r, fuse_read_in);
    const struct tree_port *tree = &r->s->tree;
    size_t head = sizeof(struct fuse_out_header);
    size_t len = in->size < FS_WRITE_MAX ? in->size : FS_WRITE_MAX; /* guest: any size */
    unsigned count;

    if (r->io->out_bytes < head) {
        return -EINVAL;
    }
    len = len < r->io->out_bytes - head ? len : r->io->out_bytes - head;
    count = iov_slice(r->io->out, r->io->out_count, head, len, r->s->iov);
    r->is_in_place = true;
    return (int)tree->ops->read(tree->owner, r->head.nodeid, in->fh, r->s->iov, count, in->offset);
}

int fs_op_write(struct fs_req *r)
{
    const struct fuse_write_in *in = FS_ARG(r, fuse_write_in);
    const struct tree_port *tree = &r->s->tree;
    size_t head = sizeof(r->head) + sizeof(*in);
    struct fuse_write_out out = {0};
    struct tree_write how = {
        .offset = in->offset,
        /* Pages that were mapped are written back to where they belong, whatever file they come
         * by. */
        .is_append = (in->flags & O_APPEND) && !(in->write_flags & FUSE_WRITE_CACHE),
        .drop_suid = in->write_flags & FUSE_WRITE_KILL_SUIDGID,
    };
    unsigned count;
    ssize_t n;

    if (in->size > FS_WRITE_MAX || in->size > r->head.len - head) { /* guest: any size */
        return -EINVAL;
    }
    count = iov_slice(r->io->in, r->io->in_count, head, in->size, r->s->iov);
    n = tree->ops->write(tree->owner, r->head.nodeid, in->fh, r->s->iov, count, &how);
    if (n < 0) {
        return (int)n;
    }
    out.size = (uint32_t)n;
    return fs_req_reply(r, &out, sizeof(out));
}

int fs_op_release(struct fs_req *r)
{
    const struct tree_port *tree = &r->s->tree;

    return tree->ops->release(tree->owner, r->head.nodeid, FS_ARG(r, fuse_release_in)->fh);
}

int fs_op_flush(struct fs_req *r)
{
    const struct fuse_flush_in *in = FS_ARG(r, fuse_flush_in);
    const struct tree_port *tree = &r->s->tree;

    if (r->s->is_read_only) {
        return -ENOSYS; /* and do not ask again */
    }
    return tree->ops->flush(tree->owner, r->head.nodeid, in->fh, in->lock_owner);
}

int fs_op_fsync(struct fs_req *r)
{
    const struct fuse_fsync_in *in = FS_ARG(r, fuse_fsync_in);
    const struct tree_port *tree = &r->s->tree;

    if (r->s->is_read_only) {
        return -ENOSYS;
    }
    return tree->ops->sync(tree->owner, r->head.nodeid, in->fh,
                           in->fsync_flags & FUSE_FSYNC_FDATASYNC);
}

int fs_op_fallocate(struct fs_req *r)
{
    const struct fuse_fallocate_in *in = FS_ARG(r, fuse_fallocate_in);
    const struct tree_port *tree = &r->s->tree;

    return tree->ops->allocate(tree->owner, r->head.nodeid, in->fh, (int)in->mode, in->offset,
                               in->length);
}

int fs_op_lseek(struct fs_req *r)
{
    const struct fuse_lseek_in *in = FS_ARG(r, fuse_lseek_in);
    const struct tree_port *tree = &r->s->tree;
    struct fuse_lseek_out out;
    int64_t at = tree->ops->seek(tree->owner, r->head.nodeid, in->fh, in->offset, in->whence);

    if (at < 0) {
        return (int)at;
    }
    out.offset = (uint64_t)at;
    return fs_req_reply(r, &out, sizeof(out));
}

int fs_op_copy(struct fs_req *r)
{
    const struct fuse_copy_file_range_in *in = FS_ARG(r, fuse_copy_file_range_in);
    const struct tree_port *tree = &r->s->tree;
    uint64_t from[2] = {r->head.nodeid, in->fh_in};
    uint64_t to[2] = {in->nodeid_out, in->fh_out};
    struct fuse_write_out out = {0};
    ssize_t n;

    if (in->flags) {
        return -EINVAL;
    }
    n = tree->ops->copy(tree->owner, from, in->off_in, to, in->off_out, in->len);
    if (n < 0) {
        return (int)n;
    }
    out.size = (uint32_t)n;
    return fs_req_reply(r, &out, sizeof(out));
}

/* A reply of directory entries as it grows. */
struct entries {
    struct fs_req *r;
    size_t max;
    size_t len;
};

static void put_dirent(uint8_t *at, const struct tree_dirent *entry, size_t padded)
{
    struct fuse_dirent head = {
        .ino = entry->ino,
        .off = entry->next,
        .namelen = entry->name_len,
        .type = entry->type,
    };

    memcpy(at, &head, FUSE_NAME_OFFSET);
    memcpy(at + FUSE_NAME_OFFSET, entry->name, entry->name_len);
    memset(at + FUSE_NAME_OFFSET + entry->name_len, 0, padded - FUSE_NAME_OFFSET - entry->name_len);
}

static bool take_dirent(void *owner, const struct tree_dirent *entry)
{
    struct entries *e = owner;
    size_t len = FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + entry->name_len);

    if (len > e->max - e->len) {
        return false;
    }
    put_dirent(e->r->out + e->len, entry, len);
    e->len += len;
    return true;
}

static bool is_dots(const struct tree_dirent *entry)
{
    return strcmp(entry->name, ".") == 0 || strcmp(entry->name, "..") == 0;
}

/* With each name its node, as if looked up; node 0 where that is not to be. */
static bool take_direntplus(void *owner, const struct tree_dirent *entry)
{
    struct entries *e = owner;
    const struct tree_port *tree = &e->r->s->tree;
    size_t head = sizeof(struct fuse_entry_out);
    size_t len = FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + entry->name_len);
    struct fuse_entry_out out = {0};
    struct tree_entry found;

    if (head + len > e->max - e->len) {
        return false;
    }
    if (!is_dots(entry) &&
        tree->ops->lookup(tree->owner, e->r->head.nodeid, entry->name, &found) == 0) {
        fs_fill_entry(e->r->s, &out, &found);
    }
    memcpy(e->r->out + e->len, &out, head);
    put_dirent(e->r->out + e->len + head, entry, len);
    e->len += head + len;
    return true;
}

static int read_dir(struct fs_req *r, tree_dirent_fn fn, size_t least)
{
    const struct fuse_read_in *in = FS_ARG(r, fuse_read_in);
    const struct tree_port *tree = &r->s->tree;
    struct entries e = {.r = r, .max = in->size < r->out_max ? in->size : r->out_max};
    int n;

    if (e.max < least) {
        return -EINVAL; /* an empty reply would mean the end */
    }
    n = tree->ops->read_dir(tree->owner, r->head.nodeid, in->fh, in->offset, fn, &e);
    return n < 0 && e.len == 0 ? n : (int)e.len;
}

#define DIRENT_MAX FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + TREE_NAME_MAX)

int fs_op_readdir(struct fs_req *r)
{
    return read_dir(r, take_dirent, DIRENT_MAX);
}

int fs_op_readdirplus(struct fs_req *r)
{
    return read_dir(r, take_direntplus, sizeof(struct fuse_entry_out) + DIRENT_MAX);
}

int fs_op_getlk(struct fs_req *r)
{
    const struct fuse_lk_in *in = FS_ARG(r, fuse_lk_in);
    const struct tree_port *tree = &r->s->tree;
    struct tree_lock lock = {.start = in->lk.start, .end = in->lk.end, .type = in->lk.type};
    struct fuse_lk_out out = {0};
    int n = tree->ops->get_lock(tree->owner, r->head.nodeid, in->fh, in->owner, &lock);

    if (n < 0) {
        return n;
    }
    out.lk.start = lock.start;
    out.lk.end = lock.end;
    out.lk.type = lock.type;
    return fs_req_reply(r, &out, sizeof(out));
}

static int set_lock(const struct fs_session *s, uint64_t node, const struct fuse_lk_in *in)
{
    struct tree_lock lock = {.start = in->lk.start, .end = in->lk.end, .type = in->lk.type};

    if (in->lk_flags & FUSE_LK_FLOCK) {
        return s->tree.ops->set_flock(s->tree.owner, node, in->fh, lock.type);
    }
    return s->tree.ops->set_lock(s->tree.owner, node, in->fh, in->owner, &lock);
}

int fs_op_setlk(struct fs_req *r)
{
    return set_lock(r->s, r->head.nodeid, FS_ARG(r, fuse_lk_in));
}

int fs_op_setlkw(struct fs_req *r)
{
    const struct fuse_lk_in *in = FS_ARG(r, fuse_lk_in);
    int n = set_lock(r->s, r->head.nodeid, in);

    if (n == -EAGAIN) {
        r->result->outcome = FS_WAIT;
        r->result->wait =
            (struct fs_wait){.unique = r->head.unique, .node = r->head.nodeid, .lk = *in};
    }
    return n;
}

int fs_wait_again(struct fs_session *s, const struct fs_wait *wait)
{
    return set_lock(s, wait->node, &wait->lk);
}
