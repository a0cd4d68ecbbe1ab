/* do_cpu.c — cpu-config and cpu_template: what the guest sees of its CPU. */
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "config/cpu_json.h"
#include "vmm/microvm_int.h"
#include "x86/cpu_template.h"

/* The later of this and machine-config's cpu_template wins. */
int do_put_cpu(struct microvm *vm, const struct action *action, struct err *err)
{
    const char *json = action->cpu->json;
    struct cpu_template *template = NULL;
    int r = cpu_json_parse(json, strlen(json), &template, err);

    if (r < 0) {
        return r;
    }
    microvm_cpu_fini(vm);
    vm->cpu_template = template;
    vm->cpu_json = TAKE_PTR(action->cpu->json);
    vm->resources.machine.cpu_template = TEMPLATE_NONE;
    return 0;
}

void microvm_cpu_fini(struct microvm *vm)
{
    cpu_json_free(vm->cpu_template);
    vm->cpu_template = NULL;
    free(vm->cpu_json);
    vm->cpu_json = NULL;
}

static bool static_kind(int wanted, enum cpu_template_kind *ret_kind)
{
    switch ((enum resource_template)wanted) {
    case TEMPLATE_C3: *ret_kind = CPU_TEMPLATE_C3; return true;
    case TEMPLATE_T2: *ret_kind = CPU_TEMPLATE_T2; return true;
    case TEMPLATE_T2S: *ret_kind = CPU_TEMPLATE_T2S; return true;
    case TEMPLATE_T2CL: *ret_kind = CPU_TEMPLATE_T2CL; return true;
    case TEMPLATE_T2A: *ret_kind = CPU_TEMPLATE_T2A; return true;
    case TEMPLATE_NONE: return false;
    }
    return false;
}

int microvm_check_cpu(const struct microvm *vm, struct err *err)
{
    struct cpu_identity cpu = cpu_identity_host();
    enum cpu_template_kind kind;
    int r = 0;

    if (static_kind(vm->resources.machine.cpu_template, &kind)) {
        r = cpu_template_check(kind, &cpu, err);
    }
    return r < 0 ? err_wrap(err, r, "Failed to get CPU template") : 0;
}

void microvm_lend_cpu(const struct microvm *vm, struct vm_config *config)
{
    enum cpu_template_kind kind;

    config->has_smt = vm->resources.machine.smt;
    config->cpu_template = static_kind(vm->resources.machine.cpu_template, &kind)
                               ? cpu_template_get(kind)
                               : vm->cpu_template;
}
