/* ref.c — see ref.h. */
#include "image/oci/ref.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/str.h"
#include "image/oci/digest.h"

/* Distribution specification, "Pulling manifests": a tag has at most 128 characters, a name is made
 * of lower-case components; 255 bytes is what clients accept for host and name together. */
#define TAG_MAX        128
#define NAME_MAX_BYTES 255

#define LAYOUT_PREFIX  "oci:"
#define ARCHIVE_PREFIX "docker-archive:"
#define PLAIN_PREFIX   "http://"
#define TLS_PREFIX     "https://"

static bool is_host(const char *text, size_t len)
{
    return (len == 9 && memcmp(text, "localhost", 9) == 0) || memchr(text, '.', len) ||
           memchr(text, ':', len);
}

bool oci_ref_is(const char *text)
{
    const char *slash;

    if (str_has_prefix(text, LAYOUT_PREFIX) || str_has_prefix(text, ARCHIVE_PREFIX) ||
        str_has_prefix(text, PLAIN_PREFIX) || str_has_prefix(text, TLS_PREFIX)) {
        return true;
    }
    slash = strchr(text, '/');
    return text[0] != '.' && text[0] != '/' && slash && slash[1] &&
           is_host(text, (size_t)(slash - text));
}

static bool is_tag(const char *text)
{
    size_t len = strlen(text);

    if (len == 0 || len > TAG_MAX || text[0] == '.' || text[0] == '-') {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (!isalnum((unsigned char)text[i]) && !strchr("._-", text[i])) {
            return false;
        }
    }
    return true;
}

/* Lower-case letters, digits and separators; no empty component and none that begins or ends with a
 * separator, so that no ".." can be there. */
static bool is_name(const char *text)
{
    char before = '/';

    if (strlen(text) > NAME_MAX_BYTES) {
        return false;
    }
    for (const char *c = text; *c; c++) {
        if (!islower((unsigned char)*c) && !isdigit((unsigned char)*c)) {
            if (!strchr("._-/", *c) || before == '/' || (*c == '/' && strchr("._-", before))) {
                return false;
            }
        }
        before = *c;
    }
    return before != '/' && !strchr("._-", before);
}

static bool is_host_text(const char *text)
{
    for (const char *c = text; *c; c++) {
        if (!isalnum((unsigned char)*c) && !strchr(".-:[]", *c)) {
            return false;
        }
    }
    return text[0] != 0;
}

static int bad(const char *text, struct err *err, const char *why)
{
    return err_set(err, -EINVAL, "image '%s': %s", text, why);
}

int oci_ref_set_tag(struct oci_ref *ref, const char *tag, struct err *err)
{
    char *copy;

    if (!is_tag(tag)) {
        return err_set(err, -EINVAL,
                       "image tag '%s': must be 1 to %d letters, digits, '.', '_' or '-', and not "
                       "begin with '.' or '-'",
                       tag, TAG_MAX);
    }
    copy = strdup(tag);
    if (!copy) {
        return err_set(err, -ENOMEM, "image: out of memory");
    }
    free(ref->tag);
    free(ref->digest);
    ref->tag = copy;
    ref->digest = NULL;
    return 0;
}

/* `rest` is cut up. */
static int parse_registry(const char *text, char *rest, struct oci_ref *ref, struct err *err)
{
    char *slash = strchr(rest, '/');
    char *at;
    char *colon;

    if (!slash || !slash[1] || !is_host(rest, (size_t)(slash - rest))) {
        return bad(text, err, "must begin with its registry: HOST/NAME[:TAG]");
    }
    *slash = 0;
    at = strchr(slash + 1, '@');
    if (at) {
        *at++ = 0;
        if (!digest_is(at)) {
            return bad(text, err, "the digest must be sha256: and 64 hexadecimal digits");
        }
        ref->digest = strdup(at);
    }
    colon = strchr(slash + 1, ':');
    if (colon) {
        *colon++ = 0;
        if (!is_tag(colon)) {
            return bad(text, err, "the tag must be 1 to 128 letters, digits, '.', '_' or '-'");
        }
    }
    if (!is_host_text(rest) || !is_name(slash + 1)) {
        return bad(text, err,
                   "the name must have lower-case letters, digits, '.', '_', '-' and "
                   "'/' between them");
    }
    ref->host = strdup(rest);
    ref->name = strdup(slash + 1);
    ref->tag = strdup(colon ? colon : "latest");
    return ref->host && ref->name && ref->tag && (!at || ref->digest)
               ? 0
               : err_set(err, -ENOMEM, "image: out of memory");
}

/* "FOLDER[:TAG]" */
static int parse_layout(const char *text, char *rest, struct oci_ref *ref, struct err *err)
{
    char *colon = strrchr(rest, ':');

    if (colon && !strchr(colon, '/')) {
        *colon++ = 0;
        if (!is_tag(colon)) {
            return bad(text, err, "the tag must be 1 to 128 letters, digits, '.', '_' or '-'");
        }
        ref->tag = strdup(colon);
        if (!ref->tag) {
            return err_set(err, -ENOMEM, "image: out of memory");
        }
    }
    ref->name = realpath(rest, NULL);
    return ref->name ? 0 : err_sys(err, "image '%s': folder '%s'", text, rest);
}

int oci_ref_parse(const char *text, struct oci_ref *ret_ref, struct err *err)
{
    AUTO_FREE char *copy = strdup(text);
    int r;

    *ret_ref = (struct oci_ref){0};
    if (!copy) {
        return err_set(err, -ENOMEM, "image: out of memory");
    }
    if (str_has_prefix(text, LAYOUT_PREFIX)) {
        ret_ref->kind = OCI_LAYOUT;
        r = parse_layout(text, copy + strlen(LAYOUT_PREFIX), ret_ref, err);
    } else if (str_has_prefix(text, ARCHIVE_PREFIX)) {
        ret_ref->kind = OCI_ARCHIVE;
        ret_ref->name = realpath(copy + strlen(ARCHIVE_PREFIX), NULL);
        r = ret_ref->name ? 0 : err_sys(err, "image '%s'", text);
    } else {
        ret_ref->is_plain = str_has_prefix(text, PLAIN_PREFIX);
        r = parse_registry(text,
                           copy + (ret_ref->is_plain                  ? strlen(PLAIN_PREFIX)
                                   : str_has_prefix(text, TLS_PREFIX) ? strlen(TLS_PREFIX)
                                                                      : 0),
                           ret_ref, err);
    }
    if (r < 0) {
        oci_ref_fini(ret_ref);
    }
    return r;
}

void oci_ref_fini(struct oci_ref *ref)
{
    free(ref->host);
    free(ref->name);
    free(ref->tag);
    free(ref->digest);
    *ref = (struct oci_ref){0};
}

char *oci_ref_text(const struct oci_ref *ref)
{
    char *text = NULL;
    int n;

    switch (ref->kind) {
    case OCI_LAYOUT:
        n = asprintf(&text, LAYOUT_PREFIX "%s%s%s", ref->name, ref->tag ? ":" : "",
                     ref->tag ? ref->tag : "");
        break;
    case OCI_ARCHIVE: n = asprintf(&text, ARCHIVE_PREFIX "%s", ref->name); break;
    case OCI_REGISTRY:
    default:
        n = asprintf(&text, "%s%s/%s%s%s", ref->is_plain ? PLAIN_PREFIX : "", ref->host, ref->name,
                     ref->digest ? "@" : ":", ref->digest ? ref->digest : ref->tag);
        break;
    }
    return n < 0 ? NULL : text;
}
