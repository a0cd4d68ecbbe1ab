/* api.c — see api.h.
 *
 * The server's thread finds the route and decodes the body; the action itself and the text of its
 * answer are made on the microVM's thread, for which the server's waits.
 */
#include "api/api.h"

#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/log_text.h"
#include "api/resource_json.h"
#include "api/route.h"
#include "api/server.h"
#include "base/auto.h"
#include "base/clock.h"
#include "base/log.h"
#include "codec/json_out.h"
#include "codec/utf8.h"
#include "io/loop.h"
#include "metrics/metrics.h"

struct api {
    struct api_config config;
    struct api_server *server;
};

/* What the server's thread waits for. */
struct job {
    struct api *api;
    struct api_call *call;
    struct buf *body; /* of the answer */
    struct err err;
    int result;
    bool is_last; /* the process ends after it */
};

static void run(void *owner)
{
    struct job *job = owner;
    struct api_call *call = job->call;
    struct microvm *vm = job->api->config.vm;

    job->result = microvm_do(vm, &call->action, &job->err);
    if (job->result == 0 && call->route->show) {
        call->route->show(call, vm, job->body);
    }
    job->is_last = microvm_exit_code(vm) >= 0;
}

/* --- answers --- */

static void put_answer(struct buf *out, unsigned status, const struct buf *body, bool is_deprecated)
{
    struct http1_answer answer = {.version = HTTP1_1,
                                  .status = status,
                                  .server = API_SERVER_NAME,
                                  .is_deprecated = is_deprecated,
                                  .media = HTTP1_JSON,
                                  .body = body->data,
                                  .body_len = body->len};

    http1_put_answer(out, &answer);
}

static void put_fault(struct buf *body, const struct err *err)
{
    char text[ERR_TEXT_MAX];
    size_t len = strlen(err_text(err));

    /* A long text was cut, perhaps within a character. */
    len = utf8_valid(err_text(err), len);
    (void)snprintf(text, sizeof(text), "%.*s", (int)len, err_text(err));
    buf_clear(body);
    buf_append_str(body, "{\"fault_message\":");
    json_put_string(body, text);
    buf_append_str(body, "}");
}

/* Actions whose duration is told. */
static void note_duration(const struct api_call *call, int64_t start_ns)
{
    const char *name = NULL;
    struct metric *metric = NULL;
    uint64_t us = (uint64_t)((clock_mono_ns() - start_ns) / NS_PER_US);

    if (call->action.kind == ACTION_CREATE_SNAPSHOT) {
        bool is_full = call->body.create.snapshot_type == SNAPSHOT_FULL;

        name = is_full ? "create full snapshot" : "create diff snapshot";
        metric = is_full ? &g_metrics.latencies_us.full_create_snapshot
                         : &g_metrics.latencies_us.diff_create_snapshot;
    } else if (call->action.kind == ACTION_LOAD_SNAPSHOT) {
        name = "load snapshot";
        metric = &g_metrics.latencies_us.load_snapshot;
    } else if (call->action.kind == ACTION_PATCH_VM) {
        name = call->action.is_resumed ? "resume vm" : "pause vm";
        metric = call->action.is_resumed ? &g_metrics.latencies_us.resume_vm
                                         : &g_metrics.latencies_us.pause_vm;
    }
    if (name) {
        metric_set(metric, us);
        log_info("'%s' API request took %llu us.", name, (unsigned long long)us);
    }
}

static void log_failure(unsigned status, const struct err *err)
{
    log_error("Received Error. Status code: %u %s. Message: %s", status,
              status == 413 ? "Payload too large" : "Bad Request", err_text(err));
}

/* Does it, and returns whether the process goes on. */
static bool execute(struct api *api, struct api_call *call, struct buf *out)
{
    AUTO_CALL(buf_fini) struct buf body = {0};
    struct job job = {.api = api, .call = call, .body = &body};
    int64_t start_ns = clock_mono_ns();
    unsigned status;

    if (call->deprecation) {
        log_warn("%s", call->deprecation);
        metric_inc(&g_metrics.deprecated_api.deprecated_http_api_calls);
    }
    loop_call(api->config.loop, run, &job);
    if (job.result < 0) {
        bool is_store =
            call->action.kind == ACTION_PUT_MMDS || call->action.kind == ACTION_PATCH_MMDS;

        status = is_store && job.result == -EFBIG ? 413 : 400;
        put_fault(&body, &job.err);
        log_failure(status, &job.err);
    } else {
        status = call->route->show ? 200 : 204;
        note_duration(call, start_ns);
        log_info("The request was executed successfully. Status code: %u %s.", status,
                 status == 200 ? "OK" : "No Content");
    }
    put_answer(out, status, &body, call->deprecation != NULL);
    return !job.is_last;
}

static void log_request(const struct http1_request *request)
{
    AUTO_CALL(buf_fini) struct buf text = {0};

    if (log_get_level() < LOG_INFO) {
        return;
    }
    api_log_text(request, log_get_level() >= LOG_DEBUG, &text);
    log_info("%s", buf_str(&text));
}

static bool handle(void *owner, const struct http1_request *request, struct buf *out)
{
    struct api *api = owner;
    struct api_call call;
    struct err err = {0};
    int64_t start_ns = clock_mono_ns();
    bool goes_on = true;

    log_request(request);
    if (api_route(request, &call, &err) == 0) {
        goes_on = execute(api, &call, out);
    } else {
        AUTO_CALL(buf_fini) struct buf body = {0};

        put_fault(&body, &err);
        put_answer(out, 400, &body, false);
        log_error("%s", err_text(&err));
    }
    api_call_fini(&call);
    log_debug("Total previous API call duration: %lld us.",
              (long long)((clock_mono_ns() - start_ns) / NS_PER_US));
    return goes_on;
}

static void finish(void *owner)
{
    loop_stop(((struct api *)owner)->config.loop);
}

/* --- life --- */

int api_start(const struct api_config *config, struct api **ret_api, struct err *err)
{
    struct api *api = calloc(1, sizeof(*api));
    struct api_server_config server = {.path = config->path,
                                       .body_max = config->body_max,
                                       .handle = handle,
                                       .finish = finish,
                                       .owner = api,
                                       .enter_thread = config->enter_thread,
                                       .enter_owner = config->enter_owner};
    int r;

    if (!api) {
        return err_set(err, -ENOMEM, "out of memory");
    }
    api->config = *config;
    /* Ids may have letters of any script.  Here, because the server's thread may open no file;
     * where the locale is not installed, such as in a jail, they may not. */
    (void)setlocale(LC_CTYPE, "C.UTF-8");
    r = api_server_new(&server, &api->server, err);
    if (r == 0) {
        r = api_server_start(api->server, err);
    }
    if (r < 0) {
        api_stop(api);
        return r;
    }
    *ret_api = api;
    return 0;
}

void api_stop(struct api *api)
{
    if (api) {
        api_server_free(api->server);
        free(api);
    }
}
