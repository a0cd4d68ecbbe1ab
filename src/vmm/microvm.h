/* microvm.h — a microVM as its REST interface knows it: resources that are configured one by one,
 * then a start, then life.
 *
 * microvm_do() does one action: it checks whether the phase allows it, checks what it says against
 * what is there, and keeps or does it.  A failure leaves everything as it was (where the interface
 * says otherwise, docs/api-compat.md does, too).  The API, the configuration file and tests all
 * come through it.  One thread: that of the loop.
 */
#pragma once

#include "config/vm_config.h"
#include "vmm/action.h"

struct loop;
struct microvm;
struct seccomp_filters;

struct microvm_options {
    const char *id;      /* instance id */
    const char *version; /* what clients are told */
    enum config_engine engine;
    /* The process's main loop, on whose thread actions are done: timers, and the end of the
     * machine, which stops it.  NULL: none (tests). */
    struct loop *loop;
    uint64_t mmds_size_limit; /* bytes of the metadata store */
    bool enable_pci;
    bool has_boot_timer;
    /* Of the machine's threads, and of the one that starts it: from just before the guest runs.
     * NULL: none. */
    struct seccomp_filters *filters;
};

enum microvm_state { MICROVM_NOT_STARTED, MICROVM_RUNNING, MICROVM_PAUSED };

/* The strings of `options` stay the caller's and must outlive it. */
int microvm_new(const struct microvm_options *options, struct microvm **ret_vm, struct err *err);
/* Ends the machine if it runs. */
void microvm_free(struct microvm *vm);

/* 0, or a negative errno with the complete text of the fault.  -EFBIG: larger than a limit, which
 * the API tells by a status of its own. */
int microvm_do(struct microvm *vm, const struct action *action, struct err *err);

/* The exit code that the process shall have; -1 while it goes on. */
int microvm_exit_code(const struct microvm *vm);

/* --- what is configured, for those who show it --- */

struct microvm_resources {
    struct resource_machine machine;
    struct resource_boot boot;
    bool has_boot;
    struct resource_drive *drives; /* the root first */
    unsigned drive_count;
    struct resource_net *nets;
    unsigned net_count;
    struct resource_pmem *pmems;
    unsigned pmem_count;
    struct resource_vsock vsock;
    bool has_vsock;
    struct resource_entropy entropy;
    bool has_entropy;
    struct resource_balloon balloon;
    bool has_balloon;
    struct resource_memory memory;
    bool has_memory;
    struct resource_mmds_config mmds_config;
    bool has_mmds_config;
};

const struct microvm_options *microvm_options(const struct microvm *vm);
enum microvm_state microvm_state(const struct microvm *vm);
const char *microvm_state_name(enum microvm_state state);
const struct microvm_resources *microvm_resources(const struct microvm *vm);
