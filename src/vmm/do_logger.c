/* do_logger.c — logger and metrics: where the process tells what it does, and what it counts. */
#include <errno.h>

#include "base/auto.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/os_error.h"
#include "codec/json_out.h"
#include "io/loop.h"
#include "metrics/metrics.h"
#include "vmm/microvm_int.h"

#define METRICS_PERIOD_NS (60 * NS_PER_S)
/* Before the texts of what a client got wrong with its metrics. */
#define BAD_METRICS "Cannot initialize the metrics system due to bad user input: "

/* What is not named stays, except the level. */
int do_put_logger(struct microvm *vm, const struct action *action, struct err *err)
{
    const struct resource_logger *logger = action->logger;
    enum log_level level = LOG_INFO;
    char text[OS_ERROR_MAX];
    int r;

    (void)vm;
    if (logger->level && log_level_parse(logger->level, &level) < 0) {
        return err_set(err, -EINVAL, "Invalid LevelFilter: %s", logger->level);
    }
    if (logger->log_path) {
        r = log_open(logger->log_path);
        if (r < 0) {
            return err_set(err, r, "Failed to open target file: %s", os_error(r, text));
        }
    }
    log_set_level(level);
    if (logger->has_show_level) {
        log_show_level(logger->show_level);
    }
    if (logger->has_show_log_origin) {
        log_show_origin(logger->show_log_origin);
    }
    if (logger->module) {
        log_set_module(logger->module);
    }
    return 0;
}

static void put_properties(struct buf *out, const struct json_list *list)
{
    const struct json_pair *pairs = list->items;

    for (size_t i = 0; i < list->count; i++) {
        buf_append_str(out, i ? "," : "{");
        json_put_string(out, pairs[i].key);
        buf_append_str(out, ":");
        json_put_string(out, pairs[i].value);
    }
    buf_append_str(out, "}");
}

int do_put_metrics(struct microvm *vm, const struct action *action, struct err *err)
{
    const struct resource_metrics *metrics = action->metrics;
    AUTO_CALL(buf_fini) struct buf properties = {0};
    struct metrics_options options = {.path = metrics->metrics_path,
                                      .id = metrics->emit_id ? vm->options.id : NULL};
    char text[OS_ERROR_MAX];
    int r;

    if (metrics->properties.count > 0) {
        put_properties(&properties, &metrics->properties);
        options.properties_json = buf_str(&properties);
    }
    if (buf_status(&properties) < 0) {
        return err_set(err, -ENOMEM, BAD_METRICS "out of memory");
    }
    r = metrics_open(&options, NULL);
    if (r == -EALREADY) {
        return err_set(err, r, BAD_METRICS "Reinitialization of metrics not allowed.");
    }
    return r < 0 ? err_set(err, r, BAD_METRICS "%s", os_error(r, text)) : 0;
}

int do_flush_metrics(struct microvm *vm, const struct action *action, struct err *err)
{
    char text[OS_ERROR_MAX];
    int r = metrics_write();

    (void)vm;
    (void)action;
    return r < 0 ? err_set(err, r, "%s", os_error(r, text)) : 0;
}

static void on_period(void *owner)
{
    struct microvm *vm = owner;

    if (vm->state == MICROVM_RUNNING) {
        (void)metrics_write();
    }
    vm->metrics_timer = loop_add_timer(vm->options.loop, METRICS_PERIOD_NS, on_period, vm);
}

void microvm_start_metrics(struct microvm *vm)
{
    (void)metrics_write();
    if (vm->options.loop) {
        vm->metrics_timer = loop_add_timer(vm->options.loop, METRICS_PERIOD_NS, on_period, vm);
    }
}

void microvm_stop_metrics(struct microvm *vm)
{
    if (vm->metrics_timer) {
        loop_del_timer(vm->options.loop, vm->metrics_timer);
        vm->metrics_timer = NULL;
    }
}
