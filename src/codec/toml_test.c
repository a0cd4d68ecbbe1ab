/* toml_test.c — what each form of TOML means, and what is said about text that is none. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/bits.h"
#include "base/buf.h"
#include "codec/toml.h"
#include "tests/lib/test.h"

/* A tree as one line: {a=1 b="x" c=[1,2]}. */
static void show(const struct toml_value *value, struct buf *out)
{
    bool is_table = value->type == TOML_TABLE;

    switch (value->type) {
    case TOML_STRING: buf_printf(out, "\"%s\"", value->text); break;
    case TOML_INT: buf_printf(out, "%lld", (long long)value->number); break;
    case TOML_BOOL: buf_append_str(out, value->truth ? "true" : "false"); break;
    case TOML_FLOAT: buf_printf(out, "F%s", value->text); break;
    case TOML_DATE: buf_printf(out, "D%s", value->text); break;
    case TOML_ARRAY:
    case TOML_TABLE:
        buf_append_str(out, is_table ? "{" : "[");
        for (size_t i = 0; i < value->count; i++) {
            buf_append_str(out, i ? (is_table ? " " : ",") : "");
            if (is_table) {
                buf_printf(out, "%s=", value->items[i].key);
            }
            show(&value->items[i], out);
        }
        buf_append_str(out, is_table ? "}" : "]");
        break;
    }
}

static void check_tree(const char *text, const char *want)
{
    AUTO_CALL(buf_fini) struct buf out = {0};
    struct toml_value root;
    struct err err = {0};

    if (toml_parse(text, strlen(text), &root, &err) < 0) {
        CHECK_STR(err.text, text);
        return;
    }
    show(&root, &out);
    CHECK_STR(buf_str(&out), want);
    toml_fini(&root);
}

TEST(codec, toml_trees)
{
    static const struct {
        const char *text, *want;
    } table[] = {
        {"", "{}"},
        {"\xef\xbb\xbf# mark\na=1", "{a=1}"},
        {"# only\n\n\t # comments\r\n", "{}"},
        {"a=1 # one\nb = true\r\nc=false", "{a=1 b=true c=false}"},
        {"\"x y\"=1\n'q.r'=2\n3=4\n-=5", "{x y=1 q.r=2 3=4 -=5}"},
        {"a.b.c=1\na . b.\"d\" = 2", "{a={b={c=1 d=2}}}"},
        {"i=[0x1F,0o17,0b101,-17,+3,1_000,0,-0]", "{i=[31,15,5,-17,3,1000,0,0]}"},
        {"i=-9223372036854775808", "{i=-9223372036854775808}"},
        {"f=[1.5,-0.0,6e23,1_0.2_5E-1_0,inf,-nan,0e0]",
         "{f=[F1.5,F-0.0,F6e23,F1_0.2_5E-1_0,Finf,F-nan,F0e0]}"},
        {"d=[1979-05-27,1979-05-27 07:32:00Z,1979-05-27T00:32:00.999-07:00,07:32:00]",
         "{d=[D1979-05-27,D1979-05-27 07:32:00Z,D1979-05-27T00:32:00.999-07:00,D07:32:00]}"},
        {"s=[\"\\t\\\"\\\\\\u00e9\\U0001F600\", '\\t\"', \"\", '']",
         "{s=[\"\t\"\\\xc3\xa9\xf0\x9f\x98\x80\",\"\\t\"\",\"\",\"\"]}"},
        {"s=\"\"\"\nx\n  y \\\n\n   z\"\"\"", "{s=\"x\n  y z\"}"},
        {"s='''\r\nx\\\r\ny'''", "{s=\"x\\\ny\"}"},
        {"s=\"\"\"\"a\"\"\"\"\"\nt=''''b'''''", "{s=\"\"a\"\"\" t=\"'b''\"}"},
        {"a=[ # c\n 1 ,\n\n 2, # d\n]\nb=[]\nc=[[1],[\"x\",],]", "{a=[1,2] b=[] c=[[1],[\"x\"]]}"},
        {"t={}\nu={a=1, b.c = \"x\",d={e=[{f=1}]}}", "{t={} u={a=1 b={c=\"x\"} d={e=[{f=1}]}}}"},
        {"[a]\nx=1\n[b.c]\ny=2\n[b]\nz=3\n[ 'd' . e ]", "{a={x=1} b={c={y=2} z=3} d={e={}}}"},
        {"[[p]]\nn=1\n[p.sub]\nx=1\n[[p]]\n[[p.q]]\n[[p.q]]\ny=2",
         "{p=[{n=1 sub={x=1}},{q=[{},{y=2}]}]}"},
        {"[f]\na.c=1\n[f.a.t]\ns=true", "{f={a={c=1 t={s=true}}}}"},
        {"a=1\nb=2\nc=3\nd=4\ne=5", "{a=1 b=2 c=3 d=4 e=5}"},
    };

    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        check_tree(table[i].text, table[i].want);
    }
}

