/* do_load.c — a microVM from a snapshot: configure what it was configured with, build the same
 * machine, put the state into it.
 *
 * Host files are opened by the handlers that clients' requests go to, so they are found, checked
 * and refused in the same way.  After the first check a failure ends the process: what was begun
 * cannot be taken back.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/os_error.h"
#include "base/str.h"
#include "machine/snapshot.h"
#include "state/state.h"
#include "vmm/exit.h"
#include "vmm/microvm_int.h"
#include "vmm/snapshot_resources.h"

/* Bytes of a custom CPU template; requests are limited to less. */
#define CPU_JSON_MAX 1000000u

/* What a load works with. */
struct load {
    struct microvm *vm;
    const struct resource_snapshot_load *request;
    struct state_file file;
    struct microvm_resources resources; /* of the snapshot */
    struct resource_cpu cpu;
    bool has_pci;
    int memory_fd;
};

/* --- the state file --- */

static int read_file(const char *path, struct buf *bytes, struct err *err)
{
    char text[OS_ERROR_MAX];
    int r = buf_read_file(bytes, path, STATE_FILE_MAX + 1);

    if (r == -EFBIG) {
        return err_set(err, r,
                       "Failed to load snapshot state from file: Snapshot size exceeds limit of %u "
                       "bytes",
                       STATE_FILE_MAX);
    }
    return r < 0 ? err_set(err, r, "Failed to open snapshot file: %s", os_error(r, text)) : 0;
}

static int read_state(struct load *l, struct err *err)
{
    AUTO_CALL(buf_fini) struct buf bytes = {0};
    struct state s;
    int r = read_file(l->request->snapshot_path, &bytes, err);

    if (r < 0) {
        return r;
    }
    r = state_file_check(&l->file, &bytes, err);
    if (r == 0) {
        r = state_load(&l->file, &s, err, "microvm");
    }
    if (r == 0) {
        snapshot_resources_fields(&l->resources, &l->has_pci, &s);
        state_str(&s, "cpu-config", &l->cpu.json, CPU_JSON_MAX);
        r = state_close(&s, err);
    }
    return r < 0 ? err_wrap(err, r, "Failed to load snapshot state from file") : 0;
}

/* --- what the request replaces --- */

static int replace(char **text, const char *by, struct err *err)
{
    char *copy = strdup(by);

    if (!copy) {
        return err_set(err, -ENOMEM, "out of memory");
    }
    free(*text);
    *text = copy;
    return 0;
}

static int override_net(struct microvm_resources *res, const struct resource_net_override *by,
                        struct err *err)
{
    for (unsigned i = 0; i < res->net_count; i++) {
        if (strcmp(res->nets[i].iface_id, by->iface_id) == 0) {
            return replace(&res->nets[i].host_dev_name, by->host_dev_name, err);
        }
    }
    return err_set(err, -ENOENT, "Unknown Network Device.");
}

static int apply_overrides(struct load *l, struct err *err)
{
    const struct resource_snapshot_load *request = l->request;
    const struct resource_net_override *nets = request->network_overrides.items;
    int r = 0;

    for (size_t i = 0; r == 0 && i < request->network_overrides.count; i++) {
        r = override_net(&l->resources, &nets[i], err);
    }
    if (r == 0 && request->has_vsock_override) {
        r = l->resources.has_vsock
                ? replace(&l->resources.vsock.uds_path, request->vsock_override.uds_path, err)
                : err_set(err, -ENOENT, "Unknown Vsock Device.");
    }
    l->resources.machine.track_dirty_pages =
        request->track_dirty_pages || request->enable_diff_snapshots;
    if (request->huge_pages != SNAPSHOT_PAGES_SAME) {
        l->resources.machine.huge_pages = request->huge_pages - 1;
    }
    return r;
}

/* --- memory --- */

static bool is_uffd(const struct load *l)
{
    return l->request->has_mem_backend && l->request->mem_backend.backend_type == BACKEND_UFFD;
}

static const char *memory_path(const struct load *l)
{
    return l->request->has_mem_backend ? l->request->mem_backend.backend_path
                                       : l->request->mem_file_path;
}

static int open_memory(struct load *l, struct err *err)
{
    char text[OS_ERROR_MAX];

    if (is_uffd(l)) {
        return 0;
    }
    if (l->resources.machine.huge_pages == PAGES_2M) {
        return err_set(err, -EINVAL,
                       "Failed to load guest memory: Error creating guest memory from file: Cannot "
                       "restore hugetlbfs backed snapshot by mapping the memory file. Please use "
                       "uffd.");
    }
    l->memory_fd = open(memory_path(l), O_RDONLY | O_CLOEXEC);
    if (l->memory_fd < 0) {
        int code = -errno;

        return err_set(err, code,
                       "Failed to load guest memory: Error creating guest memory from file: Failed "
                       "to load guest memory: %s",
                       os_error(code, text));
    }
    return 0;
}

/* --- configure --- */

/* The kernel and the machine need no host object, the rest is asked for as a client would. */
static void take_plain(struct load *l)
{
    struct microvm_resources *to = &l->vm->resources;

    to->machine = l->resources.machine;
    to->has_boot = l->resources.has_boot;
    to->boot = l->resources.boot;
    l->resources.boot = (struct resource_boot){0};
    l->vm->options.enable_pci = l->has_pci;
}

