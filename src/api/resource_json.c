/* resource_json.c — see resource_json.h.  Which field is required, and for which null means absent,
 * is part of the interface. */
#include "api/resource_json.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "api/json_table.h"
#include "codec/json_out.h"

const char *const json_template_names[] = {"C3", "T2", "T2S", "T2CL", "T2A", "None", NULL};
const char *const json_pages_names[] = {"None", "Transparent", "2M", NULL};
const char *const json_cache_names[] = {"Unsafe", "Writeback", NULL};
const char *const json_io_names[] = {"Sync", "Async", NULL};

/* --- rate limiters --- */

static const struct json_field bucket_fields[] = {
    {FIELD(resource_bucket, size, JSON_U64), REQUIRED},
    {FIELD(resource_bucket, one_time_burst, JSON_U64), NULLABLE,
     JSON_HAS(struct resource_bucket, has_burst)},
    {FIELD(resource_bucket, refill_time, JSON_U64), REQUIRED},
};
const struct json_type json_bucket =
    TYPE("TokenBucketConfig", resource_bucket, bucket_fields, false);

static const struct json_field limiter_fields[] = {
    {FIELD(resource_limiter, bandwidth, JSON_OBJECT), NULLABLE, .type = &json_bucket,
     JSON_HAS(struct resource_limiter, has_bandwidth)},
    {FIELD(resource_limiter, ops, JSON_OBJECT), NULLABLE, .type = &json_bucket,
     JSON_HAS(struct resource_limiter, has_ops)},
};
const struct json_type json_limiter =
    TYPE("RateLimiterConfig", resource_limiter, limiter_fields, true);

#define LIMITER(struct_, member_, has_)                                                \
    {                                                                                  \
        FIELD(struct_, member_, JSON_OBJECT), NULLABLE, .type = &json_limiter,         \
                                                        JSON_HAS(struct struct_, has_) \
    }

/* --- machine --- */

#define MACHINE_FIELDS(required_)                                                                \
    {                                                                                            \
        {FIELD(resource_machine, vcpu_count, JSON_U8), .is_required = (required_),               \
         .is_nullable = !(required_), JSON_HAS(struct resource_machine, has_vcpu_count)},        \
            {FIELD(resource_machine, mem_size_mib, JSON_USIZE), .is_required = (required_),      \
             .is_nullable = !(required_), JSON_HAS(struct resource_machine, has_mem_size_mib)},  \
            {FIELD(resource_machine, smt, JSON_BOOL), .is_nullable = !(required_),               \
             JSON_HAS(struct resource_machine, has_smt)},                                        \
            {FIELD(resource_machine, cpu_template, JSON_ENUM), NULLABLE,                         \
             .names = json_template_names, JSON_HAS(struct resource_machine, has_cpu_template)}, \
            {FIELD(resource_machine, track_dirty_pages, JSON_BOOL), .is_nullable = !(required_), \
             JSON_HAS(struct resource_machine, has_track_dirty_pages)},                          \
            {FIELD(resource_machine, huge_pages, JSON_ENUM), .is_nullable = !(required_),        \
             .names = json_pages_names, JSON_HAS(struct resource_machine, has_huge_pages)},      \
    }

static const struct json_field machine_fields[] = MACHINE_FIELDS(true);
static const struct json_field machine_patch_fields[] = MACHINE_FIELDS(false);
const struct json_type json_machine = TYPE("MachineConfig", resource_machine, machine_fields, true);
const struct json_type json_machine_patch =
    TYPE("MachineConfigUpdate", resource_machine, machine_patch_fields, true);

/* --- boot source --- */

static const struct json_field boot_fields[] = {
    {FIELD(resource_boot, kernel_image_path, JSON_STRING), REQUIRED},
    {FIELD(resource_boot, initrd_path, JSON_STRING), NULLABLE},
    {FIELD(resource_boot, boot_args, JSON_STRING), NULLABLE},
};
const struct json_type json_boot = TYPE("BootSourceConfig", resource_boot, boot_fields, true);

/* --- drives --- */

