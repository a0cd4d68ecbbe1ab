/* do_net.c — network-interfaces: the TAP is opened when it is named and belongs to the microVM. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "host/tap.h"
#include "mmds/mmds.h"
#include "vmm/microvm_int.h"

/* The smallest MTU of IPv4 (RFC 791, 3.2), the largest of 16 bits. */
#define MTU_MIN 68
#define MTU_MAX 65535

void microvm_nets_fini(struct microvm *vm)
{
    for (unsigned i = 0; i < vm->resources.net_count; i++) {
        mmds_inner_free(vm->net_inners[i]);
        net_port_free(vm->net_ports[i]);
    }
    free(vm->net_inners);
    free(vm->net_ports);
    vm->net_inners = NULL;
    vm->net_ports = NULL;
}

/* Clients are shown small letters. */
static void lower(char *mac)
{
    for (; mac && *mac; mac++) {
        *mac = (char)tolower((unsigned char)*mac);
    }
}

static int check_mac(const struct microvm *vm, const struct resource_net *net, struct err *err)
{
    for (unsigned i = 0; net->guest_mac && i < vm->resources.net_count; i++) {
        const struct resource_net *other = &vm->resources.nets[i];

        if (other->guest_mac && strcmp(other->guest_mac, net->guest_mac) == 0 &&
            strcmp(other->iface_id, net->iface_id) != 0) {
            return err_set(err, -EADDRINUSE, "The MAC address is already in use: %s",
                           net->guest_mac);
        }
    }
    return 0;
}

/* Take the interface `id` out; the last one takes its place. */
static void drop(struct microvm *vm, const char *id)
{
    struct microvm_resources *res = &vm->resources;

    for (unsigned i = 0; i < res->net_count; i++) {
        if (strcmp(res->nets[i].iface_id, id) == 0) {
            unsigned last = --res->net_count;

            microvm_mmds_forget(vm, id);
            mmds_inner_free(vm->net_inners[i]);
            net_port_free(vm->net_ports[i]);
            resource_net_fini(&res->nets[i]);
            res->nets[i] = res->nets[last];
            vm->net_ports[i] = vm->net_ports[last];
            vm->net_inners[i] = vm->net_inners[last];
            return;
        }
    }
}

/* Room for one more at the end of the three lists. */
static int grow(struct microvm *vm, struct err *err)
{
    size_t count = vm->resources.net_count + 1u;
    struct resource_net *nets = realloc(vm->resources.nets, count * sizeof(*nets));
    struct net_port **ports = realloc(vm->net_ports, count * sizeof(void *));
    struct net_inner **inners = realloc(vm->net_inners, count * sizeof(void *));

    /* what could be moved has moved */
    vm->resources.nets = nets ? nets : vm->resources.nets;
    vm->net_ports = ports ? ports : vm->net_ports;
    vm->net_inners = inners ? inners : vm->net_inners;
    return nets && ports && inners ? 0 : err_set(err, -ENOMEM, "out of memory");
}

static int open_port(const struct resource_net *net, struct net_port **ret_port, struct err *err)
{
    int r;

    if (net->has_mtu && net->mtu < MTU_MIN) {
        return err_set(err, -ERANGE,
                       "Could not create the network device: MTU %u is out of range [%d, %d]",
                       net->mtu, MTU_MIN, MTU_MAX);
    }
    r = tap_open(net->host_dev_name, ret_port, err);
    return r < 0 ? err_wrap(err, r, "Could not create the network device: Open tap device failed")
                 : 0;
}

/* There is room, see grow(). */
static void keep(struct microvm *vm, struct resource_net *net, struct net_port *port)
{
    vm->net_ports[vm->resources.net_count] = port;
    vm->net_inners[vm->resources.net_count] = NULL;
    vm->resources.nets[vm->resources.net_count] = *net;
    vm->resources.net_count++;
    *net = (struct resource_net){0};
}

static bool is_in_use(const struct microvm *vm, const char *id)
{
    for (unsigned i = 0; i < vm->resources.net_count; i++) {
        if (strcmp(vm->resources.nets[i].iface_id, id) == 0) {
            return true;
        }
    }
    return false;
}

/* Into the running machine. */
static int plug(struct microvm *vm, struct resource_net *net, struct err *err)
{
    struct config_net config = {.resource = net};
    int r;

    if (is_in_use(vm, net->iface_id)) {
        return microvm_fault(vm, err, -EEXIST, "Device ID in use");
    }
    r = grow(vm, err);
    if (r == 0) {
        r = open_port(net, &config.port, err);
    }
    if (r < 0) {
        return r;
    }
    r = machine_plug_net(vm->machine, &config, err);
    if (r < 0) {
        net_port_free(config.port);
        return r == -ENOSPC ? microvm_fault(vm, err, r, "PCI manager error: %s", err_text(err)) : r;
    }
    keep(vm, net, config.port);
    return 0;
}

int do_put_net(struct microvm *vm, const struct action *action, struct err *err)
{
    struct resource_net *net = action->net;
    struct net_port *port = NULL;
    int r;

    lower(net->guest_mac);
    r = check_mac(vm, net, err);
    if (r < 0) {
        return r;
    }
    if (vm->state != MICROVM_NOT_STARTED) {
        return plug(vm, net, err);
    }
    /* first, because the new one may want the same TAP; it is gone even if the new one fails */
    drop(vm, net->iface_id);
    r = grow(vm, err);
    if (r == 0) {
        r = open_port(net, &port, err);
    }
    if (r < 0) {
        return r;
    }
    keep(vm, net, port);
    return 0;
}

int do_delete_net(struct microvm *vm, const struct action *action, struct err *err)
{
    if (machine_unplug(vm->machine, "virtio-net", action->id) < 0) {
        return err_set(err, -ENOENT, "Device not found");
    }
    drop(vm, action->id);
    return 0;
}

int do_patch_net(struct microvm *vm, const struct action *action, struct err *err)
{
    const struct resource_net *patch = action->net;

    if (machine_net_patch(vm->machine, patch) < 0) {
        return err_set(err, -ENOENT,
                       "Unable to update the net device: Failed perform action on device: Device "
                       "not found");
    }
    for (unsigned i = 0; i < vm->resources.net_count; i++) {
        struct resource_net *net = &vm->resources.nets[i];

        if (strcmp(net->iface_id, patch->iface_id) == 0) {
            resource_limiter_patch(&net->rx_rate_limiter, &net->has_rx, &patch->rx_rate_limiter,
                                   patch->has_rx);
            resource_limiter_patch(&net->tx_rate_limiter, &net->has_tx, &patch->tx_rate_limiter,
                                   patch->has_tx);
        }
    }
    return 0;
}

int start_plan_add_nets(struct microvm *vm, struct start_plan *plan, struct err *err)
{
    unsigned count = vm->resources.net_count;

    plan->nets = calloc(count ? count : 1, sizeof(plan->nets[0]));
    if (!plan->nets) {
        return err_set(err, -ENOMEM, "out of memory");
    }
    for (unsigned i = 0; i < count; i++) {
        plan->nets[i] = (struct config_net){.resource = &vm->resources.nets[i],
                                            .port = vm->net_ports[i],
                                            .inner = vm->net_inners[i]};
    }
    plan->config.nets = plan->nets;
    plan->config.net_count = count;
    return 0;
}
