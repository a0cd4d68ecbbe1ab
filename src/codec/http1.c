/* http1.c — see http1.h.  RFC 9112 gives the grammar; where clients of Firecracker see something
 * else, that is what is done here. */
#include "codec/http1.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/bits.h"
#include "base/str.h"
#include "codec/utf8.h"

enum state { IN_REQUEST_LINE, IN_FIELDS, IN_BODY };

static const char *const method_names[HTTP1_METHOD_COUNT] = {"GET", "PUT", "PATCH", "DELETE"};

const char *http1_method_name(enum http1_method method)
{
    return method_names[method];
}

void http1_request_fini(struct http1_request *request)
{
    buf_fini(&request->uri);
    buf_fini(&request->fields);
    buf_fini(&request->body);
}

static void start_over(struct http1_parser *parser)
{
    http1_request_fini(&parser->request);
    parser->request = (struct http1_request){0};
    parser->state = IN_REQUEST_LINE;
    parser->line_len = 0;
}

void http1_parser_init(struct http1_parser *parser, size_t body_max)
{
    *parser = (struct http1_parser){.body_max = body_max};
}

void http1_parser_fini(struct http1_parser *parser)
{
    start_over(parser);
}

/* --- the request line --- */

static int invalid_request(struct err *err)
{
    return err_set(err, -EINVAL, "Invalid request.");
}

static int take_method(struct http1_request *request, const char *text, size_t len, struct err *err)
{
    for (unsigned i = 0; i < HTTP1_METHOD_COUNT; i++) {
        if (len == strlen(method_names[i]) && memcmp(text, method_names[i], len) == 0) {
            request->method = (enum http1_method)i;
            return 0;
        }
    }
    return err_set(err, -EINVAL, "Invalid HTTP Method: Unsupported HTTP method.");
}

static int take_uri(struct http1_request *request, const char *text, size_t len, struct err *err)
{
    if (len == 0) {
        return err_set(err, -EINVAL, "Invalid URI: Empty URI not allowed.");
    }
    /* What follows treats it as a C string; a NUL is no character of a URI. */
    if (utf8_valid(text, len) < len || memchr(text, 0, len)) {
        return err_set(err, -EINVAL, "Invalid URI: Cannot parse URI as UTF-8.");
    }
    buf_append(&request->uri, text, len);
    return buf_status(&request->uri);
}

static int take_version(struct http1_request *request, const char *text, size_t len,
                        struct err *err)
{
    if (len == 8 && memcmp(text, "HTTP/1.", 7) == 0 && (text[7] == '0' || text[7] == '1')) {
        request->version = text[7] == '0' ? HTTP1_0 : HTTP1_1;
        return 0;
    }
    return err_set(err, -EINVAL, "Invalid HTTP Version: Unsupported HTTP version.");
}

static int take_request_line(struct http1_request *request, const char *line, size_t len,
                             struct err *err)
{
    const char *end = line + len, *uri = memchr(line, ' ', len), *version;
    int r;

    if (!uri) {
        return invalid_request(err);
    }
    uri++;
    version = memchr(uri, ' ', (size_t)(end - uri));
    if (!version) {
        return invalid_request(err);
    }
    version++;
    r = take_method(request, line, (size_t)(uri - 1 - line), err);
    if (r == 0) {
        r = take_uri(request, uri, (size_t)(version - 1 - uri), err);
    }
    return r < 0 ? r : take_version(request, version, (size_t)(end - version), err);
}

/* --- header fields --- */

static int bad_value(const char *name, const char *value, struct err *err)
{
    return err_set(err, -EINVAL, "Invalid header. Reason: Invalid value. Key:%s; Value:%s", name,
                   value);
}

/* Content-Length: a number of 32 bits. */
static int take_length(struct http1_request *request, const char *value, const char *raw,
                       struct err *err)
{
    uint64_t n;
    struct err ignored = {0};

    /* a sign is not for str_to_u64(): the one that is allowed is plus */
    if (str_to_u64("", *value == '+' ? value + 1 : value, 0, UINT32_MAX, &n, &ignored) < 0) {
        return bad_value("Content-Length", raw, err);
    }
    request->body_len = (size_t)n;
    return 0;
}

