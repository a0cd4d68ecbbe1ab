/* vm_config.c — check what was asked for. */
#include "config/vm_config.h"

#include <errno.h>
#include <string.h>

#include "base/str.h"

static const char *const g_engine_names[] = {
    [ENGINE_AUTO] = "auto", [ENGINE_KVM] = "kvm", [ENGINE_SOFT] = "soft"};

int config_engine_parse(const char *text, enum config_engine *ret_engine, struct err *err)
{
    for (unsigned i = 0; i < ARRAY_LEN(g_engine_names); i++) {
        if (strcmp(text, g_engine_names[i]) == 0) {
            *ret_engine = (enum config_engine)i;
            return 0;
        }
    }
    return err_set(err, -EINVAL, "engine '%s': must be auto, kvm or soft", text);
}

const char *config_engine_name(enum config_engine engine)
{
    return g_engine_names[engine];
}

static int check_shares(const struct vm_config *config, struct err *err)
{
    if (config->share_count > CONFIG_SHARE_MAX) {
        return err_set(err, -EINVAL, "%u shares: must be at most %d", config->share_count,
                       CONFIG_SHARE_MAX);
    }
    for (unsigned i = 0; i < config->share_count; i++) {
        const struct config_share *share = &config->shares[i];

        if (!share->tag[0] || strnlen(share->tag, sizeof(share->tag)) == sizeof(share->tag)) {
            return err_set(err, -EINVAL, "share %u: tag must have 1 to %zu bytes", i,
                           sizeof(share->tag) - 1);
        }
        for (unsigned j = 0; j < i; j++) {
            if (strcmp(share->tag, config->shares[j].tag) == 0) {
                return err_set(err, -EEXIST, "share tag '%s': used twice", share->tag);
            }
        }
    }
    return 0;
}

int config_check(const struct vm_config *config, struct err *err)
{
    char text[32];

    if (config->vcpu_count < 1 || config->vcpu_count > CONFIG_VCPU_MAX) {
        return err_set(err, -ERANGE, "vcpu count %u: must be 1 to %d", config->vcpu_count,
                       CONFIG_VCPU_MAX);
    }
    if (config->mem_bytes < CONFIG_MEM_MIN_BYTES || config->mem_bytes > CONFIG_MEM_MAX_BYTES ||
        config->mem_bytes % MIB) {
        return err_set(err, -ERANGE, "memory %s: must be 32 MiB to 512 GiB in whole MiB",
                       str_from_size(config->mem_bytes, text));
    }
    if (!config->kernel && !config->restored) {
        return err_set(err, -EINVAL, "no kernel given");
    }
    if (config->vsock_port && !config->is_microvm &&
        (config->vsock_cid < 3 || config->vsock_cid == UINT32_MAX)) {
        return err_set(err, -ERANGE, "vsock CID %u: must be 3 to 4294967294", config->vsock_cid);
    }
    return check_shares(config, err);
}
