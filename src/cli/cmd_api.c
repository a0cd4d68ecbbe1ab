/* cmd_api.c — `ec1 api`, and ec1 under the name `firecracker`: a microVM that is driven over a REST
 * interface, or from a file.  Options, log lines and exit codes are the interface's
 * (docs/api-compat.md). */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "api/api.h"
#include "api/config_file.h"
#include "base/auto.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "cli/cmd.h"
#include "cli/fc_args.h"
#include "io/loop.h"
#include "metrics/metrics.h"
#include "vmm/describe.h"
#include "vmm/exit.h"
#include "vmm/filter.h"
#include "vmm/microvm.h"

#define BODY_MAX_DEFAULT 51200
#define FILE_MAX         (UINT64_C(64) << 20) /* of a configuration or of metadata */

struct process {
    struct fc_args args;
    struct microvm_options options;
    struct seccomp_filters filters;
    uint64_t body_max;
    uint64_t start_us, start_cpu_us, parent_cpu_us; /* what the launcher says */
    struct buf config, metadata;                    /* the files */
    struct loop *loop;
    struct microvm *vm;
    struct api *api;
    int status;
};

/* --- before there is a microVM --- */

/* A number, as the original's language takes one: digits, a '+' before them at most. */
static uint64_t number(const char *name, const char *type, const char *text, uint64_t otherwise)
{
    char *end = NULL;
    uint64_t value;

    if (!text) {
        return otherwise;
    }
    errno = 0;
    value = strtoull(text, &end, 10);
    if (errno || *end || !isdigit((unsigned char)text[text[0] == '+'])) {
        exit_panic("'%s' parameter expected to be of '%s' type.", name, type);
    }
    return value;
}

static bool is_instance_id(const char *id)
{
    size_t len = strlen(id);

    for (const char *c = id; *c; c++) {
        if (!isalnum((unsigned char)*c) && *c != '-') {
            return false;
        }
    }
    return len >= 1 && len <= 64;
}

static void read_file(const char *path, struct buf *text, const char *problem)
{
    int r = path ? buf_read_file(text, path, FILE_MAX) : 0;

    if (r < 0) {
        exit_panic("%s: %s", problem, strerror(-r));
    }
}

/* The log's own options; 0, or the exit code. */
static int open_log(const struct fc_args *args)
{
    enum log_level level = LOG_INFO;
    int r = args->log_path ? log_open(args->log_path) : 0;

    if (r < 0) {
        log_error("Could not initialize logger: Failed to open target file: %s", strerror(-r));
        (void)fprintf(stderr, "Error: LoggerInitialization\n");
        return EXIT_CODE_ERROR;
    }
    if (args->level && log_level_parse(args->level, &level) < 0) {
        log_error("Invalid value for logger level: %s.Possible values: [Error, Warning, Info, "
                  "Debug]",
                  args->level);
        (void)fprintf(stderr, "Error: InvalidLogLevel\n");
        return EXIT_CODE_BAD_CONFIG;
    }
    log_set_level(level);
    log_show_level(args->show_level);
    log_show_origin(args->show_log_origin);
    log_set_module(args->module);
    return 0;
}

static int open_metrics(struct process *p)
{
    struct metrics_options options = {.path = p->args.metrics_path};
    struct err err = {0};

    if (p->args.metrics_path && metrics_open(&options, &err) < 0) {
        log_error("Could not initialize metrics: %s", err_text(&err));
        (void)fprintf(stderr, "Error: MetricsInitialization\n");
        return EXIT_CODE_ERROR;
    }
    return 0;
}

/* The filters of the threads to come; 0, or the exit code. */
static int load_filters(struct process *p)
{
    const char *path = p->args.seccomp_filter;
    struct err err = {0};
    int r = 0;

    seccomp_filters_prepare();
    if (path) {
        r = seccomp_filters_load(path, &p->filters, &err);
    } else if (!p->args.no_seccomp) {
        r = seccomp_filters_default(&p->filters, &err);
    }
    if (r < 0) {
        log_error("Seccomp error: %s", err_text(&err));
        (void)fprintf(stderr, "Error: Seccomp error: %s\n", err_text(&err));
        return EXIT_CODE_ERROR;
    }
    return 0;
}

