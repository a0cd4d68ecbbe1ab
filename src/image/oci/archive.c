/* archive.c — what `docker save` writes: a tar file with manifest.json, a configuration and layers.
 *
 * Its parts have names, not digests, so opening it reads it once, sums up every file, and writes
 * the manifest that a registry would have for it.  A part that is a link to another (a layer that
 * occurs twice) is the other.
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/bits.h"
#include "image/oci/source.h"

#define FILES_MAX 4096
#define CHUNK     65536

struct file {
    char *name;
    char *target; /* of a link; NULL otherwise */
    struct oci_blob blob;
};

struct docker_archive {
    struct oci_source base;
    const struct oci_ref *ref;
    struct file *files;
    unsigned count;
    struct buf index; /* manifest.json */
    char *manifest;   /* ours */
};

static struct docker_archive *archive_of(struct oci_source *source)
{
    return container_of(source, struct docker_archive, base);
}

static int open_tar(const struct docker_archive *a, struct archive **ret_tar, struct err *err)
{
    struct archive *tar = archive_read_new();

    if (!tar) {
        return err_set(err, -ENOMEM, "image: out of memory");
    }
    (void)archive_read_support_filter_gzip(tar);
    (void)archive_read_support_filter_zstd(tar);
    (void)archive_read_support_filter_xz(tar);
    (void)archive_read_support_format_tar(tar);
    if (archive_read_open_filename(tar, a->ref->name, CHUNK) != ARCHIVE_OK) {
        int r = err_set(err, -EBADMSG, "'%s': %s", a->ref->name, archive_error_string(tar));

        (void)archive_read_free(tar);
        return r;
    }
    *ret_tar = tar;
    return 0;
}

/* "./a/b" and "a/b" are the same. */
static const char *plain(const char *name)
{
    while (name[0] == '.' && name[1] == '/') {
        name += 2;
    }
    return name;
}

static int take_file(struct docker_archive *a, struct archive *tar, struct archive_entry *entry,
                     struct err *err)
{
    struct file *file = &a->files[a->count];
    const char *link = archive_entry_symlink(entry);
    bool is_index = strcmp(plain(archive_entry_pathname(entry)), "manifest.json") == 0;
    AUTO_FREE char *bytes = malloc(CHUNK);
    struct digest digest = {0};
    la_ssize_t n = 0;

    file->name = strdup(plain(archive_entry_pathname(entry)));
    file->target = link ? strdup(link) : NULL;
    if (!bytes || !file->name || (link && !file->target) || digest_init(&digest) < 0) {
        digest_fini(&digest);
        return err_set(err, -ENOMEM, "image: out of memory");
    }
    a->count++;
    while (!link && (n = archive_read_data(tar, bytes, CHUNK)) > 0) {
        digest_add(&digest, bytes, (size_t)n);
        file->blob.size += (uint64_t)n;
        if (is_index && a->index.len < OCI_MANIFEST_MAX) {
            buf_append(&a->index, bytes, (size_t)n);
        }
    }
    digest_text(&digest, file->blob.digest);
    digest_fini(&digest);
    return n < 0 ? err_set(err, -EBADMSG, "'%s': %s", a->ref->name, archive_error_string(tar)) : 0;
}

static int read_files(struct docker_archive *a, struct err *err)
{
    struct archive *tar = NULL;
    struct archive_entry *entry;
    int r = open_tar(a, &tar, err);
    int status = ARCHIVE_OK;

    while (r == 0 && (status = archive_read_next_header(tar, &entry)) >= ARCHIVE_WARN &&
           status != ARCHIVE_EOF) {
        if (archive_entry_filetype(entry) == AE_IFDIR || !archive_entry_pathname(entry)) {
            continue;
        }
        r = a->count == FILES_MAX
                ? err_set(err, -E2BIG, "'%s': more than %d files", a->ref->name, FILES_MAX)
                : take_file(a, tar, entry, err);
    }
    if (r == 0 && status != ARCHIVE_EOF) {
        r = err_set(err, -EBADMSG, "'%s': %s", a->ref->name, archive_error_string(tar));
    }
    (void)archive_read_free(tar);
    return r;
}

static const struct file *find(const struct docker_archive *a, const char *name)
{
    for (unsigned i = 0; name && i < a->count; i++) {
        if (strcmp(a->files[i].name, plain(name)) == 0) {
            return &a->files[i];
        }
    }
    return NULL;
}

/* The file itself where `name` is a link like "../<layer>/layer.tar". */
static const struct file *resolve(const struct docker_archive *a, const char *name)
{
    const struct file *file = find(a, name);

    if (file && file->target) {
        const char *target = file->target;

        while (strncmp(target, "../", 3) == 0) {
            target += 3;
        }
        file = find(a, target);
    }
    return file && !file->target ? file : NULL;
}

static json_t *describe(const struct file *file)
{
    return json_pack("{s:s, s:I}", "digest", file->blob.digest, "size",
                     (json_int_t)file->blob.size);
}

