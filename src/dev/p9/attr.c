/* attr.c — attributes of nodes, in 9P's form and back; links' targets; totals of the file system.
 */
#include <errno.h>
#include <sys/stat.h>

#include "dev/p9/p9_int.h"

#define VALID_BASIC    UINT64_C(0x7ff)      /* P9_STATS_BASIC: all that stat(2) has */
#define FS_TYPE        UINT32_C(0x01021997) /* V9FS_MAGIC */
#define LINK_MAX_BYTES 4095u

static void put_time(struct p9_req *r, struct timespec time)
{
    p9_put_n(r, 8, (uint64_t)time.tv_sec);
    p9_put_n(r, 8, (uint64_t)time.tv_nsec);
}

int p9_op_getattr(struct p9_req *r)
{
    const struct tree_port *tree = &r->s->tree;
    const struct p9_fid *fid = r->arg[0].fid;
    struct stat st;
    int n = tree->ops->get_attr(tree->owner, fid->node, fid->file, &st);

    if (n < 0) {
        return n;
    }
    p9_put_n(r, 8, VALID_BASIC);
    p9_put_qid(r, &st);
    p9_put_n(r, 4, st.st_mode);
    p9_put_n(r, 4, st.st_uid);
    p9_put_n(r, 4, st.st_gid);
    p9_put_n(r, 8, st.st_nlink);
    p9_put_n(r, 8, tree_rdev(st.st_rdev));
    p9_put_n(r, 8, (uint64_t)st.st_size);
    p9_put_n(r, 8, (uint64_t)st.st_blksize);
    p9_put_n(r, 8, (uint64_t)st.st_blocks);
    put_time(r, st.st_atim);
    put_time(r, st.st_mtim);
    put_time(r, st.st_ctim);
    put_time(r, (struct timespec){0}); /* of birth */
    p9_put_n(r, 8, 0);                 /* generation */
    p9_put_n(r, 8, 0);                 /* version of the data */
    return 0;
}

/* P9_ATTR_* */
enum set_bit {
    SET_MODE = 1,
    SET_UID = 2,
    SET_GID = 4,
    SET_SIZE = 8,
    SET_ATIME = 16, /* now, unless SET_ATIME_TO */
    SET_MTIME = 32,
    SET_ATIME_TO = 128,
    SET_MTIME_TO = 256,
};

static struct timespec time_of(const union p9_arg *sec, uint64_t valid, uint64_t to)
{
    if (!(valid & to)) {
        return (struct timespec){.tv_nsec = UTIME_NOW};
    }
    return (struct timespec){.tv_sec = (time_t)sec[0].n, .tv_nsec = (long)sec[1].n};
}

int p9_op_setattr(struct p9_req *r)
{
    static const struct {
        unsigned p9;
        unsigned tree;
    } bits[] = {
        {SET_MODE, TREE_SET_MODE}, {SET_UID, TREE_SET_UID},     {SET_GID, TREE_SET_GID},
        {SET_SIZE, TREE_SET_SIZE}, {SET_ATIME, TREE_SET_ATIME}, {SET_MTIME, TREE_SET_MTIME},
    };
    const struct tree_port *tree = &r->s->tree;
    const struct p9_fid *fid = r->arg[0].fid;
    uint64_t valid = r->arg[1].n;
    struct tree_change change = {
        .mode = (uint32_t)r->arg[2].n,
        .uid = (uint32_t)r->arg[3].n,
        .gid = (uint32_t)r->arg[4].n,
        .size = r->arg[5].n,
        .drop_suid = fid->uid != 0,
        .atime = time_of(&r->arg[6], valid, SET_ATIME_TO),
        .mtime = time_of(&r->arg[8], valid, SET_MTIME_TO),
    };
    struct stat st;

    for (size_t i = 0; i < ARRAY_LEN(bits); i++) {
        change.valid |= (valid & bits[i].p9) ? bits[i].tree : 0;
    }
    return tree->ops->set_attr(tree->owner, fid->node, fid->file, &change, &st);
}

int p9_op_readlink(struct p9_req *r)
{
    const struct tree_port *tree = &r->s->tree;
    char target[LINK_MAX_BYTES];
    int n = tree->ops->read_link(tree->owner, r->arg[0].fid->node, target, sizeof(target));

    if (n < 0) {
        return n;
    }
    p9_put_text(r, target, (size_t)n);
    return 0;
}

int p9_op_statfs(struct p9_req *r)
{
    const struct tree_port *tree = &r->s->tree;
    struct statvfs st;
    int n = tree->ops->stat_fs(tree->owner, r->arg[0].fid->node, &st);

    if (n < 0) {
        return n;
    }
    p9_put_n(r, 4, FS_TYPE);
    p9_put_n(r, 4, st.f_frsize); /* what Linux counts blocks in */
    p9_put_n(r, 8, st.f_blocks);
    p9_put_n(r, 8, st.f_bfree);
    p9_put_n(r, 8, st.f_bavail);
    p9_put_n(r, 8, st.f_files);
    p9_put_n(r, 8, st.f_ffree);
    p9_put_n(r, 8, st.f_fsid);
    p9_put_n(r, 4, st.f_namemax);
    return 0;
}
