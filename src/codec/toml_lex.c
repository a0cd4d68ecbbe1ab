/* toml_lex.c — see toml_lex.h. */
#include "codec/toml_lex.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/bits.h"
#include "base/buf.h"

int toml_fail(struct toml_reader *in, const char *what)
{
    return err_set(in->err, -EINVAL, "line %u: %s", in->line, what);
}

int toml_no_memory(struct toml_reader *in)
{
    return err_set(in->err, -ENOMEM, "out of memory");
}

/* --- blanks --- */

static int byte_at(const struct toml_reader *in, size_t ahead)
{
    return in->at + ahead < in->len ? (uint8_t)in->text[in->at + ahead] : -1;
}

static bool is_next(const struct toml_reader *in, const char *word)
{
    size_t len = strlen(word);

    return in->len - in->at >= len && memcmp(in->text + in->at, word, len) == 0;
}

/* Control characters that text may not have; '\t' it may. */
static bool is_control(int c)
{
    return (c >= 0 && c < ' ' && c != '\t') || c == 0x7f;
}

int toml_peek(struct toml_reader *in)
{
    while (byte_at(in, 0) == ' ' || byte_at(in, 0) == '\t') {
        in->at++;
    }
    return byte_at(in, 0);
}

/* "\n" or "\r\n", which is taken. */
static bool take_newline(struct toml_reader *in)
{
    size_t len = is_next(in, "\r\n") ? 2 : 1;

    if (len == 1 && byte_at(in, 0) != '\n') {
        return false;
    }
    in->at += len;
    in->line++;
    return true;
}

static int skip_comment(struct toml_reader *in)
{
    if (byte_at(in, 0) != '#') {
        return 0;
    }
    while (in->at < in->len && byte_at(in, 0) != '\n' && !is_next(in, "\r\n")) {
        if (is_control(byte_at(in, 0))) {
            return toml_fail(in, "a control character in a comment");
        }
        in->at++;
    }
    return 0;
}

int toml_peek_line(struct toml_reader *in, int *ret_byte)
{
    int r;

    do {
        (void)toml_peek(in);
        r = skip_comment(in);
    } while (r == 0 && take_newline(in));
    *ret_byte = byte_at(in, 0);
    return r;
}

int toml_end_line(struct toml_reader *in)
{
    int r;

    (void)toml_peek(in);
    r = skip_comment(in);
    if (r == 0 && in->at < in->len && !take_newline(in)) {
        return toml_fail(in, "more text behind the end");
    }
    return r;
}

/* --- strings --- */

static void put_utf8(struct buf *out, uint32_t code)
{
    if (code < 0x80) {
        buf_append_u8(out, (uint8_t)code);
    } else if (code < 0x800) {
        buf_append_u8(out, (uint8_t)(0xc0 | code >> 6));
        buf_append_u8(out, (uint8_t)(0x80 | (code & 0x3f)));
    } else if (code < 0x10000) {
        buf_append_u8(out, (uint8_t)(0xe0 | code >> 12));
        buf_append_u8(out, (uint8_t)(0x80 | (code >> 6 & 0x3f)));
        buf_append_u8(out, (uint8_t)(0x80 | (code & 0x3f)));
    } else {
        buf_append_u8(out, (uint8_t)(0xf0 | code >> 18));
        buf_append_u8(out, (uint8_t)(0x80 | (code >> 12 & 0x3f)));
        buf_append_u8(out, (uint8_t)(0x80 | (code >> 6 & 0x3f)));
        buf_append_u8(out, (uint8_t)(0x80 | (code & 0x3f)));
    }
}

/* The digits of \u and \U. */
static int take_code(struct toml_reader *in, unsigned digits, struct buf *out)
{
    uint32_t code = 0;

    for (unsigned i = 0; i < digits; i++) {
        int c = byte_at(in, 0);

        if (c < 0 || !isxdigit(c)) {
            return toml_fail(in, "\\u needs four hexadecimal digits, \\U eight");
        }
        code = code << 4 | (uint32_t)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
        in->at++;
    }
    if (code == 0 || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) {
        return toml_fail(in, code ? "\\u or \\U of no character" : "a NUL character in a string");
    }
    put_utf8(out, code);
    return 0;
}

/* A '\' at the end of a line of a multi-line string takes all blanks up to the next word along. */
static bool take_line_end(struct toml_reader *in)
{
    size_t start = in->at;
    bool has_end;

    (void)toml_peek(in);
    has_end = take_newline(in);
    if (!has_end) {
        in->at = start;
        return false;
    }
    do {
        (void)toml_peek(in);
    } while (take_newline(in));
    return true;
}

