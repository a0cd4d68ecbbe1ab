/* do_mmds.c — the metadata service: its document, and the interfaces behind which the guest finds
 * it. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mmds/mmds.h"
#include "vmm/microvm_int.h"

/* 169.254.1.0 to 169.254.254.255: what RFC 3927, 2.1, leaves to hosts. */
#define LINK_LOCAL_MIN 0xa9fe0100u
#define LINK_LOCAL_MAX 0xa9fefeffu

#define NOT_INITIALIZED "The MMDS data store is not initialized."

/* The service; made when it is first needed. */
static int get_mmds(struct microvm *vm, struct err *err)
{
    return vm->mmds ? 0 : mmds_new(vm->options.id, vm->options.mmds_size_limit, &vm->mmds, err);
}

/* A running machine has the service only behind interfaces that were named before its start. */
static int check_there(struct microvm *vm, struct err *err)
{
    if (vm->state != MICROVM_NOT_STARTED && !vm->resources.has_mmds_config) {
        return err_set(err, -ENODATA, NOT_INITIALIZED);
    }
    return get_mmds(vm, err);
}

/* What is too large has a prefix of its own. */
static int told(struct microvm *vm, int r, struct err *err)
{
    if (r == -EFBIG) {
        struct err why = *err;

        return microvm_fault(vm, err, r, "MMDS limit exceeded error: %s", err_text(&why));
    }
    return r;
}

int do_put_mmds(struct microvm *vm, const struct action *action, struct err *err)
{
    int r = check_there(vm, err);

    return r < 0 ? r : told(vm, mmds_put(vm->mmds, action->mmds.text, action->mmds.len, err), err);
}

int do_patch_mmds(struct microvm *vm, const struct action *action, struct err *err)
{
    int r = check_there(vm, err);

    return r < 0 ? r
                 : told(vm, mmds_patch(vm->mmds, action->mmds.text, action->mmds.len, err), err);
}

int do_get_mmds(struct microvm *vm, const struct action *action, struct err *err)
{
    int r = check_there(vm, err);

    if (r == 0) {
        r = mmds_get(vm->mmds, action->ret_mmds);
        if (r < 0) {
            (void)err_set(err, r, "out of memory");
        }
    }
    return r;
}

/* --- the configuration --- */

static bool names(const struct resource_mmds_config *config, const char *id)
{
    for (size_t i = 0; i < config->network_interfaces.count; i++) {
        if (strcmp(((char **)config->network_interfaces.items)[i], id) == 0) {
            return true;
        }
    }
    return false;
}

static int check_names(const struct microvm *vm, const struct resource_mmds_config *config,
                       struct err *err)
{
    if (config->network_interfaces.count == 0) {
        return err_set(err, -EINVAL,
                       "The list of network interface IDs that allow forwarding MMDS requests is "
                       "empty.");
    }
    for (size_t i = 0; i < config->network_interfaces.count; i++) {
        const char *id = ((char **)config->network_interfaces.items)[i];
        bool is_there = false;

        for (unsigned j = 0; j < vm->resources.net_count; j++) {
            is_there |= strcmp(vm->resources.nets[j].iface_id, id) == 0;
        }
        if (!is_there) {
            return err_set(err, -ENOENT,
                           "The list of network interface IDs provided contains at least one ID "
                           "that does not correspond to any existing network interface.");
        }
    }
    return 0;
}

static int read_config(const struct resource_mmds_config *config, struct mmds_config *ret_config,
                       struct err *err)
{
    struct mmds_config result = mmds_config_default;
    struct in_addr address;

    if (config->ipv4_address) {
        if (inet_pton(AF_INET, config->ipv4_address, &address) == 1) {
            result.ipv4 = ntohl(address.s_addr);
        } else {
            result.ipv4 = 0;
        }
    }
    if (result.ipv4 < LINK_LOCAL_MIN || result.ipv4 > LINK_LOCAL_MAX) {
        return err_set(err, -EINVAL, "The MMDS IPv4 address is not link local.");
    }
    result.is_v2 = config->version == MMDS_V2;
    result.imds_compat = config->imds_compat;
    *ret_config = result;
    return 0;
}

/* Put the service behind the interfaces that are named, and take it from the others. */
static int attach(struct microvm *vm, const struct resource_mmds_config *config, struct err *err)
{
    for (unsigned i = 0; i < vm->resources.net_count; i++) {
        bool is_named = names(config, vm->resources.nets[i].iface_id);

        if (!is_named) {
            mmds_inner_free(vm->net_inners[i]);
            vm->net_inners[i] = NULL;
        } else if (!vm->net_inners[i]) {
            int r = mmds_inner_new(vm->mmds, &vm->net_inners[i], err);

            if (r < 0) {
                return r;
            }
        }
    }
    return 0;
}

int do_put_mmds_config(struct microvm *vm, const struct action *action, struct err *err)
{
    struct resource_mmds_config *config = action->mmds_config;
    struct mmds_config settings;
    int r = check_names(vm, config, err);

    if (r == 0) {
        r = read_config(config, &settings, err);
    }
    if (r == 0) {
        r = get_mmds(vm, err);
    }
    if (r == 0) {
        r = attach(vm, config, err);
    }
    if (r < 0) {
        return r;
    }
    mmds_configure(vm->mmds, &settings);
    RESOURCE_TAKE(mmds_config, &vm->resources.mmds_config, config);
    vm->resources.has_mmds_config = true;
    return 0;
}

void microvm_mmds_forget(struct microvm *vm, const char *id)
{
    struct json_list *list = &vm->resources.mmds_config.network_interfaces;
    char **ids = list->items;

    for (size_t i = 0; i < list->count; i++) {
        if (strcmp(ids[i], id) == 0) {
            free(ids[i]);
            memmove(ids + i, ids + i + 1, (list->count - i - 1) * sizeof(*ids));
            list->count--;
            i--;
        }
    }
    if (list->count == 0) {
        vm->resources.has_mmds_config = false;
    }
}

void microvm_mmds_fini(struct microvm *vm)
{
    mmds_free(vm->mmds);
    vm->mmds = NULL;
}
