/* fetch.h — a blob, whole and checked, as a file. */
#pragma once

#include "image/oci/oci.h"
#include "image/oci/source.h"

/* What to tell people while it goes on. */
struct oci_fetch {
    struct oci_source *source;
    const struct oci_progress *progress; /* or NULL */
    const char *what;
    uint64_t done; /* bytes of the blobs before this one */
    uint64_t total;
};

/* Into the file `name` of `folder_fd`; what is there already is gone on with.  Returns a descriptor
 * for reading. */
int oci_fetch_blob(const struct oci_fetch *fetch, const struct oci_blob *blob, int folder_fd,
                   const char *name, struct err *err);
/* The manifest for this platform, with its digest.  An index is looked through. */
int oci_fetch_manifest(struct oci_source *source, const char *wanted_digest, struct buf *out,
                       char ret_digest[static DIGEST_SIZE], struct err *err);
