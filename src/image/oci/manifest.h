/* manifest.h — what an image is made of: its manifest, or the list of one for each platform (OCI
 * image specification 1.1, "Image manifest" and "Image index"; Docker's "Image manifest version 2,
 * schema 2", which says the same under other media types).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "image/oci/digest.h"

/* What we ask registries for, as an Accept header's value. */
#define OCI_ACCEPT                                                \
    "application/vnd.oci.image.index.v1+json, "                   \
    "application/vnd.oci.image.manifest.v1+json, "                \
    "application/vnd.docker.distribution.manifest.list.v2+json, " \
    "application/vnd.docker.distribution.manifest.v2+json"

#define OCI_MANIFEST_MAX (4u << 20) /* bytes: the least that registries must take */
#define OCI_LAYER_MAX    512

/* A blob that a manifest names. */
struct oci_blob {
    char digest[DIGEST_SIZE];
    uint64_t size; /* bytes */
};

struct oci_manifest {
    struct oci_blob config;
    struct oci_blob *layers; /* lowest first */
    unsigned layer_count;
};

/* Is this an index?  Then *ret_blob is the manifest for linux/amd64, -ENOENT if there is none (the
 * sentence lists what there is).  Returns 1 for an index, 0 for something else. */
int oci_index_choose(const void *text, size_t len, struct oci_blob *ret_blob, struct err *err);
/* The manifest that an image layout's index.json names `tag`; NULL: its only one. */
int oci_layout_choose(const void *text, size_t len, const char *tag, struct oci_blob *ret_blob,
                      struct err *err);
int oci_manifest_parse(const void *text, size_t len, struct oci_manifest *ret_manifest,
                       struct err *err);
void oci_manifest_fini(struct oci_manifest *manifest);
/* The configuration names the platform: 0 if it is linux/amd64 or says nothing. */
int oci_config_check(const void *text, size_t len, struct err *err);
