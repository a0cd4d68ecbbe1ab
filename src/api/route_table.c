/* route_table.c — every path and method of the REST interface, and what it asks of the microVM.
 * The first line that fits counts. */
#include <errno.h>
#include <string.h>

#include "api/json_table.h"
#include "api/resource_json.h"
#include "api/route.h"
#include "api/show.h"
#include "config/cpu_json.h"
#include "metrics/metrics.h"

/* --- what a table of fields cannot say --- */

static int check_machine(struct api_call *call, struct err *err)
{
    (void)err;
    if (call->body.machine.has_cpu_template) {
        call->deprecation = call->route->method == HTTP1_PUT
                                ? "PUT /machine-config: cpu_template field is deprecated."
                                : "PATCH /machine-config: cpu_template field is deprecated.";
    }
    return 0;
}

static int check_vsock(struct api_call *call, struct err *err)
{
    (void)err;
    if (call->body.vsock.vsock_id) {
        call->deprecation = "PUT /vsock: vsock_id field is deprecated.";
    }
    return 0;
}

static int check_mmds_config(struct api_call *call, struct err *err)
{
    (void)err;
    if (call->body.mmds_config.version == MMDS_V1) {
        call->deprecation = "PUT /mmds/config: V1 is deprecated. Use V2 instead.";
    }
    return 0;
}

static int check_load(struct api_call *call, struct err *err)
{
    const struct resource_snapshot_load *load = &call->body.load;

    if (load->has_mem_backend && load->mem_file_path) {
        return err_set(err, -EINVAL,
                       "too many fields: either `mem_backend` or `mem_file_path` exclusively is "
                       "required");
    }
    if (!load->has_mem_backend && !load->mem_file_path) {
        return err_set(err, -EINVAL,
                       "missing field: either `mem_backend` or `mem_file_path` is required");
    }
    if (load->mem_file_path || load->enable_diff_snapshots) {
        call->deprecation = "PUT /snapshot/load: mem_file_path and enable_diff_snapshots fields "
                            "are deprecated.";
    }
    return 0;
}

static int check_action(struct api_call *call, struct err *err)
{
    static const enum action_kind kinds[] = {[ACTION_TYPE_START] = ACTION_START,
                                             [ACTION_TYPE_FLUSH] = ACTION_FLUSH_METRICS,
                                             [ACTION_TYPE_CTRL_ALT_DEL] = ACTION_SEND_CTRL_ALT_DEL};

    (void)err;
    call->action.kind = kinds[call->body.action.action_type];
    return 0;
}

static int check_vm(struct api_call *call, struct err *err)
{
    (void)err;
    call->action.is_resumed = call->body.vm.state == VM_STATE_RESUMED;
    return 0;
}

static int check_hinting(struct api_call *call, struct err *err)
{
    (void)err;
    call->action.acknowledge_on_stop = call->body.hinting.acknowledge_on_stop;
    return 0;
}

static int check_size(struct api_call *call, struct err *err)
{
    (void)err;
    call->action.requested_size_mib = call->body.size.requested_size_mib;
    return 0;
}

static int decode_mmds(struct api_call *call, const char *text, size_t len, struct err *err)
{
    call->action.mmds.text = text;
    call->action.mmds.len = len;
    return json_check(text, len, err);
}

static int check_get_mmds(struct api_call *call, struct err *err)
{
    (void)err;
    call->action.ret_mmds = &call->text;
    return 0;
}

/* The text is kept: who does the action reads it again. */
static int decode_cpu(struct api_call *call, const char *text, size_t len, struct err *err)
{
    struct cpu_template *template = NULL;
    int r = cpu_json_parse(text, len, &template, err);

    cpu_json_free(template);
    if (r == 0) {
        call->body.cpu.json = strndup(text, len);
        r = call->body.cpu.json ? 0 : err_set(err, -ENOMEM, "out of memory");
    }
    return r;
}