static const struct json_field drive_fields[] = {
    {FIELD(resource_drive, drive_id, JSON_STRING), REQUIRED},
    {FIELD(resource_drive, partuuid, JSON_STRING), NULLABLE},
    {FIELD(resource_drive, is_root_device, JSON_BOOL), REQUIRED},
    {FIELD(resource_drive, cache_type, JSON_ENUM), .names = json_cache_names},
    {FIELD(resource_drive, is_read_only, JSON_BOOL), NULLABLE,
     JSON_HAS(struct resource_drive, has_is_read_only)},
    {FIELD(resource_drive, path_on_host, JSON_STRING), NULLABLE},
    LIMITER(resource_drive, rate_limiter, has_rate_limiter),
    {FIELD(resource_drive, io_engine, JSON_ENUM), NULLABLE, .names = json_io_names,
     JSON_HAS(struct resource_drive, has_io_engine)},
    {FIELD(resource_drive, socket, JSON_STRING), NULLABLE},
};
const struct json_type json_drive = TYPE("BlockDeviceConfig", resource_drive, drive_fields, true);

static const struct json_field drive_patch_fields[] = {
    {FIELD(resource_drive, drive_id, JSON_STRING), REQUIRED},
    {FIELD(resource_drive, path_on_host, JSON_STRING), NULLABLE},
    LIMITER(resource_drive, rate_limiter, has_rate_limiter),
};
const struct json_type json_drive_patch =
    TYPE("BlockDeviceUpdateConfig", resource_drive, drive_patch_fields, true);

/* --- network interfaces --- */

static const char *check_mac(const char *text, char why[static 256])
{
    bool is_good = strlen(text) == 17;

    for (unsigned i = 0; is_good && i < 17; i++) {
        is_good = i % 3 == 2 ? text[i] == ':' : isxdigit((unsigned char)text[i]) != 0;
    }
    if (is_good) {
        return NULL;
    }
    (void)snprintf(why, 256, "invalid value: string \"%.100s\", expected a MAC address", text);
    return why;
}

static const struct json_field net_fields[] = {
    {FIELD(resource_net, iface_id, JSON_STRING), REQUIRED},
    {FIELD(resource_net, host_dev_name, JSON_STRING), REQUIRED},
    {FIELD(resource_net, guest_mac, JSON_STRING), NULLABLE, .check = check_mac},
    {FIELD(resource_net, mtu, JSON_U16), NULLABLE, JSON_HAS(struct resource_net, has_mtu)},
    LIMITER(resource_net, rx_rate_limiter, has_rx),
    LIMITER(resource_net, tx_rate_limiter, has_tx),
};
const struct json_type json_net = TYPE("NetworkInterfaceConfig", resource_net, net_fields, true);

static const struct json_field net_patch_fields[] = {
    {FIELD(resource_net, iface_id, JSON_STRING), REQUIRED},
    LIMITER(resource_net, rx_rate_limiter, has_rx),
    LIMITER(resource_net, tx_rate_limiter, has_tx),
};
const struct json_type json_net_patch =
    TYPE("NetworkInterfaceUpdateConfig", resource_net, net_patch_fields, true);

/* --- the rest --- */

static const struct json_field vsock_fields[] = {
    {FIELD(resource_vsock, vsock_id, JSON_STRING), NULLABLE},
    {FIELD(resource_vsock, guest_cid, JSON_U32), REQUIRED},
    {FIELD(resource_vsock, uds_path, JSON_STRING), REQUIRED},
};
const struct json_type json_vsock = TYPE("VsockDeviceConfig", resource_vsock, vsock_fields, true);

static const struct json_field entropy_fields[] = {
    LIMITER(resource_entropy, rate_limiter, has_rate_limiter)};
const struct json_type json_entropy =
    TYPE("EntropyDeviceConfig", resource_entropy, entropy_fields, true);

static const struct json_field balloon_fields[] = {
    {FIELD(resource_balloon, amount_mib, JSON_U32), REQUIRED},
    {FIELD(resource_balloon, deflate_on_oom, JSON_BOOL), REQUIRED},
    {FIELD(resource_balloon, stats_polling_interval_s, JSON_U16)},
    {FIELD(resource_balloon, free_page_hinting, JSON_BOOL)},
    {FIELD(resource_balloon, free_page_reporting, JSON_BOOL)},
};
const struct json_type json_balloon =
    TYPE("BalloonDeviceConfig", resource_balloon, balloon_fields, true);

