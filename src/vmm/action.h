/* action.h — one thing that a client asks of a microVM. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "config/resource.h"

struct buf;

enum action_kind {
#define ACTION(name, phase, blocks_load, prefix, handler) ACTION_##name,
#include "vmm/action.def"
#undef ACTION
    ACTION_COUNT
};

/* What it carries is the caller's.  A handler that keeps a resource takes it (RESOURCE_TAKE) and
 * leaves the caller's empty; strings of one that was not kept are untouched. */
struct action {
    enum action_kind kind;
    union {
        void *resource; /* whichever it is */
        const char *id; /* DELETE */
        struct resource_machine *machine;
        struct resource_boot *boot;
        struct resource_cpu *cpu;
        struct resource_drive *drive; /* PUT, PATCH */
        struct resource_net *net;
        struct resource_pmem *pmem;
        struct resource_vsock *vsock;
        struct resource_entropy *entropy;
        struct resource_balloon *balloon; /* PUT; PATCH: amount_mib; STATS: the interval */
        bool acknowledge_on_stop;         /* START_HINTING */
        struct resource_memory *memory;
        uint64_t requested_size_mib; /* PATCH_MEMORY */
        struct resource_serial *serial;
        struct resource_logger *logger;
        struct resource_metrics *metrics;
        struct resource_mmds_config *mmds_config;
        struct {
            const char *text; /* JSON, checked */
            size_t len;
        } mmds;
        bool is_resumed; /* PATCH_VM */
        struct resource_snapshot_create *create;
        struct resource_snapshot_load *load;
    };
    /* Where an answer goes that is not part of microvm_resources(). */
    union {
        struct resource_balloon *ret_balloon;
        struct resource_balloon_stats *ret_balloon_stats;
        struct resource_hinting *ret_hinting;
        struct resource_memory_status *ret_memory;
        struct buf *ret_mmds; /* JSON */
    };
};