static int decode_nothing(struct api_call *call, const char *text, size_t len, struct err *err)
{
    (void)call;
    (void)text;
    (void)len;
    (void)err;
    return 0;
}

/* decode_cpu() fills it; this frees it. */
static const struct json_field cpu_fields[] = {{FIELD(resource_cpu, json, JSON_ANY)}};
static const struct json_type json_cpu = TYPE("CustomCpuTemplate", resource_cpu, cpu_fields, true);

/* --- the table --- */

static const struct request_hinting hinting_defaults = {.acknowledge_on_stop = true};

#define ID_AT(struct_, member_) .id_at = offsetof(struct struct_, member_), .has_id_in_body = true
#define COUNT_PUT(name_)                                \
    .count = &g_metrics.put_api_requests.name_##_count, \
    .fails = &g_metrics.put_api_requests.name_##_fails
#define COUNT_PATCH(name_)                                \
    .count = &g_metrics.patch_api_requests.name_##_count, \
    .fails = &g_metrics.patch_api_requests.name_##_fails
#define COUNT_GET(name_) .count = &g_metrics.get_api_requests.name_##_count

/* clang-format off: a table */
const struct api_route api_routes[] = {
    {HTTP1_GET, "", .is_exact = true, .action = ACTION_GET_INSTANCE, .show = api_show_instance,
     COUNT_GET(instance_info)},
    {HTTP1_GET, "version", .action = ACTION_GET_VERSION, .show = api_show_version,
     COUNT_GET(vmm_version)},
    {HTTP1_GET, "vm/config", .action = ACTION_GET_CONFIG, .show = api_show_config},

    {HTTP1_PUT, "actions", .action = ACTION_START, .body = &json_action, .check = check_action,
     COUNT_PUT(actions)},
    {HTTP1_PATCH, "vm", .action = ACTION_PATCH_VM, .body = &json_vm, .check = check_vm},

    {HTTP1_GET, "machine-config", .action = ACTION_GET_MACHINE, .show = api_show_machine,
     COUNT_GET(machine_cfg)},
    {HTTP1_PUT, "machine-config", .action = ACTION_PUT_MACHINE, .body = &json_machine,
     .check = check_machine, COUNT_PUT(machine_cfg)},
    {HTTP1_PATCH, "machine-config", .action = ACTION_PATCH_MACHINE, .body = &json_machine_patch,
     .check = check_machine, COUNT_PATCH(machine_cfg)},
    {HTTP1_PUT, "boot-source", .action = ACTION_PUT_BOOT, .body = &json_boot,
     COUNT_PUT(boot_source)},
    {HTTP1_PUT, "cpu-config", .action = ACTION_PUT_CPU, .body = &json_cpu, .decode = decode_cpu,
     COUNT_PUT(cpu_cfg)},

    {HTTP1_PUT, "drives/{id}", .action = ACTION_PUT_DRIVE, .body = &json_drive,
     ID_AT(resource_drive, drive_id), COUNT_PUT(drive)},
    {HTTP1_PATCH, "drives/{id}", .action = ACTION_PATCH_DRIVE, .body = &json_drive_patch,
     ID_AT(resource_drive, drive_id), COUNT_PATCH(drive)},
    {HTTP1_DELETE, "drives/{id}", .action = ACTION_DELETE_DRIVE},

    {HTTP1_PUT, "network-interfaces/{id}", .action = ACTION_PUT_NET, .body = &json_net,
     ID_AT(resource_net, iface_id), COUNT_PUT(network)},
    {HTTP1_PATCH, "network-interfaces/{id}", .action = ACTION_PATCH_NET, .body = &json_net_patch,
     ID_AT(resource_net, iface_id), COUNT_PATCH(network)},
    {HTTP1_DELETE, "network-interfaces/{id}", .action = ACTION_DELETE_NET},

    {HTTP1_PUT, "pmem/{id}", .action = ACTION_PUT_PMEM, .body = &json_pmem,
     ID_AT(resource_pmem, id), COUNT_PUT(pmem)},
    {HTTP1_PATCH, "pmem/{id}", .action = ACTION_PATCH_PMEM, .body = &json_pmem_patch,
     ID_AT(resource_pmem, id), COUNT_PATCH(pmem)},
    {HTTP1_DELETE, "pmem/{id}", .action = ACTION_DELETE_PMEM},

    {HTTP1_GET, "balloon/statistics", .action = ACTION_GET_BALLOON_STATS,
     .show = api_show_balloon_stats},
    {HTTP1_GET, "balloon/hinting/status", .action = ACTION_GET_HINTING, .show = api_show_hinting},
    {HTTP1_GET, "balloon", .is_exact = true, .action = ACTION_GET_BALLOON,
     .show = api_show_balloon},
    {HTTP1_PUT, "balloon", .action = ACTION_PUT_BALLOON, .body = &json_balloon},
    {HTTP1_PATCH, "balloon/statistics", .action = ACTION_PATCH_BALLOON_STATS,
     .body = &json_balloon_stats_patch},
    {HTTP1_PATCH, "balloon/hinting/start", .action = ACTION_START_HINTING,
     .body = &json_hinting_start, .defaults = &hinting_defaults, .check = check_hinting},
    {HTTP1_PATCH, "balloon/hinting/stop", .action = ACTION_STOP_HINTING, .decode = decode_nothing},
    {HTTP1_PATCH, "balloon", .action = ACTION_PATCH_BALLOON, .body = &json_balloon_patch},

    {HTTP1_PUT, "vsock", .action = ACTION_PUT_VSOCK, .body = &json_vsock, .check = check_vsock,
     COUNT_PUT(vsock)},
    {HTTP1_PUT, "entropy", .action = ACTION_PUT_ENTROPY, .body = &json_entropy},
    {HTTP1_PUT, "serial", .action = ACTION_PUT_SERIAL, .body = &json_serial, COUNT_PUT(serial)},
    {HTTP1_PUT, "logger", .action = ACTION_PUT_LOGGER, .body = &json_logger, COUNT_PUT(logger)},
    {HTTP1_PUT, "metrics", .action = ACTION_PUT_METRICS, .body = &json_metrics, COUNT_PUT(metrics)},

    {HTTP1_GET, "mmds", .action = ACTION_GET_MMDS, .check = check_get_mmds, .show = api_show_text,
     COUNT_GET(mmds)},
    {HTTP1_PUT, "mmds/config", .action = ACTION_PUT_MMDS_CONFIG, .body = &json_mmds_config,
     .check = check_mmds_config, COUNT_PUT(mmds)},
    {HTTP1_PUT, "mmds", .is_exact = true, .action = ACTION_PUT_MMDS, .decode = decode_mmds,
     COUNT_PUT(mmds)},
    {HTTP1_PATCH, "mmds", .action = ACTION_PATCH_MMDS, .decode = decode_mmds, COUNT_PATCH(mmds)},

    {HTTP1_GET, "hotplug/memory", .action = ACTION_GET_MEMORY, .show = api_show_memory,
     COUNT_GET(hotplug_memory)},
    {HTTP1_PUT, "hotplug/memory", .action = ACTION_PUT_MEMORY, .body = &json_memory,
     .defaults = &json_memory_defaults, COUNT_PUT(hotplug_memory)},
    {HTTP1_PATCH, "hotplug/memory", .action = ACTION_PATCH_MEMORY, .body = &json_memory_patch,
     .check = check_size, COUNT_PATCH(hotplug_memory)},

    {HTTP1_PUT, "snapshot/create", .action = ACTION_CREATE_SNAPSHOT, .body = &json_snapshot_create},
    {HTTP1_PUT, "snapshot/load", .action = ACTION_LOAD_SNAPSHOT, .body = &json_snapshot_load,
     .check = check_load},
};
/* clang-format on */
const size_t api_route_count = ARRAY_LEN(api_routes);
