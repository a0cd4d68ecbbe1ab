/* p9_int.h — what the files of this room share: a session with one guest kernel, and its requests.
 *
 * A session knows 9P2000.L but no virtqueue: p9_request() takes one message as runs of bytes and
 * fills in the reply.  p9.c puts it behind a device.
 *
 * Threads: the device's loop thread.
 */
#pragma once

#include "base/bits.h"
#include "dev/p9/p9.h"
#include "dev/virtio/iov.h"
#include "dev/virtio/server.h"

/* Messages as include/net/9p/9p.h of Linux numbers them; the reply is one more.
 * X(name, number, handler, arguments, flags); the arguments are those of p9_arg. */
/* clang-format off */
#define P9_MESSAGES(X)                                                 \
    X(STATFS,       8,  p9_op_statfs,      "f",          0)            \
    X(LOPEN,       12,  p9_op_lopen,       "fd",         0)            \
    X(LCREATE,     14,  p9_op_lcreate,     "fnddd",      P9_CHANGES)   \
    X(SYMLINK,     16,  p9_op_symlink,     "fnnd",       P9_CHANGES)   \
    X(MKNOD,       18,  p9_op_mknod,       "fndddd",     P9_CHANGES)   \
    X(READLINK,    22,  p9_op_readlink,    "f",          0)            \
    X(GETATTR,     24,  p9_op_getattr,     "fq",         0)            \
    X(SETATTR,     26,  p9_op_setattr,     "fddddqqqqq", P9_CHANGES)   \
    X(XATTRWALK,   30,  p9_op_xattrwalk,   "fdn",        P9_XATTR)     \
    X(XATTRCREATE, 32,  p9_op_xattrcreate, "fnqd",       P9_XATTR | P9_CHANGES) \
    X(READDIR,     40,  p9_op_readdir,     "fqd",        0)            \
    X(FSYNC,       50,  p9_op_fsync,       "f",          0)            \
    X(LOCK,        52,  p9_op_lock,        "fbdqqdn",    0)            \
    X(GETLOCK,     54,  p9_op_getlock,     "fbqqdn",     0)            \
    X(LINK,        70,  p9_op_link,        "ffn",        P9_CHANGES)   \
    X(MKDIR,       72,  p9_op_mkdir,       "fndd",       P9_CHANGES)   \
    X(RENAMEAT,    74,  p9_op_renameat,    "fnfn",       P9_CHANGES)   \
    X(UNLINKAT,    76,  p9_op_unlinkat,    "fnd",        P9_CHANGES)   \
    X(VERSION,    100,  p9_op_version,     "dn",         P9_BEFORE_UP) \
    X(ATTACH,     104,  p9_op_attach,      "ddnnd",      0)            \
    X(FLUSH,      108,  p9_op_flush,       "w",          P9_BEFORE_UP) \
    X(WALK,       110,  p9_op_walk,        "fdw",        0)            \
    X(READ,       116,  p9_op_read,        "fqd",        0)            \
    X(WRITE,      118,  p9_op_write,       "fqd",        P9_CHANGES)            \
    X(CLUNK,      120,  p9_op_clunk,       "f",          0)
/* clang-format on */

enum p9_flag {
    P9_CHANGES = 1, /* EROFS on a read-only tree */
    P9_XATTR = 2,
    P9_BEFORE_UP = 4, /* allowed before VERSION */
};

enum p9_message {
#define X(name, number, handler, args, flags) P9_T##name = (number),
    P9_MESSAGES(X)
#undef X
        P9_RLERROR = 7,
};

#define P9_MSIZE_MIN   4096u          /* what Linux's client insists on */
#define P9_MSIZE_MAX   (1024u * 1024) /* as much data as virtio-fs moves at once */
#define P9_HEAD        7u             /* size[4] type[1] tag[2] */
#define P9_READ_HEAD   (P9_HEAD + 4)  /* count[4] */
#define P9_WRITE_HEAD  (P9_HEAD + 16) /* fid[4] offset[8] count[4] */
#define P9_QID_BYTES   13u            /* type[1] version[4] path[8] */
#define P9_IN_MAX      (16u * 1024)   /* message without the data of a WRITE */
#define P9_OUT_MAX     (64u * 1024)   /* reply without the data of a READ */
#define P9_NOTAG       0xffffu
#define P9_NOFID       0xffffffffu
#define P9_WALK_MAX    16u /* names in one WALK: walk(5) of Plan 9 */
#define P9_ARG_MAX     10u
#define P9_FID_MAX     (1u << 22) /* as many as the tree has nodes */
#define P9_XATTR_MAX   256u       /* fids that hold an extended attribute */
#define P9_XATTR_BYTES 65536u     /* XATTR_SIZE_MAX and XATTR_LIST_MAX of Linux */

enum p9_fid_state {
    P9_FID_IDLE, /* names a node */
    P9_FID_OPEN,
    P9_FID_XATTR_READ,
    P9_FID_XATTR_WRITE, /* takes effect when it is clunked */
};

struct p9_xattr {
    int flags; /* XATTR_CREATE, XATTR_REPLACE */
    size_t size;
    size_t at; /* so much is there */
    char name[256];
    uint8_t data[];
};

/* What the guest calls by a number of its choice.  It holds one reference on its node. */
struct p9_fid {
    struct p9_fid *next; /* of the same bucket */
    uint32_t id;
    uint32_t uid; /* who attached: what is made by this fid is theirs */
    uint64_t node;
    uint64_t file; /* of the tree, when open; 0 in a read-only one */
    struct p9_xattr *xattr;
    uint32_t type; /* S_IFMT bits of the node */
    uint32_t lock_owner;
    enum p9_fid_state state;
    bool is_append;
    bool has_lock; /* lock_owner has locked by this fid */
};

