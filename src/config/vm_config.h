/* vm_config.h — what was asked for, as plain checked data.
 *
 * The doors (cli now) fill it, config_check() checks it once, machine/ builds from it.  Strings and
 * buffers are borrowed: whoever fills the struct keeps them alive as long as the VM.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bits.h"
#include "base/err.h"
#include "config/resource.h"

struct cpu_template;
struct state_file;

#define CONFIG_VCPU_MAX      32
#define CONFIG_MEM_MIN_BYTES (32 * MIB)
#define CONFIG_MEM_MAX_BYTES (512 * GIB)
#define CONFIG_SHARE_MAX     16

enum config_engine { ENGINE_AUTO, ENGINE_KVM, ENGINE_SOFT };

/* By which device a share is offered. */
enum config_share_kind {
    SHARE_FS,     /* virtio-fs */
    SHARE_9P,     /* virtio 9P, for kernels without it */
    SHARE_EITHER, /* both, of which the guest takes one */
};

/* A host directory that the guest can mount by tag. */
struct config_share {
    char tag[36];     /* virtio 1.2, 5.11.4: at most 36 bytes */
    const char *path; /* host directory */
    enum config_share_kind kind;
    bool read_only;
    bool is_stable; /* seldom changed by the host: the guest may cache what it looked up for a
                       minute */
    bool is_lower;  /* read-only below an overlay: no extended attributes, and directories that the
                       monitor may not search or read look empty */
};

struct disk_port;
struct pmem_port;
struct net_inner;
struct net_port;
struct stream_port;
struct vhost_port;

/* A drive: what was configured, and what was opened for it. */
struct config_drive {
    const struct resource_drive *resource;
    /* One of them; it outlives the machine. */
    struct disk_port *disk;
    struct vhost_port *vhost;
    const uint8_t *vhost_config; /* VHOST_CONFIG_BYTES of vhost_port.h */
};

/* Persistent memory: likewise. */
struct config_pmem {
    const struct resource_pmem *resource;
    struct pmem_port *port; /* outlives the machine */
};

/* A network interface: what was configured, and what was opened for it. */
struct config_net {
    const struct resource_net *resource;
    struct net_port *port;   /* outlives the machine */
    struct net_inner *inner; /* the same; NULL: none */
};

/* What a thread of the machine does. */
enum config_thread { CONFIG_THREAD_VCPU, CONFIG_THREAD_DEVICES };

struct vm_config {
    enum config_engine engine;
    /* Each thread of the machine calls it first of all; NULL: nothing.  It outlives the machine. */
    void (*enter_thread)(void *owner, enum config_thread kind);
    void *enter_owner;
    bool count_all;      /* for machine_counters(): also what slows the guest down */
    unsigned vcpu_count; /* 1 to CONFIG_VCPU_MAX */
    uint64_t mem_bytes;  /* CONFIG_MEM_MIN_BYTES to CONFIG_MEM_MAX_BYTES, whole MiB */
    int huge_pages;      /* enum resource_pages */
    bool tracks_dirty_pages;
    /* The machine comes from a snapshot: no kernel is loaded; its memory is this file (the
     * caller's) or is brought in by whoever listens at uffd_path, for as long as the machine lives.
     */
    struct state_file *restored; /* NULL: a new machine */
    int memory_fd;
    const char *uffd_path; /* NULL: memory_fd */
    bool has_pci;          /* virtio devices on a PCI bus, not as virtio-mmio */
    const char *kernel;    /* file: bzImage or ELF */
    int kernel_fd;         /* the same, opened and the caller's; 0: open `kernel` */
    const char *cache_dir; /* for unpacked kernels; NULL: none */
    const char *cmdline;
    bool
        tells_devices; /* add `pci=off` or virtio-mmio devices, and the root, to the command line */
    bool has_smt;      /* two threads per core */
    const struct cpu_template *cpu_template; /* NULL: none */
    bool is_microvm; /* tells the guest what a microVM's guest is told: keyboard, clock, generation
                      */
    bool has_boot_timer; /* boot_timer.h; counts from these, of CLOCK_MONOTONIC and CPU time */
    int64_t start_mono_ns;
    int64_t start_cpu_ns;
    const void *initrd; /* composed archive; NULL: none */
    size_t initrd_len;
    unsigned share_count;
    struct config_share shares[CONFIG_SHARE_MAX];
    const struct resource_balloon *balloon; /* NULL: none */
    const struct resource_memory *memory;   /* that can be plugged; NULL: none */
    unsigned drive_count;
    const struct config_drive *drives; /* the root first */
    unsigned pmem_count;
    const struct config_pmem *pmems;
    unsigned net_count;
    const struct config_net *nets;
    uint32_t vsock_cid;             /* 3 to 0xfffffffe, which a microVM's client may break */
    struct stream_port *vsock_port; /* outlives the machine; NULL: no vsock */
    bool has_entropy;
    const struct resource_limiter *entropy_limiter; /* NULL: none */
};

/* Everything that can be checked without the host: ranges and missing fields. */
int config_check(const struct vm_config *config, struct err *err);

/* "auto", "kvm", "soft". */
int config_engine_parse(const char *text, enum config_engine *ret_engine, struct err *err);
const char *config_engine_name(enum config_engine engine);
