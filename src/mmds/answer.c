/* answer.c — one request of the guest, one answer.  Methods, headers and sentences are those of
 * Firecracker's metadata service, which copies those of a cloud's. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/str.h"
#include "codec/http1.h"
#include "metrics/metrics.h"
#include "mmds/mmds_int.h"

#define SERVER     "Firecracker API"
#define TOKEN_PATH "/latest/api/token"

static const char *const g_token_fields[] = {"X-metadata-token", "X-aws-ec2-metadata-token"};
static const char *const g_ttl_fields[] = {"X-metadata-token-ttl-seconds",
                                           "X-aws-ec2-metadata-token-ttl-seconds"};

struct answer {
    struct http1_answer http;
    struct buf body;
    char extra[128];
};

static uint64_t now_ms(void)
{
    return (uint64_t)(clock_mono_ns() / NS_PER_MS);
}

/* The first of two fields that came; its value, and its name as it is written here. */
static const char *field_of(const struct http1_request *request, const char *const names[2],
                            const char **ret_name)
{
    for (unsigned i = 0; i < 2; i++) {
        const char *value = http1_field(request, names[i]);

        if (value) {
            *ret_name = names[i];
            return value;
        }
    }
    return NULL;
}

__attribute__((format(printf, 3, 4))) static void refuse(struct answer *a, unsigned status,
                                                         const char *fmt, ...)
{
    va_list ap;
    char text[HTTP1_LINE_MAX + 256];

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    a->http.status = status;
    a->http.media = HTTP1_TEXT;
    buf_clear(&a->body);
    buf_append_str(&a->body, text);
}

/* Path of the request, "" if there is none. */
static const char *path_of(const struct http1_request *request)
{
    const char *uri = buf_str(&request->uri);
    const char *path = http1_path(request);

    /* a path that is not in the URI stands for none at all */
    return path >= uri && path <= uri + request->uri.len ? path : "";
}

/* Are they the same, with runs of slashes as one? */
static bool is_path(const char *path, const char *want)
{
    while (*path && *path == *want) {
        if (*path == '/') {
            path += strspn(path, "/");
        } else {
            path++;
        }
        want++;
    }
    return *path == *want;
}

/* --- data --- */

static bool check_token(struct mmds *mmds, const struct http1_request *request, bool is_v2,
                        struct answer *a)
{
    const char *name;
    const char *token = field_of(request, g_token_fields, &name);
    bool is_valid;

    if (!token) {
        metric_inc(&g_metrics.mmds.rx_no_token);
        if (is_v2) {
            refuse(a, 401,
                   "No MMDS token provided. Use `X-metadata-token` or `X-aws-ec2-metadata-token` "
                   "header to specify the session token.");
        }
        return !is_v2;
    }
    (void)pthread_mutex_lock(&mmds->lock);
    is_valid = token_is_valid(&mmds->key, token, now_ms());
    (void)pthread_mutex_unlock(&mmds->lock);
    if (!is_valid) {
        metric_inc(&g_metrics.mmds.rx_invalid_token);
        if (is_v2) {
            refuse(a, 401, "MMDS token not valid.");
        }
    }
    return is_valid || !is_v2;
}

static void do_get(struct mmds *mmds, const struct http1_request *request, struct answer *a)
{
    struct mmds_config config = mmds_config_now(mmds);
    const char *path = path_of(request);
    enum mmds_form form =
        request->accept == HTTP1_JSON && !config.imds_compat ? MMDS_JSON : MMDS_TEXT;
    int r;

    if (!check_token(mmds, request, config.is_v2, a)) {
        return;
    }
    if (!path[0]) {
        refuse(a, 400, "Invalid URI.");
        return;
    }
    a->http.media = request->accept;
    r = mmds_read(mmds, path, form, &a->body);
    if (r == -ENOENT) {
        refuse(a, 404, "Resource not found: %s.", path);
    } else if (r == -ENOTSUP) {
        refuse(a, 501, "Cannot retrieve value. The value has an unsupported type.");
    } else if (r < 0) {
        refuse(a, 500, "Out of memory.");
    }
}

/* --- tokens --- */

static void give_token(struct mmds *mmds, const char *name, uint32_t ttl_s, struct answer *a)
{
    char token[TOKEN_CHARS + 1] = "";
    int r;

    (void)pthread_mutex_lock(&mmds->lock);
    r = token_make(&mmds->key, ttl_s, now_ms(), token);
    (void)pthread_mutex_unlock(&mmds->lock);
    if (r < 0) {
        refuse(a, 500, "Failed to make a token.");
        return;
    }
    (void)snprintf(a->extra, sizeof(a->extra), "%s: %u\r\n", name, ttl_s);
    a->http.extra = a->extra;
    buf_append_str(&a->body, token);
}

static void do_put(struct mmds *mmds, const struct http1_request *request, struct answer *a)
{
    const char *path = path_of(request);
    const char *name = NULL;
    const char *text;
    uint64_t ttl;

    if (http1_field(request, "X-Forwarded-For")) {
        refuse(a, 400, "Invalid header. Reason: Unsupported header name. Key: X-Forwarded-For");
        return;
    }
    if (!path[0]) {
        refuse(a, 400, "Invalid URI.");
        return;
    }
    if (!is_path(path, TOKEN_PATH)) {
        refuse(a, 404, "Resource not found: %s.", path);
        return;
    }
    text = field_of(request, g_ttl_fields, &name);
    if (!text) {
        refuse(a, 400,
               "Token time to live value not found. Use `X-metadata-token-ttl-seconds` or "
               "`X-aws-ec2-metadata-token-ttl-seconds` header to specify the token's lifetime.");
    } else if (str_to_u64(name, text, 0, UINT32_MAX, &ttl, NULL) < 0) {
        refuse(a, 400, "Invalid header. Reason: Invalid value. Key:%s; Value:%s", name, text);
    } else if (ttl < TOKEN_TTL_MIN || ttl > TOKEN_TTL_MAX) {
        refuse(a, 400,
               "Invalid time to live value provided for token: %llu. Please provide a value "
               "between %u and %u.",
               (unsigned long long)ttl, TOKEN_TTL_MIN, TOKEN_TTL_MAX);
    } else {
        give_token(mmds, name, (uint32_t)ttl, a);
    }
}

/* --- both --- */

static void put_answer(struct answer *a, struct buf *out)
{
    if (buf_status(&a->body) < 0) {
        buf_fini(&a->body);
        a->http.status = 500;
    }
    a->http.server = SERVER;
    a->http.body = buf_str(&a->body);
    a->http.body_len = a->body.len;
    http1_put_answer(out, &a->http);
    buf_fini(&a->body);
}

void mmds_answer(struct mmds *mmds, const struct http1_request *request, struct buf *out)
{
    struct answer a = {.http = {.version = request->version, .status = 200, .media = HTTP1_TEXT}};

    switch (request->method) {
    case HTTP1_GET:
        if (request->has_body) {
            refuse(&a, 400, "Invalid request.");
        } else {
            do_get(mmds, request, &a);
        }
        break;
    case HTTP1_PUT: do_put(mmds, request, &a); break;
    case HTTP1_PATCH:
    case HTTP1_DELETE:
    case HTTP1_METHOD_COUNT:
        a.http.allow = "GET, PUT";
        refuse(&a, 405, "Not allowed HTTP method.");
        break;
    }
    put_answer(&a, out);
}

void mmds_answer_bad(const char *why, struct buf *out)
{
    struct answer a = {.http = {.version = HTTP1_1}};

    refuse(&a, 400, "%s", why);
    put_answer(&a, out);
}
