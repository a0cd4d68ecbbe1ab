/* p9_client.h — a guest's 9P client as tests need it: messages as bytes, straight into a session
 * over a real directory of the host.
 *
 *     struct p9_client c;
 *     p9_client_init(&c, false);                         a fresh directory, read-write; attached as
 *     host_file(&c, "a", "text");                        fid 0
 *     CHECK_INT(p9_walk(&c, 0, 1, "a"), 0);              fid 1
 *     CHECK_INT(p9_call(&c, P9_TGETATTR, "dq", 1, UINT64_MAX), 0);
 *     CHECK(p9_n(&c, 8) == 0x7ff);                       the reply, field by field
 *     p9_client_fini(&c);                                removes the directory
 */
#pragma once

#include <errno.h>

#include "base/bits.h"
#include "dev/p9/p9_int.h"
#include "host/tree_dir.h"
#include "tests/lib/host_dir.h"

#define P9_CLIENT_BUF (P9_MSIZE_MAX + 4096u)

struct p9_client {
    char dir[HOST_DIR_MAX];
    bool closed_is_empty;
    struct tree_port tree;
    struct p9_session *s;
    uint8_t *in;
    uint8_t *out;
    size_t out_room; /* what the guest offers for the reply */
    struct p9_result result;
    struct virtio_io io;
    struct iovec iov[4];
    size_t at; /* in the reply: read so far */
    size_t len;
};

/* Put a message together: b, w, d, q: numbers; s: a string; the rest of the bytes may follow. */
static inline size_t p9_build_v(struct p9_client *c, uint8_t type, const char *letters, va_list ap)
{
    size_t at = P9_HEAD;

    for (; *letters; letters++) {
        unsigned bytes = *letters == 'b' ? 1 : *letters == 'w' ? 2 : *letters == 'd' ? 4 : 8;
        const char *text = *letters == 's' ? va_arg(ap, const char *) : NULL;
        uint64_t n = text ? strlen(text) : bytes == 8 ? va_arg(ap, uint64_t) : va_arg(ap, unsigned);

        bytes = text ? 2 : bytes;
        memcpy(c->in + at, &n, bytes);
        at += bytes;
        if (text) {
            memcpy(c->in + at, text, n);
            at += n;
        }
    }
    store_le32(c->in, (uint32_t)at);
    c->in[4] = type;
    store_le16(c->in + 5, 77);
    return at;
}

static inline size_t p9_build(struct p9_client *c, uint8_t type, const char *letters, ...)
{
    va_list ap;
    size_t len;

    va_start(ap, letters);
    len = p9_build_v(c, type, letters, ap);
    va_end(ap);
    return len;
}

/* The next number of the reply. */
static inline uint64_t p9_n(struct p9_client *c, unsigned bytes)
{
    uint64_t n = 0;

    CHECK(c->at + bytes <= c->len);
    memcpy(&n, c->out + c->at, bytes);
    c->at += bytes;
    return n;
}

/* The next string. */
static inline const char *p9_text(struct p9_client *c)
{
    static char text[65536];
    size_t len = p9_n(c, 2);

    CHECK(c->at + len <= c->len);
    memcpy(text, c->out + c->at, len);
    text[len] = '\0';
    c->at += len;
    return text;
}

/* Look at the reply: 0, or the error in it.  1: there is none. */
static inline int p9_reply(struct p9_client *c, size_t written)
{
    if (written == 0) {
        return 1;
    }
    CHECK(written >= P9_HEAD && written <= c->out_room);
    CHECK_INT(load_le32(c->out), written);
    c->len = written;
    c->at = P9_HEAD;
    if (c->out[4] == P9_RLERROR) {
        int error = (int)p9_n(c, 4);

        CHECK(error > 0 && error < 512);
        return -error;
    }
    return 0;
}

/* Send `len` bytes of c->in as they are. */
static inline int p9_send(struct p9_client *c, size_t len)
{
    /* In pieces, as guests do. */
    size_t cut = len > 23 ? 23 : len / 2;
    size_t out_cut = c->out_room < 11 ? c->out_room : 11;
    uint8_t type = c->in[4];
    int r;

    c->iov[0] = (struct iovec){c->in, cut};
    c->iov[1] = (struct iovec){c->in + cut, len - cut};
    c->iov[2] = (struct iovec){c->out, out_cut};
    c->iov[3] = (struct iovec){c->out + out_cut, c->out_room - out_cut};
    c->io = (struct virtio_io){.in = c->iov,
                               .in_count = 2,
                               .in_bytes = len,
                               .out = c->iov + 2,
                               .out_count = 2,
                               .out_bytes = c->out_room};
    p9_request(c->s, &c->io, &c->result);
    if (c->result.outcome == P9_WAIT) {
        return 1;
    }
    r = p9_reply(c, c->result.written);
    if (r == 0) {
        CHECK_INT(c->out[4], type + 1);
        CHECK_INT(load_le16(c->out + 5), load_le16(c->in + 5));
    }
    return r;
}

