/* mmds_test.c — the document, tokens, and what the guest is told. */
#include <errno.h>

#include "base/buf.h"
#include "codec/http1.h"
#include "metrics/metrics.h"
#include "mmds/mmds.h"
#include "mmds/token.h"
#include "tests/lib/test.h"

#define HEAD "Server: Firecracker API\r\nConnection: keep-alive\r\n"
#define DOCUMENT                                                                              \
    "{\"latest\":{\"meta-data\":{\"ami-id\":\"ami-1\",\"list\":[\"a\",\"b\"],\"obj\":{\"k\":" \
    "\"v\"},"                                                                                 \
    "\"empty\":\"\"},\"n\":512}}"

static struct mmds *fresh(size_t limit)
{
    struct mmds *mmds = NULL;
    struct err err = {0};

    metrics_reset();
    CHECK_OK(mmds_new("vm-1", limit, &mmds, &err), &err);
    return mmds;
}

static int put(struct mmds *mmds, const char *text, struct err *err)
{
    return mmds_put(mmds, text, strlen(text), err);
}

static int patch(struct mmds *mmds, const char *text, struct err *err)
{
    return mmds_patch(mmds, text, strlen(text), err);
}

static void check_document(struct mmds *mmds, const char *want)
{
    struct buf got = {0};

    CHECK_INT(mmds_get(mmds, &got), 0);
    CHECK_STR(buf_str(&got), want);
    buf_fini(&got);
}

TEST(mmds, a_document_comes_back_compact_and_sorted)
{
    static const char *const cases[][2] = {
        {" { \"b\" : 1 , \"a\" : [ true, null , -5 ] } ", "{\"a\":[true,null,-5],\"b\":1}"},
        {"\"text\"", "\"text\""},
        {"[0.1, 1e100, 5.0, 123456789.125]", "[0.1,1e100,5.0,123456789.125]"},
        {"[-0.0, 1e-5, 1.5e-6, 1e15, 1e16, 12e15]",
         "[-0.0,0.00001,1.5e-6,1000000000000000.0,1e16,1.2e16]"},
        {"\"\\u0001\\\"\\\\\\n\\/\xc3\xa9\"", "\"\\u0001\\\"\\\\\\n/\xc3\xa9\""},
        {"{}", "{}"},
    };
    struct mmds *mmds = fresh(1000);
    struct err err = {0};

    check_document(mmds, "{}");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        CHECK_OK(put(mmds, cases[i][0], &err), &err);
        check_document(mmds, cases[i][1]);
    }
    CHECK_INT(put(mmds, "{\"a\":", &err), -EINVAL);
    check_document(mmds, "{}");
    mmds_free(mmds);
}

