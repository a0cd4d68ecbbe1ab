/* net.h — virtio-net (virtio 1.2, 5.1): one receive and one transmit queue between a guest's driver
 * and a net_port.
 *
 * Port and inner service are borrowed and outlive the device.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "io/limiter.h"

struct loop;
struct mem_map;
struct net_inner;
struct net_port;
struct virtio_dev;

#define NET_MAC_BYTES 6

struct net_config {
    const char *id; /* names its counters */
    bool has_mac;
    uint8_t mac[NET_MAC_BYTES];
    bool has_mtu;
    uint16_t mtu; /* told to the guest, otherwise unused */
    struct limiter_config rx;
    struct limiter_config tx;
    struct net_port *port;
    struct net_inner *inner; /* may be NULL */
};

int net_new(const struct net_config *config, struct mem_map *mem, struct loop *loop,
            struct virtio_dev **ret_dev, struct err *err);

/* Change the limits of a device made by net_new().  On its loop. */
void net_change_limits(struct virtio_dev *dev, const struct limiter_update *rx,
                       const struct limiter_update *tx);
