/* http1_test.c — requests from bytes in any portions, answers to the byte. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "codec/http1.h"
#include "tests/lib/test.h"

/* Feed text in portions of `step` bytes; the first event other than MORE. */
static int feed(struct http1_parser *p, const char *text, size_t step, struct http1_request *ret,
                struct err *err)
{
    size_t len = strlen(text), at = 0;
    int r = HTTP1_MORE;

    while (r == HTTP1_MORE && at < len) {
        size_t part = len - at < step ? len - at : step, used = 0;

        r = http1_feed(p, text + at, part, &used, ret, err);
        CHECK(used <= part);
        CHECK(r != HTTP1_MORE || used == part);
        at += used;
    }
    return r;
}

#define PUT_TEXT                                                               \
    "PUT /drives/a HTTP/1.1\r\nHost: localhost\r\nContent-Type: x\r\n"         \
    "Accept: application/json\r\ncontent-length:  11\r\nX-Odd:\t v:w \r\n\r\n" \
    "{\"a\": true}"

TEST(http1, a_request_in_any_portions)
{
    for (size_t step = 1; step <= sizeof(PUT_TEXT); step++) {
        struct http1_parser p;
        struct http1_request request = {0};
        struct err err = {0};

        http1_parser_init(&p, 100);
        CHECK_INT(feed(&p, PUT_TEXT, step, &request, &err), HTTP1_READY);
        CHECK_INT(request.method, HTTP1_PUT);
        CHECK_INT(request.version, HTTP1_1);
        CHECK_STR(http1_path(&request), "/drives/a");
        CHECK_STR(http1_field(&request, "x-odd"), "v:w");
        CHECK(!http1_field(&request, "X-Other"));
        CHECK_INT(request.accept, HTTP1_JSON);
        CHECK(request.has_body);
        CHECK_STR(buf_str(&request.body), "{\"a\": true}");
        http1_request_fini(&request);
        http1_parser_fini(&p);
    }
}

TEST(http1, pipelined_requests_come_one_by_one)
{
    static const char text[] =
        "GET / HTTP/1.0\r\n\r\nPATCH /vm HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"
        "DELETE /x HTTP/1.1\r\n\r\n";
    static const enum http1_method methods[] = {HTTP1_GET, HTTP1_PATCH, HTTP1_DELETE};
    struct http1_parser p;
    struct err err = {0};
    size_t at = 0;

    http1_parser_init(&p, 100);
    for (unsigned i = 0; i < ARRAY_LEN(methods); i++) {
        struct http1_request request = {0};
        size_t used;

        CHECK_INT(http1_feed(&p, text + at, sizeof(text) - 1 - at, &used, &request, &err),
                  HTTP1_READY);
        CHECK_INT(request.method, methods[i]);
        CHECK_INT(request.version, i ? HTTP1_1 : HTTP1_0);
        CHECK_INT(request.has_body, i == 1);
        at += used;
        http1_request_fini(&request);
    }
    CHECK_INT(at, sizeof(text) - 1);
    http1_parser_fini(&p);
}

TEST(http1, paths_of_all_forms_of_uri)
{
    static const char *const table[][2] = {{"/drives/x", "/drives/x"},
                                           {"http://host/drives/x", "/drives/x"},
                                           {"http://host", "/"},
                                           {"drives", "/"},
                                           {"/version?x=1", "/version?x=1"},
                                           {"/\xc3\xa9", "/\xc3\xa9"}};

    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct http1_parser p;
        struct http1_request request = {0};
        struct err err = {0};
        char text[128];

        http1_parser_init(&p, 100);
        (void)snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\n\r\n", table[i][0]);
        CHECK_INT(feed(&p, text, 1000, &request, &err), HTTP1_READY);
        CHECK_STR(http1_path(&request), table[i][1]);
        http1_request_fini(&request);
    }
}

