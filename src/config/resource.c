/* resource.c — free what resources hold. */
#include "config/resource.h"

#include <stdlib.h>

static void patch_bucket(struct resource_bucket *to, bool *to_has,
                         const struct resource_bucket *patch)
{
    *to_has = patch->size && patch->refill_time;
    *to = *to_has ? *patch : (struct resource_bucket){0};
}

void resource_limiter_patch(struct resource_limiter *to, bool *to_has,
                            const struct resource_limiter *patch, bool patch_has)
{
    if (!patch_has) {
        return;
    }
    if (!*to_has) {
        *to = (struct resource_limiter){0};
    }
    if (patch->has_bandwidth) {
        patch_bucket(&to->bandwidth, &to->has_bandwidth, &patch->bandwidth);
    }
    if (patch->has_ops) {
        patch_bucket(&to->ops, &to->has_ops, &patch->ops);
    }
    *to_has = to->has_bandwidth || to->has_ops;
}

void resource_boot_fini(struct resource_boot *boot)
{
    free(boot->kernel_image_path);
    free(boot->initrd_path);
    free(boot->boot_args);
    *boot = (struct resource_boot){0};
}

void resource_drive_fini(struct resource_drive *drive)
{
    free(drive->drive_id);
    free(drive->partuuid);
    free(drive->path_on_host);
    free(drive->socket);
    *drive = (struct resource_drive){0};
}

void resource_net_fini(struct resource_net *net)
{
    free(net->iface_id);
    free(net->host_dev_name);
    free(net->guest_mac);
    *net = (struct resource_net){0};
}

void resource_vsock_fini(struct resource_vsock *vsock)
{
    free(vsock->uds_path);
    free(vsock->vsock_id);
    *vsock = (struct resource_vsock){0};
}

void resource_pmem_fini(struct resource_pmem *pmem)
{
    free(pmem->id);
    free(pmem->path_on_host);
    *pmem = (struct resource_pmem){0};
}

void resource_serial_fini(struct resource_serial *serial)
{
    free(serial->serial_out_path);
    *serial = (struct resource_serial){0};
}

void resource_mmds_config_fini(struct resource_mmds_config *config)
{
    for (size_t i = 0; i < config->network_interfaces.count; i++) {
        free(((char **)config->network_interfaces.items)[i]);
    }
    free(config->network_interfaces.items);
    free(config->ipv4_address);
    *config = (struct resource_mmds_config){0};
}

void resource_cpu_fini(struct resource_cpu *cpu)
{
    free(cpu->json);
    *cpu = (struct resource_cpu){0};
}
