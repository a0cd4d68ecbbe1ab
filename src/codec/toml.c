/* toml.c — see toml.h: tables, arrays, and which of them may still grow.
 *
 * Where a table comes from says who may add to it: a [header] once defines it, and opens again what
 * was only passed through; dotted keys add to what dotted keys of the same table made; `{...}` and
 * `[...]` are complete as they stand.
 */
#include "codec/toml.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "codec/toml_lex.h"
#include "codec/utf8.h"

#define DEPTH_MAX 64u /* nested arrays and inline tables, and parts of a key */

enum origin {
    FROM_VALUE,   /* scalars, `[...]`, `{...}`: closed */
    FROM_PASSING, /* the `a` of [a.b]: [a] may still define it */
    FROM_HEADER,  /* [a] */
    FROM_DOTS,    /* the `a` of a.b = 1 */
    FROM_HEADERS, /* an array of [[a]] */
};

void toml_fini(struct toml_value *value)
{
    for (size_t i = 0; i < value->count; i++) {
        toml_fini(&value->items[i]); /* NOLINT(misc-no-recursion): as deep as DEPTH_MAX allows */
    }
    free(value->items);
    free(value->key);
    free(value->text);
    *value = (struct toml_value){0};
}

static struct toml_value *find(const struct toml_value *table, const char *key)
{
    for (size_t i = 0; i < table->count; i++) {
        if (strcmp(table->items[i].key, key) == 0) {
            return &table->items[i];
        }
    }
    return NULL;
}

const struct toml_value *toml_get(const struct toml_value *table, const char *key)
{
    return find(table, key);
}

const char *toml_type_text(enum toml_type type)
{
    switch (type) {
    case TOML_STRING: return "a string";
    case TOML_INT: return "an integer";
    case TOML_BOOL: return "a truth value";
    case TOML_FLOAT: return "a number with a fraction";
    case TOML_DATE: return "a date";
    case TOML_ARRAY: return "an array";
    case TOML_TABLE: return "a table";
    }
    return "";
}

/* A new last item of `list`, which has no key yet; NULL: out of memory, which has been said. */
static struct toml_value *append(struct toml_reader *in, struct toml_value *list)
{
    /* Doubling: full at each power of two. */
    if ((list->count & (list->count - 1)) == 0) {
        size_t cap = list->count ? 2 * list->count : 1;
        struct toml_value *items = realloc(list->items, cap * sizeof(*items));

        if (!items) {
            (void)toml_no_memory(in);
            return NULL;
        }
        list->items = items;
    }
    list->items[list->count] = (struct toml_value){.line = in->line};
    return &list->items[list->count++];
}

static struct toml_value *append_table(struct toml_reader *in, struct toml_value *list, char **key,
                                       enum origin origin)
{
    struct toml_value *table = append(in, list);

    if (table) {
        table->type = TOML_TABLE;
        table->origin = (uint8_t)origin;
        table->key = key ? TAKE_PTR(*key) : NULL;
    }
    return table;
}

static int said_twice(struct toml_reader *in, const char *key)
{
    return err_set(in->err, -EINVAL, "line %u: '%s' is defined a second time", in->line, key);
}

/* --- values --- */

static int take_value(struct toml_reader *in, struct toml_value *value);
static int take_pair(struct toml_reader *in, struct toml_value *table);

/* Behind the '['. */
static int take_array(struct toml_reader *in,
                      struct toml_value *array) /* NOLINT(misc-no-recursion) */
{
    int c;
    int r = toml_peek_line(in, &c);

    array->type = TOML_ARRAY;
    while (r == 0 && c != ']') {
        struct toml_value *item = append(in, array);

        r = item ? take_value(in, item) : -ENOMEM;
        if (r == 0) {
            r = toml_peek_line(in, &c);
        }
        if (r == 0 && c != ',' && c != ']') {
            return toml_fail(in, "an array goes on with ',' or ends with ']'");
        }
        if (r == 0 && c == ',') {
            in->at++;
            r = toml_peek_line(in, &c);
        }
    }
    in->at++;
    return r;
}

static void close_tables(struct toml_value *table) /* NOLINT(misc-no-recursion) */
{
    table->origin = FROM_VALUE;
    for (size_t i = 0; i < table->count; i++) {
        close_tables(&table->items[i]);
    }
}

/* Behind the '{': on one line, no ',' at the end. */
static int take_inline_table(struct toml_reader *in,
                             struct toml_value *table) /* NOLINT(misc-no-recursion) */
{
    int r = 0;

    table->type = TOML_TABLE;
    table->origin = FROM_DOTS;
    if (toml_peek(in) != '}') {
        for (;;) {
            r = take_pair(in, table);
            if (r < 0 || toml_peek(in) != ',') {
                break;
            }
            in->at++;
        }
    }
    if (r == 0 && toml_peek(in) != '}') {
        return toml_fail(in, "an inline table goes on with ',' or ends with '}' on the same line");
    }
    in->at++;
    close_tables(table);
    return r;
}

static int take_value(struct toml_reader *in,
                      struct toml_value *value) /* NOLINT(misc-no-recursion) */
{
    int c = toml_peek(in);
    int r;

    if (c != '[' && c != '{') {
        return toml_take_scalar(in, value);
    }
    if (in->depth == DEPTH_MAX) {
        return toml_fail(in, "nested too deeply");
    }
    in->at++;
    in->depth++;
    r = c == '[' ? take_array(in, value) : take_inline_table(in, value);
    in->depth--;
    return r;
}

/* --- keys --- */

/* The table that the part `key` of a dotted key names below `table`; NULL: said. */
static struct toml_value *enter_dotted(struct toml_reader *in, struct toml_value *table, char **key)
{
    struct toml_value *next = find(table, *key);

