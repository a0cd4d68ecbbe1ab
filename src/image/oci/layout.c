/* layout.c — an image layout: a folder with index.json and blobs/sha256/ (OCI image specification
 * 1.1, "Image layout"). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/bits.h"
#include "image/oci/source.h"

struct layout {
    struct oci_source base;
    const struct oci_ref *ref;
};

static struct layout *layout_of(struct oci_source *source)
{
    return container_of(source, struct layout, base);
}

/* A file of the layout. */
static int read_text(const struct layout *l, const char *name, struct buf *out, struct err *err)
{
    char path[4200];
    int r;

    (void)snprintf(path, sizeof(path), "%s/%s", l->ref->name, name);
    r = buf_read_file(out, path, OCI_MANIFEST_MAX);
    return r < 0 ? err_set(err, r, "read '%s': %s", path, strerror(-r)) : 0;
}

static int read_blob_text(const struct layout *l, const char *digest, struct buf *out,
                          struct err *err)
{
    char name[96];

    (void)snprintf(name, sizeof(name), "blobs/sha256/%s", digest_hex(digest));
    return read_text(l, name, out, err);
}

static int layout_manifest(struct oci_source *source, const char *digest, struct buf *out,
                           struct err *err)
{
    const struct layout *l = layout_of(source);
    struct oci_blob chosen;
    int r;

    if (digest) {
        return read_blob_text(l, digest, out, err);
    }
    r = read_text(l, "index.json", out, err);
    if (r < 0) {
        return r;
    }
    r = oci_layout_choose(out->data, out->len, l->ref->tag, &chosen, err);
    buf_clear(out);
    if (r == 0) {
        r = read_blob_text(l, chosen.digest, out, err);
    }
    if (r == 0) {
        r = digest_check(out->data, out->len, chosen.digest, err);
    }
    return r < 0 ? err_wrap(err, r, "%s", l->ref->name) : 0;
}

static int layout_blob(struct oci_source *source, const struct oci_blob *blob, uint64_t offset,
                       const struct oci_sink *sink, struct err *err)
{
    char path[4200];
    AUTO_CLOSE int fd = -1;
    char bytes[2048];
    ssize_t n;

    (void)snprintf(path, sizeof(path), "%s/blobs/sha256/%s", layout_of(source)->ref->name,
                   digest_hex(blob->digest));
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return err_sys(err, "open '%s'", path);
    }
    while ((n = pread(fd, bytes, sizeof(bytes), (off_t)offset)) > 0) {
        int r = sink->write(sink->owner, bytes, (size_t)n);

        if (r < 0) {
            return r;
        }
        offset += (uint64_t)n;
    }
    return n < 0 ? err_sys(err, "read '%s'", path) : 0;
}

static void layout_free(struct oci_source *source)
{
    free(layout_of(source));
}

static const struct oci_source_ops layout_ops = {
    .manifest = layout_manifest, .blob = layout_blob, .free = layout_free};

int oci_layout_open(const struct oci_ref *ref, struct oci_source **ret_source, struct err *err)
{
    struct layout *l = calloc(1, sizeof(*l));

    if (!l) {
        return err_set(err, -ENOMEM, "image: out of memory");
    }
    l->base.ops = &layout_ops;
    l->ref = ref;
    *ret_source = &l->base;
    return 0;
}
