/* source.c — which source a reference means. */
#include "image/oci/source.h"

int oci_source_open(const struct oci_ref *ref, struct oci_source **ret_source, struct err *err)
{
    switch (ref->kind) {
    case OCI_LAYOUT: return oci_layout_open(ref, ret_source, err);
    case OCI_ARCHIVE: return oci_archive_open(ref, ret_source, err);
    case OCI_REGISTRY:
    default: return oci_registry_open(ref, ret_source, err);
    }
}