    if (!next) {
        return append_table(in, table, key, FROM_DOTS);
    }
    if (next->type != TOML_TABLE || next->origin != FROM_DOTS) {
        (void)said_twice(in, *key);
        return NULL;
    }
    return next;
}

/* The table that the part `key` of a [header], but not its last, names below `table`. */
static struct toml_value *enter_header(struct toml_reader *in, struct toml_value *table, char **key)
{
    struct toml_value *next = find(table, *key);

    if (!next) {
        return append_table(in, table, key, FROM_PASSING);
    }
    if (next->origin == FROM_HEADERS) {
        return &next->items[next->count - 1];
    }
    if (next->origin == FROM_VALUE) {
        (void)said_twice(in, *key);
        return NULL;
    }
    return next;
}

typedef struct toml_value *(*enter_fn)(struct toml_reader *in, struct toml_value *table,
                                       char **key);

/* A key up to its last part, which is left in *ret_key; `*table` becomes the one it is in. */
static int take_path(struct toml_reader *in, enter_fn enter, struct toml_value **table,
                     char **ret_key)
{
    AUTO_FREE char *key = NULL;
    unsigned parts = 1;
    int r = toml_take_key(in, &key);

    while (r >= 0 && key && toml_peek(in) == '.') {
        in->at++;
        if (parts++ == DEPTH_MAX) {
            return toml_fail(in, "nested too deeply");
        }
        *table = enter(in, *table, &key);
        if (!*table) {
            return in->err->code;
        }
        free(TAKE_PTR(key));
        r = toml_take_key(in, &key);
    }
    if (r < 0 || !key) {
        return r;
    }
    *ret_key = TAKE_PTR(key);
    return 0;
}

/* key = value */
static int take_pair(struct toml_reader *in,
                     struct toml_value *table) /* NOLINT(misc-no-recursion) */
{
    AUTO_FREE char *key = NULL;
    struct toml_value *value;
    int r = take_path(in, enter_dotted, &table, &key);

    if (r < 0 || !key) {
        return r;
    }
    if (find(table, key)) {
        return said_twice(in, key);
    }
    if (toml_peek(in) != '=') {
        return err_set(in->err, -EINVAL, "line %u: '=' is missing behind '%s'", in->line, key);
    }
    in->at++;
    value = append(in, table);
    if (!value) {
        return -ENOMEM;
    }
    value->key = TAKE_PTR(key);
    return take_value(in, value);
}

/* [a.b] */
static struct toml_value *open_table(struct toml_reader *in, struct toml_value *table, char **key)
{
    struct toml_value *found = find(table, *key);

    if (!found) {
        return append_table(in, table, key, FROM_HEADER);
    }
    if (found->origin != FROM_PASSING) {
        (void)said_twice(in, *key);
        return NULL;
    }
    found->origin = FROM_HEADER;
    return found;
}

/* [[a.b]] */
static struct toml_value *open_item(struct toml_reader *in, struct toml_value *table, char **key)
{
    struct toml_value *list = find(table, *key);

    if (!list) {
        list = append_table(in, table, key, FROM_HEADERS);
        if (list) {
            list->type = TOML_ARRAY;
        }
    } else if (list->origin != FROM_HEADERS) {
        (void)said_twice(in, *key);
        return NULL;
    }
    return list ? append_table(in, list, NULL, FROM_HEADER) : NULL;
}

/* At a '['. */
static int take_header(struct toml_reader *in, struct toml_value *root,
                       struct toml_value **ret_table)
{
    AUTO_FREE char *key = NULL;
    struct toml_value *table = root;
    bool is_item = in->at + 1 < in->len && in->text[in->at + 1] == '[';
    int r;

    in->at += is_item ? 2 : 1;
    r = take_path(in, enter_header, &table, &key);
    if (r < 0 || !key) {
        return r;
    }
    if (toml_peek(in) != ']' ||
        (is_item && (in->at + 1 >= in->len || in->text[in->at + 1] != ']'))) {
        return toml_fail(in, is_item ? "']]' is missing" : "']' is missing");
    }
    in->at += is_item ? 2 : 1;
    table = is_item ? open_item(in, table, &key) : open_table(in, table, &key);
    if (!table) {
        return in->err->code;
    }
    *ret_table = table;
    return 0;
}

/* --- all of it --- */

static int take_all(struct toml_reader *in, struct toml_value *root)
{
    struct toml_value *table = root;

    for (;;) {
        int c;
        int r = toml_peek_line(in, &c);

        if (r < 0 || c < 0) {
            return r;
        }
        r = c == '[' ? take_header(in, root, &table) : take_pair(in, table);
        if (r == 0) {
            r = toml_end_line(in);
        }
        if (r < 0) {
            return r;
        }
    }
}

int toml_parse(const char *text, size_t len, struct toml_value *ret_root, struct err *err)
{
    struct err none = {0};
    struct toml_value root = {.type = TOML_TABLE, .origin = FROM_HEADER, .line = 1};
    struct toml_reader in = {.text = text, .len = len, .line = 1, .err = err ? err : &none};
    size_t valid = utf8_valid(text, len);
    int r;

    if (valid < len) {
        for (size_t i = 0; i < valid; i++) {
            in.line += text[i] == '\n';
        }
        return toml_fail(&in, "the text is not UTF-8");
    }
    if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
        in.at = 3; /* the mark some editors put in front */
    }
    r = take_all(&in, &root);
    if (r < 0) {
        toml_fini(&root);
        return r;
    }
    *ret_root = root;
    return 0;
}
