/* microvm.c — see microvm.h. */
#include "vmm/microvm.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "dev/port/stream_port.h"
#include "vmm/microvm_int.h"

#define PREBOOT  "The requested operation is not supported before starting the microVM."
#define POSTBOOT "The requested operation is not supported after starting the microVM."

enum phase { PRE, POST, BOTH, PLUG, UNPLUG };

enum { BLOCKS_LOAD = 1 };

static const struct {
    enum phase phase;
    bool blocks_load;
    const char *prefix;
    microvm_fn run;
} g_actions[ACTION_COUNT] = {
#define ACTION(name, phase, blocks_load, prefix, handler) \
    [ACTION_##name] = {phase, blocks_load, prefix, handler},
#include "vmm/action.def"
#undef ACTION
};

/* --- life --- */

int microvm_new(const struct microvm_options *options, struct microvm **ret_vm, struct err *err)
{
    struct microvm *vm = calloc(1, sizeof(*vm));

    if (!vm) {
        return err_set(err, -ENOMEM, "out of memory");
    }
    vm->options = *options;
    vm->exit_code = -1;
    vm->kernel_fd = vm->initrd_fd = -1;
    vm->resources.machine = (struct resource_machine){
        .vcpu_count = 1, .mem_size_mib = 128, .cpu_template = TEMPLATE_NONE};
    *ret_vm = vm;
    return 0;
}

void microvm_resources_fini(struct microvm_resources *r)
{
    for (unsigned i = 0; i < r->drive_count; i++) {
        resource_drive_fini(&r->drives[i]);
    }
    for (unsigned i = 0; i < r->net_count; i++) {
        resource_net_fini(&r->nets[i]);
    }
    for (unsigned i = 0; i < r->pmem_count; i++) {
        resource_pmem_fini(&r->pmems[i]);
    }
    free(r->drives);
    free(r->nets);
    free(r->pmems);
    resource_boot_fini(&r->boot);
    resource_vsock_fini(&r->vsock);
    resource_mmds_config_fini(&r->mmds_config);
}

void microvm_free(struct microvm *vm)
{
    if (!vm) {
        return;
    }
    /* Devices first: they use what is freed after them. */
    microvm_unbuild(vm);
    stream_port_free(vm->vsock_port);
    microvm_boot_fini(vm);
    microvm_cpu_fini(vm);
    microvm_drives_fini(vm);
    microvm_nets_fini(vm);
    microvm_mmds_fini(vm);
    microvm_resources_fini(&vm->resources);
    resource_serial_fini(&vm->serial_config);
    free(vm);
}

/* --- actions --- */

int microvm_fault(struct microvm *vm, struct err *err, int code, const char *fmt, ...)
{
    char text[ERR_TEXT_MAX];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    vm->has_whole_fault = true;
    return err_set(err, code, "%s", text);
}

void microvm_exit(struct microvm *vm, int code)
{
    vm->exit_code = code;
}

int microvm_exit_code(const struct microvm *vm)
{
    return vm->exit_code;
}

int do_nothing(struct microvm *vm, const struct action *action, struct err *err)
{
    (void)vm;
    (void)action;
    (void)err;
    return 0;
}

static int check_phase(struct microvm *vm, enum phase phase, struct err *err)
{
    bool is_pre = vm->state == MICROVM_NOT_STARTED;

    switch (phase) {
    case PRE: return is_pre ? 0 : err_set(err, -EBUSY, POSTBOOT);
    case POST: return is_pre ? err_set(err, -EBUSY, PREBOOT) : 0;
    case BOTH: return 0;
    case PLUG:
        return is_pre || vm->options.enable_pci ? 0 : err_set(err, -ENODEV, "PCI is not enabled");
    case UNPLUG:
        if (is_pre) {
            return err_set(err, -EBUSY, PREBOOT);
        }
        return vm->options.enable_pci ? 0 : err_set(err, -ENODEV, "PCI is not enabled");
    }
    return -EINVAL;
}

int microvm_do(struct microvm *vm, const struct action *action, struct err *err)
{
    const char *prefix = g_actions[action->kind].prefix;
    int r = check_phase(vm, g_actions[action->kind].phase, err);

    if (r < 0) {
        return r;
    }
    vm->has_whole_fault = false;
    vm->blocks_load |= g_actions[action->kind].blocks_load;
    r = g_actions[action->kind].run(vm, action, err);
    if (r < 0 && err && prefix[0] && !vm->has_whole_fault) {
        char text[ERR_TEXT_MAX];

        (void)snprintf(text, sizeof(text), "%s", err_text(err));
        return err_set(err, r, "%s%s", prefix, text);
    }
    return r;
}

int microvm_configure(struct microvm *vm, const struct action *action, struct err *err)
{
    vm->has_whole_fault = false;
    return g_actions[action->kind].run(vm, action, err);
}

/* --- what is there --- */

const struct microvm_options *microvm_options(const struct microvm *vm)
{
    return &vm->options;
}

enum microvm_state microvm_state(const struct microvm *vm)
{
    return vm->state;
}

const char *microvm_state_name(enum microvm_state state)
{
    static const char *const names[] = {[MICROVM_NOT_STARTED] = "Not started",
                                        [MICROVM_RUNNING] = "Running",
                                        [MICROVM_PAUSED] = "Paused"};

    return names[state];
}

const struct microvm_resources *microvm_resources(const struct microvm *vm)
{
    return &vm->resources;
}
