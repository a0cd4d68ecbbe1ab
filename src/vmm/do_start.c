/* do_start.c — from resources to a running machine. */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "host/serial.h"
#include "io/loop.h"
#include "vmm/filter.h"
#include "vmm/microvm_int.h"

/* When boot-source has no boot_args. */
#define DEFAULT_ARGS                                                     \
    "reboot=k panic=1 nomodule 8250.nr_uarts=0 i8042.noaux i8042.nomux " \
    "i8042.dumbkbd swiotlb=noforce"

static int read_initrd(struct microvm *vm, struct start_plan *plan, struct err *err)
{
    struct stat st;
    int r;

    if (vm->initrd_fd < 0) {
        return 0;
    }
    if (fstat(vm->initrd_fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        return err_set(err, -EINVAL, "Error with initrd initialization: not a regular file");
    }
    if ((uint64_t)st.st_size > plan->config.mem_bytes) {
        return err_set(err, -ENOSPC,
                       "Error with initrd initialization: Failed to load initrd due to an invalid "
                       "image: larger than the memory");
    }
    if (buf_reserve(&plan->initrd, (size_t)st.st_size) == NULL) {
        return err_set(err, -ENOMEM, "out of memory");
    }
    r = file_read_at(vm->initrd_fd, 0, plan->initrd.data, (size_t)st.st_size);
    if (r < 0) {
        return err_set(err, r, "Error with initrd initialization: it cannot be read");
    }
    plan->config.initrd = plan->initrd.data;
    plan->config.initrd_len = plan->initrd.len = (size_t)st.st_size;
    return 0;
}

/* Hosts objects that were opened when their resources were configured, to the machine.  One line
 * for each kind of device, in no particular order: machine/devices.c attaches them. */
static int lend_devices(struct microvm *vm, struct start_plan *plan, struct err *err)
{
    const struct microvm_resources *res = &vm->resources;
    int r;

    plan->config.vsock_cid = res->vsock.guest_cid;
    plan->config.vsock_port = vm->vsock_port;
    plan->config.has_entropy = res->has_entropy;
    plan->config.entropy_limiter =
        res->entropy.has_rate_limiter ? &res->entropy.rate_limiter : NULL;
    r = start_plan_add_drives(vm, plan, err);

    if (r == 0) {
        r = start_plan_add_pmems(vm, plan, err);
    }
    return r < 0 ? r : start_plan_add_nets(vm, plan, err);
}

int start_plan_fill(struct microvm *vm, struct start_plan *plan, struct err *err)
{
    const struct microvm_resources *res = &vm->resources;
    int r;

    *plan = (struct start_plan){0};
    plan->config = (struct vm_config){
        .engine = vm->options.engine,
        .enter_thread = filter_machine_thread,
        .enter_owner = vm->options.filters,
        .vcpu_count = res->machine.vcpu_count,
        .mem_bytes = res->machine.mem_size_mib * MIB,
        .huge_pages = res->machine.huge_pages,
        .tracks_dirty_pages = res->machine.track_dirty_pages,
        .kernel = res->boot.kernel_image_path,
        .kernel_fd = vm->kernel_fd,
        .cmdline = res->boot.boot_args ? res->boot.boot_args : DEFAULT_ARGS,
        .tells_devices = true,
        .is_microvm = true,
        .has_boot_timer = vm->options.has_boot_timer,
        .has_pci = vm->options.enable_pci,
        .balloon = res->has_balloon ? &res->balloon : NULL,
        .memory = res->has_memory ? &res->memory : NULL,
    };
    if (res->machine.mem_size_mib > CONFIG_MEM_MAX_BYTES / MIB) {
        return err_set(err, -ENOMEM, "memory %llu MiB: must be at most 512 GiB",
                       (unsigned long long)res->machine.mem_size_mib);
    }
    r = lend_devices(vm, plan, err);
    microvm_lend_cpu(vm, &plan->config);
    return r < 0 ? r : read_initrd(vm, plan, err);
}

void start_plan_fini(struct start_plan *plan)
{
    buf_fini(&plan->initrd);
    free(plan->drives);
    free(plan->pmems);
    free(plan->nets);
}

/* How the process ends with its machine: what a guest asks for is a success. */
static void on_end(void *owner, int fd, uint32_t events)
{
    struct microvm *vm = owner;
    enum machine_end end = machine_end(vm->machine);

    (void)fd;
    (void)events;
    if (end == MACHINE_BROKEN) {
        log_error("%s", machine_why(vm->machine));
    } else if (end == MACHINE_TRIPLE_FAULT) {
        log_error("Unexpected exit reason on vcpu run: Shutdown");
    }
    log_info("Vmm is stopping.");
    microvm_exit(vm, end == MACHINE_BROKEN || end == MACHINE_TRIPLE_FAULT);
    loop_stop(vm->options.loop);
}

int microvm_build(struct microvm *vm, const struct start_plan *plan, struct err *err)
{
    int r = microvm_open_serial(vm, err);

    if (r == 0) {
        r = machine_new(&plan->config, serial_port(vm->serial), &vm->machine, err);
    }
    if (r == 0 && vm->options.loop) {
        r = loop_add_fd(vm->options.loop, machine_end_fd(vm->machine), EPOLLIN, on_end, vm);
        if (r < 0) {
            (void)err_set(err, r, "watch the machine: error %d", r);
        }
    }
    if (r < 0) {
        microvm_unbuild(vm);
    }
    return r;
}

void microvm_unbuild(struct microvm *vm)
{
    microvm_stop_metrics(vm);
    if (vm->machine && vm->options.loop) {
        loop_del_fd(vm->options.loop, machine_end_fd(vm->machine));
    }
    if (vm->machine) {
        log_info("Killing vCPU threads");
    }
    machine_free(vm->machine);
    vm->machine = NULL;
    microvm_close_serial(vm);
    microvm_close_pmems(vm);
}

int microvm_start_threads(struct microvm *vm, struct err *err)
{
    int r = machine_start_paused(vm->machine, err);

    if (r == 0) {
        filter_enter(vm->options.filters, SECCOMP_VMM);
    }
    return r;
}

int do_start(struct microvm *vm, const struct action *action, struct err *err)
{
    int64_t mono_ns = clock_mono_ns();
    int64_t cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    struct start_plan plan;
    int r;

    (void)action;
    if (!vm->resources.has_boot) {
        return err_set(err, -ENOENT, "Cannot start microvm without kernel configuration.");
    }
    r = microvm_check_cpu(vm, err);
    if (r < 0) {
        return r;
    }
    r = start_plan_fill(vm, &plan, err);
    plan.config.start_mono_ns = mono_ns;
    plan.config.start_cpu_ns = cpu_ns;
    if (r == 0) {
        r = microvm_build(vm, &plan, err);
    }
    start_plan_fini(&plan);
    if (r == 0) {
        r = microvm_start_threads(vm, err);
        if (r == 0) {
            r = machine_resume(vm->machine, err);
        }
        if (r < 0) {
            microvm_unbuild(vm);
        }
    }
    if (r == 0) {
        vm->state = MICROVM_RUNNING;
        microvm_connect_serial(vm);
        microvm_start_metrics(vm);
    }
    return r;
}
