/* ref.h — how people name an image, taken apart.
 *
 *     [http://]HOST[:PORT]/NAME[:TAG][@sha256:HEX]     in a registry
 *     oci:FOLDER[:TAG]                                 an OCI image layout
 *     docker-archive:FILE                              what `docker save` writes
 *
 * The host is always said: a first component with '.' or ':' in it, or "localhost".  `http://` asks
 * for a registry without TLS.
 */
#pragma once

#include <stdbool.h>

#include "base/err.h"

enum oci_kind { OCI_REGISTRY, OCI_LAYOUT, OCI_ARCHIVE };

struct oci_ref {
    enum oci_kind kind;
    bool is_plain; /* registry: no TLS */
    char *host;    /* registry: with its port */
    char *name;    /* registry: repository; else the path */
    char *tag;     /* "latest" if none was given; a layout's may be NULL */
    char *digest;  /* "sha256:<64 hex digits>", or NULL */
};

/* Does this look like a reference rather than a path?  (`./x` and `/x` never do.) */
bool oci_ref_is(const char *text);
int oci_ref_parse(const char *text, struct oci_ref *ret_ref, struct err *err);
void oci_ref_fini(struct oci_ref *ref);
/* The same image at another tag: `tag` without the colon. */
int oci_ref_set_tag(struct oci_ref *ref, const char *tag, struct err *err);
/* One spelling for each image: for messages and as a key.  Allocated; NULL when out of memory. */
char *oci_ref_text(const struct oci_ref *ref);