/* Behind a '\'. */
static int take_escape(struct toml_reader *in, bool is_multi, struct buf *out)
{
    static const char names[] = "btnfr\"\\";
    static const char values[] = "\b\t\n\f\r\"\\";
    int c = byte_at(in, 0);
    const char *found = c > 0 ? strchr(names, c) : NULL;

    if (is_multi && take_line_end(in)) {
        return 0;
    }
    if (c >= 0) {
        in->at++;
    }
    if (found) {
        buf_append_u8(out, (uint8_t)values[found - names]);
        return 0;
    }
    if (c == 'u' || c == 'U') {
        return take_code(in, c == 'u' ? 4 : 8, out);
    }
    return toml_fail(in, "an unknown '\\' in a string; '...' takes it as it is");
}

/* One character or escape of a string that `quote` ends. */
static int take_char(struct toml_reader *in, char quote, bool is_multi, struct buf *out)
{
    int c = byte_at(in, 0);

    if (is_multi && take_newline(in)) {
        buf_append_u8(out, '\n');
        return 0;
    }
    if (c < 0 || c == '\n' || is_next(in, "\r\n")) {
        return toml_fail(in, "a string without its end");
    }
    if (is_control(c)) {
        return toml_fail(in, "a control character in a string");
    }
    in->at++;
    if (c == '\\' && quote == '"') {
        return take_escape(in, is_multi, out);
    }
    buf_append_u8(out, (uint8_t)c);
    return 0;
}

/* A multi-line string ends with three quotes, before which one or two may belong to it. */
static bool take_multi_end(struct toml_reader *in, char quote, struct buf *out)
{
    size_t count = 0;

    while (count < 5 && byte_at(in, count) == quote) {
        count++;
    }
    if (count < 3) {
        return false;
    }
    in->at += count;
    for (; count > 3; count--) {
        buf_append_u8(out, (uint8_t)quote);
    }
    return true;
}

static int take_text(struct toml_reader *in, char quote, bool is_multi, struct buf *out)
{
    for (;;) {
        int r;

        if (is_multi ? take_multi_end(in, quote, out) : byte_at(in, 0) == quote) {
            in->at += !is_multi;
            return 0;
        }
        r = take_char(in, quote, is_multi, out);
        if (r < 0) {
            return r;
        }
    }
}

/* At its first quote. */
static int take_string(struct toml_reader *in, bool may_be_multi, char **ret_text)
{
    AUTO_CALL(buf_fini) struct buf out = {0};
    char quote = in->text[in->at];
    bool is_multi = may_be_multi && byte_at(in, 1) == quote && byte_at(in, 2) == quote;
    int r;

    in->at += is_multi ? 3 : 1;
    if (is_multi) {
        (void)take_newline(in);
    }
    r = take_text(in, quote, is_multi, &out);
    if (r < 0) {
        return r;
    }
    *ret_text = strdup(buf_str(&out));
    return buf_status(&out) < 0 || !*ret_text ? toml_no_memory(in) : 0;
}

/* --- keys --- */

static bool is_bare(int c)
{
    return c > 0 && c < 0x80 && (isalnum(c) || c == '_' || c == '-');
}

int toml_take_key(struct toml_reader *in, char **ret_key)
{
    size_t start;
    int c = toml_peek(in);

    if (c == '"' || c == '\'') {
        return take_string(in, false, ret_key);
    }
    for (start = in->at; is_bare(byte_at(in, 0));) {
        in->at++;
    }
    if (in->at == start) {
        return toml_fail(in, "a key must be here: letters, digits, '_', '-', or in quotes");
    }
    *ret_key = strndup(in->text + start, in->at - start);
    return *ret_key ? 0 : toml_no_memory(in);
}

/* --- numbers, dates, truth --- */

/* Digits of `base` with '_' between them, into `out` without.  The number of digits; 0 for none or
 * a '_' at an end. */
static size_t copy_digits(const char *from, int base, char *out, size_t *ret_used)
{
    size_t used = 0;
    size_t count = 0;

    for (;; used++) {
        char c = from[used];
        bool is_digit = base == 16 ? isxdigit((unsigned char)c) : c >= '0' && c < '0' + base;

        if (is_digit) {
            out[count++] = c;
        } else if (c != '_' || used == 0 || from[used - 1] == '_') {
            break;
        }
    }
    out[count] = 0;
    *ret_used = used;
    return used > 0 && from[used - 1] == '_' ? 0 : count;
}

