/* toml_lex.h — the words of TOML, for toml.c: blanks, keys, scalar values.
 *
 * All that can fail returns 0, or -EINVAL or -ENOMEM with a sentence in reader->err.
 */
#pragma once

#include "codec/toml.h"

struct toml_reader {
    const char *text; /* valid UTF-8 */
    size_t len, at;
    unsigned line;
    unsigned depth; /* of arrays and inline tables */
    struct err *err;
};

int toml_fail(struct toml_reader *in, const char *what);
int toml_no_memory(struct toml_reader *in);

/* The next byte that is no space or tab, which stays; -1 at the end. */
int toml_peek(struct toml_reader *in);
/* Blanks, comments and ends of lines; then as toml_peek(). */
int toml_peek_line(struct toml_reader *in, int *ret_byte);
/* What may stand behind a value: a comment, the end of the line. */
int toml_end_line(struct toml_reader *in);
/* One part of a key, bare or quoted; allocated. */
int toml_take_key(struct toml_reader *in, char **ret_key);
/* A string, number, truth value or date. */
int toml_take_scalar(struct toml_reader *in, struct toml_value *value);
