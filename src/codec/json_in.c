/* json_in.c — see json_in.h. */
#include "codec/json_in.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "codec/json_lex.h"

static int take_object(struct json_reader *in, const struct json_type *type, void *out);

static int store_number(struct json_reader *in, enum json_kind kind, const struct json_found *found,
                        void *to)
{
    static const struct {
        const char *name;
        uint64_t max;
    } limits[] = {[JSON_U8] = {"u8", UINT8_MAX},
                  [JSON_U16] = {"u16", UINT16_MAX},
                  [JSON_U32] = {"u32", UINT32_MAX},
                  [JSON_U64] = {"u64", UINT64_MAX},
                  [JSON_USIZE] = {"usize", UINT64_MAX}};

    if (found->kind != F_INT && found->kind != F_NEGATIVE) {
        return json_fail_wrong(in, found, "type", limits[kind].name);
    }
    if (found->kind == F_NEGATIVE || found->number > limits[kind].max) {
        return json_fail_wrong(in, found, "value", limits[kind].name);
    }
    if (kind == JSON_U8) {
        *(uint8_t *)to = (uint8_t)found->number;
    } else if (kind == JSON_U16) {
        *(uint16_t *)to = (uint16_t)found->number;
    } else if (kind == JSON_U32) {
        *(uint32_t *)to = (uint32_t)found->number;
    } else {
        *(uint64_t *)to = found->number;
    }
    return 0;
}

static int store_string(struct json_reader *in, const struct json_field *field,
                        const struct json_found *found, char **to)
{
    const char *text = buf_str(&found->string), *problem;
    char why[256] = "";

    if (found->kind != F_STRING) {
        return json_fail_wrong(in, found, "type", "a string");
    }
    if (strlen(text) != found->string.len) {
        return json_fail_here(in, "a string has a NUL character");
    }
    problem = field && field->check ? field->check(text, why) : NULL;
    if (problem) {
        return json_fail_here(in, problem);
    }
    free(*to);
    *to = strdup(text);
    return *to ? 0 : json_no_memory(in);
}

static int store_enum(struct json_reader *in, const struct json_field *field,
                      const struct json_found *found, int *to)
{
    AUTO_CALL(buf_fini) struct buf text = {0};

    if (found->kind != F_STRING) {
        return json_fail_wrong(in, found, "type", "string or map");
    }
    for (int i = 0; field->names[i]; i++) {
        if (strcmp(field->names[i], buf_str(&found->string)) == 0) {
            *to = i;
            return 0;
        }
    }
    buf_printf(&text, "unknown variant `%s`, ", buf_str(&found->string));
    json_put_choice(&text, field->names);
    return json_fail_here(in, buf_str(&text));
}

static void *list_grow(struct json_list *list, size_t size)
{
    void *items = reallocarray(list->items, list->count + 1, size);

    if (!items) {
        return NULL;
    }
    list->items = items;
    return memset((char *)items + list->count++ * size, 0, size);
}

static int take_items(struct json_reader *in, const struct json_field *field,
                      struct json_list *list)
{
    int r = json_enter(in);

    for (bool first = true; r == 0; first = false) {
        r = json_next(in, ']', first);
        if (r <= 0) {
            return r;
        }
        if (field->item == JSON_OBJECT) {
            void *item = list_grow(list, field->type->size);

            r = item ? take_object(in, field->type, item) : json_no_memory(in);
        } else {
            struct json_found found = {0};
            char **item;

            r = json_take_any(in, &found);
            item = r == 0 ? list_grow(list, sizeof(char *)) : NULL;
            if (r == 0) {
                r = item ? store_string(in, NULL, &found, item) : json_no_memory(in);
            }
            buf_fini(&found.string);
        }
    }
    return r;
}

static int take_pairs(struct json_reader *in, struct json_list *list)
{
    int r = json_enter(in);

    for (bool first = true; r == 0; first = false) {
        AUTO_CALL(buf_fini) struct buf key = {0};
        struct json_found found = {0};
        struct json_pair *pair;

        r = json_next(in, '}', first);
        if (r <= 0) {
            return r;
        }
        r = json_take_key(in, &key);
        if (r == 0) {
            r = json_take_colon(in);
        }
        if (r == 0) {
            r = json_take_any(in, &found);
        }
        pair = r == 0 ? list_grow(list, sizeof(*pair)) : NULL;
        if (pair) {
            pair->key = strdup(buf_str(&key));
            r = pair->key ? store_string(in, NULL, &found, &pair->value) : json_no_memory(in);
        } else if (r == 0) {
            r = json_no_memory(in);
        }
        buf_fini(&found.string);
    }
    return r;
}

static int store(struct json_reader *in, const struct json_field *field,
                 const struct json_found *found, void *to)
{
    if (field->kind == JSON_STRING) {
        return store_string(in, field, found, to);
    }
    if (field->kind == JSON_ENUM) {
        return store_enum(in, field, found, to);
    }
    if (field->kind == JSON_LIST || field->kind == JSON_MAP) {
        return json_fail_wrong(in, found, "type",
                               field->kind == JSON_LIST ? "a sequence" : "a map");
    }
    if (field->kind != JSON_BOOL) {
        return store_number(in, field->kind, found, to);
    }
    if (found->kind != F_BOOL) {
        return json_fail_wrong(in, found, "type", "a boolean");
    }
    *(bool *)to = found->boolean;
    return 0;
}

static int take_simple(struct json_reader *in, const struct json_field *field, void *to)
{
    struct json_found found = {0};
    int r = json_take_any(in, &found);

    if (r == 0) {
        r = store(in, field, &found, to);
    }
    buf_fini(&found.string);
    return r;
}