/* A token of a list of media types or codings, with its quality: is it refused (q=0)? */
static bool is_refused(const char *params)
{
    const char *q = params ? strstr(params, "q=") : NULL;

    return q && q[2] == '0' && strspn(q + 2, "0.") == strcspn(q + 2, ", ;\t");
}

/* Answers come in one coding, identity: it must not be refused. */
static int take_codings(const char *value, struct err *err)
{
    bool star = false, identity = false;
    const char *at = value;

    while (*at) {
        char item[64];
        const char *params;
        size_t len;

        at += strspn(at, " \t");
        len = strcspn(at, ",");
        (void)snprintf(item, sizeof(item), "%.*s", (int)(len < 63 ? len : 63), at);
        params = strchr(item, ';');
        if (strncmp(item, "identity", 8) == 0) {
            identity = true;
            if (is_refused(params)) {
                return bad_value("Accept-Encoding", value, err);
            }
        } else if (item[0] == '*' && is_refused(params)) {
            star = true;
        }
        at += len + (at[len] == ',');
    }
    return star && !identity ? bad_value("Accept-Encoding", value, err) : 0;
}

static void take_accept(struct http1_request *request, const char *value)
{
    if (strcmp(value, "application/json") == 0) {
        request->accept = HTTP1_JSON;
    } else if (strcmp(value, "text/plain") == 0) {
        request->accept = HTTP1_TEXT;
    }
}

/* [from, to) without the blanks around it, as a C string in `out`. */
static void trimmed(const char *from, const char *to, char *out)
{
    while (from < to && (*from == ' ' || *from == '\t')) {
        from++;
    }
    while (to > from && (to[-1] == ' ' || to[-1] == '\t')) {
        to--;
    }
    memcpy(out, from, (size_t)(to - from));
    out[to - from] = 0;
}

static int take_field(struct http1_request *request, const char *line, size_t len, struct err *err)
{
    char name[HTTP1_LINE_MAX + 1], value[HTTP1_LINE_MAX + 1], raw[HTTP1_LINE_MAX + 1];
    const char *colon = memchr(line, ':', len), *nul = memchr(line, 0, len);
    size_t valid = nul ? (size_t)(nul - line) : 0; /* a NUL ends what can be kept */

    if (nul || (valid = utf8_valid(line, len)) < len) {
        return err_set(err, -EINVAL,
                       "Invalid header. Reason: Header contains invalid characters. Key: invalid "
                       "utf-8 sequence of 1 bytes from index %zu",
                       valid);
    }
    if (!colon) {
        (void)snprintf(name, sizeof(name), "%.*s", (int)len, line);
        return err_set(err, -EINVAL,
                       "Invalid header. Reason: Header is incorrectly formatted. Key: %s", name);
    }
    trimmed(line, colon, name);
    trimmed(colon + 1, line + len, value);
    (void)snprintf(raw, sizeof(raw), "%.*s", (int)(line + len - colon - 1), colon + 1);
    buf_append(&request->fields, name, strlen(name) + 1);
    buf_append(&request->fields, value, strlen(value) + 1);
    if (strcasecmp(name, "Content-Length") == 0) {
        return take_length(request, value, raw, err);
    }
    if (strcasecmp(name, "Accept-Encoding") == 0) {
        return take_codings(value, err);
    }
    if (strcasecmp(name, "Accept") == 0) {
        take_accept(request, value);
    } else if (strcasecmp(name, "Expect") == 0 && strcmp(value, "100-continue") == 0) {
        request->wants_continue = true;
    }
    return buf_status(&request->fields);
}

/* --- a request --- */

static int end_fields(struct http1_parser *parser, struct err *err)
{
    struct http1_request *request = &parser->request;

    if (request->body_len > parser->body_max) {
        return err_set(err, -E2BIG,
                       "Request payload with size %zu is larger than the limit of %zu allowed by "
                       "server.",
                       request->body_len, parser->body_max);
    }
    request->has_body = request->body_len > 0;
    parser->state = IN_BODY;
    return request->has_body && request->wants_continue ? HTTP1_CONTINUE : HTTP1_MORE;
}

