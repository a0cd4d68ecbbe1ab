/* request_json.c — see request_json.h. */
#include "api/request_json.h"

#include <arpa/inet.h>
#include <stdio.h>

#include "api/json_table.h"
#include "api/resource_json.h"
#include "base/log.h"

/* --- actions and states --- */

static const char *const action_names[] = {"InstanceStart", "FlushMetrics", "SendCtrlAltDel", NULL};
static const struct json_field action_fields[] = {
    {FIELD(request_action, action_type, JSON_ENUM), REQUIRED, .names = action_names}};
const struct json_type json_action = TYPE("ActionBody", request_action, action_fields, true);

static const char *const state_names[] = {"Paused", "Resumed", NULL};
static const struct json_field vm_fields[] = {
    {FIELD(request_vm, state, JSON_ENUM), REQUIRED, .names = state_names}};
const struct json_type json_vm = TYPE("Vm", request_vm, vm_fields, true);

/* --- changes of a running machine's devices --- */

static const struct json_field hinting_fields[] = {
    {FIELD(request_hinting, acknowledge_on_stop, JSON_BOOL)}};
const struct json_type json_hinting_start =
    TYPE("StartHintingCmd", request_hinting, hinting_fields, false);

static const struct json_field memory_patch_fields[] = {
    {FIELD(request_memory, requested_size_mib, JSON_USIZE), REQUIRED}};
const struct json_type json_memory_patch =
    TYPE("MemoryHotplugSizeUpdate", request_memory, memory_patch_fields, true);

static const struct json_field balloon_patch_fields[] = {
    {FIELD(resource_balloon, amount_mib, JSON_U32), REQUIRED}};
const struct json_type json_balloon_patch =
    TYPE("BalloonUpdateConfig", resource_balloon, balloon_patch_fields, true);

static const struct json_field balloon_stats_fields[] = {
    {FIELD(resource_balloon, stats_polling_interval_s, JSON_U16), REQUIRED}};
const struct json_type json_balloon_stats_patch =
    TYPE("BalloonUpdateStatsConfig", resource_balloon, balloon_stats_fields, true);

/* --- logger and metrics --- */

static const char *check_level(const char *text, char why[static 256])
{
    enum log_level level;

    if (log_level_parse(text, &level) == 0) {
        return NULL;
    }
    (void)snprintf(why, 256, "Invalid LevelFilter: %.100s", text);
    return why;
}

static const struct json_field logger_fields[] = {
    {FIELD(resource_logger, log_path, JSON_STRING), NULLABLE},
    {FIELD(resource_logger, level, JSON_STRING), NULLABLE, .check = check_level},
    {FIELD(resource_logger, show_level, JSON_BOOL), NULLABLE,
     JSON_HAS(struct resource_logger, has_show_level)},
    {FIELD(resource_logger, show_log_origin, JSON_BOOL), NULLABLE,
     JSON_HAS(struct resource_logger, has_show_log_origin)},
    {FIELD(resource_logger, module, JSON_STRING), NULLABLE},
};
const struct json_type json_logger = TYPE("LoggerConfig", resource_logger, logger_fields, true);

static const struct json_field metrics_fields[] = {
    {FIELD(resource_metrics, metrics_path, JSON_STRING), REQUIRED},
    {FIELD(resource_metrics, emit_id, JSON_BOOL)},
    {FIELD(resource_metrics, properties, JSON_MAP), NULLABLE},
};
const struct json_type json_metrics =
    TYPE("MetricsConfig", resource_metrics, metrics_fields, false);

/* --- metadata --- */

static const char *check_ipv4(const char *text, char why[static 256])
{
    struct in_addr addr;

    (void)why;
    return inet_pton(AF_INET, text, &addr) == 1 ? NULL : "invalid IPv4 address syntax";
}

static const char *const mmds_versions[] = {"V1", "V2", NULL};
static const struct json_field mmds_config_fields[] = {
    {FIELD(resource_mmds_config, version, JSON_ENUM), .names = mmds_versions},
    {FIELD(resource_mmds_config, network_interfaces, JSON_LIST), REQUIRED, .item = JSON_STRING},
    {FIELD(resource_mmds_config, ipv4_address, JSON_STRING), NULLABLE, .check = check_ipv4},
    {FIELD(resource_mmds_config, imds_compat, JSON_BOOL)},
};
const struct json_type json_mmds_config =
    TYPE("MmdsConfig", resource_mmds_config, mmds_config_fields, true);

/* --- snapshots --- */

static const char *const snapshot_types[] = {"Full", "Diff", NULL};
static const struct json_field create_fields[] = {
    {FIELD(resource_snapshot_create, snapshot_type, JSON_ENUM), .names = snapshot_types},
    {FIELD(resource_snapshot_create, snapshot_path, JSON_STRING), REQUIRED},
    {FIELD(resource_snapshot_create, mem_file_path, JSON_STRING), REQUIRED},
};
const struct json_type json_snapshot_create =
    TYPE("CreateSnapshotParams", resource_snapshot_create, create_fields, true);

static const char *const backend_types[] = {"File", "Uffd", NULL};
static const struct json_field backend_fields[] = {
    {FIELD(resource_mem_backend, backend_path, JSON_STRING), REQUIRED},
    {FIELD(resource_mem_backend, backend_type, JSON_ENUM), REQUIRED, .names = backend_types},
};
static const struct json_type json_mem_backend =
    TYPE("MemBackendConfig", resource_mem_backend, backend_fields, true);

static const struct json_field net_override_fields[] = {
    {FIELD(resource_net_override, iface_id, JSON_STRING), REQUIRED},
    {FIELD(resource_net_override, host_dev_name, JSON_STRING), REQUIRED},
};
static const struct json_type json_net_override =
    TYPE("NetworkOverride", resource_net_override, net_override_fields, false);

static const struct json_field vsock_override_fields[] = {
    {FIELD(resource_vsock_override, uds_path, JSON_STRING), REQUIRED}};
static const struct json_type json_vsock_override =
    TYPE("VsockOverride", resource_vsock_override, vsock_override_fields, false);

static const char *const load_pages[] = {"Snapshot", "None", "Transparent", "2M", NULL};
static const struct json_field load_fields[] = {
    {FIELD(resource_snapshot_load, snapshot_path, JSON_STRING), REQUIRED},
    {FIELD(resource_snapshot_load, mem_file_path, JSON_STRING), NULLABLE},
    {FIELD(resource_snapshot_load, mem_backend, JSON_OBJECT), NULLABLE, .type = &json_mem_backend,
     JSON_HAS(struct resource_snapshot_load, has_mem_backend)},
    {FIELD(resource_snapshot_load, enable_diff_snapshots, JSON_BOOL)},
    {FIELD(resource_snapshot_load, track_dirty_pages, JSON_BOOL)},
    {FIELD(resource_snapshot_load, resume_vm, JSON_BOOL)},
    {FIELD(resource_snapshot_load, network_overrides, JSON_LIST), .item = JSON_OBJECT,
     .type = &json_net_override},
    {FIELD(resource_snapshot_load, vsock_override, JSON_OBJECT), NULLABLE,
     .type = &json_vsock_override, JSON_HAS(struct resource_snapshot_load, has_vsock_override)},
    {FIELD(resource_snapshot_load, clock_realtime, JSON_BOOL)},
    {FIELD(resource_snapshot_load, huge_pages, JSON_ENUM), .names = load_pages},
};
const struct json_type json_snapshot_load =
    TYPE("LoadSnapshotConfig", resource_snapshot_load, load_fields, true);
