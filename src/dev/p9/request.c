/* request.c — one 9P message: copied in, checked against its own length, given to the handler of
 * its type, answered.
 *
 * Theory of operation.  A message says how long it is; what the driver's buffers hold beyond that
 * is ignored, and one that claims more than they hold is refused.  All but the data of a WRITE is
 * copied once.  The table of types names the fields of each, so handlers find them complete and
 * their fids known.  Replies are put together in the session's own buffer and copied out; the data
 * of a READ goes straight into guest memory, what stands before it afterwards.
 *
 * Not served, since Linux asks for them only when their successors are refused: REMOVE and RENAME,
 * which name a file without its directory.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dev/p9/p9_int.h"

#define NOBODY 65534u

struct op {
    int (*run)(struct p9_req *r);
    const char *args;
    unsigned flags;
};

static const struct op ops[] = {
#define X(name, number, handler, args, flags) [P9_T##name] = {handler, args, flags},
    P9_MESSAGES(X)
#undef X
};

int p9_session_init(struct p9_session *s, const struct p9_config *config)
{
    s->tree = config->tree;
    s->is_read_only = config->is_read_only;
    s->has_no_xattr = config->has_no_xattr;
    s->in = malloc(P9_IN_MAX);
    s->out = malloc(P9_OUT_MAX);
    return s->in && s->out ? 0 : -ENOMEM;
}

void p9_session_fini(struct p9_session *s)
{
    p9_fids_clear(s);
    free(s->in);
    free(s->out);
    s->in = NULL;
    s->out = NULL;
}

void p9_session_reset(struct p9_session *s)
{
    p9_fids_clear(s);
    s->tree.ops->reset(s->tree.owner);
    s->is_up = false;
}

int p9_op_version(struct p9_req *r)
{
    static const char ours[] = "9P2000.L";
    struct p9_session *s = r->s;
    uint64_t msize = r->arg[0].n; /* guest: any size */
    const char *version = r->arg[1].text;

    p9_session_reset(s);
    if (msize < P9_MSIZE_MIN) {
        return -EINVAL;
    }
    s->is_up = strcmp(version, ours) == 0;
    s->msize = msize < P9_MSIZE_MAX ? (uint32_t)msize : P9_MSIZE_MAX;
    version = s->is_up ? ours : "unknown";
    p9_put_n(r, 4, s->msize);
    p9_put_text(r, version, strlen(version));
    return 0;
}

/* Each user of the guest attaches for itself. */
int p9_op_attach(struct p9_req *r)
{
    const struct tree_port *tree = &r->s->tree;
    const char *path = r->arg[3].text;
    uint32_t uid = (uint32_t)r->arg[4].n;
    struct p9_fid *fid;
    struct stat st;
    int n;

    if (r->arg[1].n != P9_NOFID) {
        return -EOPNOTSUPP; /* nobody was asked to prove who he is */
    }
    if (path[0] && strcmp(path, "/") != 0) {
        return -ENOENT;
    }
    n = tree->ops->get_attr(tree->owner, TREE_ROOT, 0, &st);
    if (n == 0) {
        n = tree->ops->ref(tree->owner, TREE_ROOT);
    }
    if (n < 0) {
        return n;
    }
    n = p9_fid_add(r->s, (uint32_t)r->arg[0].n, TREE_ROOT, S_IFDIR,
                   uid == UINT32_MAX ? NOBODY : uid, &fid);
    if (n < 0) {
        tree->ops->forget(tree->owner, TREE_ROOT, 1);
        return n;
    }
    p9_put_qid(r, &st);
    return 0;
}

int p9_op_flush(struct p9_req *r)
{
    r->result->outcome = P9_FLUSH;
    r->result->old_tag = (uint16_t)r->arg[0].n;
    return 0;
}

static size_t put_head(const struct virtio_io *io, uint8_t type, uint16_t tag, size_t content)
{
    uint8_t head[P9_HEAD];

    store_le32(head, (uint32_t)(sizeof(head) + content));
    head[4] = type;
    store_le16(head + 5, tag);
    (void)iov_write(io->out, io->out_count, 0, head, sizeof(head));
    return sizeof(head) + content;
}

