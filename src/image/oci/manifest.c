/* manifest.c — see manifest.h. */
#include "image/oci/manifest.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OS           "linux"
#define ARCHITECTURE "amd64"
#define REF_NAME     "org.opencontainers.image.ref.name" /* OCI image layout, "index.json" */

static json_t *parse(const char *what, const void *text, size_t len, struct err *err)
{
    json_error_t why;
    json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);

    if (!json) {
        (void)err_set(err, -EBADMSG, "%s: %s (line %d)", what, why.text, why.line);
    } else if (!json_is_object(json)) {
        (void)err_set(err, -EBADMSG, "%s: must be a JSON object", what);
        json_decref(json);
        json = NULL;
    }
    return json;
}

static const char *text_at(const json_t *json, const char *key)
{
    return json_string_value(json_object_get(json, key));
}

static int read_blob(const char *what, const json_t *json, struct oci_blob *ret_blob,
                     struct err *err)
{
    const char *digest = text_at(json, "digest");
    const json_t *size = json_object_get(json, "size");

    if (!digest || !digest_is(digest)) {
        return err_set(err, -EBADMSG, "%s: digest '%s': must be sha256: and 64 hexadecimal digits",
                       what, digest ? digest : "");
    }
    if (!json_is_integer(size) || json_integer_value(size) < 0) {
        return err_set(err, -EBADMSG, "%s: size: must be a number of bytes", what);
    }
    (void)snprintf(ret_blob->digest, sizeof(ret_blob->digest), "%s", digest);
    ret_blob->size = (uint64_t)json_integer_value(size);
    return 0;
}

/* "linux/arm64", for the list of what there is. */
static void add_platform(char *list, size_t size, const json_t *platform)
{
    size_t at = strlen(list);
    const char *os = text_at(platform, "os");
    const char *architecture = text_at(platform, "architecture");

    if (os && architecture && strcmp(os, "unknown") != 0) { /* attestations call themselves so */
        (void)snprintf(list + at, size - at, "%s%s/%s", at ? ", " : "", os, architecture);
    }
}

static bool is_ours(const json_t *platform)
{
    const char *os = text_at(platform, "os");
    const char *architecture = text_at(platform, "architecture");

    return os && architecture && strcmp(os, OS) == 0 && strcmp(architecture, ARCHITECTURE) == 0;
}

int oci_index_choose(const void *text, size_t len, struct oci_blob *ret_blob, struct err *err)
{
    json_t *index = parse("image index", text, len, err);
    const json_t *list;
    char others[160] = "";
    const json_t *item;
    size_t i;
    int r = -ENOENT;

    if (!index) {
        return -EBADMSG;
    }
    list = json_object_get(index, "manifests");
    if (!json_is_array(list)) {
        json_decref(index);
        return 0;
    }
    json_array_foreach(list, i, item)
    {
        const json_t *platform = json_object_get(item, "platform");

        if (is_ours(platform) || (!platform && json_array_size(list) == 1)) {
            r = read_blob("image index", item, ret_blob, err);
            break;
        }
        add_platform(others, sizeof(others), platform);
    }
    json_decref(index);
    if (r == -ENOENT) {
        return err_set(err, r, "it is not for " OS "/" ARCHITECTURE "%s%s",
                       others[0] ? ": only " : "", others);
    }
    return r < 0 ? r : 1;
}

int oci_layout_choose(const void *text, size_t len, const char *tag, struct oci_blob *ret_blob,
                      struct err *err)
{
    json_t *index = parse("index.json", text, len, err);
    const json_t *list;
    const json_t *found = NULL;
    const json_t *item;
    size_t i;
    int r;

    if (!index) {
        return -EBADMSG;
    }
    list = json_object_get(index, "manifests");
    json_array_foreach(list, i, item)
    {
        const char *name = text_at(json_object_get(item, "annotations"), REF_NAME);

        if (tag ? name && strcmp(name, tag) == 0 : json_array_size(list) == 1) {
            found = item;
        }
    }
    if (found) {
        r = read_blob("index.json", found, ret_blob, err);
    } else if (tag) {
        r = err_set(err, -ENOENT, "index.json has no image of tag '%s'", tag);
    } else {
        r = err_set(err, -ENOENT, "index.json has %zu images: name one by its tag",
                    json_array_size(list));
    }
    json_decref(index);
    return r;
}

static int read_layers(const json_t *list, struct oci_manifest *manifest, struct err *err)
{
    size_t count = json_array_size(list);

    if (!json_is_array(list) || count > OCI_LAYER_MAX) {
        return err_set(err, -EBADMSG, "image manifest: layers: must be a list of at most %d",
                       OCI_LAYER_MAX);
    }
    manifest->layers = calloc(count ? count : 1, sizeof(manifest->layers[0]));
    if (!manifest->layers) {
        return err_set(err, -ENOMEM, "image manifest: out of memory");
    }
    for (size_t i = 0; i < count; i++) {
        int r =
            read_blob("image manifest: layer", json_array_get(list, i), &manifest->layers[i], err);

        if (r < 0) {
            return r;
        }
    }
    manifest->layer_count = (unsigned)count;
    return 0;
}

int oci_manifest_parse(const void *text, size_t len, struct oci_manifest *ret_manifest,
                       struct err *err)
{
    json_t *json = parse("image manifest", text, len, err);
    int r;

    *ret_manifest = (struct oci_manifest){0};
    if (!json) {
        return -EBADMSG;
    }
    r = read_blob("image manifest: config", json_object_get(json, "config"), &ret_manifest->config,
                  err);
    if (r == 0) {
        r = read_layers(json_object_get(json, "layers"), ret_manifest, err);
    }
    json_decref(json);
    if (r < 0) {
        oci_manifest_fini(ret_manifest);
    }
    return r;
}

void oci_manifest_fini(struct oci_manifest *manifest)
{
    free(manifest->layers);
    *manifest = (struct oci_manifest){0};
}

int oci_config_check(const void *text, size_t len, struct err *err)
{
    json_t *json = parse("image configuration", text, len, err);
    const char *os;
    const char *architecture;
    int r = 0;

    if (!json) {
        return -EBADMSG;
    }
    os = text_at(json, "os");
    architecture = text_at(json, "architecture");
    if ((os && os[0] && strcmp(os, OS) != 0) ||
        (architecture && architecture[0] && strcmp(architecture, ARCHITECTURE) != 0)) {
        r = err_set(err, -ENOEXEC, "it is for %s/%s: must be for " OS "/" ARCHITECTURE,
                    os ? os : "?", architecture ? architecture : "?");
    }
    json_decref(json);
    return r;
}
