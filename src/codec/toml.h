/* toml.h — TOML 1.0 (https://toml.io/en/v1.0.0) in, a tree of values out.
 *
 * All of the language is understood, except that numbers with a fraction and dates are not
 * interpreted: they stay text.  Errors begin with "line N: ".
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum toml_type { TOML_STRING, TOML_INT, TOML_BOOL, TOML_FLOAT, TOML_DATE, TOML_ARRAY, TOML_TABLE };

/* In a table every item has a key, in an array none has. */
struct toml_value {
    enum toml_type type;
    unsigned line; /* where it begins, from 1 */
    char *key;     /* NULL: none.  Never with a NUL inside. */
    char *text;    /* TOML_STRING (never with a NUL inside), TOML_FLOAT, TOML_DATE */
    int64_t number;
    bool truth;
    struct toml_value *items; /* TOML_ARRAY, TOML_TABLE */
    size_t count;
    uint8_t origin; /* toml.c's own */
};

/* -EINVAL or -ENOMEM.  *ret_root is a table, to be ended with toml_fini(). */
int toml_parse(const char *text, size_t len, struct toml_value *ret_root, struct err *err);
void toml_fini(struct toml_value *value);

/* The item of a table, NULL if there is none. */
const struct toml_value *toml_get(const struct toml_value *table, const char *key);
/* "a string", "a table": for messages. */
const char *toml_type_text(enum toml_type type);
