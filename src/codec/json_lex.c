/* json_lex.c — see json_lex.h. */
#include "codec/json_lex.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "codec/utf8.h"

/* --- errors --- */

static int fail_at(struct json_reader *in, size_t index, const char *what)
{
    unsigned long line = 1, column = 0;

    for (size_t i = 0; i < index && i < in->len; i++) {
        column++;
        if (in->text[i] == '\n') {
            line++;
            column = 0;
        }
    }
    return err_set(in->err, -EINVAL, "%s at line %lu column %lu", what, line, column);
}

/* About the byte that is next. */
int json_fail_peek(struct json_reader *in, const char *what)
{
    return fail_at(in, in->at + 1, what);
}

int json_fail_here(struct json_reader *in, const char *what)
{
    return fail_at(in, in->at, what);
}

int json_no_memory(struct json_reader *in)
{
    return err_set(in->err, -ENOMEM, "out of memory");
}

/* `a`, or `a` or `b`, or one of `a`, `b`, `c` */
void json_put_choice(struct buf *out, const char *const *names)
{
    unsigned count = 0;

    while (names[count]) {
        count++;
    }
    if (count == 0) {
        buf_append_str(out, "there are no variants");
    } else if (count <= 2) {
        buf_printf(out, count == 1 ? "expected `%s`" : "expected `%s` or `%s`", names[0], names[1]);
    } else {
        for (unsigned i = 0; i < count; i++) {
            buf_printf(out, i ? ", `%s`" : "expected one of `%s`", names[i]);
        }
    }
}

int json_fail_wrong(struct json_reader *in, const struct json_found *found, const char *problem,
                    const char *expected)
{
    AUTO_CALL(buf_fini) struct buf text = {0};

    buf_printf(&text, "invalid %s: ", problem);
    switch (found->kind) {
    case F_NULL: buf_append_str(&text, "null"); break;
    case F_BOOL: buf_printf(&text, "boolean `%s`", found->boolean ? "true" : "false"); break;
    case F_INT: buf_printf(&text, "integer `%" PRIu64 "`", found->number); break;
    case F_NEGATIVE: buf_printf(&text, "integer `-%" PRIu64 "`", found->number); break;
    case F_FLOAT:
        buf_printf(&text, "floating point `%.17g%s`", found->real,
                   found->real == (double)(int64_t)found->real ? ".0" : "");
        break;
    case F_STRING: buf_printf(&text, "string \"%s\"", buf_str(&found->string)); break;
    case F_LIST: buf_append_str(&text, "sequence"); break;
    case F_MAP: buf_append_str(&text, "map"); break;
    }
    buf_printf(&text, ", expected %s", expected);
    return json_fail_here(in, buf_str(&text));
}

/* --- tokens --- */

/* The next byte that is no blank, -1 at the end. */
int json_peek(struct json_reader *in)
{
    while (in->at < in->len) {
        char c = in->text[in->at];

        if (c != ' ' && c != '\n' && c != '\r' && c != '\t') {
            return (unsigned char)c;
        }
        in->at++;
    }
    return -1;
}

int json_take_word(struct json_reader *in, const char *word)
{
    for (size_t i = 0; word[i]; i++) {
        if (in->at >= in->len) {
            return json_fail_here(in, "EOF while parsing a value");
        }
        if (in->text[in->at] != word[i]) {
            return json_fail_peek(in, "expected ident");
        }
        in->at++;
    }
    return 0;
}

static int hex4(struct json_reader *in, uint32_t *ret)
{
    uint32_t value = 0;

    for (unsigned i = 0; i < 4; i++) {
        char c;

        if (in->at >= in->len) {
            return json_fail_here(in, "EOF while parsing a string");
        }
        c = in->text[in->at++];
        if (c >= '0' && c <= '9') {
            value = value << 4 | (uint32_t)(c - '0');
        } else if ((c | 32) >= 'a' && (c | 32) <= 'f') {
            value = value << 4 | (uint32_t)((c | 32) - 'a' + 10);
        } else {
            return json_fail_here(in, "invalid escape");
        }
    }
    *ret = value;
    return 0;
}

