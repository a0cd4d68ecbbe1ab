/* route.c — see route.h. */
#include "api/route.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>
#include <wctype.h>

#include "base/str.h"
#include "metrics/metrics.h"

/* A path in parts; what is behind the third is of no interest. */
struct segments {
    char *text[4];
    unsigned count;
    char *all; /* owned */
};

static int split(const char *path, struct segments *ret, struct err *err)
{
    char *rest;

    while (*path == '/') {
        path++;
    }
    *ret = (struct segments){.all = strdup(path)};
    if (!ret->all) {
        return err_set(err, -ENOMEM, "out of memory");
    }
    rest = ret->all;
    while (ret->count < 4 && rest && *rest) {
        ret->text[ret->count++] = strsep(&rest, "/");
    }
    return 0;
}

static const char *segment(const struct segments *path, unsigned i)
{
    return i < path->count ? path->text[i] : "";
}

/* Does the route's pattern fit?  A missing id fits: it is refused later. */
static bool fits(const struct api_route *route, const struct segments *path, const char **ret_id)
{
    const char *pattern = route->path;
    unsigned i = 0;

    *ret_id = NULL;
    for (; *pattern; i++) {
        size_t len = strcspn(pattern, "/");
        const char *have = segment(path, i);

        if (strncmp(pattern, "{id}", 4) == 0) {
            *ret_id = have;
        } else if (strlen(have) != len || memcmp(have, pattern, len) != 0) {
            return false;
        }
        pattern += len + (pattern[len] == '/');
    }
    return !route->is_exact || path->count <= i;
}

static bool is_at(const struct segments *path, const char *first, const char *second)
{
    return strcmp(segment(path, 0), first) == 0 &&
           (!second || strcmp(segment(path, 1), second) == 0);
}

static const struct api_route *find(enum http1_method method, const struct segments *path,
                                    const char **ret_id)
{
    for (size_t i = 0; i < api_route_count; i++) {
        if (api_routes[i].method == method && fits(&api_routes[i], path, ret_id)) {
            /* Behind /balloon anything else means the balloon itself. */
            bool is_stray_hint =
                api_routes[i].action == ACTION_PATCH_BALLOON && is_at(path, "balloon", "hinting");

            return is_stray_hint ? NULL : &api_routes[i];
        }
    }
    return NULL;
}

/* --- refusals --- */

static int refuse_path(enum http1_method method, const struct segments *path, struct err *err)
{
    const char *name = http1_method_name(method);

    if ((method == HTTP1_GET || method == HTTP1_PATCH) && is_at(path, "balloon", "hinting")) {
        return err_set(err, -EINVAL, "Unrecognized %s request path `/hinting/%s`.", name,
                       segment(path, 2));
    }
    if ((method == HTTP1_GET && is_at(path, "balloon", NULL)) ||
        (method == HTTP1_PUT && is_at(path, "mmds", NULL))) {
        return err_set(err, -EINVAL, "Unrecognized %s request path `%s`.", name, segment(path, 1));
    }
    if (method == HTTP1_PUT && is_at(path, "snapshot", NULL)) {
        if (!segment(path, 1)[0]) {
            return err_set(err, -EINVAL, "Missing snapshot operation type.");
        }
        return err_set(err, -EINVAL, "Invalid request method and/or path: %s /snapshot/%s.", name,
                       segment(path, 1));
    }
    return err_set(err, -EINVAL, "Invalid request method and/or path: %s %s.", name,
                   segment(path, 0));
}

static int check_body_presence(const struct http1_request *request, const struct segments *path,
                               struct err *err)
{
    bool may_lack = is_at(path, "balloon", "hinting");

    switch (request->method) {
    case HTTP1_GET:
        return request->has_body ? err_set(err, -EINVAL, "GET request cannot have a body.") : 0;
    case HTTP1_PUT: return request->has_body ? 0 : err_set(err, -EINVAL, "Empty PUT request.");
    case HTTP1_PATCH:
        return request->has_body || may_lack ? 0 : err_set(err, -EINVAL, "Empty PATCH request.");
    case HTTP1_DELETE:
        return request->has_body ? err_set(err, -EINVAL, "Empty Delete request.") : 0;
    case HTTP1_METHOD_COUNT: break;
    }
    return -EINVAL;
}

