/* fuse_mount.h — let the kernel under the test be the guest: mount a session through /dev/fuse.
 *
 *     struct fuse_mount m;
 *     if (!fuse_mount_init(&m, path, read_only)) SKIP("...");     needs root and /dev/fuse
 *     ... use files below m.at ...
 *     fuse_mount_fini(&m);
 *
 * The protocol is the same as that of a virtio-fs guest; a thread hands requests to the session.
 * Lock requests that would wait are tried again until they are granted.
 */
#pragma once

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>

#include "tests/lib/fuse_client.h"

struct fuse_mount {
    char at[64];
    int fd;
    bool is_read_only;
    struct tree_port tree;
    struct fs_session *s;
    pthread_t thread;
    unsigned counts[64]; /* requests by opcode */
};

static inline void fuse_mount_serve(struct fuse_mount *m, uint8_t *in, size_t len, uint8_t *out)
{
    struct iovec in_iov = {in, len};
    struct iovec out_iov = {out, FUSE_CLIENT_BUF};
    struct virtio_io io = {.in = &in_iov,
                           .in_count = 1,
                           .in_bytes = len,
                           .out = &out_iov,
                           .out_count = 1,
                           .out_bytes = FUSE_CLIENT_BUF};
    struct fs_result result;
    uint32_t opcode = ((const struct fuse_in_header *)(const void *)in)->opcode;

    if (opcode < ARRAY_LEN(m->counts)) {
        m->counts[opcode]++;
    }
    fs_request(m->s, &io, &result);
    while (result.outcome == FS_WAIT) {
        int r = fs_wait_again(m->s, &result.wait);

        if (r != -EAGAIN) {
            result.outcome = FS_DONE;
            result.written = fs_reply_error(&io, result.wait.unique, r);
        }
    }
    if (result.written) {
        (void)!write(m->fd, out, result.written);
    }
}

static inline void *fuse_mount_run(void *owner)
{
    struct fuse_mount *m = owner;
    uint8_t *in = malloc(FUSE_CLIENT_BUF);
    uint8_t *out = malloc(FUSE_CLIENT_BUF);

    for (;;) {
        ssize_t n = read(m->fd, in, FUSE_CLIENT_BUF);

        if (n < 0 && (errno == EINTR || errno == EAGAIN || errno == ENOENT)) {
            continue;
        }
        if (n <= 0) {
            break; /* ENODEV: unmounted */
        }
        fuse_mount_serve(m, in, (size_t)n, out);
    }
    free(in);
    free(out);
    return NULL;
}

static inline bool fuse_mount_init(struct fuse_mount *m, const char *path, bool is_read_only)
{
    struct tree_dir_config config = {.path = path, .is_read_only = is_read_only};
    struct virtio_fs_config session = {
        .is_read_only = is_read_only,
        .cache = is_read_only ? VIRTIO_FS_CACHE_LONG : VIRTIO_FS_CACHE_SHORT,
    };
    char options[160];
    struct err err = {0};

    memset(m, 0, sizeof(*m));
    m->fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (m->fd < 0 || geteuid() != 0 || unshare(CLONE_NEWNS) < 0 ||
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
        return false;
    }
    (void)snprintf(m->at, sizeof(m->at), "/tmp/ec1-mnt-XXXXXX");
    CHECK(mkdtemp(m->at) != NULL);
    (void)snprintf(options, sizeof(options),
                   "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions",
                   m->fd);
    if (mount("ec1", m->at, "fuse.ec1", (is_read_only ? MS_RDONLY : 0) | MS_NOSUID, options) < 0) {
        return false;
    }
    m->s = calloc(1, sizeof(*m->s));
    CHECK_OK(tree_dir_new(&config, &m->tree, &err), &err);
    session.tree = m->tree;
    CHECK_INT(fs_session_init(m->s, &session), 0);
    CHECK_INT(pthread_create(&m->thread, NULL, fuse_mount_run, m), 0);
    return true;
}

static inline void fuse_mount_fini(struct fuse_mount *m)
{
    CHECK_INT(umount2(m->at, 0), 0);
    (void)pthread_join(m->thread, NULL);
    (void)rmdir(m->at);
    (void)close(m->fd);
    fs_session_fini(m->s);
    m->tree.ops->free(m->tree.owner);
    free(m->s);
}
