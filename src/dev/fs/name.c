/* name.c — requests about names in directories, and forgetting nodes. */
#include <errno.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "dev/fs/fs_int.h"

int fs_op_lookup(struct fs_req *r)
{
    const struct tree_port *tree = &r->s->tree;
    const char *name = fs_req_string(r);
    struct tree_entry entry = {0};
    int n;

    if (!name) {
        return -EINVAL;
    }
    n = tree->ops->lookup(tree->owner, r->head.nodeid, name, &entry);
    if (n == -ENOENT && r->s->cache.missing_ms) {
        struct fuse_entry_out out = {
            .entry_valid = r->s->cache.missing_ms / 1000,
            .entry_valid_nsec = r->s->cache.missing_ms % 1000 * 1000000,
        };

        return fs_req_reply(r, &out, sizeof(out)); /* node 0: "and you may remember that" */
    }
    return n < 0 ? n : fs_reply_entry(r, &entry);
}

int fs_op_forget(struct fs_req *r)
{
    const struct tree_port *tree = &r->s->tree;

    tree->ops->forget(tree->owner, r->head.nodeid, FS_ARG(r, fuse_forget_in)->nlookup);
    return 0;
}

int fs_op_batch_forget(struct fs_req *r)
{
    const struct tree_port *tree = &r->s->tree;
    const struct fuse_batch_forget_in *in = FS_ARG(r, fuse_batch_forget_in);
    const struct fuse_forget_one *one = (const void *)(r->arg + sizeof(*in));
    size_t count = (r->arg_len - sizeof(*in)) / sizeof(*one);

    count = in->count < count ? in->count : count; /* guest: any count */
    for (size_t i = 0; i < count; i++) {
        tree->ops->forget(tree->owner, one[i].nodeid, one[i].nlookup);
    }
    return 0;
}

static int make(struct fs_req *r, const char *name, struct tree_make *how)
{
    const struct tree_port *tree = &r->s->tree;
    struct tree_entry entry;
    int n;

    how->uid = r->head.uid;
    how->gid = r->head.gid;
    n = tree->ops->make(tree->owner, r->head.nodeid, name, how, &entry);
    return n < 0 ? n : fs_reply_entry(r, &entry);
}

int fs_op_symlink(struct fs_req *r)
{
    const char *name = fs_req_string(r);
    const char *target = name ? fs_req_string(r) : NULL;
    struct tree_make how = {.mode = S_IFLNK | 0777, .target = target};

    return target ? make(r, name, &how) : -EINVAL;
}

int fs_op_mknod(struct fs_req *r)
{
    const struct fuse_mknod_in *in = FS_ARG(r, fuse_mknod_in);
    const char *name = fs_req_string(r);
    struct tree_make how = {
        .mode = in->mode,
        /* The kernel's 32-bit form: minor in bits 0-7 and 20-31, major between. */
        .rdev = makedev((in->rdev >> 8) & 0xfffu, (in->rdev & 0xffu) | (in->rdev >> 12 & ~0xffu)),
    };

    if (!name || S_ISDIR(in->mode) || S_ISLNK(in->mode)) {
        return -EINVAL;
    }
    return make(r, name, &how);
}

int fs_op_mkdir(struct fs_req *r)
{
    const struct fuse_mkdir_in *in = FS_ARG(r, fuse_mkdir_in);
    const char *name = fs_req_string(r);
    struct tree_make how = {.mode = S_IFDIR | (in->mode & 07777)};

    return name ? make(r, name, &how) : -EINVAL;
}

static int remove_one(struct fs_req *r, bool is_dir)
{
    const struct tree_port *tree = &r->s->tree;
    const char *name = fs_req_string(r);

    return name ? tree->ops->remove(tree->owner, r->head.nodeid, name, is_dir) : -EINVAL;
}

int fs_op_unlink(struct fs_req *r)
{
    return remove_one(r, false);
}

int fs_op_rmdir(struct fs_req *r)
{
    return remove_one(r, true);
}

static int rename_to(struct fs_req *r, uint64_t new_dir, unsigned flags)
{
    const struct tree_port *tree = &r->s->tree;
    const char *name = fs_req_string(r);
    const char *new_name = name ? fs_req_string(r) : NULL;

    if (!new_name) {
        return -EINVAL;
    }
    return tree->ops->rename(tree->owner, r->head.nodeid, name, new_dir, new_name, flags);
}

int fs_op_rename(struct fs_req *r)
{
    return rename_to(r, FS_ARG(r, fuse_rename_in)->newdir, 0);
}

int fs_op_rename2(struct fs_req *r)
{
    const struct fuse_rename2_in *in = FS_ARG(r, fuse_rename2_in);

    return rename_to(r, in->newdir, in->flags);
}

int fs_op_link(struct fs_req *r)
{
    const struct tree_port *tree = &r->s->tree;
    const char *name = fs_req_string(r);
    struct tree_entry entry;
    int n;

    if (!name) {
        return -EINVAL;
    }
    n = tree->ops->link(tree->owner, FS_ARG(r, fuse_link_in)->oldnodeid, r->head.nodeid, name,
                        &entry);
    return n < 0 ? n : fs_reply_entry(r, &entry);
}