static int compose(struct docker_archive *a, const json_t *image, struct err *err)
{
    const json_t *names = json_object_get(image, "Layers");
    const struct file *config = resolve(a, json_string_value(json_object_get(image, "Config")));
    json_t *layers = json_array();
    json_t *manifest;

    if (!config || !json_is_array(names)) {
        json_decref(layers);
        return err_set(err, -EBADMSG, "'%s': manifest.json names no configuration, or no layers",
                       a->ref->name);
    }
    for (size_t i = 0; i < json_array_size(names); i++) {
        const char *name = json_string_value(json_array_get(names, i));
        const struct file *layer = resolve(a, name);

        if (!layer) {
            json_decref(layers);
            return err_set(err, -EBADMSG, "'%s': layer '%s' is not in it", a->ref->name,
                           name ? name : "");
        }
        (void)json_array_append_new(layers, describe(layer));
    }
    manifest = json_pack("{s:o, s:o}", "config", describe(config), "layers", layers);
    a->manifest = manifest ? json_dumps(manifest, JSON_COMPACT) : NULL;
    json_decref(manifest);
    return a->manifest ? 0 : err_set(err, -ENOMEM, "image: out of memory");
}

static int read_index(struct docker_archive *a, struct err *err)
{
    json_t *list = json_loadb((const char *)a->index.data, a->index.len, 0, NULL);
    int r;

    if (json_array_size(list) == 1) {
        r = compose(a, json_array_get(list, 0), err);
    } else {
        r = err_set(err, -EBADMSG,
                    "'%s': manifest.json has %zu images: must be an archive of one image",
                    a->ref->name, json_array_size(list));
    }
    json_decref(list);
    return r;
}

static int archive_manifest(struct oci_source *source, const char *digest, struct buf *out,
                            struct err *err)
{
    struct docker_archive *a = archive_of(source);

    (void)digest; /* there is only one, which is no index */
    buf_append_str(out, a->manifest);
    return buf_status(out) < 0 ? err_set(err, -ENOMEM, "image: out of memory") : 0;
}

static int pass_on(struct archive *tar, uint64_t offset, const struct oci_sink *sink)
{
    AUTO_FREE char *bytes = malloc(CHUNK);
    la_ssize_t n;

    if (!bytes) {
        return -ENOMEM;
    }
    while ((n = archive_read_data(tar, bytes, CHUNK)) > 0) {
        uint64_t skip = offset < (uint64_t)n ? offset : (uint64_t)n;
        int r = sink->write(sink->owner, bytes + skip, (size_t)((uint64_t)n - skip));

        if (r < 0) {
            return r;
        }
        offset -= skip;
    }
    return n < 0 ? -EBADMSG : 0;
}

static int archive_blob(struct oci_source *source, const struct oci_blob *blob, uint64_t offset,
                        const struct oci_sink *sink, struct err *err)
{
    struct docker_archive *a = archive_of(source);
    const char *name = NULL;
    struct archive *tar = NULL;
    struct archive_entry *entry;
    int r;

    for (unsigned i = 0; i < a->count; i++) {
        if (!a->files[i].target && strcmp(a->files[i].blob.digest, blob->digest) == 0) {
            name = a->files[i].name;
        }
    }
    r = open_tar(a, &tar, err);
    while (r == 0 && name && archive_read_next_header(tar, &entry) >= ARCHIVE_WARN) {
        const char *path = archive_entry_pathname(entry);

        if (path && strcmp(plain(path), name) == 0) {
            r = pass_on(tar, offset, sink);
            (void)archive_read_free(tar);
            return r == -EBADMSG ? err_set(err, r, "'%s': cannot be read", a->ref->name) : r;
        }
    }
    (void)archive_read_free(tar);
    return r < 0 ? r : err_set(err, -ENOENT, "'%s': %s is not in it", a->ref->name, blob->digest);
}

static void archive_source_free(struct oci_source *source)
{
    struct docker_archive *a = archive_of(source);

    for (unsigned i = 0; i < a->count; i++) {
        free(a->files[i].name);
        free(a->files[i].target);
    }
    free(a->files);
    free(a->manifest);
    buf_fini(&a->index);
    free(a);
}

static const struct oci_source_ops archive_ops = {
    .manifest = archive_manifest, .blob = archive_blob, .free = archive_source_free};

int oci_archive_open(const struct oci_ref *ref, struct oci_source **ret_source, struct err *err)
{
    struct docker_archive *a = calloc(1, sizeof(*a));
    int r = 0;

    if (!a || !(a->files = calloc(FILES_MAX, sizeof(*a->files)))) {
        free(a);
        return err_set(err, -ENOMEM, "image: out of memory");
    }
    a->base.ops = &archive_ops;
    a->ref = ref;
    r = read_files(a, err);
    if (r == 0) {
        r = read_index(a, err);
    }
    if (r < 0) {
        archive_source_free(&a->base);
        return r;
    }
    *ret_source = &a->base;
    return 0;
}
