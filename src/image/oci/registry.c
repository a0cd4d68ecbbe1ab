/* registry.c — images in a registry (OCI distribution specification 1.1), over libcurl.
 *
 * A request that is answered with 401 says how to log in: with user and password (Basic), or with a
 * token that another server gives, perhaps for user and password (Bearer; Docker's "Token
 * authentication specification").  That is done once; the header it leads to goes with all requests
 * to the registry, and, by libcurl, not with a redirection to another host.
 *
 * A host of this machine is tried with TLS, then without: a registry for tests seldom has it.
 */
#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/auto.h"
#include "base/bits.h"
#include "base/str.h"
#include "image/oci/auth.h"
#include "image/oci/curl_api.h"
#include "image/oci/source.h"

#define CONNECT_TIMEOUT_S 15L
/* A transfer that stands still this long has broken off. */
#define STALL_S    30L
#define ANSWER_MAX (1u << 20) /* bytes of a token or of an error */
#define REDIRECTS  10L

struct registry {
    struct oci_source base;
    const struct oci_ref *ref;
    struct curl_api api;
    CURL *curl;
    bool is_plain;
    bool is_tried;  /* the scheme is known to be right */
    char *login;    /* header field "Authorization: ...", or NULL */
    char *question; /* WWW-Authenticate of the last 401 */
};

/* One request. */
struct get {
    struct registry *registry;
    const char *accept;          /* or NULL */
    uint64_t offset;             /* of a blob */
    struct buf *out;             /* where the body goes; or */
    const struct oci_sink *sink; /* this */
    size_t out_max;
    long status;
    int failed;         /* of the sink, or -EFBIG */
    struct buf trouble; /* the body of an error */
};

static struct registry *registry_of(struct oci_source *source)
{
    return container_of(source, struct registry, base);
}

/* --- one request --- */

static size_t on_header(char *line, size_t size, size_t count, void *owner)
{
    static const char field[] = "www-authenticate:";
    struct registry *g = ((struct get *)owner)->registry;
    size_t len = size * count;

    if (len > strlen(field) && strncasecmp(line, field, strlen(field)) == 0) {
        free(g->question);
        g->question = strndup(line + strlen(field), len - strlen(field));
    }
    return len;
}

static void keep(struct buf *out, size_t max, const char *data, size_t len)
{
    if (out->len < max) {
        buf_append(out, data, len < max - out->len ? len : max - out->len);
    }
}

static size_t on_body(char *data, size_t size, size_t count, void *owner)
{
    struct get *get = owner;
    size_t len = size * count;

    if (get->status == 0) {
        (void)get->registry->api.easy_getinfo(get->registry->curl, CURLINFO_RESPONSE_CODE,
                                              &get->status);
        if (get->sink && get->offset > 0 && get->status == 200) {
            get->failed = get->sink->restart(get->sink->owner);
        }
    }
    if (get->status < 200 || get->status >= 300) {
        keep(&get->trouble, ANSWER_MAX, data, len);
    } else if (get->sink) {
        get->failed = get->failed < 0 ? get->failed : get->sink->write(get->sink->owner, data, len);
    } else if (get->out->len + len > get->out_max) {
        get->failed = -EFBIG;
    } else {
        buf_append(get->out, data, len);
        get->failed = buf_status(get->out);
    }
    return get->failed < 0 ? 0 : len;
}

static struct curl_slist *headers(const struct get *get, const char *login)
{
    const struct curl_api *api = &get->registry->api;
    struct curl_slist *list = NULL;
    AUTO_FREE char *accept = NULL;

    if (get->accept && asprintf(&accept, "Accept: %s", get->accept) > 0) {
        list = api->slist_append(list, accept);
    }
    if (login) {
        list = api->slist_append(list, login);
    }
    return list;
}

