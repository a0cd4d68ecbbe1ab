/* fuse_client.h — a guest's FUSE client as tests need it: requests as bytes, straight into a
 * session over a real directory of the host.
 *
 *     struct fuse_client c;
 *     fuse_client_init(&c, false);                       a fresh directory, read-write; INIT done
 *     host_file(&c, "a", "text");
 *     uint64_t node = fuse_lookup(&c, 1, "a");
 *     CHECK_INT(fuse_call(&c, FUSE_GETATTR, node, &in, sizeof(in), NULL), 0);
 *     CHECK(REPLY(&c, fuse_attr_out)->attr.size == 4);
 *     fuse_client_fini(&c);                              removes the directory
 */
#pragma once

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bits.h"
#include "dev/fs/fs_int.h"
#include "host/tree_dir.h"
#include "tests/lib/host_dir.h"
#include "tests/lib/test.h"

#define FUSE_CLIENT_BUF (FS_WRITE_MAX + 4096u)

struct fuse_client {
    char dir[HOST_DIR_MAX];
    bool is_read_only;
    bool closed_is_empty;
    struct tree_port tree;
    struct fs_session *s;
    uint8_t *in;
    uint8_t *out;
    size_t out_room; /* what the guest offers for the reply */
    struct fs_result result;
    int64_t len; /* of the reply's content, or its error */
    uint64_t unique;
    uint32_t uid;
    uint32_t gid;
};

#define REPLY(c, type) \
    ((const struct type *)(const void *)((c)->out + sizeof(struct fuse_out_header)))
#define REPLY_BYTES(c) ((const char *)(c)->out + sizeof(struct fuse_out_header))

/* Send `len` bytes as they are; the reply's error (0 or negative), or the outcome if not DONE. */
static inline int fuse_send_raw(struct fuse_client *c, size_t len)
{
    /* In pieces, as guests do. */
    size_t cut = len > 40 ? 40 : len / 2;
    struct iovec in[2] = {{c->in, cut}, {c->in + cut, len - cut}};
    size_t out_cut = c->out_room < 16 ? c->out_room : 16;
    struct iovec out[2] = {{c->out, out_cut}, {c->out + out_cut, c->out_room - out_cut}};
    struct virtio_io io = {
        .in = in,
        .in_count = 2,
        .in_bytes = len,
        .out = out,
        .out_count = 2,
        .out_bytes = c->out_room,
    };
    const struct fuse_out_header *head = (const void *)c->out;

    fs_request(c->s, &io, &c->result);
    if (c->result.outcome != FS_DONE || c->result.written == 0) {
        return (int)c->result.outcome;
    }
    CHECK(c->result.written <= c->out_room);
    CHECK_INT(head->len, c->result.written);
    CHECK(head->error <= 0 && head->error > -512);
    c->len = head->error < 0 ? head->error : (int64_t)(head->len - sizeof(*head));
    return head->error;
}

/* Put a request together: argument structure, then up to two strings, then data. */
static inline size_t fuse_build(struct fuse_client *c, uint32_t opcode, uint64_t node,
                                const void *arg, size_t arg_len, const char *name,
                                const char *name2)
{
    struct fuse_in_header head = {
        .opcode = opcode, .unique = ++c->unique, .nodeid = node, .uid = c->uid, .gid = c->gid};
    size_t at = sizeof(head);

    if (arg_len) {
        memcpy(c->in + at, arg, arg_len);
        at += arg_len;
    }
    if (name) {
        memcpy(c->in + at, name, strlen(name) + 1);
        at += strlen(name) + 1;
    }
    if (name2) {
        memcpy(c->in + at, name2, strlen(name2) + 1);
        at += strlen(name2) + 1;
    }
    head.len = (uint32_t)at;
    memcpy(c->in, &head, sizeof(head));
    return at;
}

static inline int fuse_call2(struct fuse_client *c, uint32_t opcode, uint64_t node, const void *arg,
                             size_t arg_len, const char *name, const char *name2)
{
    return fuse_send_raw(c, fuse_build(c, opcode, node, arg, arg_len, name, name2));
}

static inline int fuse_call(struct fuse_client *c, uint32_t opcode, uint64_t node, const void *arg,
                            size_t arg_len, const char *name)
{
    return fuse_call2(c, opcode, node, arg, arg_len, name, NULL);
}

static inline int fuse_init_flags(struct fuse_client *c, uint32_t flags)
{
    struct fuse_init_in in = {.major = 7, .minor = 38, .max_readahead = 131072, .flags = flags};

    return fuse_call(c, FUSE_INIT, 0, &in, sizeof(in), NULL);
}