struct p9_fids {
    struct p9_fid **buckets;
    uint32_t bucket_count; /* power of two */
    uint32_t count;
};

struct p9_session {
    struct tree_port tree;
    bool is_read_only;
    bool has_no_xattr;
    bool is_up;     /* VERSION was agreed on */
    uint32_t msize; /* of a message in either direction */
    struct p9_fids fids;
    unsigned xattr_count; /* fids with one */
    uint8_t *in;          /* P9_IN_MAX */
    uint8_t *out;         /* P9_OUT_MAX */
    struct iovec iov[VIRTQ_SEG_MAX];
};

enum p9_outcome {
    P9_DONE,  /* `written` bytes of the writable part are the reply, 0: there is none */
    P9_WAIT,  /* for a lock; ask p9_wait_again() from time to time */
    P9_FLUSH, /* as DONE, but first whatever waits with the tag `old_tag` is to end with EINTR */
};

struct p9_wait {
    uint16_t tag;
    uint32_t fid;
    uint32_t owner;
    uint64_t node;
    uint64_t file;
    struct tree_lock lock;
};

struct p9_result {
    enum p9_outcome outcome;
    size_t written;
    uint16_t old_tag;
    struct p9_wait wait;
};

/* The tree stays the caller's. */
int p9_session_init(struct p9_session *s, const struct p9_config *config);
void p9_session_fini(struct p9_session *s);
/* The guest is gone. */
void p9_session_reset(struct p9_session *s);

void p9_request(struct p9_session *s, const struct virtio_io *io, struct p9_result *ret_result);
/* Try a lock again: the bytes of the reply, or 0: wait on. */
size_t p9_wait_again(struct p9_session *s, const struct p9_wait *wait, const struct virtio_io *io);
/* Write an error reply; returns its bytes. */
size_t p9_reply_error(const struct virtio_io *io, uint16_t tag, int error);

/* By the letters of P9_MESSAGES: b, w, d, q: a number of 1, 2, 4, 8 bytes; n: a string; f: a fid
 * that is known. */
union p9_arg {
    uint64_t n;
    const char *text; /* NUL-terminated, without another NUL */
    struct p9_fid *fid;
};

/* A request under way.  Handlers put the reply's content together with p9_put_*() and return 0, or
 * a negative errno. */
struct p9_req {
    struct p9_session *s;
    const struct virtio_io *io;
    uint32_t size; /* of the message, header included; no more than is there */
    uint8_t type;
    uint16_t tag;
    union p9_arg arg[P9_ARG_MAX];
    uint8_t *in; /* what follows the header; copied out of guest memory */
    size_t in_len;
    size_t in_at; /* taken so far */
    size_t out_len;
    size_t out_max;  /* what fits into `out` and into the guest's buffer */
    bool is_cut;     /* more was put than fits */
    size_t in_place; /* bytes that stand in guest memory behind the content already */
    struct p9_result *result;
};

/* message.c: numbers and strings, out of the request and into the reply. */
bool p9_take_n(struct p9_req *r, unsigned bytes, uint64_t *ret_n);
bool p9_take_text(struct p9_req *r, const char **ret_text);
void p9_put_n(struct p9_req *r, unsigned bytes, uint64_t n);
void p9_put_text(struct p9_req *r, const char *text, size_t len);
void p9_put_qid(struct p9_req *r, const struct stat *st);
/* The next `len` bytes of the reply, to be filled in; NULL if they do not fit. */
uint8_t *p9_put_room(struct p9_req *r, size_t len);

/* fid.c */
struct p9_fid *p9_fid_get(const struct p9_session *s, uint32_t id);
/* A fid with a reference that the caller has; `id` must be free.  On failure the reference is the
 * caller's still. */
int p9_fid_add(struct p9_session *s, uint32_t id, uint64_t node, uint32_t type, uint32_t uid,
               struct p9_fid **ret_fid);
/* Point it at another node, whose reference the caller has. */
void p9_fid_move(struct p9_session *s, struct p9_fid *fid, uint64_t node, uint32_t type);
/* Without a word to the tree. */
void p9_fids_clear(struct p9_session *s);
int p9_op_clunk(struct p9_req *r);

/* request.c */
int p9_op_version(struct p9_req *r);
int p9_op_attach(struct p9_req *r);
int p9_op_flush(struct p9_req *r);

/* name.c */
int p9_op_walk(struct p9_req *r);
int p9_op_mkdir(struct p9_req *r);
int p9_op_mknod(struct p9_req *r);
int p9_op_symlink(struct p9_req *r);
int p9_op_link(struct p9_req *r);
int p9_op_renameat(struct p9_req *r);
int p9_op_unlinkat(struct p9_req *r);

/* file.c */
int p9_op_lopen(struct p9_req *r);
int p9_op_lcreate(struct p9_req *r);
int p9_op_read(struct p9_req *r);
int p9_op_write(struct p9_req *r);
int p9_op_readdir(struct p9_req *r);
int p9_op_fsync(struct p9_req *r);

/* lock.c */
int p9_op_lock(struct p9_req *r);
int p9_op_getlock(struct p9_req *r);

/* attr.c */
int p9_op_getattr(struct p9_req *r);
int p9_op_setattr(struct p9_req *r);
int p9_op_statfs(struct p9_req *r);
int p9_op_readlink(struct p9_req *r);

/* xattr.c */
int p9_op_xattrwalk(struct p9_req *r);
int p9_op_xattrcreate(struct p9_req *r);
int p9_xattr_read(struct p9_req *r);
int p9_xattr_write(struct p9_req *r);
/* A fid that took a value is clunked. */
int p9_xattr_apply(struct p9_session *s, const struct p9_fid *fid);
