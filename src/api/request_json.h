/* request_json.h — JSON forms of what is asked for without being a resource: actions, states,
 * changes. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "codec/json_in.h"
#include "config/resource.h"

enum request_action_type { ACTION_TYPE_START, ACTION_TYPE_FLUSH, ACTION_TYPE_CTRL_ALT_DEL };

struct request_action {
    int action_type; /* enum request_action_type */
};

enum request_vm_state { VM_STATE_PAUSED, VM_STATE_RESUMED };

struct request_vm {
    int state; /* enum request_vm_state */
};

struct request_hinting {
    bool acknowledge_on_stop;
};

struct request_memory {
    uint64_t requested_size_mib;
};

extern const struct json_type json_action, json_vm, json_hinting_start, json_memory_patch;
extern const struct json_type json_balloon_patch, json_balloon_stats_patch;
extern const struct json_type json_logger, json_metrics, json_mmds_config;
extern const struct json_type json_snapshot_create, json_snapshot_load;
