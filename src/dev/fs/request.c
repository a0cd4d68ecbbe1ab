/* request.c — one FUSE request: copied in, checked against its own lengths, given to the handler of
 * its opcode, answered.
 *
 * Theory of operation.  The header comes first and says how long the request is; what the driver's
 * buffers hold beyond that is ignored, and a request that claims more than they hold is refused.
 * All but the data of a WRITE is copied once.  Each opcode names the size of its argument
 * structure, so handlers find that complete.  Replies are put together in the session's own buffer
 * and copied out; the data of a READ goes straight into guest memory, its header afterwards.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "dev/fs/fs_int.h"

enum op_flag {
    OP_CHANGES = 1,   /* EROFS on a read-only tree */
    OP_SILENT = 2,    /* has no reply */
    OP_BEFORE_UP = 4, /* allowed before INIT */
    OP_XATTR = 8,
};

struct op {
    int (*run)(struct fs_req *r);
    size_t arg_len;
    unsigned flags;
};

static int op_init(struct fs_req *r);

static int op_destroy(struct fs_req *r)
{
    fs_session_reset(r->s);
    return 0;
}

static int op_interrupt(struct fs_req *r)
{
    r->result->outcome = FS_INTERRUPT;
    r->result->unique = FS_ARG(r, fuse_interrupt_in)->unique;
    return 0;
}

/* clang-format off */
static const struct op ops[] = {
    [FUSE_LOOKUP]          = {fs_op_lookup, 0, 0},
    [FUSE_FORGET]          = {fs_op_forget, sizeof(struct fuse_forget_in), OP_SILENT},
    [FUSE_GETATTR]         = {fs_op_getattr, sizeof(struct fuse_getattr_in), 0},
    [FUSE_SETATTR]         = {fs_op_setattr, sizeof(struct fuse_setattr_in), OP_CHANGES},
    [FUSE_READLINK]        = {fs_op_readlink, 0, 0},
    [FUSE_SYMLINK]         = {fs_op_symlink, 0, OP_CHANGES},
    [FUSE_MKNOD]           = {fs_op_mknod, sizeof(struct fuse_mknod_in), OP_CHANGES},
    [FUSE_MKDIR]           = {fs_op_mkdir, sizeof(struct fuse_mkdir_in), OP_CHANGES},
    [FUSE_UNLINK]          = {fs_op_unlink, 0, OP_CHANGES},
    [FUSE_RMDIR]           = {fs_op_rmdir, 0, OP_CHANGES},
    [FUSE_RENAME]          = {fs_op_rename, sizeof(struct fuse_rename_in), OP_CHANGES},
    [FUSE_LINK]            = {fs_op_link, sizeof(struct fuse_link_in), OP_CHANGES},
    [FUSE_OPEN]            = {fs_op_open, sizeof(struct fuse_open_in), 0},
    [FUSE_READ]            = {fs_op_read, sizeof(struct fuse_read_in), 0},
    [FUSE_WRITE]           = {fs_op_write, sizeof(struct fuse_write_in), OP_CHANGES},
    [FUSE_STATFS]          = {fs_op_statfs, 0, 0},
    [FUSE_RELEASE]         = {fs_op_release, sizeof(struct fuse_release_in), 0},
    [FUSE_FSYNC]           = {fs_op_fsync, sizeof(struct fuse_fsync_in), 0},
    [FUSE_SETXATTR]        = {fs_op_setxattr, FUSE_COMPAT_SETXATTR_IN_SIZE, OP_XATTR | OP_CHANGES},
    [FUSE_GETXATTR]        = {fs_op_getxattr, sizeof(struct fuse_getxattr_in), OP_XATTR},
    [FUSE_LISTXATTR]       = {fs_op_listxattr, sizeof(struct fuse_getxattr_in), OP_XATTR},
    [FUSE_REMOVEXATTR]     = {fs_op_removexattr, 0, OP_XATTR | OP_CHANGES},
    [FUSE_FLUSH]           = {fs_op_flush, sizeof(struct fuse_flush_in), 0},
    [FUSE_INIT]            = {op_init, 16, OP_BEFORE_UP},
    [FUSE_OPENDIR]         = {fs_op_opendir, sizeof(struct fuse_open_in), 0},
    [FUSE_READDIR]         = {fs_op_readdir, sizeof(struct fuse_read_in), 0},
    [FUSE_RELEASEDIR]      = {fs_op_release, sizeof(struct fuse_release_in), 0},
    [FUSE_FSYNCDIR]        = {fs_op_fsync, sizeof(struct fuse_fsync_in), 0},
    [FUSE_GETLK]           = {fs_op_getlk, sizeof(struct fuse_lk_in), 0},
    [FUSE_SETLK]           = {fs_op_setlk, sizeof(struct fuse_lk_in), 0},
    [FUSE_SETLKW]          = {fs_op_setlkw, sizeof(struct fuse_lk_in), 0},
    [FUSE_ACCESS]          = {fs_op_access, sizeof(struct fuse_access_in), 0},
    [FUSE_CREATE]          = {fs_op_create, sizeof(struct fuse_create_in), OP_CHANGES},
    [FUSE_INTERRUPT]       = {op_interrupt, sizeof(struct fuse_interrupt_in), OP_SILENT},
    [FUSE_DESTROY]         = {op_destroy, 0, OP_BEFORE_UP},
    [FUSE_BATCH_FORGET]    = {fs_op_batch_forget, sizeof(struct fuse_batch_forget_in), OP_SILENT},
    [FUSE_FALLOCATE]       = {fs_op_fallocate, sizeof(struct fuse_fallocate_in), OP_CHANGES},
    [FUSE_READDIRPLUS]     = {fs_op_readdirplus, sizeof(struct fuse_read_in), 0},
    [FUSE_RENAME2]         = {fs_op_rename2, sizeof(struct fuse_rename2_in), OP_CHANGES},
    [FUSE_LSEEK]           = {fs_op_lseek, sizeof(struct fuse_lseek_in), 0},
    [FUSE_COPY_FILE_RANGE] = {fs_op_copy, sizeof(struct fuse_copy_file_range_in), OP_CHANGES},
};
/* clang-format on */