/* A line is complete, without its CR LF. */
static int take_line(struct http1_parser *parser, size_t len, struct err *err)
{
    int r;

    if (parser->state == IN_REQUEST_LINE) {
        r = take_request_line(&parser->request, parser->line, len, err);
        parser->state = IN_FIELDS;
        return r;
    }
    return len ? take_field(&parser->request, parser->line, len, err) : end_fields(parser, err);
}

/* Bytes up to the end of the line. */
static int feed_line(struct http1_parser *parser, const char *data, size_t len, size_t *used,
                     struct err *err)
{
    while (*used < len) {
        char c = data[(*used)++];

        if (parser->line_len == sizeof(parser->line)) {
            return invalid_request(err);
        }
        parser->line[parser->line_len++] = c;
        if (c == '\n' && parser->line_len >= 2 && parser->line[parser->line_len - 2] == '\r') {
            size_t line_len = parser->line_len - 2;

            parser->line_len = 0;
            return take_line(parser, line_len, err);
        }
    }
    return HTTP1_MORE;
}

static int feed_body(struct http1_parser *parser, const char *data, size_t len, size_t *used,
                     struct http1_request *ret_request)
{
    struct http1_request *request = &parser->request;
    size_t missing = request->body_len - request->body.len;
    size_t step = missing < len - *used ? missing : len - *used;

    buf_append(&request->body, data + *used, step);
    *used += step;
    if (buf_status(&request->body) < 0) {
        return -ENOMEM;
    }
    if (step < missing) {
        return HTTP1_MORE;
    }
    *ret_request = *request;
    *request = (struct http1_request){0};
    start_over(parser);
    return HTTP1_READY;
}

int http1_feed(struct http1_parser *parser, const void *data, size_t len, size_t *ret_used,
               struct http1_request *ret_request, struct err *err)
{
    size_t used = 0;
    int r = HTTP1_MORE;

    while (r == HTTP1_MORE && (used < len || parser->state == IN_BODY)) {
        size_t before = used;
        bool was_body = parser->state == IN_BODY;

        r = was_body ? feed_body(parser, data, len, &used, ret_request)
                     : feed_line(parser, data, len, &used, err);
        if (was_body && used == before) {
            break; /* it waits for more */
        }
    }
    if (r == -ENOMEM) {
        (void)err_set(err, r, "out of memory");
    }
    if (r < 0) {
        start_over(parser);
    }
    *ret_used = used;
    return r;
}

/* --- what came --- */

const char *http1_path(const struct http1_request *request)
{
    const char *uri = buf_str(&request->uri);

    if (str_has_prefix(uri, "http://")) {
        const char *path = strchr(uri + strlen("http://"), '/');

        return path ? path : "/";
    }
    return uri[0] == '/' ? uri : "/";
}

const char *http1_field(const struct http1_request *request, const char *name)
{
    const char *at = (const char *)request->fields.data;
    const char *end = at ? at + request->fields.len : at;

    while (at < end) {
        const char *value = at + strlen(at) + 1;

        if (strcasecmp(at, name) == 0) {
            return value;
        }
        at = value + strlen(value) + 1;
    }
    return NULL;
}

/* --- answers --- */

void http1_put_answer(struct buf *out, const struct http1_answer *answer)
{
    bool has_body = answer->status != 100 && answer->status != 204;

    buf_printf(out, "HTTP/1.%d %u \r\nServer: %s\r\nConnection: keep-alive\r\n",
               answer->version == HTTP1_1, answer->status, answer->server);
    if (answer->allow) {
        buf_printf(out, "Allow: %s\r\n", answer->allow);
    }
    if (answer->is_deprecated) {
        buf_append_str(out, "Deprecation: true\r\n");
    }
    if (answer->extra) {
        buf_append_str(out, answer->extra);
    }
    if (has_body) {
        buf_printf(out, "Content-Type: %s\r\nContent-Length: %zu\r\n",
                   answer->media == HTTP1_JSON ? "application/json" : "text/plain",
                   answer->body_len);
    }
    buf_append_str(out, "\r\n");
    if (has_body) {
        buf_append(out, answer->body, answer->body_len);
    }
}