/* A session on c->dir, which must be there. */
static inline void fuse_client_open(struct fuse_client *c, const char *path, bool is_read_only,
                                    unsigned fd_max)
{
    struct tree_dir_config config = {.path = path,
                                     .is_read_only = is_read_only,
                                     .closed_is_empty = c->closed_is_empty,
                                     .fd_max = fd_max};
    struct virtio_fs_config session = {
        .is_read_only = is_read_only,
        .cache = is_read_only ? VIRTIO_FS_CACHE_LONG : VIRTIO_FS_CACHE_SHORT,
    };
    struct err err = {0};

    c->is_read_only = is_read_only;
    c->s = calloc(1, sizeof(*c->s));
    c->in = malloc(FUSE_CLIENT_BUF);
    c->out = malloc(FUSE_CLIENT_BUF);
    c->out_room = FUSE_CLIENT_BUF;
    CHECK_OK(tree_dir_new(&config, &c->tree, &err), &err);
    session.tree = c->tree;
    CHECK_INT(fs_session_init(c->s, &session), 0);
    CHECK_INT(fuse_init_flags(c, INT32_MAX), 0);
}

static inline void fuse_client_close(struct fuse_client *c)
{
    fs_session_fini(c->s);
    c->tree.ops->free(c->tree.owner);
    free(c->s);
    free(c->in);
    free(c->out);
}

static inline void fuse_client_dir(struct fuse_client *c)
{
    memset(c, 0, sizeof(*c));
    host_dir_make(c->dir);
}

static inline void fuse_client_init(struct fuse_client *c, bool is_read_only)
{
    fuse_client_dir(c);
    fuse_client_open(c, c->dir, is_read_only, 0);
}

static inline void fuse_client_fini(struct fuse_client *c)
{
    fuse_client_close(c);
    host_dir_remove(c->dir);
}

/* The guest's side. */
static inline uint64_t fuse_lookup(struct fuse_client *c, uint64_t dir, const char *name)
{
    int r = fuse_call(c, FUSE_LOOKUP, dir, NULL, 0, name);

    CHECK_INT(r, 0);
    CHECK_INT(c->len, sizeof(struct fuse_entry_out));
    return REPLY(c, fuse_entry_out)->nodeid;
}

static inline void fuse_forget(struct fuse_client *c, uint64_t node, uint64_t count)
{
    struct fuse_forget_in in = {.nlookup = count};

    (void)fuse_call(c, FUSE_FORGET, node, &in, sizeof(in), NULL);
    CHECK_INT(c->result.written, 0);
}

static inline int fuse_getattr(struct fuse_client *c, uint64_t node)
{
    struct fuse_getattr_in in = {0};

    return fuse_call(c, FUSE_GETATTR, node, &in, sizeof(in), NULL);
}

static inline int fuse_try_open(struct fuse_client *c, uint64_t node, uint32_t flags)
{
    struct fuse_open_in in = {.flags = flags};

    return fuse_call(c, FUSE_OPEN, node, &in, sizeof(in), NULL);
}

static inline uint64_t fuse_open(struct fuse_client *c, uint64_t node, uint32_t flags)
{
    CHECK_INT(fuse_try_open(c, node, flags), 0);
    return REPLY(c, fuse_open_out)->fh;
}

static inline uint64_t fuse_opendir(struct fuse_client *c, uint64_t node)
{
    struct fuse_open_in in = {0};

    CHECK_INT(fuse_call(c, FUSE_OPENDIR, node, &in, sizeof(in), NULL), 0);
    return REPLY(c, fuse_open_out)->fh;
}

static inline int fuse_release(struct fuse_client *c, uint64_t node, uint64_t fh)
{
    struct fuse_release_in in = {.fh = fh};

    return fuse_call(c, FUSE_RELEASE, node, &in, sizeof(in), NULL);
}

static inline int fuse_read(struct fuse_client *c, uint64_t node, uint64_t fh, uint64_t offset,
                            uint32_t size)
{
    struct fuse_read_in in = {.fh = fh, .offset = offset, .size = size};

    return fuse_call(c, FUSE_READ, node, &in, sizeof(in), NULL);
}

static inline int fuse_write_in_full(struct fuse_client *c, uint64_t node,
                                     const struct fuse_write_in *in, const void *data)
{
    size_t len = fuse_build(c, FUSE_WRITE, node, in, sizeof(*in), NULL, NULL);

    memcpy(c->in + len, data, in->size);
    ((struct fuse_in_header *)(void *)c->in)->len = (uint32_t)(len + in->size);
    return fuse_send_raw(c, len + in->size);
}

static inline int fuse_write(struct fuse_client *c, uint64_t node, uint64_t fh, uint64_t offset,
                             const char *text)
{
    struct fuse_write_in in = {.fh = fh, .offset = offset, .size = (uint32_t)strlen(text)};

    return fuse_write_in_full(c, node, &in, text);
}

struct fuse_made {
    uint64_t node;
    uint64_t fh;
};

static inline int fuse_create(struct fuse_client *c, uint64_t dir, const char *name, uint32_t flags,
                              uint32_t mode, struct fuse_made *ret_made)
{
    struct fuse_create_in in = {.flags = flags | O_CREAT, .mode = S_IFREG | mode};
    int r = fuse_call(c, FUSE_CREATE, dir, &in, sizeof(in), name);

    if (r == 0) {
        CHECK_INT(c->len, sizeof(struct fuse_entry_out) + sizeof(struct fuse_open_out));
        ret_made->node = REPLY(c, fuse_entry_out)->nodeid;
        memcpy(&ret_made->fh, REPLY_BYTES(c) + sizeof(struct fuse_entry_out), 8);
    }
    return r;
}