static void prepare(struct get *get, const char *url, const char *userpwd)
{
    const struct curl_api *api = &get->registry->api;
    CURL *c = get->registry->curl;
    const char *ca = getenv("SSL_CERT_FILE");

    api->easy_reset(c);
    (void)api->easy_setopt(c, CURLOPT_URL, url);
    (void)api->easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)api->easy_setopt(c, CURLOPT_REDIR_PROTOCOLS_STR,
                           str_has_prefix(url, "https:") ? "https" : "http,https");
    (void)api->easy_setopt(c, CURLOPT_FOLLOWLOCATION, 1L);
    (void)api->easy_setopt(c, CURLOPT_MAXREDIRS, REDIRECTS);
    (void)api->easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    (void)api->easy_setopt(c, CURLOPT_CONNECTTIMEOUT, CONNECT_TIMEOUT_S);
    (void)api->easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
    (void)api->easy_setopt(c, CURLOPT_LOW_SPEED_TIME, STALL_S);
    (void)api->easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
    (void)api->easy_setopt(c, CURLOPT_HEADERDATA, get);
    (void)api->easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    (void)api->easy_setopt(c, CURLOPT_WRITEDATA, get);
    if (get->offset > 0) { /* not RESUME_FROM: that fails where the server starts over */
        char range[32];

        (void)snprintf(range, sizeof(range), "%llu-", (unsigned long long)get->offset);
        (void)api->easy_setopt(c, CURLOPT_RANGE, range);
    }
    if (ca && ca[0]) {
        (void)api->easy_setopt(c, CURLOPT_CAINFO, ca);
    }
    if (userpwd) {
        (void)api->easy_setopt(c, CURLOPT_USERPWD, userpwd);
    }
}

/* Would the same request, made again, perhaps succeed? */
static bool is_passing(CURLcode code)
{
    switch ((int)code) {
    case CURLE_PARTIAL_FILE:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM: return true;
    default: return false;
    }
}

/* 0 and get->status, or what went wrong on the way. */
static int perform(struct get *get, const char *url, const char *login, const char *userpwd,
                   struct err *err)
{
    struct curl_slist *list = headers(get, login);
    char why[CURL_ERROR_SIZE] = "";
    CURLcode code;

    get->status = 0;
    get->failed = 0;
    buf_clear(&get->trouble);
    prepare(get, url, userpwd);
    (void)get->registry->api.easy_setopt(get->registry->curl, CURLOPT_HTTPHEADER, list);
    (void)get->registry->api.easy_setopt(get->registry->curl, CURLOPT_ERRORBUFFER, why);
    code = get->registry->api.easy_perform(get->registry->curl);
    (void)get->registry->api.easy_getinfo(get->registry->curl, CURLINFO_RESPONSE_CODE,
                                          &get->status);
    (void)get->registry->api.easy_setopt(get->registry->curl, CURLOPT_ERRORBUFFER, NULL);
    get->registry->api.slist_free_all(list);
    if (get->failed == -EFBIG) {
        return err_set(err, -EFBIG, "%s: the answer has more than %zu bytes", url, get->out_max);
    }
    if (get->failed < 0) {
        return get->failed; /* the sink's; its owner has the sentence */
    }
    if (code != CURLE_OK) {
        int r = is_passing(code)                  ? -ECONNABORTED
                : code == CURLE_SSL_CONNECT_ERROR ? -EPROTO /* perhaps it does not speak TLS */
                                                  : -EHOSTUNREACH;

        return err_set(err, r, "%s: %s", url,
                       why[0] ? why : get->registry->api.easy_strerror(code));
    }
    return 0;
}

/* --- logging in --- */

/* The value of `key="..."` in a WWW-Authenticate field; NULL: it is not there. */
static char *parameter(const char *question, const char *key)
{
    size_t len = strlen(key);

    for (const char *at = question; (at = strcasestr(at, key)) != NULL; at += len) {
        bool is_start = at == question || strchr(" ,\t", at[-1]);

        if (is_start && at[len] == '=' && at[len + 1] == '"') {
            const char *value = at + len + 2;
            const char *end = strchr(value, '"');

            return end ? strndup(value, (size_t)(end - value)) : NULL;
        }
    }
    return NULL;
}

static int set_login(struct registry *g, const char *scheme, const char *secret, struct err *err)
{
    free(g->login);
    g->login = NULL;
    if (strpbrk(secret, "\r\n") ||
        asprintf(&g->login, "Authorization: %s %s", scheme, secret) < 0) {
        g->login = NULL;
        return err_set(err, -EBADMSG, "%s: its token cannot be sent", g->ref->host);
    }
    return 0;
}

