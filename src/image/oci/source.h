/* source.h — where the parts of an image come from: a registry, an image layout, an archive.
 *
 * A source only fetches: what it brings is checked against its digest by whoever asked.  One
 * thread.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "image/oci/manifest.h"
#include "image/oci/ref.h"

/* Takes the bytes of a blob in order. */
struct oci_sink {
    /* 0, or a negative errno that ends the transfer with a sentence in the caller's hands. */
    int (*write)(void *owner, const void *data, size_t len);
    /* The source cannot go on where the last attempt ended: all of it comes again. */
    int (*restart)(void *owner);
    void *owner;
};

struct oci_source;

struct oci_source_ops {
    /* The manifest or index that the reference names, or the one of `digest`. */
    int (*manifest)(struct oci_source *source, const char *digest, struct buf *out,
                    struct err *err);
    /* The blob from `offset` on.  -ECONNABORTED: it broke off, and may be gone on with. */
    int (*blob)(struct oci_source *source, const struct oci_blob *blob, uint64_t offset,
                const struct oci_sink *sink, struct err *err);
    void (*free)(struct oci_source *source);
};

struct oci_source {
    const struct oci_source_ops *ops;
};

/* `ref` outlives the source. */
int oci_source_open(const struct oci_ref *ref, struct oci_source **ret_source, struct err *err);
static inline void oci_source_free(struct oci_source *source)
{
    if (source) {
        source->ops->free(source);
    }
}

/* One for each kind of reference. */
int oci_registry_open(const struct oci_ref *ref, struct oci_source **ret_source, struct err *err);
int oci_layout_open(const struct oci_ref *ref, struct oci_source **ret_source, struct err *err);
int oci_archive_open(const struct oci_ref *ref, struct oci_source **ret_source, struct err *err);