/* Everything that the words say; 0, or the exit code. */
static int take_args(struct process *p)
{
    const struct fc_args *args = &p->args;
    struct err err = {0};
    int status;

    if (!is_instance_id(args->id)) {
        exit_panic("Invalid instance ID");
    }
    status = open_log(args);
    if (status) {
        return status;
    }
    log_info("Running Firecracker v" FC_VERSION);
    exit_install_handlers();
    p->body_max = number("http-api-max-payload-size", "usize", args->http_api_max_payload_size,
                         BODY_MAX_DEFAULT);
    p->start_us = number("start-time-us", "u64", args->start_time_us, 0);
    p->start_cpu_us = number("start-time-cpu-us", "u64", args->start_time_cpu_us, 0);
    p->parent_cpu_us = number("parent-cpu-time-us", "u64", args->parent_cpu_time_us, 0);
    p->options = (struct microvm_options){
        .id = args->id,
        .version = FC_VERSION,
        .loop = p->loop,
        .mmds_size_limit = number("mmds-size-limit", "usize", args->mmds_size_limit, p->body_max),
        .enable_pci = args->enable_pci,
        .filters = &p->filters,
        .has_boot_timer = args->boot_timer};
    if (args->engine && config_engine_parse(args->engine, &p->options.engine, &err) < 0) {
        exit_panic("%s", err_text(&err));
    }
    status = open_metrics(p);
    if (status == 0) {
        status = load_filters(p);
    }
    if (status == 0) {
        read_file(args->config_file, &p->config,
                  "Unable to open or read from the configuration file");
        read_file(args->metadata, &p->metadata,
                  "Unable to open or read from the mmds content file");
    }
    return status;
}

/* --- the microVM --- */

static void fail(struct process *p, const char *what, const struct err *err)
{
    log_error("%s%s", what, err_text(err));
    (void)fprintf(stderr, "Error: %s%s\n", what, err_text(err));
    p->status = EXIT_CODE_ERROR;
    loop_stop(p->loop);
}

/* What the start cost, counted from the launcher's clocks; nothing without them. */
static void note_start(const struct process *p)
{
    uint64_t now_us = (uint64_t)(clock_mono_ns() / NS_PER_US);
    uint64_t cpu_us = (uint64_t)(clock_ns(CLOCK_PROCESS_CPUTIME_ID) / NS_PER_US);

    if (p->args.start_time_us && now_us >= p->start_us) {
        metric_set(&g_metrics.api_server.process_startup_time_us, now_us - p->start_us);
    }
    if (p->args.start_time_cpu_us && cpu_us >= p->start_cpu_us) {
        metric_set(&g_metrics.api_server.process_startup_time_cpu_us,
                   cpu_us - p->start_cpu_us + p->parent_cpu_us);
    }
}

static void enter_api_thread(void *owner)
{
    filter_enter(owner, SECCOMP_API);
}

static void start_api(struct process *p)
{
    struct api_config config = {.path = p->args.api_sock,
                                .body_max = p->body_max,
                                .vm = p->vm,
                                .loop = p->loop,
                                .enter_thread = enter_api_thread,
                                .enter_owner = &p->filters};
    struct err err = {0};
    int r;

    note_start(p);
    r = api_start(&config, &p->api, &err);

    if (r == -EADDRINUSE) {
        (void)err_set(&err, r,
                      "Failed to open the API socket at: %s. Check that it is not already used.",
                      p->args.api_sock);
        fail(p, "", &err);
    } else if (r < 0) {
        fail(p, "Failed to bind and run the HTTP server: ", &err);
    } else {
        log_info("Listening on API socket (\"%s\").", p->args.api_sock);
        log_info("API server started.");
    }
}