static int take_token(struct registry *g, const struct buf *answer, struct err *err)
{
    json_t *json = json_loadb((const char *)answer->data, answer->len, 0, NULL);
    const char *token = json_string_value(json_object_get(json, "token"));
    int r;

    token = token ? token : json_string_value(json_object_get(json, "access_token"));
    r = token ? set_login(g, "Bearer", token, err)
              : err_set(err, -EBADMSG, "%s: the token server gave no token", g->ref->host);
    json_decref(json);
    return r;
}

/* realm?service=...&scope=..., escaped. */
static char *token_url(const struct registry *g, const char *realm, const char *service,
                       const char *scope)
{
    char *safe_service = g->api.easy_escape(g->curl, service ? service : "", 0);
    char *safe_scope = g->api.easy_escape(g->curl, scope, 0);
    char *url = NULL;

    if (safe_service && safe_scope &&
        asprintf(&url, "%s%cservice=%s&scope=%s", realm, strchr(realm, '?') ? '&' : '?',
                 safe_service, safe_scope) < 0) {
        url = NULL;
    }
    g->api.free(safe_service);
    g->api.free(safe_scope);
    return url;
}

static int get_token(struct registry *g, const struct oci_login *login, struct err *err)
{
    AUTO_FREE char *realm = parameter(g->question, "realm");
    AUTO_FREE char *service = parameter(g->question, "service");
    AUTO_FREE char *asked = parameter(g->question, "scope");
    AUTO_FREE char *scope = NULL;
    AUTO_FREE char *url = NULL;
    AUTO_FREE char *userpwd = NULL;
    AUTO_CALL(buf_fini) struct buf answer = {0};
    struct get get = {.registry = g, .out = &answer, .out_max = ANSWER_MAX};
    int r;

    if (!realm || (!g->is_plain && !str_has_prefix(realm, "https://"))) {
        return err_set(err, -EPERM, "%s: its token server '%s': must be an https URL", g->ref->host,
                       realm ? realm : "");
    }
    if (asprintf(&scope, "repository:%s:pull", g->ref->name) < 0 ||
        (login->user && asprintf(&userpwd, "%s:%s", login->user, login->secret) < 0) ||
        !(url = token_url(g, realm, service, asked ? asked : scope))) {
        return err_set(err, -ENOMEM, "login: out of memory");
    }
    r = perform(&get, url, NULL, userpwd, err);
    buf_fini(&get.trouble);
    if (r < 0) {
        return r;
    }
    if (get.status != 200) {
        return err_set(err, -EACCES, "%s: login refused: %s answered %ld", g->ref->host, realm,
                       get.status);
    }
    return take_token(g, &answer, err);
}

static int basic(struct registry *g, const struct oci_login *login, struct err *err)
{
    /* libcurl encodes it; the header is ours so that it goes where the token would */
    AUTO_FREE char *plain = NULL;
    AUTO_FREE char *text = NULL;
    int n = asprintf(&plain, "%s:%s", login->user, login->secret);

    text = n < 0 ? NULL : oci_base64(plain, (size_t)n);
    return text ? set_login(g, "Basic", text, err) : err_set(err, -ENOMEM, "login: out of memory");
}

/* After a 401. */
static int log_in(struct registry *g, struct err *err)
{
    const char *question = g->question;
    struct oci_login login;
    int r = oci_login_find(g->ref->host, &login, err);

    if (r < 0) {
        return r;
    }
    while (question && isspace((unsigned char)*question)) {
        question++;
    }
    if (question && strncasecmp(question, "bearer ", 7) == 0) {
        r = get_token(g, &login, err);
    } else if (login.user && question && strncasecmp(question, "basic ", 6) == 0) {
        r = basic(g, &login, err);
    } else {
        r = err_set(err, -EACCES,
                    "%s wants a login (401): none for it in docker's config.json; `docker login "
                    "%s` or `skopeo login` puts one there",
                    g->ref->host, g->ref->host);
    }
    oci_login_fini(&login);
    return r;
}

/* --- requests with it --- */

static bool is_loopback(const char *host)
{
    return str_has_prefix(host, "localhost") || str_has_prefix(host, "127.") ||
           str_has_prefix(host, "[::1]");
}