static void put_utf8(struct buf *out, uint32_t c)
{
    uint8_t bytes[4];
    size_t len = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const uint8_t lead[] = {0, 0, 0xc0, 0xe0, 0xf0};

    for (size_t i = len; i-- > 1;) {
        bytes[i] = (uint8_t)(0x80 | (c & 0x3f));
        c >>= 6;
    }
    bytes[0] = (uint8_t)(lead[len] | c);
    buf_append(out, bytes, len);
}

/* Behind "\u". */
static int take_unicode(struct json_reader *in, struct buf *out)
{
    uint32_t c, low;
    int r = hex4(in, &c);

    if (r < 0) {
        return r;
    }
    if (c >= 0xdc00 && c <= 0xdfff) {
        return json_fail_here(in, "lone leading surrogate in hex escape");
    }
    if (c >= 0xd800 && c < 0xdc00) {
        if (in->len - in->at < 2 || in->text[in->at] != '\\' || in->text[in->at + 1] != 'u') {
            return json_fail_here(in, "unexpected end of hex escape");
        }
        in->at += 2;
        r = hex4(in, &low);
        if (r < 0) {
            return r;
        }
        if (low < 0xdc00 || low > 0xdfff) {
            return json_fail_here(in, "lone leading surrogate in hex escape");
        }
        c = 0x10000 + ((c - 0xd800) << 10 | (low - 0xdc00));
    }
    put_utf8(out, c);
    return 0;
}

static int take_escape(struct json_reader *in, struct buf *out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *at;
    char c;

    if (in->at >= in->len) {
        return json_fail_here(in, "EOF while parsing a string");
    }
    c = in->text[in->at++];
    if (c == 'u') {
        return take_unicode(in, out);
    }
    at = c ? strchr(from, c) : NULL;
    if (!at) {
        return json_fail_here(in, "invalid escape");
    }
    buf_append(out, &to[at - from], 1);
    return 0;
}

/* At the opening quote. */
static int take_string(struct json_reader *in, struct buf *out)
{
    in->at++;
    for (;;) {
        size_t start = in->at;
        int r = 0;

        while (in->at < in->len && in->text[in->at] != '"' && in->text[in->at] != '\\' &&
               (unsigned char)in->text[in->at] >= 0x20) {
            in->at++;
        }
        buf_append(out, in->text + start, in->at - start);
        if (in->at >= in->len) {
            return json_fail_here(in, "EOF while parsing a string");
        }
        if (in->text[in->at] == '"') {
            in->at++;
            if (buf_status(out) < 0) {
                return json_no_memory(in);
            }
            return utf8_valid((const char *)out->data, out->len) < out->len
                       ? json_fail_here(in, "invalid unicode code point")
                       : 0;
        }
        if (in->text[in->at] != '\\') {
            in->at++;
            return json_fail_here(
                in, "control character (\\u0000-\\u001F) found while parsing a string");
        }
        in->at++;
        r = take_escape(in, out);
        if (r < 0) {
            return r;
        }
    }
}

static bool is_digit(const struct json_reader *in)
{
    return in->at < in->len && in->text[in->at] >= '0' && in->text[in->at] <= '9';
}

/* At least one digit, from here on. */
static int take_digits(struct json_reader *in)
{
    if (!is_digit(in)) {
        return in->at < in->len ? json_fail_peek(in, "invalid number")
                                : json_fail_here(in, "EOF while parsing a value");
    }
    while (is_digit(in)) {
        in->at++;
    }
    return 0;
}

static int take_fraction(struct json_reader *in)
{
    int r = 0;

    if (in->at < in->len && in->text[in->at] == '.') {
        in->at++;
        r = take_digits(in);
    }
    if (r == 0 && in->at < in->len && (in->text[in->at] | 32) == 'e') {
        in->at++;
        if (in->at < in->len && (in->text[in->at] == '+' || in->text[in->at] == '-')) {
            in->at++;
        }
        r = take_digits(in);
    }
    return r;
}

