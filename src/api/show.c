/* show.c — see show.h. */
#include "api/show.h"

#include <inttypes.h>

#include "api/resource_json.h"
#include "api/route.h"
#include "base/bits.h"
#include "codec/json_out.h"

/* What clients look for before they take us for what they know. */
#define APP_NAME "Firecracker"

void api_show_instance(struct api_call *call, const struct microvm *vm, struct buf *out)
{
    const struct microvm_options *options = microvm_options(vm);

    (void)call;
    buf_append_str(out, "{\"id\":");
    json_put_string(out, options->id);
    buf_printf(out, ",\"state\":\"%s\",\"vmm_version\":", microvm_state_name(microvm_state(vm)));
    json_put_string(out, options->version);
    buf_append_str(out, ",\"app_name\":\"" APP_NAME "\"}");
}

void api_show_version(struct api_call *call, const struct microvm *vm, struct buf *out)
{
    (void)call;
    buf_append_str(out, "{\"firecracker_version\":");
    json_put_string(out, microvm_options(vm)->version);
    buf_append_str(out, "}");
}

void api_show_machine(struct api_call *call, const struct microvm *vm, struct buf *out)
{
    (void)call;
    json_put_machine(out, &microvm_resources(vm)->machine);
}

/* --- everything --- */

static void put_mmds_config(struct buf *out, const struct resource_mmds_config *config)
{
    char *const *ids = config->network_interfaces.items;

    buf_printf(out, "{\"version\":\"%s\",\"network_interfaces\":[",
               config->version == MMDS_V1 ? "V1" : "V2");
    for (size_t i = 0; i < config->network_interfaces.count; i++) {
        buf_append_str(out, i ? "," : "");
        json_put_string(out, ids[i]);
    }
    buf_append_str(out, "],\"ipv4_address\":");
    json_put_string(out, config->ipv4_address ? config->ipv4_address : "169.254.169.254");
    buf_printf(out, ",\"imds_compat\":%s}", config->imds_compat ? "true" : "false");
}

#define PUT_OPTIONAL(name_, has_, put_)  \
    do {                                 \
        buf_append_str(out, name_);      \
        if (has_) {                      \
            put_;                        \
        } else {                         \
            buf_append_str(out, "null"); \
        }                                \
    } while (0)

#define PUT_LIST(name_, count_, put_)             \
    do {                                          \
        buf_append_str(out, name_ "[");           \
        for (unsigned i = 0; i < (count_); i++) { \
            buf_append_str(out, i ? "," : "");    \
            put_;                                 \
        }                                         \
        buf_append_str(out, "]");                 \
    } while (0)

void api_show_config(struct api_call *call, const struct microvm *vm, struct buf *out)
{
    const struct microvm_resources *res = microvm_resources(vm);

    (void)call;
    PUT_OPTIONAL("{\"balloon\":", res->has_balloon, json_put_balloon(out, &res->balloon));
    PUT_LIST(",\"drives\":", res->drive_count, json_put_drive(out, &res->drives[i]));
    PUT_OPTIONAL(",\"boot-source\":", res->has_boot, json_put_boot(out, &res->boot));
    buf_append_str(out, ",\"cpu-config\":null,\"logger\":null,\"machine-config\":");
    json_put_machine(out, &res->machine);
    PUT_OPTIONAL(",\"metrics\":null,\"mmds-config\":", res->has_mmds_config,
                 put_mmds_config(out, &res->mmds_config));
    PUT_LIST(",\"network-interfaces\":", res->net_count, json_put_net(out, &res->nets[i]));
    PUT_OPTIONAL(",\"vsock\":", res->has_vsock, json_put_vsock(out, &res->vsock));
    PUT_OPTIONAL(",\"entropy\":", res->has_entropy, json_put_entropy(out, &res->entropy));
    PUT_LIST(",\"pmem\":", res->pmem_count, json_put_pmem(out, &res->pmems[i]));
    PUT_OPTIONAL(",\"memory-hotplug\":", res->has_memory, json_put_memory(out, &res->memory));
    buf_append_str(out, "}");
}

/* --- devices of a running machine --- */

void api_show_balloon(struct api_call *call, const struct microvm *vm, struct buf *out)
{
    (void)vm;
    json_put_balloon(out, &call->result.balloon);
}

void api_show_balloon_stats(struct api_call *call, const struct microvm *vm, struct buf *out)
{
    /* By tag: virtio 1.2, 5.5.6.3, and Linux's later ones. */
    static const char *const names[] = {"swap_in",          "swap_out",    "major_faults",
                                        "minor_faults",     "free_memory", "total_memory",
                                        "available_memory", "disk_caches", "hugetlb_allocations",
                                        "hugetlb_failures", "oom_kill",    "alloc_stall",
                                        "async_scan",       "direct_scan", "async_reclaim",
                                        "direct_reclaim"};
    const struct resource_balloon_stats *stats = &call->result.balloon_stats;

    (void)vm;
    buf_printf(out,
               "{\"target_pages\":%" PRIu64 ",\"actual_pages\":%" PRIu64 ",\"target_mib\":%" PRIu64
               ",\"actual_mib\":%" PRIu64,
               stats->target_pages, stats->actual_pages, stats->target_mib, stats->actual_mib);
    for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
        if (stats->present >> i & 1) {
            buf_printf(out, ",\"%s\":%" PRIu64, names[i], stats->values[i]);
        }
    }
    buf_append_str(out, "}");
}

void api_show_hinting(struct api_call *call, const struct microvm *vm, struct buf *out)
{
    const struct resource_hinting *hinting = &call->result.hinting;

    (void)vm;
    buf_printf(out, "{\"host_cmd\":%u,\"guest_cmd\":", hinting->host_cmd);
    if (hinting->has_guest_cmd) {
        buf_printf(out, "%u}", hinting->guest_cmd);
    } else {
        buf_append_str(out, "null}");
    }
}

void api_show_memory(struct api_call *call, const struct microvm *vm, struct buf *out)
{
    const struct resource_memory_status *status = &call->result.memory;

    (void)vm;
    buf_printf(out,
               "{\"block_size_mib\":%" PRIu64 ",\"total_size_mib\":%" PRIu64
               ",\"slot_size_mib\":%" PRIu64 ",\"plugged_size_mib\":%" PRIu64
               ",\"requested_size_mib\":%" PRIu64 "}",
               status->config.block_size_mib, status->config.total_size_mib,
               status->config.slot_size_mib, status->plugged_size_mib, status->requested_size_mib);
}

void api_show_text(struct api_call *call, const struct microvm *vm, struct buf *out)
{
    (void)vm;
    buf_append(out, call->text.data, call->text.len);
}
