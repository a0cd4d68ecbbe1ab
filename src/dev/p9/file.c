/* file.c — messages about open files and directories.
 *
 * Of a read-only tree nothing is opened: it is read by node, with file number 0.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "dev/p9/p9_int.h"

/* P9_DOTL_* are the flags of open(2), as they were numbered first; x86 has these still. */
_Static_assert(O_WRONLY == 1 && O_RDWR == 2 && O_EXCL == 0200 && O_TRUNC == 01000 &&
                   O_APPEND == 02000 && O_DSYNC == 010000 && O_SYNC == 04010000,
               "p9_open_to_dotl flags of Linux");

/* On one machine a write by others than root takes set-user-id bits away; ours may be root. */
static bool drops_suid(const struct p9_fid *fid)
{
    return fid->uid != 0;
}

static bool is_open(const struct p9_fid *fid, bool is_dir)
{
    return fid->state == P9_FID_OPEN && S_ISDIR(fid->type) == is_dir;
}

static void opened(struct p9_fid *fid, uint64_t file, unsigned flags)
{
    fid->file = file;
    fid->state = P9_FID_OPEN;
    fid->is_append = flags & O_APPEND;
}

static int open_node(struct p9_req *r, const struct p9_fid *fid, unsigned flags,
                     struct tree_opened *ret_opened)
{
    const struct tree_port *tree = &r->s->tree;

    if (r->s->is_read_only) {
        *ret_opened = (struct tree_opened){0};
        return (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC) ? -EROFS : 0;
    }
    if (S_ISDIR(fid->type)) {
        return (flags & O_ACCMODE) != O_RDONLY
                   ? -EISDIR
                   : tree->ops->open_dir(tree->owner, fid->node, ret_opened);
    }
    return tree->ops->open(tree->owner, fid->node, flags, drops_suid(fid), ret_opened);
}

int p9_op_lopen(struct p9_req *r)
{
    const struct tree_port *tree = &r->s->tree;
    struct p9_fid *fid = r->arg[0].fid;
    unsigned flags = (unsigned)r->arg[1].n;
    struct tree_opened got = {0};
    struct stat st;
    int n;

    if (fid->state != P9_FID_IDLE) {
        return -EBADF;
    }
    n = open_node(r, fid, flags, &got);
    if (n < 0) {
        return n;
    }
    opened(fid, got.file, flags);
    n = tree->ops->get_attr(tree->owner, fid->node, got.file, &st);
    if (n < 0) {
        return n; /* open, though the guest will only clunk it */
    }
    p9_put_qid(r, &st);
    p9_put_n(r, 4, 0); /* any size may be read at once */
    return 0;
}

int p9_op_lcreate(struct p9_req *r)
{
    const struct tree_port *tree = &r->s->tree;
    struct p9_fid *dir = r->arg[0].fid;
    unsigned flags = (unsigned)r->arg[2].n;
    struct tree_make how = {
        .uid = dir->uid, .gid = (uint32_t)r->arg[4].n, .mode = (uint32_t)r->arg[3].n};
    struct tree_entry entry;
    struct tree_opened got = {0};
    int n;

    if (dir->state != P9_FID_IDLE) {
        return -EBADF;
    }
    n = tree->ops->create(tree->owner, dir->node, r->arg[1].text, &how, flags, &entry, &got);
    if (n < 0) {
        return n;
    }
    p9_fid_move(r->s, dir, entry.node, entry.st.st_mode & S_IFMT); /* it is the file's now */
    opened(dir, got.file, flags);
    p9_put_qid(r, &entry.st);
    p9_put_n(r, 4, 0);
    return 0;
}

/* The least of what the guest asks, what it has room for, and a message. */
static size_t data_max(const struct p9_req *r, uint64_t count)
{
    size_t room = r->io->out_bytes < r->s->msize ? r->io->out_bytes : r->s->msize;

    room = room > P9_READ_HEAD ? room - P9_READ_HEAD : 0;
    return count < room ? count : room;
}