/* The examples of RFC 7396, appendix A. */
TEST(mmds, patches_merge)
{
    static const char *const cases[][3] = {
        {"{\"a\":\"b\"}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
        {"{\"a\":\"b\"}", "{\"b\":\"c\"}", "{\"a\":\"b\",\"b\":\"c\"}"},
        {"{\"a\":\"b\"}", "{\"a\":null}", "{}"},
        {"{\"a\":\"b\",\"b\":\"c\"}", "{\"a\":null}", "{\"b\":\"c\"}"},
        {"{\"a\":[\"b\"]}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
        {"{\"a\":\"c\"}", "{\"a\":[\"b\"]}", "{\"a\":[\"b\"]}"},
        {"{\"a\":{\"b\":\"c\"}}", "{\"a\":{\"b\":\"d\",\"c\":null}}", "{\"a\":{\"b\":\"d\"}}"},
        {"{\"a\":[{\"b\":\"c\"}]}", "{\"a\":[1]}", "{\"a\":[1]}"},
        {"[\"a\",\"b\"]", "[\"c\",\"d\"]", "[\"c\",\"d\"]"},
        {"{\"a\":\"b\"}", "[\"c\"]", "[\"c\"]"},
        {"{\"a\":\"foo\"}", "null", "null"},
        {"{\"a\":\"foo\"}", "\"bar\"", "\"bar\""},
        {"{\"e\":null}", "{\"a\":1}", "{\"a\":1,\"e\":null}"},
        {"[1,2]", "{\"a\":\"b\",\"c\":null}", "{\"a\":\"b\"}"},
        {"{}", "{\"a\":{\"bb\":{\"ccc\":null}}}", "{\"a\":{\"bb\":{}}}"},
    };
    struct mmds *mmds = fresh(1000);
    struct err err = {0};

    CHECK_INT(patch(mmds, "{\"a\":1}", &err), -ENODATA);
    CHECK_STR(err.text, "The MMDS data store is not initialized.");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        CHECK_OK(put(mmds, cases[i][0], &err), &err);
        CHECK_OK(patch(mmds, cases[i][1], &err), &err);
        check_document(mmds, cases[i][2]);
    }
    mmds_free(mmds);
}

TEST(mmds, what_does_not_fit_changes_nothing)
{
    struct mmds *mmds = fresh(11);
    struct err err = {0};

    CHECK_OK(put(mmds, "{\"a\": \"bcd\" }", &err), &err); /* 14 bytes as written, 11 compact */
    CHECK_INT(put(mmds, "{\"a\":\"bcdef\"}", &err), -EFBIG);
    CHECK_STR(err.text, "The MMDS patch request doesn't fit.");
    CHECK_INT(patch(mmds, "{\"b\":1}", &err), -EFBIG);
    check_document(mmds, "{\"a\":\"bcd\"}");
    CHECK_OK(patch(mmds, "{\"a\":null,\"b\":12345}", &err), &err);
    check_document(mmds, "{\"b\":12345}");
    mmds_free(mmds);
}

/* One request as text, one answer as text. */
static void check_answer(struct mmds *mmds, const char *request_text, const char *want)
{
    struct http1_parser parser;
    struct http1_request request = {0};
    struct buf out = {0};
    struct err err = {0};
    size_t used;

    http1_parser_init(&parser, 100);
    CHECK_INT(http1_feed(&parser, request_text, strlen(request_text), &used, &request, &err),
              HTTP1_READY);
    mmds_answer(mmds, &request, &out);
    CHECK_STR(buf_str(&out), want);
    http1_request_fini(&request);
    http1_parser_fini(&parser);
    buf_fini(&out);
}

/* GET `path` without a token; status, media type and body. */
static void check_get(struct mmds *mmds, const char *path, const char *accept, int status,
                      const char *type, const char *body)
{
    char request[256];
    char want[512];

    (void)snprintf(request, sizeof(request), "GET %s HTTP/1.0\r\n%s%s%s\r\n", path,
                   accept ? "Accept: " : "", accept ? accept : "", accept ? "\r\n" : "");
    (void)snprintf(want, sizeof(want),
                   "HTTP/1.0 %d \r\n" HEAD "Content-Type: %s\r\nContent-Length: %zu\r\n\r\n%s",
                   status, type, strlen(body), body);
    check_answer(mmds, request, want);
}

TEST(mmds, values_are_found_and_shown_as_text_or_json)
{
    static const char text[] = "text/plain", json[] = "application/json";
    static const char unsupported[] = "Cannot retrieve value. The value has an unsupported type.";
    struct mmds *mmds = fresh(1000);
    struct mmds_config config = mmds_config_default;
    struct err err = {0};

    check_get(mmds, "/", NULL, 404, text, "Resource not found: /.");
    CHECK_OK(put(mmds, DOCUMENT, &err), &err);
    check_get(mmds, "/latest/meta-data/", NULL, 200, text, "ami-id\nempty\nlist\nobj/");
    check_get(mmds, "/latest/meta-data/ami-id/", NULL, 200, text, "ami-1");
    check_get(mmds, "//latest///meta-data/ami-id", "*/*", 200, text, "ami-1");
    check_get(mmds, "/latest/meta-data/ami-id", json, 200, json, "\"ami-1\"");
    check_get(mmds, "/latest/meta-data/list/0", NULL, 200, text, "a");
    check_get(mmds, "/latest/meta-data/list/2", NULL, 404, text,
              "Resource not found: /latest/meta-data/list/2.");
    check_get(mmds, "/latest/meta-data/list/00", NULL, 404, text,
              "Resource not found: /latest/meta-data/list/00.");
    check_get(mmds, "/latest/meta-data/list", NULL, 501, text, unsupported);
    check_get(mmds, "/latest/meta-data/list", json, 200, json, "[\"a\",\"b\"]");
    check_get(mmds, "/latest/meta-data/empty", NULL, 200, text, "");
    check_get(mmds, "/latest/n", NULL, 501, text, unsupported);
    check_get(mmds, "/latest/n", json, 200, json, "512");
    check_get(mmds, "/latest/n/x", json, 404, text, "Resource not found: /latest/n/x.");
    check_get(mmds, "/", NULL, 200, text, "latest/");
    check_get(mmds, "http://169.254.169.254/latest/n", json, 200, json, "512");
    check_get(mmds, "latest", NULL, 400, text, "Invalid URI.");
    check_get(mmds, "http://169.254.169.254", NULL, 400, text, "Invalid URI.");
    CHECK_INT(metric_get(&g_metrics.mmds.rx_no_token), 18);
    config.imds_compat = true;
    mmds_configure(mmds, &config);
    check_get(mmds, "/latest/meta-data/ami-id", json, 200, json, "ami-1");
    check_get(mmds, "/latest/n", json, 501, text, unsupported);
    mmds_free(mmds);
}

static void check_refusal(struct mmds *mmds, const char *request, int status, const char *body)
{
    char want[512];

    (void)snprintf(want, sizeof(want),
                   "HTTP/1.1 %d \r\n" HEAD "%sContent-Type: text/plain\r\nContent-Length: "
                   "%zu\r\n\r\n%s",
                   status, status == 405 ? "Allow: GET, PUT\r\n" : "", strlen(body), body);
    check_answer(mmds, request, want);
}

TEST(mmds, requests_that_are_refused_are_told_why)
{
    struct mmds *mmds = fresh(1000);

    check_refusal(mmds, "PATCH / HTTP/1.1\r\n\r\n", 405, "Not allowed HTTP method.");
    check_refusal(mmds, "DELETE /x HTTP/1.1\r\n\r\n", 405, "Not allowed HTTP method.");
    check_refusal(mmds, "GET /x HTTP/1.1\r\nContent-Length: 1\r\n\r\nx", 400, "Invalid request.");
    check_refusal(mmds, "PUT /x HTTP/1.1\r\n\r\n", 404, "Resource not found: /x.");
    check_refusal(mmds, "PUT /x HTTP/1.1\r\nx-forwarded-for: 1.2.3.4\r\n\r\n", 400,
                  "Invalid header. Reason: Unsupported header name. Key: X-Forwarded-For");
    check_refusal(mmds, "PUT /latest/api/token HTTP/1.1\r\n\r\n", 400,
                  "Token time to live value not found. Use `X-metadata-token-ttl-seconds` or "
                  "`X-aws-ec2-metadata-token-ttl-seconds` header to specify the token's lifetime.");
    check_refusal(mmds, "PUT /latest/api/token HTTP/1.1\r\nX-metadata-token-ttl-seconds: 0\r\n\r\n",
                  400,
                  "Invalid time to live value provided for token: 0. Please provide a value "
                  "between 1 and 21600.");
    check_refusal(mmds,
                  "PUT /latest//api/token HTTP/1.1\r\nx-aws-ec2-metadata-token-ttl-seconds: "
                  "21601\r\n\r\n",
                  400,
                  "Invalid time to live value provided for token: 21601. Please provide a value "
                  "between 1 and 21600.");
    check_refusal(
        mmds, "PUT /latest/api/token HTTP/1.1\r\nX-metadata-token-ttl-seconds: ten\r\n\r\n", 400,
        "Invalid header. Reason: Invalid value. Key:X-metadata-token-ttl-seconds; "
        "Value:ten");
    mmds_free(mmds);
}

TEST(mmds, version_two_wants_a_token_and_version_one_counts)
{
    static const char prefix[] = "HTTP/1.1 200 \r\n" HEAD "X-metadata-token-ttl-seconds: 60\r\n"
                                 "Content-Type: text/plain\r\nContent-Length: 48\r\n\r\n";
    static const char ask[] =
        "PUT /latest/api/token HTTP/1.1\r\nX-Metadata-Token-Ttl-Seconds: 60\r\n\r\n";
    struct mmds *mmds = fresh(1000);
    struct mmds_config config = mmds_config_default;
    struct http1_parser parser;
    struct http1_request request = {0};
    struct buf out = {0};
    struct err err = {0};
    char get[256];
    size_t used;

    config.is_v2 = true;
    mmds_configure(mmds, &config);
    CHECK_OK(put(mmds, DOCUMENT, &err), &err);
    http1_parser_init(&parser, 100);
    CHECK_INT(http1_feed(&parser, ask, strlen(ask), &used, &request, &err), HTTP1_READY);
    mmds_answer(mmds, &request, &out);
    CHECK_MEM(buf_str(&out), prefix, strlen(prefix));
    CHECK_INT(out.len, strlen(prefix) + TOKEN_CHARS);
    (void)snprintf(get, sizeof(get), "GET / HTTP/1.1\r\nX-aws-ec2-metadata-token: %s\r\n\r\n",
                   buf_str(&out) + strlen(prefix));
    check_refusal(mmds, get, 200, "latest/");
    check_refusal(mmds, "GET / HTTP/1.1\r\n\r\n", 401,
                  "No MMDS token provided. Use `X-metadata-token` or `X-aws-ec2-metadata-token` "
                  "header to specify the session token.");
    check_refusal(mmds, "GET / HTTP/1.1\r\nX-metadata-token: abc\r\n\r\n", 401,
                  "MMDS token not valid.");
    CHECK_INT(metric_get(&g_metrics.mmds.rx_invalid_token), 1);
    config.is_v2 = false;
    mmds_configure(mmds, &config);
    check_refusal(mmds, "GET / HTTP/1.1\r\nX-metadata-token: abc\r\n\r\n", 200, "latest/");
    CHECK_INT(metric_get(&g_metrics.mmds.rx_invalid_token), 2);
    CHECK_INT(metric_get(&g_metrics.mmds.rx_no_token), 1);
    http1_request_fini(&request);
    http1_parser_fini(&parser);
    buf_fini(&out);
    mmds_free(mmds);
}

TEST(mmds, a_token_is_good_for_its_time_its_key_and_its_vm)
{
    struct token_key key, other;
    struct err err = {0};
    char token[TOKEN_CHARS + 1], second[TOKEN_CHARS + 1], bad[TOKEN_CHARS + 2];

    CHECK_OK(token_key_init(&key, "vm-1", &err), &err);
    CHECK_OK(token_key_init(&other, "vm-2", &err), &err);
    CHECK(!token_is_valid(&key, "", 0)); /* before there is a key */
    CHECK_INT(token_make(&key, 60, 1000, token), 0);
    CHECK_INT(token_make(&key, 60, 1000, second), 0);
    CHECK(strcmp(token, second) != 0);
    CHECK(token_is_valid(&key, token, 1000));
    CHECK(token_is_valid(&key, token, 60999));
    CHECK(!token_is_valid(&key, token, 61000));
    memcpy(other.bytes, key.bytes, sizeof(key.bytes));
    other.is_made = true;
    CHECK(!token_is_valid(&other, token, 1000)); /* same key, another VM */
    for (unsigned i = 0; i < TOKEN_CHARS; i++) {
        memcpy(bad, token, sizeof(token));
        bad[i] = bad[i] == 'A' ? 'B' : 'A';
        CHECK(!token_is_valid(&key, bad, 1000));
    }
    (void)snprintf(bad, sizeof(bad), "%sA", token);
    CHECK(!token_is_valid(&key, bad, 1000));
    bad[TOKEN_CHARS - 1] = '\0';
    CHECK(!token_is_valid(&key, bad, 1000));
    memset(bad, '=', TOKEN_CHARS);
    bad[TOKEN_CHARS] = '\0';
    CHECK(!token_is_valid(&key, bad, 1000));
    token_key_fini(&key);
    token_key_fini(&other);
}
