/* snapshot_resources.c — what a microVM was configured with, as a section of a snapshot.
 *
 * Host files are kept by their paths.  What is not the guest's business is not here: logger,
 * metrics, serial output, metadata.
 */
#include "vmm/snapshot_resources.h"

#include <stdlib.h>
#include <string.h>

#include "state/state.h"

#define DEVICE_MAX 64u   /* of one kind */
#define TEXT_MAX   4096u /* ids, paths, arguments */

static void text(struct state *s, const char *field, char **value)
{
    state_str(s, field, value, TEXT_MAX);
}

static void bucket_fields(struct resource_bucket *bucket, struct state *s)
{
    STATE(s, bucket->size);
    STATE(s, bucket->refill_time);
    STATE(s, bucket->one_time_burst);
    STATE(s, bucket->has_burst);
}

static void limiter_fields(struct resource_limiter *limiter, bool *has, struct state *s)
{
    state_bool(s, "rate limiter", has);
    bucket_fields(&limiter->bandwidth, s);
    bucket_fields(&limiter->ops, s);
    STATE(s, limiter->has_bandwidth);
    STATE(s, limiter->has_ops);
}

/* An enumeration from 0 to `max`. */
static void choice(struct state *s, const char *field, int *value, int max)
{
    state_i32(s, field, value);
    if (s->is_loading && (*value < 0 || *value > max)) {
        state_refuse(s, field, "%d: must be at most %d", *value, max);
        *value = 0;
    }
}

static void machine_fields(struct resource_machine *machine, struct state *s)
{
    STATE(s, machine->vcpu_count);
    STATE(s, machine->mem_size_mib);
    STATE(s, machine->smt);
    choice(s, "cpu_template", &machine->cpu_template, TEMPLATE_NONE);
    choice(s, "huge_pages", &machine->huge_pages, PAGES_2M);
}

static void boot_fields(struct resource_boot *boot, struct state *s)
{
    text(s, "kernel_image_path", &boot->kernel_image_path);
    text(s, "initrd_path", &boot->initrd_path);
    text(s, "boot_args", &boot->boot_args);
}

static void drive_fields(struct resource_drive *drive, struct state *s)
{
    text(s, "drive_id", &drive->drive_id);
    STATE(s, drive->is_root_device);
    text(s, "partuuid", &drive->partuuid);
    choice(s, "cache_type", &drive->cache_type, CACHE_WRITEBACK);
    STATE(s, drive->is_read_only);
    STATE(s, drive->has_is_read_only);
    text(s, "path_on_host", &drive->path_on_host);
    limiter_fields(&drive->rate_limiter, &drive->has_rate_limiter, s);
    choice(s, "io_engine", &drive->io_engine, IO_ASYNC);
    STATE(s, drive->has_io_engine);
    text(s, "socket", &drive->socket);
}

static void net_fields(struct resource_net *net, struct state *s)
{
    text(s, "iface_id", &net->iface_id);
    text(s, "host_dev_name", &net->host_dev_name);
    text(s, "guest_mac", &net->guest_mac);
    STATE(s, net->mtu);
    STATE(s, net->has_mtu);
    limiter_fields(&net->rx_rate_limiter, &net->has_rx, s);
    limiter_fields(&net->tx_rate_limiter, &net->has_tx, s);
}

static void pmem_fields(struct resource_pmem *pmem, struct state *s)
{
    text(s, "id", &pmem->id);
    text(s, "path_on_host", &pmem->path_on_host);
    STATE(s, pmem->root_device);
    STATE(s, pmem->read_only);
    limiter_fields(&pmem->rate_limiter, &pmem->has_rate_limiter, s);
}

static void vsock_fields(struct resource_vsock *vsock, struct state *s)
{
    STATE(s, vsock->guest_cid);
    text(s, "uds_path", &vsock->uds_path);
    text(s, "vsock_id", &vsock->vsock_id);
}

static void balloon_fields(struct resource_balloon *balloon, struct state *s)
{
    STATE(s, balloon->amount_mib);
    STATE(s, balloon->deflate_on_oom);
    STATE(s, balloon->stats_polling_interval_s);
    STATE(s, balloon->free_page_hinting);
    STATE(s, balloon->free_page_reporting);
}

static void memory_fields(struct resource_memory *memory, struct state *s)
{
    STATE(s, memory->total_size_mib);
    STATE(s, memory->block_size_mib);
    STATE(s, memory->slot_size_mib);
}

/* How many follow, and room for them when loading; the count is what there is room for. */
static void list(struct state *s, const char *field, void *slot, unsigned *count, size_t size)
{
    void *items;

    state_count(s, field, count, DEVICE_MAX);
    if (!s->is_loading || *count == 0) {
        return;
    }
    items = calloc(*count, size);
    if (!items) {
        *count = 0;
        state_refuse(s, field, "out of memory");
    }
    memcpy(slot, &items, sizeof(items)); /* whatever it points to */
}

static void mmds_fields(struct resource_mmds_config *config, struct state *s)
{
    unsigned count = (unsigned)config->network_interfaces.count;

    list(s, "network_interfaces", &config->network_interfaces.items, &count, sizeof(char *));
    config->network_interfaces.count = count;
    for (unsigned i = 0; i < count; i++) {
        text(s, "network_interfaces", &((char **)config->network_interfaces.items)[i]);
    }
    choice(s, "version", &config->version, MMDS_V2);
    text(s, "ipv4_address", &config->ipv4_address);
    STATE(s, config->imds_compat);
}

/* A file's text may be missing where code expects one. */
static void want(struct state *s, const char *field, const char *value)
{
    if (s->is_loading && !s->failed && !value) {
        state_refuse(s, field, "is missing");
    }
}

static void device_fields(struct microvm_resources *res, struct state *s)
{
    list(s, "drives", &res->drives, &res->drive_count, sizeof(*res->drives));
    for (unsigned i = 0; i < res->drive_count; i++) {
        drive_fields(&res->drives[i], s);
        want(s, "drive_id", res->drives[i].drive_id);
    }
    list(s, "nets", &res->nets, &res->net_count, sizeof(*res->nets));
    for (unsigned i = 0; i < res->net_count; i++) {
        net_fields(&res->nets[i], s);
        want(s, "iface_id", res->nets[i].iface_id);
        want(s, "host_dev_name", res->nets[i].host_dev_name);
    }
    list(s, "pmems", &res->pmems, &res->pmem_count, sizeof(*res->pmems));
    for (unsigned i = 0; i < res->pmem_count; i++) {
        pmem_fields(&res->pmems[i], s);
        want(s, "id", res->pmems[i].id);
        want(s, "path_on_host", res->pmems[i].path_on_host);
    }
}

void snapshot_resources_fields(struct microvm_resources *res, bool *has_pci, struct state *s)
{
    machine_fields(&res->machine, s);
    state_bool(s, "pci", has_pci);
    STATE(s, res->has_boot);
    boot_fields(&res->boot, s);
    device_fields(res, s);
    STATE(s, res->has_vsock);
    vsock_fields(&res->vsock, s);
    if (res->has_vsock) {
        want(s, "uds_path", res->vsock.uds_path);
    }
    STATE(s, res->has_entropy);
    limiter_fields(&res->entropy.rate_limiter, &res->entropy.has_rate_limiter, s);
    STATE(s, res->has_balloon);
    balloon_fields(&res->balloon, s);
    STATE(s, res->has_memory);
    memory_fields(&res->memory, s);
    STATE(s, res->has_mmds_config);
    mmds_fields(&res->mmds_config, s);
}