static const struct json_field pmem_fields[] = {
    {FIELD(resource_pmem, id, JSON_STRING), REQUIRED},
    {FIELD(resource_pmem, path_on_host, JSON_STRING), REQUIRED},
    {FIELD(resource_pmem, root_device, JSON_BOOL)},
    {FIELD(resource_pmem, read_only, JSON_BOOL)},
    LIMITER(resource_pmem, rate_limiter, has_rate_limiter),
};
const struct json_type json_pmem = TYPE("PmemConfig", resource_pmem, pmem_fields, true);

static const struct json_field pmem_patch_fields[] = {
    {FIELD(resource_pmem, id, JSON_STRING), REQUIRED},
    LIMITER(resource_pmem, rate_limiter, has_rate_limiter),
};
const struct json_type json_pmem_patch =
    TYPE("PmemDeviceUpdateConfig", resource_pmem, pmem_patch_fields, true);

static const struct json_field memory_fields[] = {
    {FIELD(resource_memory, total_size_mib, JSON_USIZE), REQUIRED},
    {FIELD(resource_memory, block_size_mib, JSON_USIZE)},
    {FIELD(resource_memory, slot_size_mib, JSON_USIZE)},
};
const struct resource_memory json_memory_defaults = {.block_size_mib = 2, .slot_size_mib = 128};
const struct json_type json_memory =
    TYPE("MemoryHotplugConfig", resource_memory, memory_fields, true);

static const struct json_field serial_fields[] = {
    {FIELD(resource_serial, serial_out_path, JSON_STRING), NULLABLE},
    {FIELD(resource_serial, rate_limiter, JSON_OBJECT), NULLABLE, .type = &json_bucket,
     JSON_HAS(struct resource_serial, has_rate_limiter)},
};
const struct json_type json_serial = TYPE("SerialConfig", resource_serial, serial_fields, true);

/* --- text --- */

static const char *truth(bool x)
{
    return x ? "true" : "false";
}

static void put_bucket(struct buf *out, const struct resource_bucket *bucket, bool is_there)
{
    if (!is_there) {
        buf_append_str(out, "null");
        return;
    }
    buf_printf(out, "{\"size\":%" PRIu64 ",\"one_time_burst\":", bucket->size);
    if (bucket->has_burst && bucket->one_time_burst) { /* none is shown as none */
        buf_printf(out, "%" PRIu64, bucket->one_time_burst);
    } else {
        buf_append_str(out, "null");
    }
    buf_printf(out, ",\"refill_time\":%" PRIu64 "}", bucket->refill_time);
}

static bool limits(const struct resource_bucket *bucket, bool is_there)
{
    return is_there && bucket->size && bucket->refill_time;
}

void json_put_limiter(struct buf *out, const struct resource_limiter *limiter, bool is_there)
{
    bool bandwidth = is_there && limits(&limiter->bandwidth, limiter->has_bandwidth);
    bool ops = is_there && limits(&limiter->ops, limiter->has_ops);

    if (!bandwidth && !ops) {
        buf_append_str(out, "null");
        return;
    }
    buf_append_str(out, "{\"bandwidth\":");
    put_bucket(out, &limiter->bandwidth, bandwidth);
    buf_append_str(out, ",\"ops\":");
    put_bucket(out, &limiter->ops, ops);
    buf_append_str(out, "}");
}

void json_put_machine(struct buf *out, const struct resource_machine *machine)
{
    buf_printf(out, "{\"vcpu_count\":%u,\"mem_size_mib\":%" PRIu64 ",\"smt\":%s",
               machine->vcpu_count, machine->mem_size_mib, truth(machine->smt));
    if (machine->cpu_template != TEMPLATE_NONE) {
        buf_printf(out, ",\"cpu_template\":\"%s\"", json_template_names[machine->cpu_template]);
    }
    buf_printf(out, ",\"track_dirty_pages\":%s,\"huge_pages\":\"%s\"}",
               truth(machine->track_dirty_pages), json_pages_names[machine->huge_pages]);
}

static void put_named(struct buf *out, const char *name, const char *text)
{
    buf_printf(out, "\"%s\":", name);
    json_put_string(out, text);
}