TEST(codec, bad_toml_is_told_with_its_line)
{
    static const struct {
        const char *text, *want;
    } table[] = {
        {"a=1\nb", "line 2: '=' is missing behind 'b'"},
        {"a=", "line 1: a value must be here"},
        {"\n\na = b", "line 3: a value that is no number, date, true or false; text needs quotes"},
        {"a=1 b=2", "line 1: more text behind the end"},
        {"a=1\na=2", "line 2: 'a' is defined a second time"},
        {"= 1", "line 1: a key must be here"},
        {"a..b=1", "line 1: a key must be here"},
        {"a=\"x\n\"", "line 1: a string without its end"},
        {"a='x", "line 1: a string without its end"},
        {"a='''\nx", "line 2: a string without its end"},
        {"a=\"\\q\"", "line 1: an unknown '\\' in a string"},
        {"a=\"\\u12\"", "line 1: \\u needs four"},
        {"a=\"\\ud800\"", "line 1: \\u or \\U of no character"},
        {"a=\"\\u0000\"", "line 1: a NUL character"},
        {"a=\"\x01\"", "line 1: a control character in a string"},
        {"# \x7f", "line 1: a control character in a comment"},
        {"a=[1\n2]", "line 2: an array goes on with ','"},
        {"a=[1,,2]", "line 1: a value must be here"},
        {"a=[\n1", "line 2: an array goes on with ','"},
        {"a={b=1", "line 1: an inline table goes on"},
        {"a={b=1,}", "line 1: a key must be here"},
        {"a={b=1\n}", "line 1: an inline table goes on"},
        {"[a", "line 1: ']' is missing"},
        {"[[a]", "line 1: ']]' is missing"},
        {"[a]\n[a]", "line 2: 'a' is defined a second time"},
        {"[]", "line 1: a key must be here"},
        {"a=1\n[a]", "line 2: 'a' is defined"},
        {"a=1\n[a.b]", "line 2: 'a' is defined"},
        {"a={}\n[a.b]", "line 2: 'a' is defined"},
        {"a={}\na.b=1", "line 2: 'a' is defined"},
        {"a={b.c=1}\na.b.d=1", "line 2: 'a' is defined"},
        {"a=[]\n[[a]]", "line 2: 'a' is defined"},
        {"[[a]]\n[a]", "line 2: 'a' is defined"},
        {"[a]\n[[a]]", "line 2: 'a' is defined"},
        {"[a.b]\nx=1\n[a]\nb.y=1", "line 4: 'b' is defined"},
        {"[f]\na.c=1\n[f.a]", "line 3: 'a' is defined"},
        {"a.b=1\na.b.c=1", "line 2: 'b' is defined"},
        {"a=9223372036854775808", "line 1: a number beyond 64 bits"},
        {"a=01", "line 1: a value that is no number"},
        {"a=1__0", "line 1: a value that is no number"},
        {"a=_1", "line 1: a value that is no number"},
        {"a=0x", "line 1: a value that is no number"},
        {"a=+0x1", "line 1: a value that is no number"},
        {"a=1.", "line 1: a value that is no number"},
        {"a=.5", "line 1: a value that is no number"},
        {"a=1e", "line 1: a value that is no number"},
        {"a=1979-5-27", "line 1: a value that is no number"},
        {"a=07:32:00Z", "line 1: a value that is no number"},
        {"\n\xff=1", "line 2: the text is not UTF-8"},
    };

    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct toml_value root;
        struct err err = {0};

        CHECK_INT(toml_parse(table[i].text, strlen(table[i].text), &root, &err), -EINVAL);
        CHECK_HAS(err.text, table[i].want);
        CHECK_INT(toml_parse(table[i].text, strlen(table[i].text), &root, NULL), -EINVAL);
    }
}

