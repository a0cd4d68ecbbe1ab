/* fid.c — what the guest calls by numbers of its own. */
#include <errno.h>
#include <stdlib.h>

#include "dev/p9/p9_int.h"

#define BUCKETS_FIRST 64u

static struct p9_fid **bucket_of(const struct p9_fids *fids, uint32_t id)
{
    return &fids->buckets[(id * UINT32_C(2654435769)) >> 7 & (fids->bucket_count - 1)];
}

struct p9_fid *p9_fid_get(const struct p9_session *s, uint32_t id)
{
    struct p9_fid *fid = s->fids.bucket_count ? *bucket_of(&s->fids, id) : NULL;

    while (fid && fid->id != id) {
        fid = fid->next;
    }
    return fid;
}

/* Twice the buckets; if there is no memory the chains just grow longer. */
static int grow(struct p9_fids *fids)
{
    uint32_t count = fids->bucket_count ? fids->bucket_count * 2 : BUCKETS_FIRST;
    struct p9_fids more = {.buckets = calloc(count, sizeof(struct p9_fid *)),
                           .bucket_count = count,
                           .count = fids->count};

    if (!more.buckets) {
        return fids->bucket_count ? 0 : -ENOMEM;
    }
    for (uint32_t i = 0; i < fids->bucket_count; i++) {
        for (struct p9_fid *fid = fids->buckets[i], *next; fid; fid = next) {
            struct p9_fid **slot = bucket_of(&more, fid->id);

            next = fid->next;
            fid->next = *slot;
            *slot = fid;
        }
    }
    free(fids->buckets);
    *fids = more;
    return 0;
}

int p9_fid_add(struct p9_session *s, uint32_t id, uint64_t node, uint32_t type, uint32_t uid,
               struct p9_fid **ret_fid)
{
    struct p9_fid **slot;
    struct p9_fid *fid;

    if (id == P9_NOFID || p9_fid_get(s, id)) {
        return -EINVAL; /* guest: any number */
    }
    if (s->fids.count >= P9_FID_MAX) {
        return -ENFILE;
    }
    if (s->fids.count >= s->fids.bucket_count && grow(&s->fids) < 0) {
        return -ENOMEM;
    }
    fid = malloc(sizeof(*fid));
    if (!fid) {
        return -ENOMEM;
    }
    slot = bucket_of(&s->fids, id);
    *fid = (struct p9_fid){.next = *slot, .id = id, .uid = uid, .node = node, .type = type};
    *slot = fid;
    s->fids.count++;
    *ret_fid = fid;
    return 0;
}

/* Back to P9_FID_IDLE. */
static int close_fid(struct p9_session *s, struct p9_fid *fid)
{
    const struct tree_port *tree = &s->tree;
    int r = 0;

    if (fid->has_lock) {
        /* A lock that a fork left behind has an owner that nobody will name again. */
        r = tree->ops->flush(tree->owner, fid->node, fid->file, fid->lock_owner);
    }
    if (fid->file) {
        (void)tree->ops->release(tree->owner, fid->node, fid->file);
    }
    if (fid->state == P9_FID_XATTR_WRITE) {
        r = p9_xattr_apply(s, fid);
    }
    if (fid->xattr) {
        free(fid->xattr);
        s->xattr_count--;
    }
    fid->file = 0;
    fid->has_lock = false;
    fid->xattr = NULL;
    fid->state = P9_FID_IDLE;
    return r;
}

void p9_fid_move(struct p9_session *s, struct p9_fid *fid, uint64_t node, uint32_t type)
{
    (void)close_fid(s, fid);
    s->tree.ops->forget(s->tree.owner, fid->node, 1);
    fid->node = node;
    fid->type = type;
}

void p9_fids_clear(struct p9_session *s)
{
    for (uint32_t i = 0; i < s->fids.bucket_count; i++) {
        for (struct p9_fid *fid = s->fids.buckets[i], *next; fid; fid = next) {
            next = fid->next;
            free(fid->xattr);
            free(fid);
        }
    }
    free(s->fids.buckets);
    s->fids = (struct p9_fids){0};
    s->xattr_count = 0;
}

/* The fid is gone whatever the reply says. */
int p9_op_clunk(struct p9_req *r)
{
    struct p9_session *s = r->s;
    struct p9_fid *fid = r->arg[0].fid;
    struct p9_fid **slot = bucket_of(&s->fids, fid->id);
    int n = close_fid(s, fid);

    s->tree.ops->forget(s->tree.owner, fid->node, 1);
    while (*slot != fid) {
        slot = &(*slot)->next;
    }
    *slot = fid->next;
    s->fids.count--;
    free(fid);
    return n;
}
