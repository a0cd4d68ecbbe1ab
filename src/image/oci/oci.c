/* oci.c — the cache of images.
 *
 *     <cache>/images/refs/<hash of the name>    the digest that a name stood for when it was pulled
 *                    parts/<digest>             blobs on their way
 *                    trees/<digest>/            unpacked images (tree.h)
 *                    locks/<...>                one for each of the above, held with flock(2)
 *
 * Who pulls holds the lock of the name, then that of the tree, exclusively; who uses a tree holds
 * its lock shared, as long as its VM lives, and takes no other.  A tree is made under another name
 * and renamed when it is complete.
 */
#include "image/oci/oci.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/buf.h"
#include "image/oci/fetch.h"
#include "image/oci/ref.h"
#include "image/oci/tree.h"
#include "image/oci/unpack.h"

/* A kernel with everything has some hundred megabytes. */
#define TREE_MAX (UINT64_C(16) << 30)

/* How long to wait for a tree that is broken and in use. */
#define BUSY_TRIES    30
#define BUSY_PAUSE_NS 100000000L

static const char *const g_folders[] = {"images", "images/refs", "images/parts", "images/trees",
                                        "images/locks"};

struct cache {
    const char *path;
    int fd; /* of <cache> */
    const struct oci_progress *progress;
};

/* --- folders and locks --- */