/* A NUL byte ends no text: neither in a string nor in a comment may it hide the rest. */
TEST(codec, toml_with_a_nul_byte)
{
    static const char text[] = "a='x\0y'";
    static const char blank[] = "a=1\n\0b=2";
    struct toml_value root;
    struct err err = {0};

    CHECK_INT(toml_parse(text, sizeof(text) - 1, &root, &err), -EINVAL);
    CHECK_HAS(err.text, "line 1: a control character");
    CHECK_INT(toml_parse(blank, sizeof(blank) - 1, &root, &err), -EINVAL);
    CHECK_HAS(err.text, "line 2: a key must be here");
}

TEST(codec, toml_nested_too_deeply)
{
    AUTO_CALL(buf_fini) struct buf text = {0};
    struct toml_value root;
    struct err err = {0};

    buf_append_str(&text, "a=");
    for (unsigned i = 0; i < 100000; i++) {
        buf_append_str(&text, i % 2 ? "{x=" : "[");
    }
    CHECK_INT(toml_parse(buf_str(&text), text.len, &root, &err), -EINVAL);
    CHECK_HAS(err.text, "line 1: nested too deeply");
    buf_clear(&text);
    for (unsigned i = 0; i < 100000; i++) {
        buf_append_str(&text, "a.");
    }
    CHECK_INT(toml_parse(buf_str(&text), text.len, &root, &err), -EINVAL);
    CHECK_HAS(err.text, "nested too deeply");
}

/* Whatever stands there, the answer is a tree or an error. */
TEST(codec, toml_of_any_bytes)
{
    static const char words[][12] = {
        "a",     "b",    ".",   "=",   "1",  "\"", "'''",   "\"\"\"", "[",    "]",       "{",
        "}",     ",",    "\n",  "#",   "\\", "[[", "]]",    " ",      "true", "1e3",     "0x",
        "\\u12", "\r\n", "12:", "-01", "\t", "'",  "07:32", "\\\n",   "_",    "\xc3\xa9"};
    unsigned seed = 1;

    for (unsigned i = 0; i < 20000; i++) {
        AUTO_CALL(buf_fini) struct buf text = {0};
        struct toml_value root;
        struct err err = {0};

        for (unsigned j = 0; j < 1 + i % 24; j++) {
            seed = seed * 1664525 + 1013904223;
            buf_append_str(&text, words[seed >> 27]);
        }
        if (toml_parse(buf_str(&text), text.len, &root, &err) == 0) {
            toml_fini(&root);
        } else {
            CHECK_HAS(err.text, "line ");
        }
    }
}

TEST(codec, toml_get_by_name)
{
    static const char text[] = "a=1\n[b]\n";
    struct toml_value root;

    CHECK_INT(toml_parse(text, sizeof(text) - 1, &root, NULL), 0);
    CHECK_STR(toml_type_text(toml_get(&root, "b")->type), "a table");
    CHECK_INT(toml_get(&root, "b")->line, 2);
    CHECK(toml_get(&root, "c") == NULL);
    toml_fini(&root);
}