TEST(http1, what_is_wrong_is_said)
{
    static const struct {
        const char *text, *why;
    } table[] = {
        {"POST / HTTP/1.1\r\n\r\n", "Invalid HTTP Method: Unsupported HTTP method."},
        {"get / HTTP/1.1\r\n\r\n", "Invalid HTTP Method: Unsupported HTTP method."},
        {"GET / HTTP/2.0\r\n\r\n", "Invalid HTTP Version: Unsupported HTTP version."},
        {"GET / HTTP/1.1 \r\n\r\n", "Invalid HTTP Version: Unsupported HTTP version."},
        {"GET /\r\n\r\n", "Invalid request."},
        {"\r\n", "Invalid request."},
        {"GET  HTTP/1.1\r\n\r\n", "Invalid URI: Empty URI not allowed."},
        {"GET /\xff HTTP/1.1\r\n\r\n", "Invalid URI: Cannot parse URI as UTF-8."},
        {"GET /\xc0\x80 HTTP/1.1\r\n\r\n", "Invalid URI: Cannot parse URI as UTF-8."},
        {"GET /\xed\xa0\x80 HTTP/1.1\r\n\r\n", "Invalid URI: Cannot parse URI as UTF-8."},
        {"GET /\xe2\x82 HTTP/1.1\r\n\r\n", "Invalid URI: Cannot parse URI as UTF-8."},
        {"GET / HTTP/1.1\r\nnonsense\r\n\r\n",
         "Invalid header. Reason: Header is incorrectly formatted. Key: nonsense"},
        {"GET / HTTP/1.1\r\nContent-Length: alpha\r\n\r\n",
         "Invalid header. Reason: Invalid value. Key:Content-Length; Value: alpha"},
        {"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
         "Invalid header. Reason: Invalid value. Key:Content-Length; Value: -1"},
        {"GET / HTTP/1.1\r\nContent-Length: 4294967296\r\n\r\n",
         "Invalid header. Reason: Invalid value. Key:Content-Length; Value: 4294967296"},
        {"GET / HTTP/1.1\r\nAccept-Encoding: gzip, identity;q=0\r\n\r\n",
         "Invalid header. Reason: Invalid value. Key:Accept-Encoding; Value:gzip, identity;q=0"},
        {"GET / HTTP/1.1\r\nAccept-Encoding: *;q=0\r\n\r\n",
         "Invalid header. Reason: Invalid value. Key:Accept-Encoding; Value:*;q=0"},
        {"PUT / HTTP/1.1\r\nContent-Length: 260\r\n\r\n",
         "Request payload with size 260 is larger than the limit of 250 allowed by server."},
    };

    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct http1_parser p;
        struct http1_request request = {0};
        struct err err = {0};

        http1_parser_init(&p, 250);
        CHECK(feed(&p, table[i].text, 7, &request, &err) < 0);
        CHECK_STR(err_text(&err), table[i].why);
        /* and the connection goes on */
        CHECK_INT(feed(&p, "GET / HTTP/1.1\r\n\r\n", 5, &request, &err), HTTP1_READY);
        http1_request_fini(&request);
    }
}

TEST(http1, a_nul_or_a_byte_that_is_no_utf8_in_a_field_is_refused)
{
    static const char *const table[] = {"a\0b: c", "abc\xff: d"};
    static const size_t at[] = {1, 3};

    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct http1_parser p;
        struct http1_request request = {0};
        struct err err = {0};
        char text[64] = "GET / HTTP/1.1\r\n", want[128];
        size_t used, len = strlen(text);

        memcpy(text + len, table[i], 7);
        memcpy(text + len + 7, "\r\n", 2);
        http1_parser_init(&p, 100);
        CHECK_INT(http1_feed(&p, text, len + 9, &used, &request, &err), -EINVAL);
        (void)snprintf(want, sizeof(want),
                       "Invalid header. Reason: Header contains invalid characters. Key: invalid "
                       "utf-8 sequence of 1 bytes from index %zu",
                       at[i]);
        CHECK_STR(err_text(&err), want);
        http1_parser_fini(&p);
    }
}

TEST(http1, codings_that_leave_identity_are_fine)
{
    static const char *const table[] = {
        "gzip",           "gzip, deflate, br", "*;q=0, identity", "",
        "identity;q=0.5", "gzip;q=0",          "identity;q=1"};

    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct http1_parser p;
        struct http1_request request = {0};
        struct err err = {0};
        char text[128];

        http1_parser_init(&p, 100);
        (void)snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nAccept-Encoding: %s\r\n\r\n",
                       table[i]);
        CHECK_INT(feed(&p, text, 1000, &request, &err), HTTP1_READY);
        http1_request_fini(&request);
    }
}

