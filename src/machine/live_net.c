/* live_net.c — what can be changed at a running machine's network interface. */
#include <errno.h>

#include "dev/net/net.h"
#include "dev/virtio/virtio.h"
#include "io/loop.h"
#include "machine/limits.h"
#include "machine/machine_int.h"

struct change {
    struct virtio_dev *dev;
    struct limiter_update rx, tx;
};

static void change(void *owner)
{
    const struct change *c = owner;

    net_change_limits(c->dev, &c->rx, &c->tx);
}

int machine_net_patch(struct machine *m, const struct resource_net *patch)
{
    struct change c = {
        .dev = machine_find_virtio(m, "virtio-net", patch->iface_id),
        .rx = limits_update(&patch->rx_rate_limiter, patch->has_rx),
        .tx = limits_update(&patch->tx_rate_limiter, patch->has_tx),
    };

    if (!c.dev) {
        return -ENOENT;
    }
    loop_call(c.dev->loop, change, &c);
    return 0;
}