static inline int p9_call(struct p9_client *c, uint8_t type, const char *letters, ...)
{
    va_list ap;
    size_t len;

    va_start(ap, letters);
    len = p9_build_v(c, type, letters, ap);
    va_end(ap);
    return p9_send(c, len);
}

static inline int p9_version(struct p9_client *c, uint32_t msize)
{
    return p9_call(c, P9_TVERSION, "ds", msize, "9P2000.L");
}

static inline int p9_attach(struct p9_client *c, uint32_t fid, uint32_t uid)
{
    return p9_call(c, P9_TATTACH, "ddssd", fid, P9_NOFID, "", "", uid);
}

/* A session on c->dir, which must be there. */
static inline void p9_client_open(struct p9_client *c, bool is_read_only)
{
    struct tree_dir_config config = {
        .path = c->dir, .is_read_only = is_read_only, .closed_is_empty = c->closed_is_empty};
    struct p9_config session = {.is_read_only = is_read_only};
    struct err err = {0};

    c->s = calloc(1, sizeof(*c->s));
    c->in = malloc(P9_CLIENT_BUF);
    c->out = malloc(P9_CLIENT_BUF);
    c->out_room = P9_CLIENT_BUF;
    CHECK_OK(tree_dir_new(&config, &c->tree, &err), &err);
    session.tree = c->tree;
    CHECK_INT(p9_session_init(c->s, &session), 0);
    CHECK_INT(p9_version(c, P9_MSIZE_MAX), 0);
    CHECK_INT(p9_attach(c, 0, geteuid()), 0);
}

static inline void p9_client_close(struct p9_client *c)
{
    p9_session_fini(c->s);
    c->tree.ops->free(c->tree.owner);
    free(c->s);
    free(c->in);
    free(c->out);
}

static inline void p9_client_init(struct p9_client *c, bool is_read_only)
{
    memset(c, 0, sizeof(*c));
    host_dir_make(c->dir);
    p9_client_open(c, is_read_only);
}

static inline void p9_client_fini(struct p9_client *c)
{
    p9_client_close(c);
    host_dir_remove(c->dir);
}

/* One step, or with "" none. */
static inline int p9_walk(struct p9_client *c, uint32_t fid, uint32_t new_fid, const char *name)
{
    int r = name[0] ? p9_call(c, P9_TWALK, "ddws", fid, new_fid, 1, name)
                    : p9_call(c, P9_TWALK, "ddw", fid, new_fid, 0);

    if (r == 0) {
        CHECK_INT(p9_n(c, 2), name[0] ? 1 : 0);
    }
    return r;
}

static inline int p9_open(struct p9_client *c, uint32_t fid, uint32_t flags)
{
    return p9_call(c, P9_TLOPEN, "dd", fid, flags);
}

static inline int p9_clunk(struct p9_client *c, uint32_t fid)
{
    return p9_call(c, P9_TCLUNK, "d", fid);
}

/* How many bytes (see p9_data()), or the error. */
static inline int p9_read(struct p9_client *c, uint32_t fid, uint64_t offset, uint32_t count)
{
    int r = p9_call(c, P9_TREAD, "dqd", fid, offset, count);

    if (r == 0) {
        r = (int)p9_n(c, 4);
        CHECK_INT(c->at + (size_t)r, c->len);
    }
    return r;
}

static inline const void *p9_data(const struct p9_client *c)
{
    return c->out + P9_READ_HEAD;
}

static inline int p9_write(struct p9_client *c, uint32_t fid, uint64_t offset, const void *data,
                           uint32_t count)
{
    size_t len = p9_build(c, P9_TWRITE, "dqd", fid, offset, count);
    int r;

    memcpy(c->in + len, data, count);
    store_le32(c->in, (uint32_t)(len + count));
    r = p9_send(c, len + count);
    return r == 0 ? (int)p9_n(c, 4) : r;
}

static inline int p9_getattr(struct p9_client *c, uint32_t fid)
{
    return p9_call(c, P9_TGETATTR, "dq", fid, UINT64_MAX);
}