static int take_text(struct json_reader *in, char **to)
{
    struct json_found found = {0};
    size_t start;
    int r;

    (void)json_peek(in);
    start = in->at;
    r = json_take_any(in, &found);
    buf_fini(&found.string);
    if (r == 0) {
        free(*to);
        *to = strndup(in->text + start, in->at - start);
        r = *to ? 0 : json_no_memory(in);
    }
    return r;
}

static int take_value(struct json_reader *in, const struct json_field *field, void *out)
{
    void *to = (char *)out + field->offset;
    int c = json_peek(in), r;

    if (c == 'n' && field->is_nullable) {
        return json_take_word(in, "null");
    }
    if (field->kind == JSON_OBJECT) {
        r = take_object(in, field->type, to);
    } else if (field->kind == JSON_LIST && c == '[') {
        r = take_items(in, field, to);
    } else if (field->kind == JSON_MAP && c == '{') {
        r = take_pairs(in, to);
    } else if (field->kind == JSON_ANY) {
        r = take_text(in, to);
    } else {
        r = take_simple(in, field, to);
    }
    if (r == 0 && field->has_has) {
        *(bool *)((char *)out + field->has) = true;
    }
    return r;
}

static int fail_unknown(struct json_reader *in, const struct json_type *type, const char *key)
{
    AUTO_CALL(buf_fini) struct buf text = {0};
    const char *names[65] = {NULL};

    for (unsigned i = 0; i < type->count && i < 64; i++) {
        names[i] = type->fields[i].name;
    }
    buf_printf(&text, "unknown field `%s`, ", key);
    if (type->count) {
        json_put_choice(&text, names);
    } else {
        buf_append_str(&text, "there are no fields");
    }
    return json_fail_here(in, buf_str(&text));
}

static int take_field(struct json_reader *in, const struct json_type *type, const char *key,
                      void *out, uint64_t *seen)
{
    unsigned i = 0;
    char text[256];
    int r;

    while (i < type->count && strcmp(type->fields[i].name, key) != 0) {
        i++;
    }
    if (i == type->count) {
        struct json_found found = {0};

        if (type->denies_unknown) {
            return fail_unknown(in, type, key);
        }
        r = json_take_colon(in);
        if (r == 0) {
            r = json_take_any(in, &found);
        }
        buf_fini(&found.string);
        return r;
    }
    if (*seen >> i & 1) {
        (void)snprintf(text, sizeof(text), "duplicate field `%s`", key);
        return json_fail_here(in, text);
    }
    *seen |= UINT64_C(1) << i;
    r = json_take_colon(in);
    return r < 0 ? r : take_value(in, &type->fields[i], out);
}

static int take_object(struct json_reader *in, const struct json_type *type, void *out)
{
    AUTO_CALL(buf_fini) struct buf key = {0};
    char text[256];
    uint64_t seen = 0;
    int r;

    if (json_peek(in) != '{') {
        struct json_found found = {0};

        r = json_take_any(in, &found);
        (void)snprintf(text, sizeof(text), "struct %s", type->name);
        r = r < 0 ? r : json_fail_wrong(in, &found, "type", text);
        buf_fini(&found.string);
        return r;
    }
    r = json_enter(in);
    for (bool first = true; r == 0; first = false) {
        r = json_next(in, '}', first);
        if (r < 0) {
            return r;
        }
        if (r == 0) {
            break;
        }
        r = json_take_key(in, &key);
        if (r == 0) {
            r = take_field(in, type, buf_str(&key), out, &seen);
        }
    }
    for (unsigned i = 0; r == 0 && i < type->count; i++) {
        if (type->fields[i].is_required && !(seen >> i & 1)) {
            (void)snprintf(text, sizeof(text), "missing field `%s`", type->fields[i].name);
            r = json_fail_here(in, text);
        }
    }
    return r;
}

int json_in(const char *text, size_t len, const struct json_type *type, void *out, struct err *err)
{
    struct json_reader in = {.text = text, .len = len, .err = err};
    int r = take_object(&in, type, out);

    if (r == 0 && json_peek(&in) >= 0) {
        r = json_fail_peek(&in, "trailing characters");
    }
    return r;
}

int json_check(const char *text, size_t len, struct err *err)
{
    struct json_reader in = {.text = text, .len = len, .err = err};
    struct json_found found = {0};
    int r = json_take_any(&in, &found);

    buf_fini(&found.string);
    if (r == 0 && json_peek(&in) >= 0) {
        r = json_fail_peek(&in, "trailing characters");
    }
    return r;
}

/* --- freeing --- */

static void free_list(const struct json_field *field, struct json_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        if (field->kind == JSON_MAP) {
            struct json_pair *pair = (struct json_pair *)list->items + i;

            free(pair->key);
            free(pair->value);
        } else if (field->item == JSON_OBJECT) {
            json_in_free(field->type, (char *)list->items + i * field->type->size);
        } else {
            free(((char **)list->items)[i]);
        }
    }
    free(list->items);
    *list = (struct json_list){0};
}

void json_in_free(const struct json_type *type, void *out)
{
    for (unsigned i = 0; i < type->count; i++) {
        const struct json_field *field = &type->fields[i];
        void *at = (char *)out + field->offset;

        if (field->kind == JSON_STRING || field->kind == JSON_ANY) {
            free(*(char **)at);
            *(char **)at = NULL;
        } else if (field->kind == JSON_OBJECT) {
            json_in_free(field->type, at);
        } else if (field->kind == JSON_LIST || field->kind == JSON_MAP) {
            free_list(field, at);
        }
    }
}
