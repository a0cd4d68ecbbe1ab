/* attr.c — attributes of nodes, in FUSE's form and back; links' targets; extended attributes. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "dev/fs/fs_int.h"

#define LINK_MAX_BYTES 4095u

void fs_fill_attr(struct fuse_attr *attr, const struct stat *st)
{
    *attr = (struct fuse_attr){
        .ino = st->st_ino,
        .size = (uint64_t)st->st_size,
        .blocks = (uint64_t)st->st_blocks,
        .atime = (uint64_t)st->st_atim.tv_sec,
        .mtime = (uint64_t)st->st_mtim.tv_sec,
        .ctime = (uint64_t)st->st_ctim.tv_sec,
        .atimensec = (uint32_t)st->st_atim.tv_nsec,
        .mtimensec = (uint32_t)st->st_mtim.tv_nsec,
        .ctimensec = (uint32_t)st->st_ctim.tv_nsec,
        .mode = st->st_mode,
        .nlink = (uint32_t)st->st_nlink,
        .uid = st->st_uid,
        .gid = st->st_gid,
        .rdev = tree_rdev(st->st_rdev),
        .blksize = (uint32_t)st->st_blksize,
    };
}

static uint32_t ms_rest_ns(uint32_t ms)
{
    return ms % 1000 * 1000000;
}

void fs_fill_entry(const struct fs_session *s, struct fuse_entry_out *out,
                   const struct tree_entry *entry)
{
    *out = (struct fuse_entry_out){
        .nodeid = entry->node,
        .entry_valid = s->cache.entry_ms / 1000,
        .entry_valid_nsec = ms_rest_ns(s->cache.entry_ms),
        .attr_valid = s->cache.attr_ms / 1000,
        .attr_valid_nsec = ms_rest_ns(s->cache.attr_ms),
    };
    fs_fill_attr(&out->attr, &entry->st);
}

/* The guest cannot give back what it is not told of. */
int fs_reply_entry(struct fs_req *r, const struct tree_entry *entry)
{
    struct fuse_entry_out out;
    int n;

    fs_fill_entry(r->s, &out, entry);
    n = fs_req_reply(r, &out, sizeof(out));
    if (n < 0) {
        r->s->tree.ops->forget(r->s->tree.owner, entry->node, 1);
    }
    return n;
}

static int reply_attr(struct fs_req *r, const struct stat *st)
{
    struct fuse_attr_out out = {
        .attr_valid = r->s->cache.attr_ms / 1000,
        .attr_valid_nsec = ms_rest_ns(r->s->cache.attr_ms),
    };

    fs_fill_attr(&out.attr, st);
    return fs_req_reply(r, &out, sizeof(out));
}

int fs_op_getattr(struct fs_req *r)
{
    const struct fuse_getattr_in *in = FS_ARG(r, fuse_getattr_in);
    const struct tree_port *tree = &r->s->tree;
    uint64_t file = (in->getattr_flags & FUSE_GETATTR_FH) ? in->fh : 0;
    struct stat st;
    int n = tree->ops->get_attr(tree->owner, r->head.nodeid, file, &st);

    return n < 0 ? n : reply_attr(r, &st);
}

static void take_time(const struct fuse_setattr_in *in, unsigned set, unsigned now, uint64_t sec,
                      uint32_t nsec, struct timespec *ret_time)
{
    if (in->valid & now) {
        *ret_time = (struct timespec){.tv_nsec = UTIME_NOW};
    } else if (in->valid & set) {
        *ret_time = (struct timespec){.tv_sec = (time_t)sec, .tv_nsec = nsec};
    }
}

static void take_change(const struct fuse_setattr_in *in, struct tree_change *change)
{
    /* clang-format off */
    static const struct { unsigned fuse; unsigned tree; } bits[] = {
        {FATTR_MODE, TREE_SET_MODE}, {FATTR_UID, TREE_SET_UID}, {FATTR_GID, TREE_SET_GID},
        {FATTR_SIZE, TREE_SET_SIZE}, {FATTR_ATIME | FATTR_ATIME_NOW, TREE_SET_ATIME},
        {FATTR_MTIME | FATTR_MTIME_NOW, TREE_SET_MTIME},
    };
    /* clang-format on */

    *change = (struct tree_change){
        .mode = in->mode,
        .uid = in->uid,
        .gid = in->gid,
        .size = in->size,
        .drop_suid = in->valid & FATTR_KILL_SUIDGID,
    };
    for (size_t i = 0; i < sizeof(bits) / sizeof(bits[0]); i++) {
        change->valid |= (in->valid & bits[i].fuse) ? bits[i].tree : 0;
    }
    take_time(in, FATTR_ATIME, FATTR_ATIME_NOW, in->atime, in->atimensec, &change->atime);
    take_time(in, FATTR_MTIME, FATTR_MTIME_NOW, in->mtime, in->mtimensec, &change->mtime);
}