size_t p9_reply_error(const struct virtio_io *io, uint16_t tag, int error)
{
    uint8_t code[4];

    if (io->out_bytes < P9_HEAD + sizeof(code)) {
        return 0;
    }
    store_le32(code, (uint32_t)-error);
    (void)iov_write(io->out, io->out_count, P9_HEAD, code, sizeof(code));
    return put_head(io, P9_RLERROR, tag, sizeof(code));
}

/* Copy the message in; how much of it depends on its type. */
static int take(struct p9_req *r)
{
    uint8_t head[P9_HEAD];
    size_t want;

    if (iov_read(r->io->in, r->io->in_count, head, sizeof(head)) < sizeof(head)) {
        r->tag = P9_NOTAG;
        return -EINVAL;
    }
    r->size = load_le32(head); /* guest: any size */
    r->type = head[4];
    r->tag = load_le16(head + 5);
    if (r->size < sizeof(head) || r->size > r->io->in_bytes) {
        return -EINVAL;
    }
    want = r->type == P9_TWRITE && r->size > P9_WRITE_HEAD ? P9_WRITE_HEAD : r->size;
    if (want > P9_IN_MAX) {
        return -E2BIG;
    }
    if (iov_read(r->io->in, r->io->in_count, r->s->in, want) < want) {
        return -EINVAL;
    }
    r->in = r->s->in + P9_HEAD;
    r->in_len = want - P9_HEAD;
    return 0;
}

static int take_fid(struct p9_req *r, union p9_arg *arg)
{
    uint64_t id;

    if (!p9_take_n(r, 4, &id)) {
        return -EINVAL;
    }
    arg->fid = p9_fid_get(r->s, (uint32_t)id);
    return arg->fid ? 0 : -EBADF;
}

static int take_args(struct p9_req *r, const char *letters)
{
    union p9_arg *arg = r->arg;

    for (; *letters; letters++, arg++) {
        bool ok = true;

        switch (*letters) {
        case 'b': ok = p9_take_n(r, 1, &arg->n); break;
        case 'w': ok = p9_take_n(r, 2, &arg->n); break;
        case 'd': ok = p9_take_n(r, 4, &arg->n); break;
        case 'q': ok = p9_take_n(r, 8, &arg->n); break;
        case 'n': ok = p9_take_text(r, &arg->text); break;
        default: {
            int error = take_fid(r, arg);

            if (error < 0) {
                return error;
            }
        }
        }
        if (!ok) {
            return -EINVAL;
        }
    }
    return 0;
}

static int dispatch(struct p9_req *r)
{
    const struct op *op = r->type < ARRAY_LEN(ops) && ops[r->type].run ? &ops[r->type] : NULL;
    int n;

    if (!op) {
        return -EOPNOTSUPP;
    }
    if (!r->s->is_up && !(op->flags & P9_BEFORE_UP)) {
        return -EIO;
    }
    n = take_args(r, op->args);
    if (n < 0) {
        return n;
    }
    if (r->s->is_read_only && (op->flags & P9_CHANGES)) {
        return -EROFS;
    }
    if (r->s->has_no_xattr && (op->flags & P9_XATTR)) {
        return -EOPNOTSUPP;
    }
    return op->run(r);
}

/* Content, and what stands behind it in guest memory already. */
static size_t reply(const struct p9_req *r)
{
    (void)iov_write(r->io->out, r->io->out_count, P9_HEAD, r->s->out, r->out_len);
    return put_head(r->io, (uint8_t)(r->type + 1), r->tag, r->out_len + r->in_place);
}

void p9_request(struct p9_session *s, const struct virtio_io *io, struct p9_result *ret_result)
{
    struct p9_req r = {.s = s, .io = io, .result = ret_result};
    int n;

    *ret_result = (struct p9_result){.outcome = P9_DONE};
    if (io->out_bytes > P9_HEAD) {
        r.out_max = io->out_bytes - P9_HEAD;
        r.out_max = r.out_max < P9_OUT_MAX ? r.out_max : P9_OUT_MAX;
    }
    n = take(&r);
    if (n == 0) {
        n = dispatch(&r);
    }
    if (ret_result->outcome == P9_WAIT) {
        return;
    }
    if (n == 0 && (r.is_cut || io->out_bytes < P9_HEAD)) {
        n = -EIO; /* guest: its buffer is too small for what it asked */
    }
    ret_result->written = n < 0 ? p9_reply_error(io, r.tag, n) : reply(&r);
}
