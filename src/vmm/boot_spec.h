/* boot_spec.h — what the guest is told: initramfs, kernel command line, shares. */
#pragma once

#include "base/buf.h"
#include "config/vm_config.h"
#include "vmm/kernel_find.h"
#include "vmm/vm.h"

struct boot_spec {
    struct buf initramfs;
    struct buf cmdline;
    enum config_share_kind share_kind; /* what the kernel can mount */
};

/* The initramfs (init, modules, BootConfig) and the command line for `spec` on `kernel`. */
int boot_spec_compose(const struct vm_spec *spec, const struct kernel_choice *kernel,
                      struct boot_spec *boot, struct err *err);
/* The initramfs is no longer needed; the command line stays for reports. */
void boot_spec_release(struct boot_spec *boot);
void boot_spec_fini(struct boot_spec *boot);
/* The shares that BootConfig's mounts name, into `config`. */
void boot_spec_shares(const struct vm_spec *spec, const struct kernel_choice *kernel,
                      const struct boot_spec *boot, struct vm_config *config);
