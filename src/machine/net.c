/* net.c — network interfaces of the machine. */
#include "dev/net/net.h"

#include <stdlib.h>

#include "machine/limits.h"
#include "machine/machine_int.h"

/* The text was checked when it was configured. */
static void parse_mac(const char *text, uint8_t mac[static NET_MAC_BYTES])
{
    for (unsigned i = 0; i < NET_MAC_BYTES; i++) {
        char *end;

        mac[i] = (uint8_t)strtoul(text, &end, 16);
        text = *end ? end + 1 : end;
    }
}

static int add(struct machine *m, const struct config_net *net, struct loop *loop, struct err *err)
{
    const struct resource_net *resource = net->resource;
    struct net_config device = {
        .id = resource->iface_id,
        .has_mac = resource->guest_mac != NULL,
        .has_mtu = resource->has_mtu,
        .mtu = resource->mtu,
        .rx = limits_config(&resource->rx_rate_limiter, resource->has_rx),
        .tx = limits_config(&resource->tx_rate_limiter, resource->has_tx),
        .port = net->port,
        .inner = net->inner,
    };
    struct virtio_dev *vdev = NULL;
    int r;

    if (resource->guest_mac) {
        parse_mac(resource->guest_mac, device.mac);
    }
    r = net_new(&device, m->mem, loop, &vdev, err);
    return r < 0 ? r : machine_add_virtio(m, vdev, resource->iface_id, err);
}

int machine_add_nets(struct machine *m, const struct vm_config *config, struct loop *loop,
                     struct err *err)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < config->net_count; i++) {
        r = add(m, &config->nets[i], loop, err);
    }
    return r;
}

int machine_plug_net(struct machine *m, const struct config_net *net, struct err *err)
{
    return add(m, net, m->loops[0], err);
}
