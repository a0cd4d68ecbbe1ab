/* dump.c — see dump.h. */
#include "mmds/dump.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

static void dump_string(struct buf *out, const char *text, size_t len)
{
    static const char special[] = "\"\\\b\f\n\r\t";
    static const char letter[] = "\"\\bfnrt";

    buf_append_str(out, "\"");
    for (size_t i = 0; i < len; i++) {
        const char *at = text[i] ? strchr(special, text[i]) : NULL;

        if (at) {
            buf_printf(out, "\\%c", letter[at - special]);
        } else if ((unsigned char)text[i] < 0x20) {
            buf_printf(out, "\\u%04x", (unsigned)(unsigned char)text[i]);
        } else {
            buf_append(out, text + i, 1);
        }
    }
    buf_append_str(out, "\"");
}

/* The fewest digits that read back the same (17 tell any two doubles apart), without a point;
 * *ret_point is how many of them stand before it. */
static void shortest_digits(double value, char digits[static 24], int *ret_point)
{
    char text[40];
    size_t count = 0;

    for (int precision = 0; precision <= 16; precision++) {
        (void)snprintf(text, sizeof(text), "%.*e", precision, value);
        if (strtod(text, NULL) == value) { /* NOLINT(cert-err34-c): what snprintf wrote */
            break;
        }
    }
    for (const char *at = text; *at != 'e'; at++) {
        if (*at != '.') {
            digits[count++] = *at;
        }
    }
    digits[count] = '\0';
    *ret_point = 1 + (int)strtol(strchr(text, 'e') + 1, NULL, 10);
}

/* Plain between 1e-5 and 1e16, else with an exponent: what clients of Firecracker see. */
static void dump_real(struct buf *out, double value)
{
    char digits[24];
    int point;
    int count;

    if (signbit(value)) {
        buf_append_str(out, "-");
        value = -value;
    }
    shortest_digits(value, digits, &point);
    count = (int)strlen(digits);
    if (point > 16 || point <= -5) {
        buf_printf(out, "%c%s%se%d", digits[0], count > 1 ? "." : "", digits + 1, point - 1);
    } else if (point <= 0) {
        buf_printf(out, "0.%.*s%s", -point, "00000", digits);
    } else if (count <= point) {
        buf_printf(out, "%s%.*s.0", digits, point - count, "0000000000000000");
    } else {
        buf_printf(out, "%.*s.%s", point, digits, digits + point);
    }
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

void dump_sort_keys(const json_t *object, const char **keys)
{
    size_t count = 0;
    const char *key;
    json_t *value;

    /* jansson's iteration wants a pointer that could change it */
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        keys[count++] = key;
    }
    qsort(keys, count, sizeof(keys[0]), compare);
}

static void dump_object(struct buf *out, const json_t *object)
{
    size_t count = json_object_size(object);
    const char **keys = calloc(count ? count : 1, sizeof(*keys));

    if (!keys) {
        out->failed = true;
        return;
    }
    dump_sort_keys(object, keys);
    buf_append_str(out, "{");
    for (size_t i = 0; i < count; i++) {
        buf_append_str(out, i ? "," : "");
        dump_string(out, keys[i], strlen(keys[i]));
        buf_append_str(out, ":");
        dump_json(out, json_object_get(object, keys[i]));
    }
    buf_append_str(out, "}");
    free(keys);
}

static void dump_array(struct buf *out, const json_t *array)
{
    buf_append_str(out, "[");
    for (size_t i = 0; i < json_array_size(array); i++) {
        buf_append_str(out, i ? "," : "");
        dump_json(out, json_array_get(array, i));
    }
    buf_append_str(out, "]");
}

void dump_json(struct buf *out, const json_t *value) /* NOLINT(misc-no-recursion): jansson limits
                                                        the depth of what it reads */
{
    switch (json_typeof(value)) {
    case JSON_OBJECT: dump_object(out, value); break;
    case JSON_ARRAY: dump_array(out, value); break;
    case JSON_STRING: dump_string(out, json_string_value(value), json_string_length(value)); break;
    case JSON_INTEGER: buf_printf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(value)); break;
    case JSON_REAL: dump_real(out, json_real_value(value)); break;
    case JSON_TRUE: buf_append_str(out, "true"); break;
    case JSON_FALSE: buf_append_str(out, "false"); break;
    case JSON_NULL: buf_append_str(out, "null"); break;
    }
}