/* Letters and digits of any script, as far as the locale knows it (api_start()), and '_'. */
static bool is_id(const char *text)
{
    mbstate_t state = {0};
    bool is_good = true;

    while (is_good && *text) {
        wchar_t c = 0;
        size_t len = mbrtowc(&c, text, strlen(text), &state);

        is_good = len != (size_t)-1 && len != (size_t)-2 && (c == L'_' || iswalnum((wint_t)c));
        text += is_good ? len : 0;
    }
    return is_good;
}

static int check_id(const char *id, struct err *err)
{
    if (!id[0]) {
        return err_set(err, -EINVAL, "The ID cannot be empty.");
    }
    return is_id(id) ? 0
                     : err_set(err, -EINVAL,
                               "API Resource IDs can only contain alphanumeric characters and "
                               "underscores.");
}

static int check_same_id(const struct api_call *call, struct err *err)
{
    const char *other =
        *(char *const *)(const void *)((const char *)&call->body + call->route->id_at);

    if (strcmp(call->id, other) == 0) {
        return 0;
    }
    if (call->action.kind == ACTION_PUT_NET || call->action.kind == ACTION_PATCH_NET) {
        return err_set(err, -EINVAL,
                       "The id from the path [%s] does not match the id from the body [%s]!",
                       call->id, other);
    }
    return err_set(err, -EINVAL, "The id from the path does not match the id from the body!");
}

/* --- bodies --- */

static int decode(struct api_call *call, const struct http1_request *request, struct err *err)
{
    const struct api_route *route = call->route;
    const char *text = buf_str(&request->body);
    struct err why = {0};
    int r = 0;

    if (route->body && route->defaults) {
        memcpy(&call->body, route->defaults, route->body->size);
    }
    if (route->decode) {
        r = route->decode(call, text, request->body.len, &why);
    } else if (route->body && (request->has_body || route->method == HTTP1_PUT)) {
        r = json_in(text, request->body.len, route->body, &call->body, &why);
    }
    if (r == 0 && route->check) {
        r = route->check(call, &why);
    }
    if (r < 0) {
        return err_set(err, r,
                       "An error occurred when deserializing the json body of a request: %s.",
                       err_text(&why));
    }
    return route->has_id_in_body ? check_same_id(call, err) : 0;
}

static int take(struct api_call *call, const struct http1_request *request, const char *id,
                struct err *err)
{
    int r = 0;

    call->action = (struct action){.kind = call->route->action, .resource = &call->body};
    call->action.ret_balloon = (void *)&call->result;
    if (id) {
        r = check_id(id, err);
        if (r < 0) {
            return r;
        }
        call->id = strdup(id);
        if (!call->id) {
            return err_set(err, -ENOMEM, "out of memory");
        }
        if (request->method == HTTP1_DELETE) {
            call->action.id = call->id;
        }
    }
    return decode(call, request, err);
}

/* The route is known: everything that is left. */
static int take_counted(struct api_call *call, const struct http1_request *request, const char *id,
                        struct err *err)
{
    const struct api_route *route = call->route;
    int r;

    if (route->count) {
        metric_inc(route->count);
    }
    r = take(call, request, id, err);
    if (r < 0 && route->fails) {
        metric_inc(route->fails);
    }
    return r;
}

int api_route(const struct http1_request *request, struct api_call *call, struct err *err)
{
    struct segments path;
    const char *id = NULL;
    int r;

    *call = (struct api_call){0};
    r = split(http1_path(request), &path, err);
    if (r < 0) {
        return r;
    }
    r = check_body_presence(request, &path, err);
    if (r == 0) {
        call->route = find(request->method, &path, &id);
        r = call->route ? take_counted(call, request, id, err)
                        : refuse_path(request->method, &path, err);
    }
    free(path.all);
    return r;
}

void api_call_fini(struct api_call *call)
{
    if (call->route && call->route->body) {
        json_in_free(call->route->body, &call->body);
    }
    buf_fini(&call->text);
    free(call->id);
}
