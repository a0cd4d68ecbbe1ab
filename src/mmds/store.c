/* store.c — the metadata document: put, patched (RFC 7396), read by path. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "mmds/dump.h"
#include "mmds/mmds_int.h"

const struct mmds_config mmds_config_default = {.ipv4 = 0xa9fea9fe};

int mmds_new(const char *vm_id, size_t size_limit, struct mmds **ret_mmds, struct err *err)
{
    struct mmds *mmds = calloc(1, sizeof(*mmds));
    int r;

    if (!mmds) {
        return err_set(err, -ENOMEM, "metadata service: out of memory");
    }
    (void)pthread_mutex_init(&mmds->lock, NULL);
    mmds->config = mmds_config_default;
    mmds->size_limit = size_limit;
    r = token_key_init(&mmds->key, vm_id, err);
    if (r < 0) {
        mmds_free(mmds);
        return r;
    }
    *ret_mmds = mmds;
    return 0;
}

void mmds_free(struct mmds *mmds)
{
    if (mmds) {
        json_decref(mmds->document);
        token_key_fini(&mmds->key);
        (void)pthread_mutex_destroy(&mmds->lock);
        free(mmds);
    }
}

void mmds_configure(struct mmds *mmds, const struct mmds_config *config)
{
    (void)pthread_mutex_lock(&mmds->lock);
    mmds->config = *config;
    (void)pthread_mutex_unlock(&mmds->lock);
}

struct mmds_config mmds_config_now(struct mmds *mmds)
{
    struct mmds_config config;

    (void)pthread_mutex_lock(&mmds->lock);
    config = mmds->config;
    (void)pthread_mutex_unlock(&mmds->lock);
    return config;
}

/* --- changing it --- */

static int parse(const char *text, size_t len, json_t **ret_value, struct err *err)
{
    json_error_t why;
    json_t *value = json_loadb(text, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);

    if (!value) {
        return err_set(err, -EINVAL, "%s at line %d column %d", why.text, why.line, why.column);
    }
    *ret_value = value;
    return 0;
}

/* Make `value` the document, if it is small enough.  Takes the reference in any case. */
static int keep(struct mmds *mmds, json_t *value, struct err *err)
{
    struct buf text = {0};
    int r;

    dump_json(&text, value);
    r = buf_status(&text);
    if (r < 0) {
        (void)err_set(err, r, "out of memory");
    } else if (text.len > mmds->size_limit) {
        r = err_set(err, -EFBIG, "The MMDS patch request doesn't fit.");
    }
    buf_fini(&text);
    if (r < 0) {
        json_decref(value);
        return r;
    }
    json_decref(mmds->document);
    mmds->document = value;
    return 0;
}

int mmds_put(struct mmds *mmds, const char *text, size_t len, struct err *err)
{
    json_t *value = NULL;
    int r = parse(text, len, &value, err);

    if (r < 0) {
        return r;
    }
    (void)pthread_mutex_lock(&mmds->lock);
    r = keep(mmds, value, err);
    (void)pthread_mutex_unlock(&mmds->lock);
    return r;
}

/* RFC 7396, section 2.  A new reference, NULL when out of memory; `target` may be NULL. */
static json_t *merge(const json_t *target, json_t *patch) /* NOLINT(misc-no-recursion) */
{
    json_t *result;
    const char *key;
    json_t *value;

    if (!json_is_object(patch)) {
        return json_incref(patch);
    }
    /* what is replaced is replaced in the copy, so a failure leaves the document as it was */
    result = json_is_object(target) ? json_copy((json_t *)(uintptr_t)target) : json_object();
    json_object_foreach(patch, key, value)
    {
        if (!result) {
            break;
        }
        if (json_is_null(value)) {
            (void)json_object_del(result, key);
        } else if (json_object_set_new(result, key, merge(json_object_get(result, key), value)) <
                   0) {
            json_decref(result);
            result = NULL;
        }
    }
    return result;
}

int mmds_patch(struct mmds *mmds, const char *text, size_t len, struct err *err)
{
    json_t *patch = NULL;
    int r = parse(text, len, &patch, err);

    if (r < 0) {
        return r;
    }
    (void)pthread_mutex_lock(&mmds->lock);
    if (!mmds->document) {
        r = err_set(err, -ENODATA, "The MMDS data store is not initialized.");
    } else {
        json_t *merged = merge(mmds->document, patch);

        r = merged ? keep(mmds, merged, err) : err_set(err, -ENOMEM, "out of memory");
    }
    (void)pthread_mutex_unlock(&mmds->lock);
    json_decref(patch);
    return r;
}

/* --- reading it --- */

int mmds_get(struct mmds *mmds, struct buf *out)
{
    (void)pthread_mutex_lock(&mmds->lock);
    if (mmds->document) {
        dump_json(out, mmds->document);
    } else {
        buf_append_str(out, "{}");
    }
    (void)pthread_mutex_unlock(&mmds->lock);
    return buf_status(out);
}

/* The array index that `part` is (RFC 6901, section 4), or SIZE_MAX. */
static size_t index_of(const char *part)
{
    size_t len = strlen(part);

    if (len == 0 || len > 9 || strspn(part, "0123456789") != len || (part[0] == '0' && len > 1)) {
        return SIZE_MAX;
    }
    return strtoul(part, NULL, 10);
}

/* "~1" stands for '/', "~0" for '~' (RFC 6901, section 3). */
static void unescape(char *part)
{
    char *to = part;

    for (; *part; part++) {
        if (part[0] == '~' && (part[1] == '0' || part[1] == '1')) {
            *to++ = part[1] == '0' ? '~' : '/';
            part++;
        } else {
            *to++ = *part;
        }
    }
    *to = '\0';
}

/* The value at `path`, which is taken apart; NULL if there is none. */
static const json_t *find(const json_t *value, char *path)
{
    char *rest = NULL;

    for (char *part = strtok_r(path, "/", &rest); value && part;
         part = strtok_r(NULL, "/", &rest)) {
        unescape(part);
        value = json_is_array(value) ? json_array_get(value, index_of(part))
                                     : json_object_get(value, part);
    }
    return value;
}

/* What the metadata services of clouds answer: a string as it is, the keys of an object, one a
 * line, those of objects with a slash. */
static int put_text(struct buf *out, const json_t *value)
{
    size_t count = json_object_size(value);
    const char **keys;

    if (json_is_string(value)) {
        buf_append(out, json_string_value(value), json_string_length(value));
        return 0;
    }
    if (!json_is_object(value)) {
        return -ENOTSUP;
    }
    keys = calloc(count ? count : 1, sizeof(*keys));
    if (!keys) {
        return -ENOMEM;
    }
    dump_sort_keys(value, keys);
    for (size_t i = 0; i < count; i++) {
        bool is_object = json_is_object(json_object_get(value, keys[i]));

        buf_printf(out, "%s%s%s", i ? "\n" : "", keys[i], is_object ? "/" : "");
    }
    free(keys);
    return 0;
}

int mmds_read(struct mmds *mmds, const char *path, enum mmds_form form, struct buf *out)
{
    char *copy = strdup(path);
    const json_t *value;
    int r = 0;

    if (!copy) {
        return -ENOMEM;
    }
    (void)pthread_mutex_lock(&mmds->lock);
    value = find(mmds->document, copy);
    if (!value) {
        r = -ENOENT;
    } else if (form == MMDS_JSON) {
        dump_json(out, value);
    } else {
        r = put_text(out, value);
    }
    (void)pthread_mutex_unlock(&mmds->lock);
    free(copy);
    return r < 0 ? r : buf_status(out);
}
