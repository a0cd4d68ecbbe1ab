/* vm.c — from what a user asked for to a guest that takes commands, and to its end. */
#include "vmm/vm.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/str.h"
#include "config/resource.h"
#include "dev/port/stream_port.h"
#include "exec/control.h"
#include "exec/ready.h"
#include "host/console.h"
#include "host/vsock_uds.h"
#include "proto/exec_msg.h"
#include "vmm/boot_spec.h"
#include "vmm/debugger.h"
#include "vmm/kernel_find.h"

/* One VM per address space of its own vsock socket: every VM can have the same CID. */
#define GUEST_CID 3

/* What the kernel says for us before a reset (kernel/panic.c). */
#define PANIC_TEXT "Kernel panic - not syncing"
/* What our init says when it has no other way left. */
#define FATAL_TEXT EXEC_FATAL_PREFIX

struct vm {
    struct instance instance;
    bool has_instance;
    struct kernel_choice kernel;
    struct boot_spec boot; /* initramfs and command line */
    struct console *console;
    struct exec_ready *ready;
    struct stream_port *vsock;
    struct machine *machine;
    struct debugger *debugger; /* NULL: none */
    int exit_status;           /* for it */
    char socket[INSTANCE_DIR_MAX + 16];
    int64_t boot_timeout_ns;
    char fatal[256]; /* what the init said on the console */
};

int vm_init_path(char *out, size_t size, struct err *err)
{
    static const char *const places[] = {"ec1-init", "../lib/ec1/ec1-init", "../libexec/ec1-init"};
    const char *named = getenv("EC1_INIT");
    char self[1024];
    ssize_t len;

    if (named && named[0]) {
        (void)snprintf(out, size, "%s", named);
        return access(out, R_OK) < 0 ? err_sys(err, "EC1_INIT '%s'", named) : 0;
    }
    len = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (len < 0) {
        return err_sys(err, "find this program");
    }
    self[len] = 0;
    *strrchr(self, '/') = 0;
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        if (snprintf(out, size, "%s/%s", self, places[i]) < (int)size && access(out, R_OK) == 0) {
            return 0;
        }
    }
    return err_set(err, -ENOENT, "ec1-init: not found beside this program in '%s'; run `make`",
                   self);
}

static void on_panic(void *owner, const char *text)
{
    (void)text;
    machine_note_panic(((struct vm *)owner)->machine);
}

static void on_fatal(void *owner, const char *text)
{
    struct vm *vm = owner;

    (void)snprintf(vm->fatal, sizeof(vm->fatal), "%.250s",
                   strstr(text, FATAL_TEXT) + strlen(FATAL_TEXT));
}

static int open_console(struct vm *vm, const struct vm_spec *spec, struct err *err)
{
    char path[INSTANCE_DIR_MAX + 16];
    struct console_config config = {.echo_fd = spec->show_console ? STDERR_FILENO : -1};
    int r;

    (void)snprintf(path, sizeof(path), "%s/console.log", vm->instance.info.dir);
    config.log_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (config.log_fd < 0) {
        return err_sys(err, "create '%s'", path);
    }
    r = console_new(&config, &vm->console, err);
    if (r < 0) {
        (void)close(config.log_fd);
        return r;
    }
    (void)console_watch(vm->console, PANIC_TEXT, on_panic, vm);
    (void)console_watch(vm->console, FATAL_TEXT, on_fatal, vm);
    return 0;
}

static int build_machine(struct vm *vm, const struct vm_spec *spec, struct err *err)
{
    char cache[KERNEL_PATH_MAX];
    struct vm_config config = {
        .engine = spec->engine,
        .vcpu_count = spec->vcpu_count,
        .mem_bytes = spec->mem_bytes,
        .huge_pages = PAGES_TRANSPARENT,
        .count_all = spec->count_all,
        .has_pci = spec->has_pci,
        .kernel = vm->kernel.image,
        .cache_dir = kernel_cache_dir(cache, NULL) == 0 ? cache : NULL,
        .cmdline = vm->boot.cmdline.data ? buf_str(&vm->boot.cmdline) : "",
        .initrd = vm->boot.initramfs.data,
        .initrd_len = vm->boot.initramfs.len,
        .vsock_cid = GUEST_CID,
        .vsock_port = vm->vsock,
        .has_entropy = true,
    };

    boot_spec_shares(spec, &vm->kernel, &vm->boot, &config);
    return machine_new(&config, console_port(vm->console), &vm->machine, err);
}

static int note_start(struct vm *vm, const struct vm_spec *spec, struct err *err)
{
    struct instance_info *info = &vm->instance.info;

    (void)snprintf(info->engine, sizeof(info->engine), "%s", machine_engine(vm->machine));
    (void)snprintf(info->kernel, sizeof(info->kernel), "%s", vm->kernel.image);
    (void)snprintf(info->command, sizeof(info->command), "%s",
                   spec->command_text ? spec->command_text : "");
    info->vcpu_count = spec->vcpu_count;
    info->mem_bytes = spec->mem_bytes;
    info->is_kept = spec->is_kept;
    return instance_update(&vm->instance, err);
}