int fs_op_setattr(struct fs_req *r)
{
    const struct fuse_setattr_in *in = FS_ARG(r, fuse_setattr_in);
    const struct tree_port *tree = &r->s->tree;
    uint64_t file = (in->valid & FATTR_FH) ? in->fh : 0;
    struct tree_change change;
    struct stat st;
    int n;

    take_change(in, &change);
    n = tree->ops->set_attr(tree->owner, r->head.nodeid, file, &change, &st);
    return n < 0 ? n : reply_attr(r, &st);
}

int fs_op_readlink(struct fs_req *r)
{
    const struct tree_port *tree = &r->s->tree;
    size_t max = r->out_max < LINK_MAX_BYTES ? r->out_max : LINK_MAX_BYTES;

    return tree->ops->read_link(tree->owner, r->head.nodeid, (char *)r->out, max);
}

int fs_op_access(struct fs_req *r)
{
    const struct tree_port *tree = &r->s->tree;

    return tree->ops->access(tree->owner, r->head.nodeid, FS_ARG(r, fuse_access_in)->mask);
}

int fs_op_statfs(struct fs_req *r)
{
    const struct tree_port *tree = &r->s->tree;
    struct fuse_statfs_out out = {0};
    struct statvfs st;
    int n = tree->ops->stat_fs(tree->owner, r->head.nodeid, &st);

    if (n < 0) {
        return n;
    }
    out.st = (struct fuse_kstatfs){
        .blocks = st.f_blocks,
        .bfree = st.f_bfree,
        .bavail = st.f_bavail,
        .files = st.f_files,
        .ffree = st.f_ffree,
        .bsize = (uint32_t)st.f_bsize,
        .namelen = (uint32_t)st.f_namemax,
        .frsize = (uint32_t)st.f_frsize,
    };
    return fs_req_reply(r, &out, sizeof(out));
}

/* A value of `n` bytes at r->out, or its size if the guest gave no room. */
static int reply_xattr(struct fs_req *r, ssize_t n, uint32_t size)
{
    if (n >= 0 && size == 0) {
        struct fuse_getxattr_out out = {.size = (uint32_t)n};

        return fs_req_reply(r, &out, sizeof(out));
    }
    return (int)n;
}

static size_t xattr_room(const struct fs_req *r)
{
    size_t size = FS_ARG(r, fuse_getxattr_in)->size; /* guest: any value */

    return size < r->out_max ? size : r->out_max;
}

int fs_op_getxattr(struct fs_req *r)
{
    const struct tree_port *tree = &r->s->tree;
    uint32_t size = FS_ARG(r, fuse_getxattr_in)->size;
    const char *name = fs_req_string(r);

    if (!name || (size && xattr_room(r) == 0)) {
        return -EINVAL;
    }
    return reply_xattr(
        r, tree->ops->get_xattr(tree->owner, r->head.nodeid, name, r->out, xattr_room(r)), size);
}

int fs_op_listxattr(struct fs_req *r)
{
    const struct tree_port *tree = &r->s->tree;
    uint32_t size = FS_ARG(r, fuse_getxattr_in)->size;

    if (size && xattr_room(r) == 0) {
        return -EINVAL;
    }
    return reply_xattr(
        r, tree->ops->list_xattr(tree->owner, r->head.nodeid, (char *)r->out, xattr_room(r)), size);
}

int fs_op_setxattr(struct fs_req *r)
{
    const struct tree_port *tree = &r->s->tree;
    /* Only the first two fields are there: SETXATTR_EXT was not agreed on. */
    const struct fuse_setxattr_in *in = FS_ARG(r, fuse_setxattr_in);
    const char *name = fs_req_string(r);

    if (!name || in->size > r->arg_len - r->arg_at) {
        return -EINVAL;
    }
    return tree->ops->set_xattr(tree->owner, r->head.nodeid, name, r->arg + r->arg_at, in->size,
                                (int)in->flags);
}

int fs_op_removexattr(struct fs_req *r)
{
    const struct tree_port *tree = &r->s->tree;
    const char *name = fs_req_string(r);

    return name ? tree->ops->remove_xattr(tree->owner, r->head.nodeid, name) : -EINVAL;
}
