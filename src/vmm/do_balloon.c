/* do_balloon.c — the balloon: its configuration, and what a running one is asked. */
#include <errno.h>

#include "vmm/microvm_int.h"

#define NOT_FOUND "Failed perform action on device: Device not found"

/* The reason why a running balloon refused, in the interface's words. */
static int told(int r, const char *unsupported, struct err *err)
{
    switch (r) {
    case -ENOENT: return err_set(err, r, NOT_FOUND);
    case -ENODEV: return err_set(err, r, "Balloon: Device not activated yet.");
    case -ENOTSUP: return err_set(err, r, "Balloon: %s", unsupported);
    default: return r;
    }
}

int do_put_balloon(struct microvm *vm, const struct action *action, struct err *err)
{
    const struct resource_balloon *balloon = action->balloon;

    if (balloon->amount_mib > vm->resources.machine.mem_size_mib) {
        return err_set(err, -ERANGE, "Amount of pages requested is too large.");
    }
    vm->resources.balloon = *balloon;
    vm->resources.has_balloon = true;
    return 0;
}

int do_get_balloon(struct microvm *vm, const struct action *action, struct err *err)
{
    if (!vm->resources.has_balloon) {
        return vm->state == MICROVM_NOT_STARTED
                   ? err_set(err, -ENOENT, "No balloon device found.")
                   : microvm_fault(vm, err, -ENOENT, "Internal VMM error: " NOT_FOUND);
    }
    *action->ret_balloon = vm->resources.balloon;
    return 0;
}

int do_patch_balloon(struct microvm *vm, const struct action *action, struct err *err)
{
    uint32_t amount_mib = action->balloon->amount_mib;
    int r = machine_balloon_resize(vm->machine, amount_mib);

    if (r == -ERANGE) {
        return err_set(err, r, "Balloon: Requested memory should be less than %uMiB", amount_mib);
    }
    if (r == 0) {
        vm->resources.balloon.amount_mib = amount_mib;
    }
    return told(r, "", err);
}

int do_get_balloon_stats(struct microvm *vm, const struct action *action, struct err *err)
{
    return told(machine_balloon_stats(vm->machine, action->ret_balloon_stats),
                "Received stats query when stats are disabled.", err);
}

int do_patch_balloon_stats(struct microvm *vm, const struct action *action, struct err *err)
{
    uint16_t interval_s = action->balloon->stats_polling_interval_s;
    int r = machine_balloon_set_interval(vm->machine, interval_s);

    if (r == 0) {
        vm->resources.balloon.stats_polling_interval_s = interval_s;
    }
    return told(r, "Statistics cannot be enabled/disabled after activation.", err);
}

#define NO_HINTING "Attempting to use hinting when not enabled"

int do_start_hinting(struct microvm *vm, const struct action *action, struct err *err)
{
    return told(machine_balloon_start_hinting(vm->machine, action->acknowledge_on_stop), NO_HINTING,
                err);
}

int do_stop_hinting(struct microvm *vm, const struct action *action, struct err *err)
{
    (void)action;
    return told(machine_balloon_stop_hinting(vm->machine), NO_HINTING, err);
}

int do_get_hinting(struct microvm *vm, const struct action *action, struct err *err)
{
    return told(machine_balloon_hinting(vm->machine, action->ret_hinting), NO_HINTING, err);
}