/* What we make use of.  Not among them: WRITEBACK_CACHE (two sides write), SUBMOUNTS (an overlay
 * does not descend into such directories), POSIX_ACL, SYNCFS. */
#define INIT_FLAGS                                                                    \
    (FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_AUTO_INVAL_DATA | FUSE_DO_READDIRPLUS | \
     FUSE_ASYNC_DIO | FUSE_PARALLEL_DIROPS | FUSE_MAX_PAGES | FUSE_CACHE_SYMLINKS)
#define INIT_FLAGS_WRITABLE \
    (FUSE_ATOMIC_O_TRUNC | FUSE_HANDLE_KILLPRIV_V2 | FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS)
/* Who lists a folder of a share mostly wants to know of its files, too (git, go, ls): attributes
 * come along, for one round trip in place of one per file.  Below an overlay names are enough,
 * unless the guest's kernel sees that they were not. */
#define INIT_FLAGS_READ_ONLY \
    (FUSE_NO_OPEN_SUPPORT | FUSE_NO_OPENDIR_SUPPORT | FUSE_READDIRPLUS_AUTO)

#define MINOR_LEAST 31u /* the first with virtio */

static int op_init(struct fs_req *r)
{
    const struct fuse_init_in *in = FS_ARG(r, fuse_init_in); /* flags2 may be missing */
    struct fs_session *s = r->s;
    struct fuse_init_out out = {.major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION};
    uint32_t flags = INIT_FLAGS | (s->is_read_only ? INIT_FLAGS_READ_ONLY : INIT_FLAGS_WRITABLE);

    if (in->major > FUSE_KERNEL_VERSION) {
        return fs_req_reply(r, &out, sizeof(out)); /* it will ask again, with ours */
    }
    if (in->major < FUSE_KERNEL_VERSION || in->minor < MINOR_LEAST) {
        return -EPROTO;
    }
    fs_session_reset(s);
    flags &= in->flags;
    out.max_readahead = in->max_readahead;
    out.flags = flags;
    out.max_background = 256;
    out.congestion_threshold = 192;
    out.max_write = FS_WRITE_MAX;
    out.time_gran = 1;
    out.max_pages = FS_WRITE_MAX / 4096;
    s->can_skip_open = flags & FUSE_NO_OPEN_SUPPORT;
    s->can_skip_opendir = flags & FUSE_NO_OPENDIR_SUPPORT;
    s->is_up = true;
    return fs_req_reply(r, &out, sizeof(out));
}

int fs_session_init(struct fs_session *s, const struct virtio_fs_config *config)
{
    s->tree = config->tree;
    s->is_read_only = config->is_read_only;
    s->has_no_xattr = config->has_no_xattr;
    s->cache = config->cache;
    s->in = malloc(FS_IN_MAX);
    s->out = malloc(FS_OUT_MAX);
    return s->in && s->out ? 0 : -ENOMEM;
}

