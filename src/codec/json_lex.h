/* json_lex.h — the tokens of JSON text (RFC 8259), for json_in.c: what a value turned out to be,
 * and errors with their position.
 *
 * An error about the text itself points behind the byte that was looked at, one about a value
 * behind the value; columns count bytes from 1 (0: nothing of the line was used).  All that can
 * fail returns 0, or -EINVAL or -ENOMEM with a sentence in reader->err.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define JSON_DEPTH_MAX 127u /* nested arrays and objects */

struct json_reader {
    const char *text;
    size_t len, at;
    unsigned depth;
    struct err *err;
};

/* What a value turned out to be, for messages. */
struct json_found {
    enum { F_NULL, F_BOOL, F_INT, F_NEGATIVE, F_FLOAT, F_STRING, F_LIST, F_MAP } kind;
    bool boolean;
    uint64_t number; /* F_INT; F_NEGATIVE: its absolute value */
    double real;
    struct buf string;
};

int json_fail_peek(struct json_reader *in, const char *what); /* about the next byte */
int json_fail_here(struct json_reader *in, const char *what);
int json_no_memory(struct json_reader *in);
/* "invalid PROBLEM: FOUND, expected EXPECTED" */
int json_fail_wrong(struct json_reader *in, const struct json_found *found, const char *problem,
                    const char *expected);
/* "expected `a`", "expected `a` or `b`", "expected one of `a`, `b`, `c`"; names end with NULL. */
void json_put_choice(struct buf *out, const char *const *names);

/* The next byte that is no blank, which stays; -1 at the end. */
int json_peek(struct json_reader *in);
int json_take_word(struct json_reader *in, const char *word);
/* At a '[' or '{': go in.  Then before each element: 1 there is one, 0 the end was taken. */
int json_enter(struct json_reader *in);
int json_next(struct json_reader *in, char close, bool is_first);
int json_take_key(struct json_reader *in, struct buf *key);
int json_take_colon(struct json_reader *in);
/* Take any value; the insides of lists and maps are checked and dropped.  found->string is the
 * caller's to free, also after a failure. */
int json_take_any(struct json_reader *in, struct json_found *found);