static int take_number(struct json_reader *in, struct json_found *found)
{
    size_t start = in->at, digits;
    char copy[64];
    int r;

    if (in->text[in->at] == '-') {
        in->at++;
    }
    digits = in->at;
    r = take_digits(in);
    if (r == 0 && in->text[digits] == '0' && in->at > digits + 1) {
        in->at = digits + 1;
        return json_fail_peek(in, "invalid number");
    }
    found->kind = digits > start ? F_NEGATIVE : F_INT;
    found->number = 0;
    for (size_t i = digits; r == 0 && i < in->at && found->kind != F_FLOAT; i++) {
        uint64_t digit = (uint64_t)(in->text[i] - '0');

        if (__builtin_mul_overflow(found->number, UINT64_C(10), &found->number) ||
            __builtin_add_overflow(found->number, digit, &found->number)) {
            found->kind = F_FLOAT;
        }
    }
    digits = in->at;
    if (r == 0) {
        r = take_fraction(in);
    }
    if (r < 0) {
        return r;
    }
    if (in->at > digits || (found->kind == F_NEGATIVE && found->number > (UINT64_C(1) << 63))) {
        found->kind = F_FLOAT;
    }
    if (found->kind == F_FLOAT) {
        (void)snprintf(copy, sizeof(copy), "%.*s", (int)(in->at - start), in->text + start);
        found->real = strtod(copy, NULL);
    }
    return 0;
}

/* --- lists and maps --- */

int json_enter(struct json_reader *in)
{
    in->at++;
    return ++in->depth > JSON_DEPTH_MAX ? json_fail_here(in, "recursion limit exceeded") : 0;
}

/* Before an element: 1 there is one, 0 the end was taken, or an error. */
int json_next(struct json_reader *in, char close, bool is_first)
{
    const char *eof = close == '}' ? "EOF while parsing an object" : "EOF while parsing a list";
    int c = json_peek(in);

    if (c < 0) {
        return json_fail_here(in, eof);
    }
    if (c == close) {
        in->at++;
        in->depth--;
        return 0;
    }
    if (is_first) {
        return 1;
    }
    if (c != ',') {
        return json_fail_peek(in, close == '}' ? "expected `,` or `}`" : "expected `,` or `]`");
    }
    in->at++;
    c = json_peek(in);
    if (c == close) {
        return json_fail_peek(in, "trailing comma");
    }
    return c < 0 ? json_fail_here(in, close == '}' ? "EOF while parsing a value" : eof) : 1;
}

int json_take_key(struct json_reader *in, struct buf *key)
{
    if (json_peek(in) != '"') {
        return json_fail_peek(in, "key must be a string");
    }
    buf_clear(key);
    return take_string(in, key);
}

int json_take_colon(struct json_reader *in)
{
    int c = json_peek(in);

    if (c < 0) {
        return json_fail_here(in, "EOF while parsing an object");
    }
    if (c != ':') {
        return json_fail_peek(in, "expected `:`");
    }
    in->at++;
    return 0;
}

/* --- any value: take it, say what it was --- */

static int skip_inside(struct json_reader *in, char close)
{
    int r = json_enter(in);

    for (bool first = true; r == 0; first = false) {
        AUTO_CALL(buf_fini) struct buf key = {0};
        struct json_found inner = {0};

        r = json_next(in, close, first);
        if (r <= 0) {
            return r;
        }
        r = close == '}' ? json_take_key(in, &key) : 0;
        if (r == 0 && close == '}') {
            r = json_take_colon(in);
        }
        if (r == 0) {
            r = json_take_any(in, &inner);
        }
        buf_fini(&inner.string);
    }
    return r;
}

int json_take_any(struct json_reader *in, struct json_found *found)
{
    int c = json_peek(in);

    switch (c) {
    case -1: return json_fail_here(in, "EOF while parsing a value");
    case 'n': found->kind = F_NULL; return json_take_word(in, "null");
    case 't':
    case 'f':
        found->kind = F_BOOL;
        found->boolean = c == 't';
        return json_take_word(in, c == 't' ? "true" : "false");
    case '"': found->kind = F_STRING; return take_string(in, &found->string);
    case '[': found->kind = F_LIST; return skip_inside(in, ']');
    case '{': found->kind = F_MAP; return skip_inside(in, '}');
    default: break;
    }
    if (c != '-' && !(c >= '0' && c <= '9')) {
        return json_fail_peek(in, "expected value");
    }
    return take_number(in, found);
}