static int cache_open(struct cache *c, const char *path, struct err *err)
{
    *c = (struct cache){.path = path, .fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (c->fd < 0) {
        return err_sys(err, "image cache '%s'", path);
    }
    for (size_t i = 0; i < sizeof(g_folders) / sizeof(g_folders[0]); i++) {
        if (mkdirat(c->fd, g_folders[i], 0700) < 0 && errno != EEXIST) {
            int r = err_sys(err, "image cache: create '%s/%s'", path, g_folders[i]);

            (void)close(c->fd);
            return r;
        }
    }
    return 0;
}

/* `how`: LOCK_SH, LOCK_EX, with LOCK_NB or not. */
static int lock(const struct cache *c, const char *name, int how, struct err *err)
{
    AUTO_CLOSE int fd = -1;
    char path[256];

    (void)snprintf(path, sizeof(path), "images/locks/%s", name);
    fd = openat(c->fd, path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        return err_sys(err, "image cache: open lock '%s'", name);
    }
    while (flock(fd, how) < 0) {
        if (errno != EINTR) {
            return err_sys(err, "image cache: lock '%s'", name);
        }
    }
    return take_fd(&fd);
}

/* --- trees --- */

static int open_tree(const struct cache *c, const char *digest)
{
    char path[256];
    int fd;

    (void)snprintf(path, sizeof(path), "images/trees/%s", digest_hex(digest));
    fd = openat(c->fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* Take the tree into use if it is there and whole; -ESTALE otherwise. */
static int use_tree(const struct cache *c, const char *digest, struct oci_tree *ret_tree,
                    struct err *err)
{
    AUTO_CLOSE int held = lock(c, digest_hex(digest), LOCK_SH, err);
    AUTO_CLOSE int fd = -1;
    int r;

    if (held < 0) {
        return held;
    }
    fd = open_tree(c, digest);
    if (fd < 0) {
        return -ESTALE;
    }
    r = oci_tree_check(fd, NULL);
    if (r < 0) {
        return r;
    }
    if (asprintf(&ret_tree->path, "%s/images/trees/%s/root", c->path, digest_hex(digest)) < 0) {
        ret_tree->path = NULL;
        return err_set(err, -ENOMEM, "image: out of memory");
    }
    ret_tree->lock_fd = take_fd(&held);
    return 0;
}

static uint64_t total_size(const struct oci_manifest *manifest)
{
    uint64_t total = 0;

    for (unsigned i = 0; i < manifest->layer_count; i++) {
        total += manifest->layers[i].size < TREE_MAX ? manifest->layers[i].size : TREE_MAX;
    }
    return total;
}

static int check_config(const struct cache *c, struct oci_fetch *fetch,
                        const struct oci_manifest *manifest, struct err *err)
{
    AUTO_CALL(buf_fini) struct buf text = {0};
    struct oci_fetch quiet = {.source = fetch->source, .what = fetch->what};
    char name[128];
    AUTO_CLOSE int fd = -1;
    int r = 0;

    if (manifest->config.size > OCI_MANIFEST_MAX) {
        return err_set(err, -EFBIG, "image configuration: %llu bytes: must be at most %u",
                       (unsigned long long)manifest->config.size, OCI_MANIFEST_MAX);
    }
    (void)snprintf(name, sizeof(name), "images/parts/%s", digest_hex(manifest->config.digest));
    fd = oci_fetch_blob(&quiet, &manifest->config, c->fd, name, err);
    if (fd < 0) {
        return fd;
    }
    if (!buf_reserve(&text, manifest->config.size) ||
        pread(fd, text.data, manifest->config.size, 0) != (ssize_t)manifest->config.size) {
        r = err_set(err, -EIO, "image configuration: cannot be read");
    } else {
        r = oci_config_check(text.data, manifest->config.size, err);
    }
    (void)unlinkat(c->fd, name, 0);
    return r;
}

/* All layers, one on the other, into <folder>/root. */
static int fill_tree(const struct cache *c, struct oci_fetch *fetch,
                     const struct oci_manifest *manifest, int folder_fd, struct err *err)
{
    uint64_t budget = TREE_MAX;
    AUTO_CLOSE int root_fd = -1;
    int r = 0;

    if (mkdirat(folder_fd, "root", 0700) < 0) {
        return err_sys(err, "image cache: create a folder");
    }
    root_fd = openat(folder_fd, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root_fd < 0) {
        return err_sys(err, "image cache: open a folder");
    }
    for (unsigned i = 0; r == 0 && i < manifest->layer_count; i++) {
        AUTO_CLOSE int fd = -1;
        char name[128];

        (void)snprintf(name, sizeof(name), "images/parts/%s",
                       digest_hex(manifest->layers[i].digest));
        fd = oci_fetch_blob(fetch, &manifest->layers[i], c->fd, name, err);
        r = fd < 0 ? fd : oci_unpack_layer(fd, root_fd, &budget, err);
        fetch->done += manifest->layers[i].size;
        if (r == 0) {
            (void)unlinkat(c->fd, name, 0);
        }
    }
    return r < 0 ? r : oci_tree_seal(folder_fd, err);
}

/* With the tree's lock held exclusively. */
static int make_tree(const struct cache *c, struct oci_source *source, const char *text,
                     const struct oci_manifest *manifest, const char *digest, struct err *err)
{
    struct oci_fetch fetch = {
        .source = source, .progress = c->progress, .what = text, .total = total_size(manifest)};
    AUTO_CLOSE int folder_fd = -1;
    char made[160];
    char path[160];
    int r = check_config(c, &fetch, manifest, err);

    if (r < 0) {
        return r;
    }
    (void)snprintf(path, sizeof(path), "images/trees/%s", digest_hex(digest));
    (void)snprintf(made, sizeof(made), "images/trees/.%s", digest_hex(digest));
    oci_tree_remove(c->fd, made); /* what was left by one who died */
    if (mkdirat(c->fd, made, 0700) < 0) {
        return err_sys(err, "image cache: create '%s'", made);
    }
    folder_fd = openat(c->fd, made, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    r = folder_fd < 0 ? err_sys(err, "image cache: open '%s'", made)
                      : fill_tree(c, &fetch, manifest, folder_fd, err);
    if (r == 0) {
        oci_tree_remove(c->fd, path); /* one that was not whole any more */
        r = renameat(c->fd, made, c->fd, path) < 0 ? err_sys(err, "image cache: rename '%s'", made)
                                                   : 0;
    }
    if (r < 0) {
        oci_tree_remove(c->fd, made);
    }
    return r;
}

/* --- names --- */

static int read_ref(const struct cache *c, const char *name, char digest[static DIGEST_SIZE])
{
    AUTO_CLOSE int fd = -1;
    char path[160];
    ssize_t n;

    (void)snprintf(path, sizeof(path), "images/refs/%s", name);
    fd = openat(c->fd, path, O_RDONLY | O_CLOEXEC);
    n = fd < 0 ? -1 : read(fd, digest, DIGEST_SIZE - 1);
    if (n != DIGEST_SIZE - 1) {
        return -ENOENT;
    }
    digest[n] = 0;
    return digest_is(digest) ? 0 : -ENOENT;
}

/* Best effort: without it the name is asked for again. */
static void write_ref(const struct cache *c, const char *name, const char *digest)
{
    AUTO_CLOSE int fd = -1;
    char path[160];
    char made[160];

    (void)snprintf(path, sizeof(path), "images/refs/%s", name);
    (void)snprintf(made, sizeof(made), "images/refs/.%s", name);
    fd = openat(c->fd, made, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd >= 0 && write(fd, digest, DIGEST_SIZE - 1) == DIGEST_SIZE - 1) {
        (void)renameat(c->fd, made, c->fd, path);
    }
}

/* --- the whole --- */

/* Make the tree, unless somebody else has made it by then; -EBUSY: somebody uses what is left of
 * it. */
static int pull_tree(const struct cache *c, struct oci_source *source, const char *text,
                     const struct oci_manifest *manifest, const char *digest, struct err *err)
{
    AUTO_CLOSE int held = lock(c, digest_hex(digest), LOCK_EX | LOCK_NB, NULL);
    AUTO_CLOSE int fd = -1;

    if (held < 0) {
        return -EBUSY;
    }
    fd = open_tree(c, digest);
    if (fd >= 0 && oci_tree_check(fd, NULL) == 0) {
        return 0;
    }
    return make_tree(c, source, text, manifest, digest, err);
}

/* Use the tree, and make it before where it is not there or not whole.  Two who find it broken at
 * the same time see each other's lock: the one who is late looks again. */
static int get_tree(const struct cache *c, struct oci_source *source, const char *text,
                    const struct oci_manifest *manifest, const char *digest,
                    struct oci_tree *ret_tree, struct err *err)
{
    const struct timespec pause = {.tv_nsec = BUSY_PAUSE_NS};

    for (int tries = 0; tries < BUSY_TRIES; tries++) {
        int r = use_tree(c, digest, ret_tree, err); /* waits while somebody makes it */

        if (r != -ESTALE) {
            return r;
        }
        r = pull_tree(c, source, text, manifest, digest, err);
        if (r == -EBUSY) {
            (void)nanosleep(&pause, NULL);
        } else if (r < 0) {
            return r;
        }
    }
    return err_set(err, -EBUSY,
                   "its unpacked files were changed, and are in use: end the VMs that "
                   "use them");
}

static int pull(const struct cache *c, const struct oci_ref *ref, const char *text,
                char digest[static DIGEST_SIZE], struct oci_tree *ret_tree, struct err *err)
{
    AUTO_CALL(buf_fini) struct buf manifest_text = {0};
    struct oci_source *source = NULL;
    struct oci_manifest manifest = {0};
    int r = oci_source_open(ref, &source, err);

    if (r == 0) {
        r = oci_fetch_manifest(source, ref->digest, &manifest_text, digest, err);
    }
    if (r == 0) {
        r = oci_manifest_parse(manifest_text.data, manifest_text.len, &manifest, err);
    }
    if (r == 0) {
        r = get_tree(c, source, text, &manifest, digest, ret_tree, err);
    }
    oci_manifest_fini(&manifest);
    oci_source_free(source);
    return r < 0 ? err_wrap(err, r, "image '%s'", text) : 0;
}

/* What was pulled before, as most often; -ESTALE if there is nothing whole. */
static int get_pulled(const struct cache *c, const struct oci_ref *ref, const char *name,
                      struct oci_tree *ret_tree, struct err *err)
{
    char digest[DIGEST_SIZE];

    return ref->kind == OCI_REGISTRY && read_ref(c, name, digest) == 0
               ? use_tree(c, digest, ret_tree, err)
               : -ESTALE;
}

/* With the name's lock held. */
static int get(const struct cache *c, const struct oci_ref *ref, const char *text, const char *name,
               struct oci_tree *ret_tree, struct err *err)
{
    char digest[DIGEST_SIZE];
    int r = get_pulled(c, ref, name, ret_tree, err); /* by somebody until now */

    if (r != -ESTALE) {
        return r;
    }
    r = pull(c, ref, text, digest, ret_tree, err);
    if (r == 0) {
        write_ref(c, name, digest);
    }
    return r;
}

int oci_get(const char *cache, const struct oci_ref *ref, const struct oci_progress *progress,
            struct oci_tree *ret_tree, struct err *err)
{
    AUTO_FREE char *text = oci_ref_text(ref);
    AUTO_CLOSE int held = -1;
    char name[DIGEST_SIZE];
    struct cache c;
    int r;

    *ret_tree = (struct oci_tree){.lock_fd = -1};
    if (!text || digest_of(text, strlen(text), name) < 0) {
        return err_set(err, -ENOMEM, "image: out of memory");
    }
    r = cache_open(&c, cache, err);
    if (r < 0) {
        return r;
    }
    c.progress = progress;
    r = get_pulled(&c, ref, digest_hex(name), ret_tree, err); /* many at once, nobody waits */
    if (r == -ESTALE) {
        held = lock(&c, digest_hex(name), LOCK_EX, err);
        r = held < 0 ? held : get(&c, ref, text, digest_hex(name), ret_tree, err);
    }
    (void)close(c.fd);
    return r;
}

void oci_tree_fini(struct oci_tree *tree)
{
    free(tree->path);
    if (tree->path && tree->lock_fd >= 0) {
        (void)close(tree->lock_fd);
    }
    *tree = (struct oci_tree){.lock_fd = -1};
}

static void empty(const struct cache *c, const char *folder)
{
    int fd = openat(c->fd, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;

    while (dir && (entry = readdir(dir))) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            oci_tree_remove(dirfd(dir), entry->d_name);
        }
    }
    if (dir) {
        (void)closedir(dir);
    }
}

/* Trees that nobody uses; returns how many are used. */
static unsigned remove_trees(const struct cache *c)
{
    int fd = openat(c->fd, "images/trees", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;
    unsigned busy = 0;

    while (dir && (entry = readdir(dir))) {
        const char *hex = entry->d_name[0] == '.' ? entry->d_name + 1 : entry->d_name;
        int held;

        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        held = lock(c, hex, LOCK_EX | LOCK_NB, NULL);
        if (held < 0) {
            busy++;
            continue;
        }
        oci_tree_remove(dirfd(dir), entry->d_name);
        (void)close(held);
    }
    if (dir) {
        (void)closedir(dir);
    }
    return busy;
}

int oci_flush(const char *cache, unsigned *ret_busy, struct err *err)
{
    struct cache c;
    int r = cache_open(&c, cache, err);

    if (r < 0) {
        return r;
    }
    empty(&c, "images/refs");
    *ret_busy = remove_trees(&c);
    if (*ret_busy == 0) {
        empty(&c, "images/parts"); /* somebody busy may be pulling */
    }
    (void)close(c.fd);
    return 0;
}