TEST(http1, lines_have_a_limit)
{
    struct http1_parser p;
    struct http1_request request = {0};
    struct err err = {0};
    char text[HTTP1_LINE_MAX * 2];
    size_t len = HTTP1_LINE_MAX - strlen("GET  HTTP/1.1\r\n");

    http1_parser_init(&p, 100);
    (void)snprintf(text, sizeof(text), "GET /%0*d HTTP/1.1\r\n\r\n", (int)len - 1, 0);
    CHECK_INT(feed(&p, text, 1000, &request, &err), HTTP1_READY);
    CHECK_INT(strlen(http1_path(&request)), len);
    http1_request_fini(&request);
    (void)snprintf(text, sizeof(text), "GET /%0*d HTTP/1.1\r\n\r\n", (int)len, 0);
    CHECK_INT(feed(&p, text, 1000, &request, &err), -EINVAL);
    CHECK_STR(err_text(&err), "Invalid request.");
}

TEST(http1, a_peer_that_waits_is_told_to_continue)
{
    static const char head[] =
        "PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    struct http1_parser p;
    struct http1_request request = {0};
    struct err err = {0};

    http1_parser_init(&p, 100);
    CHECK_INT(feed(&p, head, 3, &request, &err), HTTP1_CONTINUE);
    CHECK_INT(feed(&p, "{}", 1, &request, &err), HTTP1_READY);
    CHECK_STR(buf_str(&request.body), "{}");
    http1_request_fini(&request);
    /* nothing to wait for without a body */
    CHECK_INT(feed(&p, "GET / HTTP/1.1\r\nExpect: 100-continue\r\n\r\n", 3, &request, &err),
              HTTP1_READY);
    http1_request_fini(&request);
}

TEST(http1, answers_to_the_byte)
{
    struct http1_answer answer = {
        .version = HTTP1_1, .status = 204, .server = "Firecracker API", .media = HTTP1_JSON};
    struct buf out = {0};

    http1_put_answer(&out, &answer);
    CHECK_STR(buf_str(&out),
              "HTTP/1.1 204 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n\r\n");
    buf_clear(&out);
    answer.status = 400;
    answer.is_deprecated = true;
    answer.body = "{}";
    answer.body_len = 2;
    http1_put_answer(&out, &answer);
    CHECK_STR(buf_str(&out),
              "HTTP/1.1 400 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n"
              "Deprecation: true\r\nContent-Type: application/json\r\n"
              "Content-Length: 2\r\n\r\n{}");
    buf_clear(&out);
    answer = (struct http1_answer){.version = HTTP1_0,
                                   .status = 405,
                                   .server = "Firecracker API",
                                   .allow = "GET, PUT",
                                   .extra = "X-T: 1\r\n",
                                   .media = HTTP1_TEXT};
    http1_put_answer(&out, &answer);
    CHECK_STR(buf_str(&out),
              "HTTP/1.0 405 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n"
              "Allow: GET, PUT\r\nX-T: 1\r\nContent-Type: text/plain\r\n"
              "Content-Length: 0\r\n\r\n");
    buf_fini(&out);
}

TEST(http1, random_bytes_never_break_it)
{
    static const char *const words[] = {
        "GET ",   "PUT ", "/",    " HTTP/1.1", "\r\n", "\r\n\r\n", "Content-Length: ",        "3",
        "Accept", ":",    "\xff", "\xc3",      "a",    " ",        "Expect: 100-continue\r\n"};
    struct http1_parser p;
    uint32_t x = 12345;

    http1_parser_init(&p, 16);
    for (unsigned i = 0; i < 200000; i++) {
        struct http1_request request = {0};
        struct err err = {0};
        const char *word;
        int r;

        x = x * 1664525 + 1013904223;
        word = words[(x >> 16) % ARRAY_LEN(words)];
        r = feed(&p, word, 3, &request, &err);
        CHECK(r <= HTTP1_CONTINUE);
        http1_request_fini(&request);
    }
    http1_parser_fini(&p);
}
