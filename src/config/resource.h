/* resource.h — the resources of a microVM as its REST interface knows them, as plain data.
 *
 * One struct for each resource, named by its word in the interface (docs/api-compat.md).  The API
 * and the configuration file fill them (api/), vmm/ checks and keeps them.  Strings are
 * allocated and belong to the struct; NULL means absent.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "codec/json_in.h"

/* A bucket with size or refill_time 0 does not limit. */
struct resource_bucket {
    uint64_t size;        /* bytes or operations */
    uint64_t refill_time; /* ms to fill it from empty */
    uint64_t one_time_burst;
    bool has_burst;
};

struct resource_limiter {
    struct resource_bucket bandwidth, ops;
    bool has_bandwidth, has_ops;
};

enum resource_template {
    TEMPLATE_C3,
    TEMPLATE_T2,
    TEMPLATE_T2S,
    TEMPLATE_T2CL,
    TEMPLATE_T2A,
    TEMPLATE_NONE
};
enum resource_pages { PAGES_NONE, PAGES_TRANSPARENT, PAGES_2M };

struct resource_machine {
    uint8_t vcpu_count;
    uint64_t mem_size_mib;
    bool smt;
    int cpu_template; /* enum resource_template */
    bool track_dirty_pages;
    int huge_pages; /* enum resource_pages */
    /* which of them were named */
    bool has_vcpu_count, has_mem_size_mib, has_smt, has_cpu_template, has_track_dirty_pages,
        has_huge_pages;
};

struct resource_boot {
    char *kernel_image_path;
    char *initrd_path;
    char *boot_args;
};

enum resource_cache { CACHE_UNSAFE, CACHE_WRITEBACK };
enum resource_io { IO_SYNC, IO_ASYNC };

struct resource_drive {
    char *drive_id;
    bool is_root_device;
    char *partuuid;
    int cache_type; /* enum resource_cache */
    bool is_read_only, has_is_read_only;
    char *path_on_host;
    struct resource_limiter rate_limiter;
    bool has_rate_limiter;
    int io_engine; /* enum resource_io */
    bool has_io_engine;
    char *socket;
};

struct resource_net {
    char *iface_id;
    char *host_dev_name;
    char *guest_mac; /* "xx:xx:xx:xx:xx:xx" */
    uint16_t mtu;
    bool has_mtu;
    struct resource_limiter rx_rate_limiter, tx_rate_limiter;
    bool has_rx, has_tx;
};

struct resource_vsock {
    uint32_t guest_cid;
    char *uds_path;
    char *vsock_id; /* deprecated */
};

struct resource_entropy {
    struct resource_limiter rate_limiter;
    bool has_rate_limiter;
};

struct resource_balloon {
    uint32_t amount_mib;
    bool deflate_on_oom;
    uint16_t stats_polling_interval_s;
    bool free_page_hinting;
    bool free_page_reporting;
};

struct resource_pmem {
    char *id;
    char *path_on_host;
    bool root_device;
    bool read_only;
    struct resource_limiter rate_limiter;
    bool has_rate_limiter;
};

struct resource_memory {
    uint64_t total_size_mib;
    uint64_t block_size_mib;
    uint64_t slot_size_mib;
};

/* What a memory device has: GET /hotplug/memory. */
struct resource_memory_status {
    struct resource_memory config;
    uint64_t plugged_size_mib;
    uint64_t requested_size_mib;
};

struct resource_serial {
    char *serial_out_path;
    struct resource_bucket rate_limiter;
    bool has_rate_limiter;
};

struct resource_logger {
    char *log_path;
    char *level; /* one of the names, any case; NULL: Info */
    bool show_level, has_show_level;
    bool show_log_origin, has_show_log_origin;
    char *module;
};

struct resource_metrics {
    char *metrics_path;
    bool emit_id;
    struct json_list properties; /* of struct json_pair */
};

enum resource_mmds_version { MMDS_V1, MMDS_V2 };

struct resource_mmds_config {
    struct json_list network_interfaces; /* of char * */
    int version;                         /* enum resource_mmds_version */
    char *ipv4_address;                  /* NULL: 169.254.169.254 */
    bool imds_compat;
};

/* A custom CPU template, as text; NULL: none. */
struct resource_cpu {
    char *json;
};

enum resource_snapshot_type { SNAPSHOT_FULL, SNAPSHOT_DIFF };

struct resource_snapshot_create {
    char *snapshot_path;
    char *mem_file_path;
    int snapshot_type; /* enum resource_snapshot_type */
};

enum resource_backend_type { BACKEND_FILE, BACKEND_UFFD };

struct resource_mem_backend {
    char *backend_path;
    int backend_type; /* enum resource_backend_type */
};

struct resource_net_override {
    char *iface_id;
    char *host_dev_name;
};

struct resource_vsock_override {
    char *uds_path;
};

/* `huge_pages` of a load: as in the snapshot, or one of enum resource_pages + 1. */
#define SNAPSHOT_PAGES_SAME 0

struct resource_snapshot_load {
    char *snapshot_path;
    char *mem_file_path; /* deprecated */
    struct resource_mem_backend mem_backend;
    bool has_mem_backend;
    bool track_dirty_pages;
    bool enable_diff_snapshots; /* deprecated */
    bool resume_vm;
    struct json_list network_overrides; /* of struct resource_net_override */
    struct resource_vsock_override vsock_override;
    bool has_vsock_override;
    bool clock_realtime;
    int huge_pages;
};

struct resource_balloon_stats {
    uint64_t target_pages, actual_pages, target_mib, actual_mib;
    uint64_t values[16]; /* by tag (virtio 1.2, 5.5.6.3) */
    uint32_t present;    /* bits of those that the guest has reported */
};

struct resource_hinting {
    uint32_t host_cmd;
    uint32_t guest_cmd;
    bool has_guest_cmd;
};

/* PATCH: what `patch` names replaces what *to says; a bucket that does not limit is none. */
void resource_limiter_patch(struct resource_limiter *to, bool *to_has,
                            const struct resource_limiter *patch, bool patch_has);

/* Free what a resource holds and zero it. */
void resource_boot_fini(struct resource_boot *boot);
void resource_drive_fini(struct resource_drive *drive);
void resource_net_fini(struct resource_net *net);
void resource_vsock_fini(struct resource_vsock *vsock);
void resource_pmem_fini(struct resource_pmem *pmem);
void resource_serial_fini(struct resource_serial *serial);
void resource_mmds_config_fini(struct resource_mmds_config *config);
void resource_cpu_fini(struct resource_cpu *cpu);

/* *to becomes *from, which is left empty; what *to held is freed. */
#define RESOURCE_TAKE(kind, to, from)          \
    do {                                       \
        resource_##kind##_fini(to);            \
        *(to) = *(from);                       \
        *(from) = (struct resource_##kind){0}; \
    } while (0)