void json_put_boot(struct buf *out, const struct resource_boot *boot)
{
    buf_append_str(out, "{");
    put_named(out, "kernel_image_path", boot->kernel_image_path);
    buf_append_str(out, ",");
    put_named(out, "initrd_path", boot->initrd_path);
    buf_append_str(out, ",");
    put_named(out, "boot_args", boot->boot_args);
    buf_append_str(out, "}");
}

/* The fields of a file are null for a vhost-user drive. */
void json_put_drive(struct buf *out, const struct resource_drive *drive)
{
    bool is_file = drive->path_on_host != NULL;

    buf_append_str(out, "{");
    put_named(out, "drive_id", drive->drive_id);
    buf_append_str(out, ",");
    put_named(out, "partuuid", drive->partuuid);
    buf_printf(out, ",\"is_root_device\":%s,\"cache_type\":\"%s\",\"is_read_only\":%s,",
               truth(drive->is_root_device), json_cache_names[drive->cache_type],
               is_file ? truth(drive->is_read_only) : "null");
    put_named(out, "path_on_host", drive->path_on_host);
    buf_append_str(out, ",\"rate_limiter\":");
    json_put_limiter(out, &drive->rate_limiter, drive->has_rate_limiter);
    buf_append_str(out, ",");
    put_named(out, "io_engine", is_file ? json_io_names[drive->io_engine] : NULL);
    buf_append_str(out, ",");
    put_named(out, "socket", drive->socket);
    buf_append_str(out, "}");
}

void json_put_net(struct buf *out, const struct resource_net *net)
{
    buf_append_str(out, "{");
    put_named(out, "iface_id", net->iface_id);
    buf_append_str(out, ",");
    put_named(out, "host_dev_name", net->host_dev_name);
    buf_append_str(out, ",");
    put_named(out, "guest_mac", net->guest_mac);
    buf_append_str(out, ",\"mtu\":");
    if (net->has_mtu) {
        buf_printf(out, "%u", net->mtu);
    } else {
        buf_append_str(out, "null");
    }
    buf_append_str(out, ",\"rx_rate_limiter\":");
    json_put_limiter(out, &net->rx_rate_limiter, net->has_rx);
    buf_append_str(out, ",\"tx_rate_limiter\":");
    json_put_limiter(out, &net->tx_rate_limiter, net->has_tx);
    buf_append_str(out, "}");
}

void json_put_vsock(struct buf *out, const struct resource_vsock *vsock)
{
    buf_printf(out, "{\"guest_cid\":%u,", vsock->guest_cid);
    put_named(out, "uds_path", vsock->uds_path);
    buf_append_str(out, "}");
}

void json_put_entropy(struct buf *out, const struct resource_entropy *entropy)
{
    buf_append_str(out, "{\"rate_limiter\":");
    json_put_limiter(out, &entropy->rate_limiter, entropy->has_rate_limiter);
    buf_append_str(out, "}");
}

void json_put_balloon(struct buf *out, const struct resource_balloon *balloon)
{
    buf_printf(out,
               "{\"amount_mib\":%u,\"deflate_on_oom\":%s,\"stats_polling_interval_s\":%u,"
               "\"free_page_hinting\":%s,\"free_page_reporting\":%s}",
               balloon->amount_mib, truth(balloon->deflate_on_oom),
               balloon->stats_polling_interval_s, truth(balloon->free_page_hinting),
               truth(balloon->free_page_reporting));
}

void json_put_pmem(struct buf *out, const struct resource_pmem *pmem)
{
    buf_append_str(out, "{");
    put_named(out, "id", pmem->id);
    buf_append_str(out, ",");
    put_named(out, "path_on_host", pmem->path_on_host);
    buf_printf(out,
               ",\"root_device\":%s,\"read_only\":%s,\"rate_limiter\":", truth(pmem->root_device),
               truth(pmem->read_only));
    json_put_limiter(out, &pmem->rate_limiter, pmem->has_rate_limiter);
    buf_append_str(out, "}");
}

void json_put_memory(struct buf *out, const struct resource_memory *memory)
{
    buf_printf(out,
               "{\"total_size_mib\":%" PRIu64 ",\"block_size_mib\":%" PRIu64
               ",\"slot_size_mib\":%" PRIu64 "}",
               memory->total_size_mib, memory->block_size_mib, memory->slot_size_mib);
}