static void start_from_file(struct process *p)
{
    struct config_file file = {.text = buf_str(&p->config),
                               .len = p->config.len,
                               .metadata = p->args.metadata ? buf_str(&p->metadata) : NULL,
                               .metadata_len = p->metadata.len};
    struct err err = {0};

    if (config_file_start(p->vm, &file, &err) < 0) {
        fail(p, "Failed to build MicroVM from Json: ", &err);
    } else {
        log_info("Successfully started microvm that was configured from one single json");
    }
}

static void load_metadata(struct process *p)
{
    struct err err = {0};

    if (config_file_metadata(p->vm, buf_str(&p->metadata), p->metadata.len, &err) < 0) {
        fail(p, "Populating MMDS from file failed: ", &err);
    }
}

/* On the main loop, so that it runs when requests come. */
static void begin(void *owner)
{
    struct process *p = owner;
    struct err err = {0};

    if (p->args.metadata && json_check(buf_str(&p->metadata), p->metadata.len, &err) < 0) {
        exit_panic("MMDS error: metadata provided not valid json: %s", err_text(&err));
    }
    if (!p->args.no_api) {
        start_api(p);
    }
    if (p->status == 0 && p->args.config_file) {
        start_from_file(p);
    } else if (p->status == 0 && p->args.metadata) {
        load_metadata(p);
    }
}

static int run(struct process *p)
{
    struct err err = {0};
    int r = microvm_new(&p->options, &p->vm, &err);

    if (r == 0) {
        r = loop_post(p->loop, begin, p);
    }
    if (r < 0) {
        fail(p, "", &err);
        return EXIT_CODE_ERROR;
    }
    (void)loop_run(p->loop);
    api_stop(p->api);
    if (p->status == 0) {
        int code = microvm_exit_code(p->vm);

        p->status = code > 0 ? code : 0;
    }
    microvm_free(p->vm);
    return p->status;
}

/* The version of a snapshot's state file; returns the exit code. */
static int describe_snapshot(const char *path)
{
    char version[SNAPSHOT_VERSION_MAX];
    struct err err = {0};

    if (snapshot_describe(path, version, &err) < 0) {
        (void)fprintf(stderr, "Error: When printing Snapshot Data format: %s\n", err_text(&err));
        return EXIT_CODE_ERROR;
    }
    (void)printf("v%s\n", version);
    return EXIT_CODE_OK;
}

/* What is asked for without a microVM; -1 if it is none of these. */
static int answer_at_once(const struct fc_args *args)
{
    char version[SNAPSHOT_VERSION_MAX];

    if (args->wants_help) {
        fc_args_help(FC_VERSION);
    } else if (args->wants_version) {
        (void)puts("Firecracker v" FC_VERSION "\n");
    } else if (args->wants_snapshot_version) {
        (void)printf("v%s\n", snapshot_version(version));
    } else if (args->describe_snapshot) {
        return describe_snapshot(args->describe_snapshot);
    } else {
        return -1;
    }
    return 0;
}

int cmd_api(int argc, char **argv)
{
    struct process p = {0};
    char debug[256] = "";
    struct err err = {0};
    int status;

    (void)prctl(PR_SET_NAME, "firecracker");
    if (fc_args_parse(argc - 1, argv + 1, &p.args, debug, &err) < 0) {
        log_use_records("anonymous-instance");
        log_error("Arguments parsing error: %s \n\nFor more information try --help.",
                  err_text(&err));
        (void)fprintf(stderr, "Error: %s\n", debug);
        return exit_say(EXIT_CODE_BAD_ARGUMENT);
    }
    status = answer_at_once(&p.args);
    if (status >= 0) {
        return status;
    }
    log_use_records(is_instance_id(p.args.id) ? p.args.id : "anonymous-instance");
    log_set_counters(&g_metrics.logger.missed_log_count.value,
                     &g_metrics.logger.rate_limited_log_count.value);
    if (loop_new(&p.loop, &err) < 0) {
        return exit_say(EXIT_CODE_ERROR);
    }
    status = take_args(&p);
    if (status == 0) {
        status = run(&p);
    }
    loop_free(p.loop);
    seccomp_filters_fini(&p.filters);
    buf_fini(&p.config);
    buf_fini(&p.metadata);
    return exit_say(status);
}
