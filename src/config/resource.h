/* resource.h — the resources of a microVM as its REST interface knows them, as plain data.
 *
 * One struct for each resource, named by its word in the interface (docs/api-compat.md).  The API
 * and the configuration file fill them (api/), microvm/ checks and keeps them.  Strings are
 * allocated and belong to the struct; NULL means absent.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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

struct resource_serial {
    char *serial_out_path;
    struct resource_bucket rate_limiter;
    bool has_rate_limiter;
};
