/* vm.h — the single door to a VM with our init in it: from what a user asked for to a guest that
 * takes commands, and to its end.
 *
 * vm_new() makes the folder of the VM, composes its initramfs and builds its machine; vm_boot()
 * lets it run until the init says it is ready.  Commands then go through the vsock socket of its
 * folder, by this process or any other of the same user.  One thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "config/vm_config.h"
#include "machine/machine.h"
#include "vmm/instance.h"

struct buf;
struct oci_progress;
struct vm;

#define VM_MOUNT_MAX (CONFIG_SHARE_MAX - 3) /* root, image and modules are shares, too */

struct vm_mount {
    const char *host;  /* folder or file, absolute */
    const char *guest; /* absolute */
    bool read_only;
};

#define VM_SYSCTL_MAX 8

struct vm_sysctl {
    const char *name; /* with dots or slashes; below 64 bytes, as the value */
    const char *value;
};

struct vm_spec {
    enum config_engine engine;
    unsigned vcpu_count;
    uint64_t mem_bytes;
    const char *kernel;              /* as kernel_find() takes it */
    const struct oci_progress *pull; /* while an image is pulled; NULL: in silence */
    const char *all_args;            /* the kernel's command line; NULL: the usual one */
    const char *extra_args;          /* appended to it; NULL: none */
    const char *name;                /* NULL: none */
    const char *hostname;            /* NULL: the name, or "ec1" */
    const char *command_text;        /* for the books */
    const char *workdir;  /* must exist in the VM even below a private folder; NULL: none */
    const char *core_dir; /* in the VM, for core dumps; NULL: as the kernel does it */
    struct vm_mount mounts[VM_MOUNT_MAX];
    unsigned mount_count;
    struct vm_sysctl sysctls[VM_SYSCTL_MAX]; /* set before the first command */
    unsigned sysctl_count;
    bool is_kept;            /* listed after its end, until removed */
    bool has_pci;            /* devices on a PCI bus */
    bool overlay;            /* the files of the kernel's folder or image lie over the root */
    bool has_tracing;        /* the kernel's tracing is whole: a longer boot */
    bool count_all;          /* vm_counters() shows also what slows the guest down */
    bool show_console;       /* on stderr, as it comes */
    const char *gdb;         /* where a gdb server listens (gdb/address.h); NULL: there is none */
    int64_t boot_timeout_ns; /* 0: 60 s on KVM, 180 s on the software engine */
};

int vm_new(const struct vm_spec *spec, struct vm **ret_vm, struct err *err);
/* -ETIMEDOUT, -ECANCELED (cancel_fd became readable; -1: none), -EIO (the guest ended: see vm_end).
 */
int vm_boot(struct vm *vm, int cancel_fd, struct err *err);
/* Ends the machine if it runs, and removes the folder unless it is kept. */
void vm_free(struct vm *vm);

const struct instance_info *vm_info(const struct vm *vm);
const char *vm_engine_warning(const struct vm *vm);
const char *vm_cmdline(const struct vm *vm);
/* What to type to debug it, if spec.gdb; "" else. */
const char *vm_gdb_command(const struct vm *vm);
/* How far its init was at which second of the guest's clock, after vm_boot(); guest: its own words.
 */
void vm_phases_text(const struct vm *vm, char *out, size_t size);
/* When the phase `name` of them ended, ns of the guest's clock; 0 if it does not say. */
int64_t vm_phase_ns(const struct vm *vm, const char *name);
/* Path of the Unix socket of its vsock. */
const char *vm_socket(const struct vm *vm);
/* Readable once the machine ended. */
int vm_end_fd(const struct vm *vm);
enum machine_end vm_end(const struct vm *vm);
/* One sentence about its end. */
void vm_end_text(const struct vm *vm, char *out, size_t size);
/* The last of the console, "" if it was silent. */
void vm_console_tail(struct vm *vm, char *out, size_t size);
/* What its engine counted, as a table (machine_counters()); ends the machine if it runs. */
void vm_counters(struct vm *vm, struct buf *out);
/* The exit status of its command, for the books of a kept VM. */
void vm_note_exit(struct vm *vm, int status);
/* Ask the guest to end in order (sync, power off); ends it by force after `timeout_ns`. */
void vm_shutdown(struct vm *vm, int64_t timeout_ns);

/* The same for a VM of another process. */
int vm_shutdown_other(const struct instance_info *info, int64_t timeout_ns, struct err *err);

/* Where the injected init is: beside this program, or in ../lib/ec1, or $EC1_INIT. */
int vm_init_path(char *out, size_t size, struct err *err);
