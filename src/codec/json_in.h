/* json_in.h — JSON text into C structs, by tables, with errors that say what was found, what is
 * wanted and where.
 *
 * Clients of Firecracker match these sentences ("missing field `x`", "unknown variant `y`, expected
 * `a` or `b`", ... "at line 1 column 21"), which a general library does not give: hence a decoder
 * of our own for requests.  Documents without a fixed form (the metadata store) are jansson's.
 *
 *     struct thing { char *name; uint64_t size; bool has_size; };
 *     static const struct json_field thing_fields[] = {
 *         {.name = "name", JSON_AT(struct thing, name), .kind = JSON_STRING, .is_required = true},
 *         {.name = "size", JSON_AT(struct thing, size), .kind = JSON_U64, .is_nullable = true,
 *          JSON_HAS(struct thing, has_size)}};
 *     static const struct json_type thing_type = {"Thing", sizeof(struct thing), thing_fields, 2,
 *                                                 .denies_unknown = true};
 *
 * The struct is zeroed or filled with defaults by the caller; only fields that are named in the
 * text change.  What a failed or successful call allocated is the caller's: json_in_free().
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum json_kind {
    JSON_BOOL,   /* bool */
    JSON_U8,     /* uint8_t */
    JSON_U16,    /* uint16_t */
    JSON_U32,    /* uint32_t */
    JSON_U64,    /* uint64_t */
    JSON_USIZE,  /* uint64_t, called usize */
    JSON_STRING, /* char *, allocated; has no NUL inside */
    JSON_ENUM,   /* int: index into `names` */
    JSON_OBJECT, /* `type`, in place */
    JSON_LIST,   /* struct json_list of `item`s */
    JSON_MAP,    /* struct json_list of struct json_pair: any keys, string values */
    JSON_ANY,    /* char *, allocated: the value's text as it stands */
};

struct json_field;
struct json_type {
    const char *name; /* in errors */
    size_t size;
    const struct json_field *fields;
    unsigned count;
    bool denies_unknown; /* an unknown key is an error, else it is skipped */
};

struct json_field {
    const char *name;
    enum json_kind kind;
    size_t offset;
    size_t has; /* offset of a bool that says "was there and not null", if has_has */
    bool has_has;
    bool is_required;
    bool is_nullable;             /* null means absent */
    const char *const *names;     /* JSON_ENUM: up to a NULL */
    const struct json_type *type; /* JSON_OBJECT; JSON_LIST of objects */
    enum json_kind item;          /* JSON_LIST: JSON_STRING or JSON_OBJECT */
    /* JSON_STRING: look at the text; a sentence (static, or in `why`) if it is not acceptable.
     * May be NULL. */
    const char *(*check)(const char *text, char why[static 256]);
};

#define JSON_AT(type_, member_)  .offset = offsetof(type_, member_)
#define JSON_HAS(type_, member_) .has = offsetof(type_, member_), .has_has = true

struct json_list {
    void *items;
    size_t count;
};

struct json_pair {
    char *key, *value;
};

/* `text` has `len` bytes and is one value of `type` with nothing but blanks around it.  0, or
 * -EINVAL or -ENOMEM with a sentence. */
int json_in(const char *text, size_t len, const struct json_type *type, void *out, struct err *err);
/* Is it one JSON value of whatever form?  As json_in() otherwise. */
int json_check(const char *text, size_t len, struct err *err);
/* Free all strings and lists of a struct and clear them. */
void json_in_free(const struct json_type *type, void *out);
