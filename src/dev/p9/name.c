/* name.c — messages about names in directories. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "dev/p9/p9_int.h"

/* Where a walk has come to.  `refs` is 0 while that is where it began. */
struct place {
    uint64_t node;
    uint32_t type;
    unsigned refs;
};

static void leave(const struct p9_req *r, const struct place *at)
{
    if (at->refs) {
        r->s->tree.ops->forget(r->s->tree.owner, at->node, at->refs);
    }
}

/* One step per name; stops at the first that is not there.  How many, or the error of the first. */
static int walk(struct p9_req *r, unsigned count, struct place *at)
{
    const struct tree_port *tree = &r->s->tree;
    unsigned done = 0;
    int n = 0;

    for (; done < count; done++) {
        struct tree_entry entry;
        const char *name;

        n = p9_take_text(r, &name) ? tree->ops->lookup(tree->owner, at->node, name, &entry)
                                   : -EINVAL;
        if (n < 0) {
            break;
        }
        leave(r, at);
        *at = (struct place){.node = entry.node, .type = entry.st.st_mode & S_IFMT, .refs = 1};
        p9_put_qid(r, &entry.st);
    }
    return done || n == 0 ? (int)done : n;
}

/* The fid goes there itself, or another one begins there. */
static int arrive(struct p9_req *r, struct p9_fid *fid, uint32_t new_id, const struct place *at)
{
    struct p9_fid *other;

    if (fid->id == new_id) {
        p9_fid_move(r->s, fid, at->node, at->type);
        return 0;
    }
    return p9_fid_add(r->s, new_id, at->node, at->type, fid->uid, &other);
}

int p9_op_walk(struct p9_req *r)
{
    const struct tree_port *tree = &r->s->tree;
    struct p9_fid *fid = r->arg[0].fid;
    uint32_t new_id = (uint32_t)r->arg[1].n;
    unsigned count = (unsigned)r->arg[2].n;
    struct place at = {.node = fid->node, .type = fid->type};
    int n;

    if (count > P9_WALK_MAX || fid->xattr) {
        return -EINVAL;
    }
    p9_put_n(r, 2, 0); /* how many names; see below */
    n = walk(r, count, &at);
    if (n < 0) {
        return n;
    }
    store_le16(r->s->out, (uint16_t)n);
    if ((unsigned)n < count) {
        leave(r, &at);
        return 0;
    }
    if (!at.refs) {
        n = tree->ops->ref(tree->owner, at.node);
        if (n < 0) {
            return n;
        }
        at.refs = 1;
    }
    n = arrive(r, fid, new_id, &at);
    if (n < 0) {
        leave(r, &at);
        return n;
    }
    return 0;
}

/* What is made belongs to who attached; the guest finds it by a walk. */
static int make(struct p9_req *r, struct tree_make *how, uint64_t gid)
{
    const struct tree_port *tree = &r->s->tree;
    const struct p9_fid *dir = r->arg[0].fid;
    struct tree_entry entry;
    int n;

    how->uid = dir->uid;
    how->gid = (uint32_t)gid;
    n = tree->ops->make(tree->owner, dir->node, r->arg[1].text, how, &entry);
    if (n < 0) {
        return n;
    }
    p9_put_qid(r, &entry.st);
    tree->ops->forget(tree->owner, entry.node, 1);
    return 0;
}

int p9_op_mkdir(struct p9_req *r)
{
    struct tree_make how = {.mode = S_IFDIR | ((uint32_t)r->arg[2].n & 07777)};

    return make(r, &how, r->arg[3].n);
}

int p9_op_mknod(struct p9_req *r)
{
    struct tree_make how = {
        .mode = (uint32_t)r->arg[2].n,
        .rdev = makedev((unsigned)r->arg[3].n, (unsigned)r->arg[4].n),
    };

    if (S_ISDIR(how.mode) || S_ISLNK(how.mode)) {
        return -EINVAL;
    }
    return make(r, &how, r->arg[5].n);
}

int p9_op_symlink(struct p9_req *r)
{
    struct tree_make how = {.mode = S_IFLNK | 0777, .target = r->arg[2].text};

    return make(r, &how, r->arg[3].n);
}

int p9_op_link(struct p9_req *r)
{
    const struct tree_port *tree = &r->s->tree;
    struct tree_entry entry;
    int n = tree->ops->link(tree->owner, r->arg[1].fid->node, r->arg[0].fid->node, r->arg[2].text,
                            &entry);

    if (n == 0) {
        tree->ops->forget(tree->owner, entry.node, 1);
    }
    return n;
}

int p9_op_renameat(struct p9_req *r)
{
    const struct tree_port *tree = &r->s->tree;

    return tree->ops->rename(tree->owner, r->arg[0].fid->node, r->arg[1].text, r->arg[2].fid->node,
                             r->arg[3].text, 0);
}

int p9_op_unlinkat(struct p9_req *r)
{
    const struct tree_port *tree = &r->s->tree;

    /* Its flag has the number of the system call's. */
    return tree->ops->remove(tree->owner, r->arg[0].fid->node, r->arg[1].text,
                             r->arg[2].n & AT_REMOVEDIR);
}