static int build(struct vm *vm, const struct vm_spec *spec, struct err *err)
{
    int r = kernel_find(spec->kernel, spec->pull, &vm->kernel, err);

    if (r == 0) {
        r = boot_spec_compose(spec, &vm->kernel, &vm->boot, err);
    }
    if (r == 0) {
        r = instance_create(spec->name, &vm->instance, err);
        vm->has_instance = r == 0;
    }
    if (r == 0) {
        (void)snprintf(vm->socket, sizeof(vm->socket), "%s/vsock.sock", vm->instance.info.dir);
        r = open_console(vm, spec, err);
    }
    if (r == 0) {
        r = exec_ready_open(vm->socket, &vm->ready, err);
    }
    if (r == 0) {
        r = vsock_uds_new(vm->socket, &vm->vsock, err);
    }
    if (r == 0) {
        r = build_machine(vm, spec, err);
    }
    if (r == 0 && spec->gdb) {
        r = debugger_new(vm->machine, &vm->kernel, spec->gdb, &vm->debugger, err);
    }
    return r < 0 ? r : note_start(vm, spec, err);
}

int vm_new(const struct vm_spec *spec, struct vm **ret_vm, struct err *err)
{
    struct vm *vm = calloc(1, sizeof(*vm));
    int r;

    if (!vm) {
        return err_set(err, -ENOMEM, "VM: out of memory");
    }
    r = build(vm, spec, err);
    if (r < 0) {
        vm_free(vm);
        return r;
    }
    boot_spec_release(&vm->boot); /* it is in guest memory now */
    vm->boot_timeout_ns = spec->boot_timeout_ns;
    if (vm->boot_timeout_ns == 0) {
        vm->boot_timeout_ns =
            (strcmp(machine_engine(vm->machine), "kvm") == 0 ? 60 : 180) * NS_PER_S;
    }
    *ret_vm = vm;
    return 0;
}

/* What to say when the guest ended before its init was ready. */
static int ended_early(struct vm *vm, struct err *err)
{
    char text[400];

    if (vm->fatal[0]) {
        return err_set(err, -EIO, "the guest cannot be set up: %s", vm->fatal);
    }
    vm_end_text(vm, text, sizeof(text));
    return err_set(err, -EIO, "%s before the init was ready", text);
}

int vm_boot(struct vm *vm, int cancel_fd, struct err *err)
{
    int64_t deadline = clock_mono_ns() + vm->boot_timeout_ns;
    int r = machine_start(vm->machine, err);

    if (r == 0 && vm->debugger) {
        r = debugger_start(vm->debugger, err);
    }
    while (r == 0) {
        struct pollfd fds[] = {{.fd = exec_ready_fd(vm->ready), .events = POLLIN},
                               {.fd = machine_end_fd(vm->machine), .events = POLLIN},
                               {.fd = cancel_fd, .events = POLLIN}};
        int64_t left = deadline + debugger_stopped_ns(vm->debugger) - clock_mono_ns();

        if (left <= 0) {
            return err_set(err, -ETIMEDOUT,
                           "the guest's init did not answer within %lld s (--boot-timeout)",
                           (long long)(vm->boot_timeout_ns / NS_PER_S));
        }
        if (poll(fds, ARRAY_LEN(fds), (int)(left / NS_PER_MS) + 1) < 0 && errno != EINTR) {
            return err_sys(err, "poll");
        }
        if (fds[2].revents) {
            return err_set(err, -ECANCELED, "interrupted");
        }
        if (fds[0].revents) {
            enum exec_ready_state state = exec_ready_step(vm->ready);

            if (state == EXEC_READY_UP) {
                break;
            }
            if (state == EXEC_READY_FAILED) {
                return err_set(err, -EIO, "the guest cannot be set up: %s",
                               exec_ready_message(vm->ready)->error);
            }
        }
        if (fds[1].revents) {
            return ended_early(vm, err);
        }
    }
    if (r < 0) {
        return r;
    }
    vm->instance.info.is_ready = true;
    return instance_update(&vm->instance, err);
}

void vm_free(struct vm *vm)
{
    if (!vm) {
        return;
    }
    debugger_free(vm->debugger, vm->exit_status);
    machine_free(vm->machine);
    stream_port_free(vm->vsock);
    exec_ready_close(vm->ready);
    console_free(vm->console);
    boot_spec_fini(&vm->boot);
    if (vm->has_instance) {
        instance_close(&vm->instance);
    }
    kernel_choice_fini(&vm->kernel);
    free(vm);
}

const struct instance_info *vm_info(const struct vm *vm)
{
    return &vm->instance.info;
}