static int put_lists(struct load *l, struct err *err)
{
    struct microvm_resources *res = &l->resources;
    int r = 0;

    for (unsigned i = 0; r == 0 && i < res->drive_count; i++) {
        struct action action = {.kind = ACTION_PUT_DRIVE, .drive = &res->drives[i]};

        r = microvm_configure(l->vm, &action, err);
    }
    for (unsigned i = 0; r == 0 && i < res->net_count; i++) {
        struct action action = {.kind = ACTION_PUT_NET, .net = &res->nets[i]};

        r = microvm_configure(l->vm, &action, err);
    }
    for (unsigned i = 0; r == 0 && i < res->pmem_count; i++) {
        struct action action = {.kind = ACTION_PUT_PMEM, .pmem = &res->pmems[i]};

        r = microvm_configure(l->vm, &action, err);
    }
    return r;
}

static int put_singles(struct load *l, struct err *err)
{
    struct microvm_resources *res = &l->resources;
    const struct {
        bool has;
        struct action action;
    } puts[] = {
        {res->has_vsock, {.kind = ACTION_PUT_VSOCK, .vsock = &res->vsock}},
        {res->has_entropy, {.kind = ACTION_PUT_ENTROPY, .entropy = &res->entropy}},
        {res->has_balloon, {.kind = ACTION_PUT_BALLOON, .balloon = &res->balloon}},
        {res->has_memory, {.kind = ACTION_PUT_MEMORY, .memory = &res->memory}},
        {res->has_mmds_config, {.kind = ACTION_PUT_MMDS_CONFIG, .mmds_config = &res->mmds_config}},
    };
    int r = 0;

    for (unsigned i = 0; r == 0 && i < ARRAY_LEN(puts); i++) {
        r = puts[i].has ? microvm_configure(l->vm, &puts[i].action, err) : 0;
    }
    return r;
}

/* The MSRs of a custom template; what it made of CPUID is in the snapshot as well. */
static int put_cpu(struct load *l, struct err *err)
{
    struct action action = {.kind = ACTION_PUT_CPU, .cpu = &l->cpu};

    return l->cpu.json ? microvm_configure(l->vm, &action, err) : 0;
}

static int configure(struct load *l, struct err *err)
{
    int r;

    take_plain(l);
    r = put_cpu(l, err);
    if (r < 0) {
        return r;
    }
    r = put_lists(l, err);
    return r < 0 ? r : put_singles(l, err);
}

/* --- build, then load --- */

static int build(struct load *l, struct err *err)
{
    struct start_plan plan;
    int r = configure(l, err);

    if (r < 0) {
        return r;
    }
    r = start_plan_fill(l->vm, &plan, err);
    if (r == 0) {
        plan.config.restored = &l->file;
        plan.config.memory_fd = l->memory_fd;
        plan.config.uffd_path = is_uffd(l) ? memory_path(l) : NULL;
        r = microvm_build(l->vm, &plan, err);
    }
    start_plan_fini(&plan);
    if (r == 0) {
        r = machine_load(l->vm->machine, &l->file, l->request->clock_realtime, err);
    }
    return r < 0 ? r : microvm_start_threads(l->vm, err);
}

static int load(struct load *l, struct err *err)
{
    int r = read_state(l, err);

    if (r == 0) {
        r = apply_overrides(l, err);
    }
    if (r < 0) {
        return err_wrap(err, r, "Failed to get snapshot state from file");
    }
    r = open_memory(l, err);
    if (r < 0) {
        return r;
    }
    r = build(l, err);
    /* memory is made by the machine, but is a chapter of its own for clients */
    if (r < 0 && !str_has_prefix(err_text(err), "Failed to load guest memory")) {
        return err_wrap(err, r, "Failed to build microVM from snapshot");
    }
    return r;
}

static void load_fini(struct load *l)
{
    if (l->memory_fd >= 0) {
        (void)close(l->memory_fd);
    }
    state_file_fini(&l->file);
    microvm_resources_fini(&l->resources);
    resource_cpu_fini(&l->cpu);
}

static int finish(struct microvm *vm, bool resume, struct err *err)
{
    vm->state = MICROVM_PAUSED;
    microvm_connect_serial(vm);
    microvm_start_metrics(vm);
    if (resume) {
        struct action action = {.kind = ACTION_PATCH_VM, .is_resumed = true};
        int r = microvm_configure(vm, &action, err);

        return r < 0 ? err_wrap(err, r, "Failed to resume microVM") : 0;
    }
    return 0;
}

int do_load_snapshot(struct microvm *vm, const struct action *action, struct err *err)
{
    struct load l = {.vm = vm, .request = action->load, .memory_fd = -1};
    struct err why = {0};
    int r;

    if (vm->blocks_load) {
        return err_set(err, -EBUSY,
                       "Loading a microVM snapshot not allowed after configuring boot-specific "
                       "resources.");
    }
    r = load(&l, &why);
    load_fini(&l);
    if (r < 0) {
        r = err_set(err, r, "Failed to restore from snapshot: %s", err_text(&why));
    } else {
        r = finish(vm, action->load->resume_vm, err);
    }
    vm->has_whole_fault = false; /* of what was asked on the way */
    if (r < 0) {
        microvm_exit(vm, EXIT_CODE_ERROR);
    }
    return r;
}
