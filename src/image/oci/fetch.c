/* fetch.c — see fetch.h. */
#include "image/oci/fetch.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/auto.h"

/* A transfer that breaks off is gone on with this often, as long as some of it came. */
#define TRIES    5
#define PAUSE_NS 500000000L

struct part {
    const struct oci_fetch *fetch;
    const struct oci_blob *blob;
    int fd;
    uint64_t len; /* bytes in the file */
};

static int part_write(void *owner, const void *data, size_t len)
{
    struct part *p = owner;

    if (len > p->blob->size - p->len) {
        return -EOVERFLOW; /* larger than its manifest says */
    }
    while (len > 0) {
        ssize_t n = pwrite(p->fd, data, len, (off_t)p->len);

        if (n < 0) {
            return -errno;
        }
        data = (const char *)data + n;
        len -= (size_t)n;
        p->len += (uint64_t)n;
    }
    if (p->fetch->progress) {
        p->fetch->progress->show(p->fetch->progress->owner, p->fetch->what, p->fetch->done + p->len,
                                 p->fetch->total);
    }
    return 0;
}

static int part_restart(void *owner)
{
    struct part *p = owner;

    p->len = 0;
    return ftruncate(p->fd, 0) < 0 ? -errno : 0;
}

/* Until all of it is there. */
static int fill(struct part *p, struct err *err)
{
    const struct oci_sink sink = {.write = part_write, .restart = part_restart, .owner = p};
    int r = 0;

    for (int tries = 0; p->len < p->blob->size; tries++) {
        const struct timespec pause = {.tv_nsec = PAUSE_NS};
        uint64_t before = p->len;

        r = p->fetch->source->ops->blob(p->fetch->source, p->blob, p->len, &sink, err);
        if (r == -EOVERFLOW) {
            return err_set(err, r, "%s: larger than its %llu bytes", p->blob->digest,
                           (unsigned long long)p->blob->size);
        }
        if (r < 0 && r != -ECONNABORTED) {
            return err && err->code == r ? r
                                         : err_set(err, r, "%s: %s", p->blob->digest, strerror(-r));
        }
        if (r == 0 && p->len < p->blob->size) {
            r = err_set(err, -ECONNABORTED, "%s: ended after %llu of %llu bytes", p->blob->digest,
                        (unsigned long long)p->len, (unsigned long long)p->blob->size);
        }
        if (r < 0 && tries >= TRIES - 1) {
            return r;
        }
        if (r < 0) {
            tries = p->len > before ? 0 : tries;
            (void)nanosleep(&pause, NULL);
        }
    }
    return 0;
}

static int check(struct part *p, struct err *err)
{
    char digest[DIGEST_SIZE];
    int r = digest_of_fd(p->fd, digest);

    if (r < 0) {
        return err_set(err, r, "%s: %s", p->blob->digest, strerror(-r));
    }
    return strcmp(digest, p->blob->digest) == 0
               ? 0
               : err_set(err, -EBADMSG, "%s: what came has the digest %s", p->blob->digest, digest);
}

int oci_fetch_blob(const struct oci_fetch *fetch, const struct oci_blob *blob, int folder_fd,
                   const char *name, struct err *err)
{
    AUTO_CLOSE int fd = openat(folder_fd, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    struct part p = {.fetch = fetch, .blob = blob, .fd = fd};
    struct stat st;
    int r;

    if (fd < 0 || fstat(fd, &st) < 0) {
        return err_sys(err, "image cache: create '%s'", name);
    }
    if ((uint64_t)st.st_size > blob->size) {
        r = part_restart(&p);
    } else {
        p.len = (uint64_t)st.st_size;
        r = 0;
    }
    if (r == 0 && p.len > 0) {
        /* What an earlier attempt left may be rotten: once more from the start, if so. */
        r = fill(&p, err);
        if (r == 0 && check(&p, NULL) < 0) {
            r = part_restart(&p);
        }
    }
    if (r == 0) {
        r = fill(&p, err);
    }
    if (r == 0) {
        r = check(&p, err);
        if (r == -EBADMSG) {
            (void)unlinkat(folder_fd, name, 0);
        }
    }
    return r < 0 ? r : take_fd(&fd);
}

/* One manifest or index, checked if its digest is known. */
static int get_one(struct oci_source *source, const char *digest, struct buf *out,
                   char ret_digest[static DIGEST_SIZE], struct err *err)
{
    int r;

    buf_clear(out);
    r = source->ops->manifest(source, digest, out, err);
    if (r == 0 && digest) {
        r = digest_check(out->data, out->len, digest, err);
    }
    if (r == 0) {
        r = digest_of(out->data, out->len, ret_digest);
    }
    return r;
}

int oci_fetch_manifest(struct oci_source *source, const char *wanted_digest, struct buf *out,
                       char ret_digest[static DIGEST_SIZE], struct err *err)
{
    struct oci_blob chosen;
    int r = get_one(source, wanted_digest, out, ret_digest, err);

    if (r == 0) {
        r = oci_index_choose(out->data, out->len, &chosen, err);
    }
    return r == 1 ? get_one(source, chosen.digest, out, ret_digest, err) : r;
}