/* What the registry says of an error: {"errors":[{"message":...}]}. */
static void reason(const struct buf *trouble, char *out, size_t size)
{
    json_t *json = json_loadb((const char *)trouble->data, trouble->len, 0, NULL);
    const json_t *first = json_array_get(json_object_get(json, "errors"), 0);
    const char *message = json_string_value(json_object_get(first, "message"));

    (void)snprintf(out, size, "%s%.100s", message ? ": " : "", message ? message : "");
    json_decref(json);
}

static int refusal(const struct get *get, const char *url, struct err *err)
{
    char why[128];

    reason(&get->trouble, why, sizeof(why));
    switch (get->status) {
    case 401:
        return err_set(err, -EACCES, "%s: login refused (401)%s", get->registry->ref->host, why);
    case 403: return err_set(err, -EACCES, "%s: forbidden (403)%s", url, why);
    case 404: return err_set(err, -ENOENT, "%s: not found (404)%s", url, why);
    default:
        /* overload and the like may pass */
        return err_set(err, get->status >= 500 || get->status == 429 ? -ECONNABORTED : -EPROTO,
                       "%s: the registry answered %ld%s", url, get->status, why);
    }
}

static int request(struct get *get, const char *path, struct err *err)
{
    struct registry *g = get->registry;
    AUTO_FREE char *url = NULL;
    bool has_logged_in = false;
    int r;

    for (;;) {
        free(url);
        if (asprintf(&url, "%s://%s/v2/%s/%s", g->is_plain ? "http" : "https", g->ref->host,
                     g->ref->name, path) < 0) {
            url = NULL;
            return err_set(err, -ENOMEM, "image: out of memory");
        }
        r = perform(get, url, g->login, NULL, err);
        if (r == -EPROTO && !g->is_tried && !g->is_plain && is_loopback(g->ref->host)) {
            g->is_plain = true;
            continue;
        }
        if (r < 0) {
            return r;
        }
        g->is_tried = true;
        if (get->status == 401 && !has_logged_in) {
            has_logged_in = true;
            r = log_in(g, err);
            if (r < 0) {
                return r;
            }
            continue;
        }
        return get->status >= 200 && get->status < 300 ? 0 : refusal(get, url, err);
    }
}

static int registry_manifest(struct oci_source *source, const char *digest, struct buf *out,
                             struct err *err)
{
    struct registry *g = registry_of(source);
    struct get get = {.registry = g, .accept = OCI_ACCEPT, .out = out, .out_max = OCI_MANIFEST_MAX};
    const char *which = digest ? digest : g->ref->digest ? g->ref->digest : g->ref->tag;
    char path[256];
    int r;

    (void)snprintf(path, sizeof(path), "manifests/%s", which);
    r = request(&get, path, err);
    buf_fini(&get.trouble);
    return r;
}

static int registry_blob(struct oci_source *source, const struct oci_blob *blob, uint64_t offset,
                         const struct oci_sink *sink, struct err *err)
{
    struct get get = {.registry = registry_of(source), .sink = sink, .offset = offset};
    char path[128];
    int r;

    (void)snprintf(path, sizeof(path), "blobs/%s", blob->digest);
    r = request(&get, path, err);
    buf_fini(&get.trouble);
    return r;
}

static void registry_free(struct oci_source *source)
{
    struct registry *g = registry_of(source);

    g->api.easy_cleanup(g->curl);
    curl_api_close(&g->api);
    if (g->login) {
        explicit_bzero(g->login, strlen(g->login));
    }
    free(g->login);
    free(g->question);
    free(g);
}

static const struct oci_source_ops registry_ops = {
    .manifest = registry_manifest, .blob = registry_blob, .free = registry_free};

int oci_registry_open(const struct oci_ref *ref, struct oci_source **ret_source, struct err *err)
{
    struct registry *g = calloc(1, sizeof(*g));
    int r;

    if (!g) {
        return err_set(err, -ENOMEM, "image: out of memory");
    }
    g->base.ops = &registry_ops;
    g->ref = ref;
    g->is_plain = ref->is_plain;
    r = curl_api_open(&g->api, err);
    if (r < 0) {
        free(g);
        return r;
    }
    g->curl = g->api.easy_init();
    if (!g->curl) {
        registry_free(&g->base);
        return err_set(err, -ENOMEM, "image: out of memory");
    }
    *ret_source = &g->base;
    return 0;
}
