/* xattr.c — extended attributes: fids that hold a value (or the list of names) to be read, or one
 * that is being written and takes effect when its fid is clunked. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#include "dev/p9/p9_int.h"

static int xattr_new(struct p9_session *s, const char *name, size_t size,
                     struct p9_xattr **ret_xattr)
{
    size_t name_len = strlen(name);
    struct p9_xattr *xattr;

    if (name_len >= sizeof(xattr->name)) {
        return -ERANGE;
    }
    if (size > P9_XATTR_BYTES) { /* guest: any size */
        return -E2BIG;
    }
    if (s->xattr_count >= P9_XATTR_MAX) {
        return -ENFILE;
    }
    xattr = calloc(1, sizeof(*xattr) + size);
    if (!xattr) {
        return -ENOMEM;
    }
    xattr->size = size;
    memcpy(xattr->name, name, name_len);
    *ret_xattr = xattr;
    return 0;
}

static void give(struct p9_session *s, struct p9_fid *fid, struct p9_xattr *xattr,
                 enum p9_fid_state state)
{
    fid->xattr = xattr;
    fid->state = state;
    s->xattr_count++;
}

/* The value of `name`, of "" the list of names; into the session's buffer. */
static ssize_t get(struct p9_session *s, uint64_t node, const char *name)
{
    _Static_assert(P9_OUT_MAX >= P9_XATTR_BYTES, "a value fits");
    void *owner = s->tree.owner;

    return name[0] ? s->tree.ops->get_xattr(owner, node, name, s->out, P9_XATTR_BYTES)
                   : s->tree.ops->list_xattr(owner, node, (char *)s->out, P9_XATTR_BYTES);
}

/* A new fid, on the same node, to read from. */
static int add_fid(struct p9_req *r, const struct p9_fid *from, uint32_t id, struct p9_xattr *xattr)
{
    const struct tree_port *tree = &r->s->tree;
    struct p9_fid *fid;
    int n = tree->ops->ref(tree->owner, from->node);

    if (n < 0) {
        return n;
    }
    n = p9_fid_add(r->s, id, from->node, from->type, from->uid, &fid);
    if (n < 0) {
        tree->ops->forget(tree->owner, from->node, 1);
        return n;
    }
    give(r->s, fid, xattr, P9_FID_XATTR_READ);
    return 0;
}

int p9_op_xattrwalk(struct p9_req *r)
{
    const struct p9_fid *from = r->arg[0].fid;
    const char *name = r->arg[2].text;
    struct p9_xattr *xattr;
    ssize_t len = get(r->s, from->node, name);
    int n;

    if (len < 0) {
        return (int)len;
    }
    n = xattr_new(r->s, name, (size_t)len, &xattr);
    if (n < 0) {
        return n;
    }
    memcpy(xattr->data, r->s->out, (size_t)len);
    n = add_fid(r, from, (uint32_t)r->arg[1].n, xattr);
    if (n < 0) {
        free(xattr);
        return n;
    }
    p9_put_n(r, 8, (uint64_t)len);
    return 0;
}

int p9_op_xattrcreate(struct p9_req *r)
{
    struct p9_fid *fid = r->arg[0].fid;
    struct p9_xattr *xattr;
    int n;

    if (fid->state != P9_FID_IDLE) {
        return -EBADF;
    }
    n = xattr_new(r->s, r->arg[1].text, r->arg[2].n, &xattr);
    if (n < 0) {
        return n;
    }
    xattr->flags = (int)(r->arg[3].n & (XATTR_CREATE | XATTR_REPLACE)); /* numbered alike */
    give(r->s, fid, xattr, P9_FID_XATTR_WRITE);
    return 0;
}

int p9_xattr_read(struct p9_req *r)
{
    const struct p9_xattr *xattr = r->arg[0].fid->xattr;
    uint64_t offset = r->arg[1].n;
    size_t len = offset < xattr->size ? xattr->size - offset : 0; /* guest: any offset */
    size_t room = r->out_max > 4 ? r->out_max - 4 : 0;
    uint8_t *at;

    len = len < r->arg[2].n ? len : r->arg[2].n;
    len = len < room ? len : room;
    p9_put_n(r, 4, len);
    at = p9_put_room(r, len);
    if (at && len) {
        memcpy(at, xattr->data + offset, len);
    }
    return 0;
}

/* In order, from the start: as Linux does. */
int p9_xattr_write(struct p9_req *r)
{
    struct p9_xattr *xattr = r->arg[0].fid->xattr;
    uint64_t offset = r->arg[1].n;
    size_t len = r->arg[2].n;
    unsigned count;

    if (offset != xattr->at || len > xattr->size - xattr->at) { /* guest: any numbers */
        return -ENOSPC;
    }
    count = iov_slice(r->io->in, r->io->in_count, P9_WRITE_HEAD, len, r->s->iov);
    xattr->at += iov_read(r->s->iov, count, xattr->data + xattr->at, len);
    p9_put_n(r, 4, len);
    return 0;
}

int p9_xattr_apply(struct p9_session *s, const struct p9_fid *fid)
{
    const struct p9_xattr *xattr = fid->xattr;
    void *owner = s->tree.owner;

    if (xattr->at < xattr->size) {
        return -EINVAL; /* given up half way */
    }
    /* That is how Linux removes one. */
    if (xattr->size == 0 && xattr->flags == XATTR_REPLACE) {
        return s->tree.ops->remove_xattr(owner, fid->node, xattr->name);
    }
    return s->tree.ops->set_xattr(owner, fid->node, xattr->name, xattr->data, xattr->size,
                                  xattr->flags);
}
