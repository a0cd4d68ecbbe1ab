/* modules.h — which module files of a kernel give a feature, and in which order they load. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/* What a guest needs of its kernel.  X(constant, module, what the kernel's configuration must have)
 */
#define MODULE_FEATURES(X)                                                          \
    X(FEATURE_MMIO, "virtio_mmio", "CONFIG_VIRTIO_MMIO=y or m")                     \
    X(FEATURE_PCI, "virtio_pci", "CONFIG_VIRTIO_PCI=y or m")                        \
    X(FEATURE_VSOCK, "vmw_vsock_virtio_transport", "CONFIG_VIRTIO_VSOCKETS=y or m") \
    X(FEATURE_FS, "virtiofs", "CONFIG_VIRTIO_FS=y or m")                            \
    X(FEATURE_9P, "9p", "CONFIG_9P_FS=y or m")                                      \
    X(FEATURE_9P_VIRTIO, "9pnet_virtio", "CONFIG_NET_9P_VIRTIO=y or m")             \
    X(FEATURE_OVERLAY, "overlay", "CONFIG_OVERLAY_FS=y or m")                       \
    X(FEATURE_RNG, "virtio_rng", "CONFIG_HW_RANDOM_VIRTIO=y or m")                  \
    X(FEATURE_NET, "virtio_net", "CONFIG_VIRTIO_NET=y or m")                        \
    X(FEATURE_BLK, "virtio_blk", "CONFIG_VIRTIO_BLK=y or m")

enum module_feature {
#define X(constant, module, config) constant,
    MODULE_FEATURES(X)
#undef X
        FEATURE_COUNT
};

/* For masks. */
#define FEATURE_BIT(feature) (1u << (feature))
/* What `ec1` itself stands on, with FEATURE_MMIO or FEATURE_PCI. */
#define FEATURES_NEEDED \
    (FEATURE_BIT(FEATURE_VSOCK) | FEATURE_BIT(FEATURE_FS) | FEATURE_BIT(FEATURE_OVERLAY))
/* What does in place of FEATURE_FS where that is missing. */
#define FEATURES_9P (FEATURE_BIT(FEATURE_9P) | FEATURE_BIT(FEATURE_9P_VIRTIO))

/* Paths of module files, dependencies first. */
struct module_list {
    char **paths;
    size_t count;
    unsigned found; /* of the features asked for: those that the tree is known to have */
};

/* `dir` is the kernel's module tree, ".../lib/modules/<release>".  Built-in features add nothing. A
 * missing feature of `needed` is -ENOENT with a sentence that names its CONFIG_*; one of `wanted`
 * is left out.  FEATURES_9P are taken for a missing FEATURE_FS.  A tree without modules.builtin
 * cannot say what is missing: then nothing is. */
int module_list_make(const char *dir, unsigned needed, unsigned wanted,
                     struct module_list *ret_list, struct err *err);
void module_list_fini(struct module_list *list);