const char *vm_engine_warning(const struct vm *vm)
{
    return machine_engine_warning(vm->machine);
}

const char *vm_cmdline(const struct vm *vm)
{
    return buf_str(&vm->boot.cmdline);
}

const char *vm_gdb_command(const struct vm *vm)
{
    return vm->debugger ? debugger_command(vm->debugger) : "";
}

/* guest: letters only, so that nothing else reaches a terminal. */
static void phase_name(const char *from, char out[static 24])
{
    size_t len = 0;

    while (len < 23 && isalpha((unsigned char)from[len])) {
        out[len] = from[len];
        len++;
    }
    out[len] = 0;
}

void vm_phases_text(const struct vm *vm, char *out, size_t size)
{
    const Ec1__V1__Ready *ready = exec_ready_message(vm->ready);
    size_t at = 0;

    out[0] = 0;
    for (size_t i = 0; ready && i < ready->n_phases && at < size; i++) {
        const Ec1__V1__Phase *phase = ready->phases[i];
        char name[24];
        int len;

        phase_name(phase->name, name);
        len = snprintf(out + at, size - at, "%s%s %.3f", i ? ", " : "", name,
                       (double)phase->at_ns / 1e9);
        at += len > 0 ? (size_t)len : 0;
    }
}

int64_t vm_phase_ns(const struct vm *vm, const char *name)
{
    const Ec1__V1__Ready *ready = exec_ready_message(vm->ready);

    for (size_t i = 0; ready && i < ready->n_phases; i++) {
        if (strcmp(ready->phases[i]->name, name) == 0) {
            return (int64_t)(ready->phases[i]->at_ns & INT64_MAX); /* guest: any number */
        }
    }
    return 0;
}

const char *vm_socket(const struct vm *vm)
{
    return vm->socket;
}

int vm_end_fd(const struct vm *vm)
{
    return machine_end_fd(vm->machine);
}

enum machine_end vm_end(const struct vm *vm)
{
    return machine_end(vm->machine);
}

void vm_end_text(const struct vm *vm, char *out, size_t size)
{
    switch (machine_end(vm->machine)) {
    case MACHINE_RUNS: (void)snprintf(out, size, "the guest runs"); break;
    case MACHINE_POWEROFF: (void)snprintf(out, size, "the guest powered off"); break;
    case MACHINE_REBOOT: (void)snprintf(out, size, "the guest asked for a reboot"); break;
    case MACHINE_PANIC: (void)snprintf(out, size, "the guest's kernel panicked"); break;
    case MACHINE_TRIPLE_FAULT:
        (void)snprintf(out, size, "the guest's CPU shut down (triple fault)");
        break;
    case MACHINE_STOPPED: (void)snprintf(out, size, "the VM was stopped"); break;
    case MACHINE_BROKEN:
        (void)snprintf(out, size, "the %s engine cannot go on: %s", machine_engine(vm->machine),
                       machine_why(vm->machine));
        break;
    }
}

void vm_console_tail(struct vm *vm, char *out, size_t size)
{
    console_tail(vm->console, out, size);
}

void vm_counters(struct vm *vm, struct buf *out)
{
    machine_counters(vm->machine, out);
}

void vm_note_exit(struct vm *vm, int status)
{
    struct instance_info *info = &vm->instance.info;
    enum machine_end end = machine_end(vm->machine);

    vm->exit_status = status;
    info->exit_status = status;
    info->ended_wall_ns = clock_wall_ns();
    (void)snprintf(info->end, sizeof(info->end), "%s",
                   end == MACHINE_RUNS || end == MACHINE_STOPPED || end == MACHINE_POWEROFF
                       ? "exited"
                       : machine_end_name(end));
    (void)instance_update(&vm->instance, NULL);
}

void vm_shutdown(struct vm *vm, int64_t timeout_ns)
{
    struct pollfd fd = {.fd = machine_end_fd(vm->machine), .events = POLLIN};

    if (exec_shutdown(vm->socket, false, timeout_ns, NULL) == 0) {
        (void)poll(&fd, 1, (int)(timeout_ns / NS_PER_MS));
    }
    machine_stop(vm->machine);
}

int vm_shutdown_other(const struct instance_info *info, int64_t timeout_ns, struct err *err)
{
    char socket[INSTANCE_DIR_MAX + 16];
    int64_t deadline = clock_mono_ns() + timeout_ns;
    int r;

    (void)snprintf(socket, sizeof(socket), "%s/vsock.sock", info->dir);
    r = exec_shutdown(socket, false, timeout_ns, err);
    if (r < 0) {
        return r;
    }
    while (clock_mono_ns() < deadline) {
        struct instance_info now;

        if (instance_find(info->id, &now, NULL) < 0 || !now.is_alive) {
            return 0;
        }
        (void)usleep(10000);
    }
    return err_set(err, -ETIMEDOUT, "VM '%s': did not end in time", info->id);
}