/* Is the whole word an integer?  1, 0, or -ERANGE. */
static int parse_int(const char *word, int64_t *ret_number)
{
    static const struct {
        char letter;
        int base;
    } bases[] = {{'x', 16}, {'o', 8}, {'b', 2}};
    char digits[128];
    const char *at = word;
    char *end = digits;
    int base = 10;
    size_t used;

    for (size_t i = 0; i < ARRAY_LEN(bases); i++) {
        if (at[0] == '0' && at[1] == bases[i].letter) {
            base = bases[i].base;
            at += 2;
        }
    }
    if (base == 10 && (*at == '+' || *at == '-')) {
        *end++ = *at++;
    }
    if (copy_digits(at, base, end, &used) == 0 || at[used]) {
        return 0;
    }
    if (base == 10 && end[0] == '0' && end[1]) {
        return 0; /* no leading zeros */
    }
    errno = 0;
    *ret_number = strtoll(digits, NULL, base);
    return errno ? -ERANGE : 1;
}

/* digits [. digits] [e [sign] digits], or inf, nan */
static bool is_float(const char *word)
{
    char digits[128];
    size_t used;
    const char *at = word + (*word == '+' || *word == '-');

    if (strcmp(at, "inf") == 0 || strcmp(at, "nan") == 0) {
        return true;
    }
    if (copy_digits(at, 10, digits, &used) == 0 || (digits[0] == '0' && digits[1])) {
        return false;
    }
    at += used;
    if (*at == '.') {
        if (copy_digits(at + 1, 10, digits, &used) == 0) {
            return false;
        }
        at += used + 1;
    }
    if (*at == 'e' || *at == 'E') {
        at++;
        at += *at == '+' || *at == '-';
        if (copy_digits(at, 10, digits, &used) == 0) {
            return false;
        }
        at += used;
    }
    return *at == 0;
}

/* Does `word` begin like `form`, in which 0 stands for a digit?  Returns what follows, or NULL. */
static const char *has_form(const char *word, const char *form)
{
    for (; *form; form++, word++) {
        if (*form == '0' ? !isdigit((unsigned char)*word) : *form != *word) {
            return NULL;
        }
    }
    return word;
}

/* 00:00:00[.000][Z|+00:00] */
static bool is_time(const char *word, bool may_have_zone)
{
    const char *at = has_form(word, "00:00:00");

    if (at && *at == '.') {
        size_t digits = strspn(at + 1, "0123456789");

        at = digits ? at + 1 + digits : NULL;
    }
    if (!at || !*at) {
        return at != NULL;
    }
    if (!may_have_zone) {
        return false;
    }
    if (strcmp(at, "Z") == 0 || strcmp(at, "z") == 0) {
        return true;
    }
    at = *at == '+' || *at == '-' ? has_form(at + 1, "00:00") : NULL;
    return at && !*at;
}

static bool is_date(const char *word)
{
    const char *at = has_form(word, "0000-00-00");

    if (!at) {
        return is_time(word, false);
    }
    return !*at || (strchr("Tt ", *at) && is_time(at + 1, true));
}

/* How long the word at `in` is: a date may go on behind one blank. */
static size_t word_len(const struct toml_reader *in)
{
    size_t len = 0;

    while (in->at + len < in->len && len < 100) {
        char c = in->text[in->at + len];

        if (c == ' ' && len == 10 && in->len - in->at > 11 &&
            isdigit((unsigned char)in->text[in->at + 11])) {
            len++;
            continue;
        }
        if (!is_bare((unsigned char)c) && !strchr("+.:", c)) {
            break;
        }
        len++;
    }
    return len;
}

static int take_word(struct toml_reader *in, struct toml_value *value)
{
    char word[128] = "";
    size_t len = word_len(in);
    int r;

    memcpy(word, in->text + in->at, len);
    r = parse_int(word, &value->number);
    if (strcmp(word, "true") == 0 || strcmp(word, "false") == 0) {
        value->type = TOML_BOOL;
        value->truth = word[0] == 't';
    } else if (r < 0) {
        return toml_fail(in, "a number beyond 64 bits");
    } else if (r > 0) {
        value->type = TOML_INT;
    } else if (is_date(word) || is_float(word)) {
        value->type = is_date(word) ? TOML_DATE : TOML_FLOAT;
        value->text = strdup(word);
        if (!value->text) {
            return toml_no_memory(in);
        }
    } else {
        return toml_fail(in, len ? "a value that is no number, date, true or false; text needs "
                                   "quotes"
                                 : "a value must be here");
    }
    in->at += len;
    return 0;
}

int toml_take_scalar(struct toml_reader *in, struct toml_value *value)
{
    int c = toml_peek(in);

    if (c == '"' || c == '\'') {
        value->type = TOML_STRING;
        return take_string(in, true, &value->text);
    }
    return take_word(in, value);
}