int p9_op_read(struct p9_req *r)
{
    const struct tree_port *tree = &r->s->tree;
    const struct p9_fid *fid = r->arg[0].fid;
    unsigned count;
    ssize_t n;

    if (fid->state == P9_FID_XATTR_READ) {
        return p9_xattr_read(r);
    }
    if (!is_open(fid, false)) {
        return S_ISDIR(fid->type) ? -EISDIR : -EBADF;
    }
    if (r->io->out_bytes < P9_READ_HEAD) {
        return -EINVAL;
    }
    count =
        iov_slice(r->io->out, r->io->out_count, P9_READ_HEAD, data_max(r, r->arg[2].n), r->s->iov);
    n = tree->ops->read(tree->owner, fid->node, fid->file, r->s->iov, count, r->arg[1].n);
    if (n < 0) {
        return (int)n;
    }
    p9_put_n(r, 4, (uint64_t)n);
    r->in_place = (size_t)n;
    return 0;
}

int p9_op_write(struct p9_req *r)
{
    const struct tree_port *tree = &r->s->tree;
    const struct p9_fid *fid = r->arg[0].fid;
    struct tree_write how = {
        .offset = r->arg[1].n, .is_append = fid->is_append, .drop_suid = drops_suid(fid)};
    unsigned count;
    ssize_t n;

    if (r->arg[2].n > P9_MSIZE_MAX || r->arg[2].n > r->size - P9_WRITE_HEAD) { /* guest: any */
        return -EINVAL;
    }
    if (fid->state == P9_FID_XATTR_WRITE) {
        return p9_xattr_write(r);
    }
    if (!is_open(fid, false)) {
        return -EBADF;
    }
    count = iov_slice(r->io->in, r->io->in_count, P9_WRITE_HEAD, r->arg[2].n, r->s->iov);
    n = tree->ops->write(tree->owner, fid->node, fid->file, r->s->iov, count, &how);
    if (n < 0) {
        return (int)n;
    }
    p9_put_n(r, 4, (uint64_t)n);
    return 0;
}

/* A reply of directory entries as it grows. */
struct entries {
    struct p9_req *r;
    size_t end; /* of the reply's content */
};

#define DIRENT_HEAD (P9_QID_BYTES + 8u + 1u + 2u) /* qid[13] offset[8] type[1] name[s] */

/* Linux takes nothing but the inode number out of the qid; the rest comes with a walk. */
static bool take_dirent(void *owner, const struct tree_dirent *entry)
{
    struct entries *e = owner;
    struct stat st = {.st_ino = entry->ino, .st_mode = entry->type << 12}; /* DT_* to S_IF* */

    if (DIRENT_HEAD + entry->name_len > e->end - e->r->out_len) {
        return false;
    }
    p9_put_qid(e->r, &st);
    p9_put_n(e->r, 8, entry->next);
    p9_put_n(e->r, 1, entry->type);
    p9_put_text(e->r, entry->name, entry->name_len);
    return true;
}

int p9_op_readdir(struct p9_req *r)
{
    const struct tree_port *tree = &r->s->tree;
    const struct p9_fid *fid = r->arg[0].fid;
    size_t max = data_max(r, r->arg[2].n);
    struct entries e = {.r = r};
    size_t len;
    int n;

    if (!is_open(fid, true)) {
        return S_ISDIR(fid->type) ? -EBADF : -ENOTDIR;
    }
    if (max < DIRENT_HEAD + TREE_NAME_MAX) {
        return -EINVAL; /* an empty reply would mean the end */
    }
    p9_put_n(r, 4, 0); /* how many bytes; see below */
    e.end = max < r->out_max - r->out_len ? r->out_len + max : r->out_max;
    n = tree->ops->read_dir(tree->owner, fid->node, fid->file, r->arg[1].n, take_dirent, &e);
    len = r->out_len - 4;
    store_le32(r->s->out, (uint32_t)len);
    return n < 0 && len == 0 ? n : 0;
}

int p9_op_fsync(struct p9_req *r)
{
    const struct tree_port *tree = &r->s->tree;
    const struct p9_fid *fid = r->arg[0].fid;
    uint64_t is_data_only = 0;

    (void)p9_take_n(r, 4, &is_data_only); /* old kernels do not say */
    if (fid->state != P9_FID_OPEN) {
        return -EBADF;
    }
    return r->s->is_read_only
               ? 0
               : tree->ops->sync(tree->owner, fid->node, fid->file, is_data_only != 0);
}
