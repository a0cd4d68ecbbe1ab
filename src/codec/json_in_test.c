/* json_in_test.c — text into structs, and the sentences about what is wrong with it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/buf.h"
#include "codec/json_in.h"
#include "tests/lib/test.h"

struct part {
    uint64_t size;
    bool has_size;
};

struct thing {
    uint8_t count;
    char *path;
    bool flag;
    int color;
    uint16_t port;
    bool has_port;
    struct part part;
    bool has_part;
    struct json_list names, parts, pairs;
    char *any;
};

static const char *const colors[] = {"Red", "Green", "Blue", NULL};

static const char *check_path(const char *text, char why[static 256])
{
    if (text[0] == '/') {
        return NULL;
    }
    (void)snprintf(why, 256, "`%s` is no path", text);
    return why;
}

static const struct json_field part_fields[] = {{.name = "size",
                                                 JSON_AT(struct part, size),
                                                 .kind = JSON_U64,
                                                 .is_required = true,
                                                 JSON_HAS(struct part, has_size)}};
static const struct json_type part_type = {"Part", sizeof(struct part), part_fields,
                                           ARRAY_LEN(part_fields), false};

static const struct json_field fields[] = {
    {.name = "count", JSON_AT(struct thing, count), .kind = JSON_U8, .is_required = true},
    {.name = "path", JSON_AT(struct thing, path), .kind = JSON_STRING, .check = check_path},
    {.name = "flag", JSON_AT(struct thing, flag), .kind = JSON_BOOL},
    {.name = "color", JSON_AT(struct thing, color), .kind = JSON_ENUM, .names = colors},
    {.name = "port",
     JSON_AT(struct thing, port),
     .kind = JSON_U16,
     .is_nullable = true,
     JSON_HAS(struct thing, has_port)},
    {.name = "part",
     JSON_AT(struct thing, part),
     .kind = JSON_OBJECT,
     .type = &part_type,
     .is_nullable = true,
     JSON_HAS(struct thing, has_part)},
    {.name = "names", JSON_AT(struct thing, names), .kind = JSON_LIST, .item = JSON_STRING},
    {.name = "parts",
     JSON_AT(struct thing, parts),
     .kind = JSON_LIST,
     .item = JSON_OBJECT,
     .type = &part_type},
    {.name = "pairs", JSON_AT(struct thing, pairs), .kind = JSON_MAP},
    {.name = "any", JSON_AT(struct thing, any), .kind = JSON_ANY},
};
static const struct json_type thing_type = {"Thing", sizeof(struct thing), fields,
                                            ARRAY_LEN(fields), true};

static int in(const char *text, struct thing *thing, struct err *err)
{
    *thing = (struct thing){0};
    *err = (struct err){0};
    return json_in(text, strlen(text), &thing_type, thing, err);
}

TEST(json_in, all_kinds_of_values)
{
    struct thing t;
    struct err err;

    CHECK_INT(in(" { \"count\" : 255, \"path\":\"/a\\\"\\u00e9\\ud83d\\ude00\\n\", \"flag\":true,"
                 "\"color\":\"Blue\",\"port\":65535,\"part\":{\"size\":18446744073709551615,\"x\":["
                 "{},1.5e3]},"
                 "\"names\":[\"a\",\"b\"],\"parts\":[{\"size\":1},{\"size\":2}],"
                 "\"pairs\":{\"k\":\"v\",\"\":\"w\"},\"any\": {\"a\" : [1, 2]} }\n ",
                 &t, &err),
              0);
    CHECK_INT(t.count, 255);
    CHECK_STR(t.path, "/a\"\xc3\xa9\xf0\x9f\x98\x80\n");
    CHECK(t.flag);
    CHECK_INT(t.color, 2);
    CHECK(t.has_port && t.port == 65535);
    CHECK(t.has_part && t.part.size == UINT64_MAX);
    CHECK_INT(t.names.count, 2);
    CHECK_STR(((char **)t.names.items)[1], "b");
    CHECK_INT(t.parts.count, 2);
    CHECK_INT(((struct part *)t.parts.items)[1].size, 2);
    CHECK_INT(t.pairs.count, 2);
    CHECK_STR(((struct json_pair *)t.pairs.items)[1].value, "w");
    CHECK_STR(t.any, "{\"a\" : [1, 2]}");
    json_in_free(&thing_type, &t);
    CHECK(!t.path && !t.names.items && !t.any);
}

TEST(json_in, null_is_absent_where_that_is_allowed)
{
    struct thing t;
    struct err err;

    CHECK_INT(in("{\"count\":1,\"port\":null,\"part\":null,\"any\":null}", &t, &err), 0);
    CHECK(!t.has_port && !t.has_part);
    CHECK_STR(t.any, "null");
    json_in_free(&thing_type, &t);
}

#define FIELDS_LIST \
    "`count`, `path`, `flag`, `color`, `port`, `part`, `names`, `parts`, `pairs`, `any`"

TEST(json_in, errors_say_what_and_where)
{
    static const struct {
        const char *text, *why;
    } table[] = {
        {"{\"flag\":true}", "missing field `count` at line 1 column 13"},
        {"{\n \"flag\": true\n}", "missing field `count` at line 3 column 1"},
        {"{\"foo\":1}", "unknown field `foo`, expected one of " FIELDS_LIST " at line 1 column 6"},
        {"{\"count\":1,\"count\":2}", "duplicate field `count` at line 1 column 18"},
        {"{\"count\":300}", "invalid value: integer `300`, expected u8 at line 1 column 12"},
        {"{\"count\":-1}", "invalid value: integer `-1`, expected u8 at line 1 column 11"},
        {"{\"count\":\"x\"}", "invalid type: string \"x\", expected u8 at line 1 column 12"},
        {"{\"count\":null}", "invalid type: null, expected u8 at line 1 column 13"},
        {"{\"count\":1.5}", "invalid type: floating point `1.5`, expected u8 at line 1 column 12"},
        {"{\"count\":2e0}", "invalid type: floating point `2.0`, expected u8 at line 1 column 12"},
        {"{\"count\":true}", "invalid type: boolean `true`, expected u8 at line 1 column 13"},
        {"{\"count\":[]}", "invalid type: sequence, expected u8 at line 1 column 11"},
        {"{\"count\":{}}", "invalid type: map, expected u8 at line 1 column 11"},
        {"{\"flag\":1}", "invalid type: integer `1`, expected a boolean at line 1 column 9"},
        {"{\"flag\":null}", "invalid type: null, expected a boolean at line 1 column 12"},
        {"{\"path\":1}", "invalid type: integer `1`, expected a string at line 1 column 9"},
        {"{\"path\":\"x\"}", "`x` is no path at line 1 column 11"},
        {"{\"path\":\"/\\u0000\"}", "a string has a NUL character at line 1 column 17"},
        {"{\"color\":\"Pink\"}",
         "unknown variant `Pink`, expected one of `Red`, `Green`, `Blue` at line 1 column 15"},
        {"{\"color\":1}", "invalid type: integer `1`, expected string or map at line 1 column 10"},
        {"{\"part\":1}", "invalid type: integer `1`, expected struct Part at line 1 column 9"},
        {"{\"part\":{}}", "missing field `size` at line 1 column 10"},
        {"{\"names\":1}", "invalid type: integer `1`, expected a sequence at line 1 column 10"},
        {"{\"names\":[1]}", "invalid type: integer `1`, expected a string at line 1 column 11"},
        {"{\"pairs\":{\"a\":1}}",
         "invalid type: integer `1`, expected a string at line 1 column 15"},
        {"\"x\"", "invalid type: string \"x\", expected struct Thing at line 1 column 3"},
        {"", "EOF while parsing a value at line 1 column 0"},
        {"{", "EOF while parsing an object at line 1 column 1"},
        {"{\"count\"", "EOF while parsing an object at line 1 column 8"},
        {"{\"count\":", "EOF while parsing a value at line 1 column 9"},
        {"{\"count\":1", "EOF while parsing an object at line 1 column 10"},
        {"{\"count\":1,", "EOF while parsing a value at line 1 column 11"},
        {"{\"count\":1,}", "trailing comma at line 1 column 12"},
        {"{\"names\":[\"a\",]}", "trailing comma at line 1 column 15"},
        {"{\"count\" 1}", "expected `:` at line 1 column 10"},
        {"{\"count\":1 \"flag\"", "expected `,` or `}` at line 1 column 12"},
        {"{\"names\":[\"a\" \"b\"]}", "expected `,` or `]` at line 1 column 15"},
        {"{count:1}", "key must be a string at line 1 column 2"},
        {"{\"count\":1}x", "trailing characters at line 1 column 12"},
        {"{\"count\":x}", "expected value at line 1 column 10"},
        {"{\"flag\":tru}", "expected ident at line 1 column 12"},
        {"{\"count\":01}", "invalid number at line 1 column 11"},
        {"{\"count\":1.}", "invalid number at line 1 column 12"},
        {"{\"count\":-}", "invalid number at line 1 column 11"},
        {"{\"path\":\"/", "EOF while parsing a string at line 1 column 10"},
        {"{\"path\":\"\\x\"}", "invalid escape at line 1 column 11"},
        {"{\"path\":\"\\udc00\"}", "lone leading surrogate in hex escape at line 1 column 15"},
        {"{\"path\":\"\\ud800x\"}", "unexpected end of hex escape at line 1 column 15"},
        {"{\"path\":\"a\nb\"}",
         "control character (\\u0000-\\u001F) found while parsing a string at line 2 column 0"},
    };

    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct thing t;
        struct err err;

        CHECK_INT(in(table[i].text, &t, &err), -EINVAL);
        CHECK_STR(err_text(&err), table[i].why);
        json_in_free(&thing_type, &t);
    }
}

TEST(json_in, depth_has_a_limit)
{
    char text[1024] = "{\"count\":1,\"any\":";
    struct thing t;
    struct err err;

    memset(text + strlen(text), '[', 126);
    memset(text + strlen(text), ']', 126);
    strcat(text, "}");
    CHECK_INT(in(text, &t, &err), 0);
    json_in_free(&thing_type, &t);
    memset(text, 0, sizeof(text));
    strcpy(text, "{\"any\":");
    memset(text + strlen(text), '[', 900);
    CHECK_INT(in(text, &t, &err), -EINVAL);
    CHECK(strstr(err_text(&err), "recursion limit exceeded"));
    json_in_free(&thing_type, &t);
}

TEST(json_in, every_prefix_and_every_changed_byte_is_refused_or_taken_whole)
{
    static const char good[] =
        "{\"count\":7,\"path\":\"/"
        "\\u00e9\\\"\",\"names\":[\"a\"],\"part\":{\"size\":1},\"any\":[null,{}],"
        "\"pairs\":{\"a\":\"b\"},\"flag\":false,\"color\":\"Red\",\"port\":0}";
    struct thing t;
    struct err err;

    for (size_t len = 0; len < sizeof(good) - 1; len++) {
        t = (struct thing){0};
        CHECK_INT(json_in(good, len, &thing_type, &t, &err), -EINVAL);
        json_in_free(&thing_type, &t);
    }
    for (size_t at = 0; at < sizeof(good) - 1; at++) {
        for (unsigned c = 0; c < 256; c++) {
            char *text = strdup(good);
            int r;

            CHECK(text);
            text[at] = (char)c;
            t = (struct thing){0};
            r = json_in(text, sizeof(good) - 1, &thing_type, &t, &err);
            CHECK(r == 0 || r == -EINVAL);
            json_in_free(&thing_type, &t);
            free(text);
        }
    }
}

TEST(json_in, strings_are_utf8)
{
    static const char *const bad[] = {"\"\xff\"", "\"\xc0\x80\"", "\"\xed\xa0\x80\"",
                                      "{\"\xe2\x82\":1}"};
    struct err err = {0};

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        CHECK_INT(json_check(bad[i], strlen(bad[i]), &err), -EINVAL);
        CHECK_HAS(err.text, "invalid unicode code point");
    }
    CHECK_OK(json_check("\"\xc3\xa9\"", 4, &err), &err);
    CHECK_OK(json_check(" [1, {\"a\": null}] ", 18, &err), &err);
    CHECK_INT(json_check("1 2", 3, &err), -EINVAL);
    CHECK_HAS(err.text, "trailing characters");
    CHECK_INT(json_check("", 0, &err), -EINVAL);
}
