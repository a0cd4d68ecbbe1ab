/* fs_int.h — what the files of this room share: a session with one guest kernel, and its requests.
 *
 * A session knows FUSE but no virtqueue: fs_request() takes one request as runs of bytes and fills
 * in the reply.  fs.c puts it behind a device.
 *
 * Threads: the device's loop thread.
 */
#pragma once

#include <linux/fuse.h>

#include "dev/fs/fs.h"
#include "dev/virtio/iov.h"
#include "dev/virtio/server.h"

#define FS_WRITE_MAX 1048576u      /* data of one READ or WRITE */
#define FS_IN_MAX    (128u * 1024) /* request without the data of a WRITE */
#define FS_OUT_MAX   65536u        /* reply without the data of a READ */

struct fs_session {
    struct tree_port tree;
    bool is_read_only;
    bool has_no_xattr;
    struct virtio_fs_cache cache;
    bool is_up; /* INIT was answered */
    bool can_skip_open;
    bool can_skip_opendir;
    uint8_t *in;  /* FS_IN_MAX */
    uint8_t *out; /* FS_OUT_MAX */
    struct iovec iov[VIRTQ_SEG_MAX];
};

enum fs_outcome {
    FS_DONE,      /* `written` bytes of the writable part are the reply, 0: there is none */
    FS_WAIT,      /* for a lock; ask fs_wait_again() from time to time */
    FS_INTERRUPT, /* no reply; whatever waits as `unique` is to end with EINTR */
};

struct fs_wait {
    uint64_t unique;
    uint64_t node;
    struct fuse_lk_in lk;
};

struct fs_result {
    enum fs_outcome outcome;
    size_t written;
    uint64_t unique;
    struct fs_wait wait;
};

/* The tree stays the caller's. */
int fs_session_init(struct fs_session *s, const struct virtio_fs_config *config);
void fs_session_fini(struct fs_session *s);
/* The guest is gone. */
void fs_session_reset(struct fs_session *s);

void fs_request(struct fs_session *s, const struct virtio_io *io, struct fs_result *ret_result);
/* 0 or the error to reply with; -EAGAIN: wait on. */
int fs_wait_again(struct fs_session *s, const struct fs_wait *wait);
/* Write a reply without content; returns its bytes. */
size_t fs_reply_error(const struct virtio_io *io, uint64_t unique, int error);

/* A request under way.  Handlers return the bytes that they put at `out`, or a negative errno. */
struct fs_req {
    struct fs_session *s;
    const struct virtio_io *io;
    struct fuse_in_header head;
    const uint8_t *arg; /* after the header; copied out of guest memory */
    size_t arg_len;
    size_t arg_at; /* names taken so far end here */
    uint8_t *out;
    size_t out_max; /* what fits into `out` and into the guest's buffer */
    bool is_in_place;
    struct fs_result *result;
};

/* The argument structure; the dispatcher has seen that it is there. */
#define FS_ARG(r, type) ((const struct type *)(const void *)(r)->arg)

/* The next NUL-terminated string, NULL if there is none. */
const char *fs_req_string(struct fs_req *r);
/* Put a reply structure together. */
int fs_req_reply(struct fs_req *r, const void *data, size_t len);

/* attr.c */
void fs_fill_attr(struct fuse_attr *attr, const struct stat *st);
void fs_fill_entry(const struct fs_session *s, struct fuse_entry_out *out,
                   const struct tree_entry *entry);
int fs_reply_entry(struct fs_req *r, const struct tree_entry *entry);
int fs_op_getattr(struct fs_req *r);
int fs_op_setattr(struct fs_req *r);
int fs_op_readlink(struct fs_req *r);
int fs_op_access(struct fs_req *r);
int fs_op_statfs(struct fs_req *r);
int fs_op_getxattr(struct fs_req *r);
int fs_op_listxattr(struct fs_req *r);
int fs_op_setxattr(struct fs_req *r);
int fs_op_removexattr(struct fs_req *r);

/* name.c */
int fs_op_lookup(struct fs_req *r);
int fs_op_forget(struct fs_req *r);
int fs_op_batch_forget(struct fs_req *r);
int fs_op_symlink(struct fs_req *r);
int fs_op_mknod(struct fs_req *r);
int fs_op_mkdir(struct fs_req *r);
int fs_op_unlink(struct fs_req *r);
int fs_op_rmdir(struct fs_req *r);
int fs_op_rename(struct fs_req *r);
int fs_op_rename2(struct fs_req *r);
int fs_op_link(struct fs_req *r);

/* file.c */
int fs_op_open(struct fs_req *r);
int fs_op_create(struct fs_req *r);
int fs_op_read(struct fs_req *r);
int fs_op_write(struct fs_req *r);
int fs_op_release(struct fs_req *r);
int fs_op_flush(struct fs_req *r);
int fs_op_fsync(struct fs_req *r);
int fs_op_fallocate(struct fs_req *r);
int fs_op_lseek(struct fs_req *r);
int fs_op_copy(struct fs_req *r);
int fs_op_opendir(struct fs_req *r);
int fs_op_readdir(struct fs_req *r);
int fs_op_readdirplus(struct fs_req *r);
int fs_op_getlk(struct fs_req *r);
int fs_op_setlk(struct fs_req *r);
int fs_op_setlkw(struct fs_req *r);
