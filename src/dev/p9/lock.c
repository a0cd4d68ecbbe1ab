/* lock.c — record locks, taken on the host so that its processes and other VMs see them.
 *
 * Linux makes a record lock of an flock() before it asks, in the name of the process; so the two
 * are one kind here.  A request that may wait is kept until the lock is there; otherwise Linux asks
 * again after 30 seconds.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "dev/p9/p9_int.h"

#define FLAG_BLOCK 1u

/* P9_LOCK_* */
#define STATUS_SUCCESS 0u
#define STATUS_BLOCKED 1u

/* P9_LOCK_TYPE_*, in their order. */
static const uint32_t types[] = {F_RDLCK, F_WRLCK, F_UNLCK};

static int take_lock(uint64_t type, uint64_t start, uint64_t len, struct tree_lock *ret_lock)
{
    if (type >= ARRAY_LEN(types) || start > INT64_MAX) { /* guest: any numbers */
        return -EINVAL;
    }
    *ret_lock = (struct tree_lock){.start = start, .end = INT64_MAX, .type = types[type]};
    if (len != 0 && len <= INT64_MAX - start) {
        ret_lock->end = start + len - 1;
    }
    return 0;
}

static int try_lock(struct p9_session *s, const struct p9_wait *wait)
{
    struct p9_fid *fid;
    int n = s->tree.ops->set_lock(s->tree.owner, wait->node, wait->file, wait->owner, &wait->lock);

    if (n < 0 || wait->lock.type == F_UNLCK) {
        return n;
    }
    fid = p9_fid_get(s, wait->fid);
    if (fid && fid->file == wait->file) {
        fid->has_lock = true;
        fid->lock_owner = wait->owner;
    }
    return 0;
}

int p9_op_lock(struct p9_req *r)
{
    const struct p9_fid *fid = r->arg[0].fid;
    struct p9_wait wait = {.tag = r->tag,
                           .fid = fid->id,
                           .owner = (uint32_t)r->arg[5].n,
                           .node = fid->node,
                           .file = fid->file};
    int n = take_lock(r->arg[1].n, r->arg[3].n, r->arg[4].n, &wait.lock);

    if (n == 0 && fid->state != P9_FID_OPEN) {
        n = -EBADF;
    }
    if (n == 0) {
        /* Of a tree that nobody changes the guest keeps its locks to itself. */
        n = r->s->is_read_only ? 0 : try_lock(r->s, &wait);
    }
    if (n == -EAGAIN && (r->arg[2].n & FLAG_BLOCK)) {
        r->result->outcome = P9_WAIT;
        r->result->wait = wait;
        return 0;
    }
    if (n < 0 && n != -EAGAIN) {
        return n;
    }
    p9_put_n(r, 1, n < 0 ? STATUS_BLOCKED : STATUS_SUCCESS);
    return 0;
}

size_t p9_wait_again(struct p9_session *s, const struct p9_wait *wait, const struct virtio_io *io)
{
    int n = try_lock(s, wait);
    uint8_t reply[P9_HEAD + 1] = {sizeof(reply), 0, 0, 0, P9_TLOCK + 1, 0, 0, STATUS_SUCCESS};

    if (n == -EAGAIN) {
        return 0;
    }
    if (n < 0 || io->out_bytes < sizeof(reply)) {
        return p9_reply_error(io, wait->tag, n < 0 ? n : -EIO);
    }
    store_le16(reply + 5, wait->tag);
    return iov_write(io->out, io->out_count, 0, reply, sizeof(reply));
}

int p9_op_getlock(struct p9_req *r)
{
    const struct tree_port *tree = &r->s->tree;
    const struct p9_fid *fid = r->arg[0].fid;
    struct tree_lock lock;
    uint64_t type = 0;
    int n = take_lock(r->arg[1].n, r->arg[2].n, r->arg[3].n, &lock);

    if (n == 0 && fid->state != P9_FID_OPEN) {
        n = -EBADF;
    }
    if (n == 0 && r->s->is_read_only) {
        lock.type = F_UNLCK;
    } else if (n == 0) {
        n = tree->ops->get_lock(tree->owner, fid->node, fid->file, r->arg[4].n, &lock);
    }
    if (n < 0) {
        return n;
    }
    while (type < ARRAY_LEN(types) - 1 && types[type] != lock.type) {
        type++;
    }
    p9_put_n(r, 1, type);
    p9_put_n(r, 8, lock.start);
    p9_put_n(r, 8, lock.end == INT64_MAX ? 0 : lock.end - lock.start + 1);
    p9_put_n(r, 4, 0); /* whose: a process of the host */
    p9_put_text(r, r->arg[5].text, strlen(r->arg[5].text));
    return 0;
}