void fs_session_fini(struct fs_session *s)
{
    free(s->in);
    free(s->out);
    s->in = NULL;
    s->out = NULL;
}

void fs_session_reset(struct fs_session *s)
{
    s->tree.ops->reset(s->tree.owner);
    s->is_up = false;
    s->can_skip_open = false;
    s->can_skip_opendir = false;
}

const char *fs_req_string(struct fs_req *r)
{
    const char *start = (const char *)r->arg + r->arg_at;
    const char *nul = memchr(start, '\0', r->arg_len - r->arg_at);

    if (!nul) {
        return NULL;
    }
    r->arg_at += (size_t)(nul - start) + 1;
    return start;
}

int fs_req_reply(struct fs_req *r, const void *data, size_t len)
{
    if (len > r->out_max) {
        return -EIO; /* guest: its buffer is too small for what it asked */
    }
    memcpy(r->out, data, len);
    return (int)len;
}

static size_t put_header(const struct virtio_io *io, uint64_t unique, int error, size_t len)
{
    struct fuse_out_header head = {
        .len = (uint32_t)(sizeof(head) + len),
        .error = error,
        .unique = unique,
    };

    if (io->out_bytes < sizeof(head)) {
        return 0;
    }
    (void)iov_write(io->out, io->out_count, 0, &head, sizeof(head));
    return head.len;
}

size_t fs_reply_error(const struct virtio_io *io, uint64_t unique, int error)
{
    return put_header(io, unique, error > -512 ? error : -EIO, 0); /* the guest's kernel allows */
}

/* Copy the request in; how much of it depends on its opcode. */
static int take(struct fs_req *r)
{
    size_t want;

    if (iov_read(r->io->in, r->io->in_count, &r->head, sizeof(r->head)) < sizeof(r->head)) {
        return -EINVAL;
    }
    want = r->head.len; /* guest: any value */
    if (want < sizeof(r->head) || want > r->io->in_bytes) {
        return -EINVAL;
    }
    if (r->head.opcode == FUSE_WRITE && want > sizeof(r->head) + sizeof(struct fuse_write_in)) {
        want = sizeof(r->head) + sizeof(struct fuse_write_in);
    }
    if (want > FS_IN_MAX) {
        return -E2BIG;
    }
    if (iov_read(r->io->in, r->io->in_count, r->s->in, want) < want) {
        return -EINVAL;
    }
    r->arg = r->s->in + sizeof(r->head);
    r->arg_len = want - sizeof(r->head);
    return 0;
}

static const struct op *find_op(uint32_t opcode)
{
    if (opcode >= ARRAY_LEN(ops) || !ops[opcode].run) {
        return NULL;
    }
    return &ops[opcode];
}

static int dispatch(struct fs_req *r, const struct op *op)
{
    if (!op) {
        return -ENOSYS;
    }
    if (r->arg_len < op->arg_len) {
        return -EINVAL;
    }
    if (!r->s->is_up && !(op->flags & OP_BEFORE_UP)) {
        return -EIO;
    }
    if (r->s->is_read_only && (op->flags & OP_CHANGES)) {
        return -EROFS;
    }
    if (r->s->has_no_xattr && (op->flags & OP_XATTR)) {
        return -ENOSYS;
    }
    r->arg_at = op->arg_len;
    return op->run(r);
}

void fs_request(struct fs_session *s, const struct virtio_io *io, struct fs_result *ret_result)
{
    struct fs_req r = {.s = s, .io = io, .out = s->out, .result = ret_result};
    const struct op *op;
    int n = take(&r);

    *ret_result = (struct fs_result){.outcome = FS_DONE};
    op = find_op(r.head.opcode);
    if (io->out_bytes > sizeof(struct fuse_out_header)) {
        r.out_max = io->out_bytes - sizeof(struct fuse_out_header);
        r.out_max = r.out_max < FS_OUT_MAX ? r.out_max : FS_OUT_MAX;
    }
    if (n == 0) {
        n = dispatch(&r, op);
    }
    if (ret_result->outcome != FS_DONE || (op && (op->flags & OP_SILENT))) {
        return;
    }
    if (n < 0) {
        ret_result->written = fs_reply_error(io, r.head.unique, n);
        return;
    }
    if (n > 0 && !r.is_in_place) {
        (void)iov_write(io->out, io->out_count, sizeof(struct fuse_out_header), r.out, (size_t)n);
    }
    ret_result->written = put_header(io, r.head.unique, 0, (size_t)n);
}
