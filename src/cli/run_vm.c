/* run_vm.c — one VM for one command: from its spec to the command's exit status. */
#include "cli/run_vm.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/bits.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "cli/cmd.h"
#include "cli/progress.h"

/* How much of the console is shown when the guest dies. */
#define TAIL_SHOWN 4096

/* The command as one line for people. */
static void command_text(char **argv, char *out, size_t size)
{
    size_t at = 0;

    out[0] = 0;
    for (; *argv && at < size - 1; argv++) {
        int len = snprintf(out + at, size - at, "%s%s", at ? " " : "", *argv);

        at += len > 0 ? (size_t)len : 0;
    }
}

static double seconds(int64_t ns)
{
    return (double)ns / 1e9;
}

/* Returns the time. */
static int64_t tell(const struct run_vm *run, const char *what)
{
    int64_t now = clock_mono_ns();

    if (run->is_verbose) {
        log_put(LOG_ERROR, "%7.3f s  %s", seconds(now - run->start_ns), what);
    }
    return now;
}

/* Where the time went.  Mounts are made by the guest, which has a clock of its own. */
static void tell_split(const struct run_vm *run, int64_t mount_ns)
{
    int64_t now = clock_mono_ns();

    if (run->is_verbose && run->ended_ns) {
        log_put(LOG_ERROR, "start %.3f s, boot %.3f s, mount %.3f s, exec %.3f s, end %.3f s",
                seconds(run->built_ns - run->start_ns),
                seconds(run->ready_ns - run->built_ns - mount_ns), seconds(mount_ns),
                seconds(run->ended_ns - run->ready_ns), seconds(now - run->ended_ns));
    }
}

static void tell_machine(struct run_vm *run)
{
    const struct instance_info *info = vm_info(run->vm);

    if (run->is_verbose) {
        log_put(LOG_ERROR, "engine %s, kernel %s", info->engine, info->kernel);
        log_put(LOG_ERROR, "command line: %s", vm_cmdline(run->vm));
    }
    run->built_ns = tell(run, "the machine is built");
    if (vm_gdb_command(run->vm)[0]) {
        log_put(LOG_ERROR, "the guest waits for a debugger; in another terminal:");
        (void)fprintf(stderr, "%s\n", vm_gdb_command(run->vm));
    }
}

static void tell_boot(struct run_vm *run)
{
    char text[512];

    run->ready_ns = tell(run, "the guest's init is ready");
    if (run->is_verbose) {
        vm_phases_text(run->vm, text, sizeof(text));
        log_put(LOG_ERROR, "           in the guest: %s", text);
    }
}

static int fail(const struct run_vm *run, const struct err *err)
{
    log_error("%s", err_text(err));
    return run->failed_status;
}

static void show_console_tail(const struct run_vm *run)
{
    AUTO_FREE char *tail = malloc(TAIL_SHOWN);

    if (tail && !run->spec->show_console) {
        vm_console_tail(run->vm, tail, TAIL_SHOWN);
        (void)!write(STDERR_FILENO, tail, strlen(tail));
    }
}

/* The guest ended under the command. */
static int status_of_end(const struct run_vm *run)
{
    char text[512];
    enum machine_end end = vm_end(run->vm);

    if (end != MACHINE_POWEROFF && end != MACHINE_REBOOT) {
        show_console_tail(run);
    }
    vm_end_text(run->vm, text, sizeof(text));
    log_error("%s", text);
    return end == MACHINE_PANIC ? STATUS_PANIC : run->failed_status;
}

/* A guest that dies takes the connection with it a moment before we learn of its end. */
static bool has_ended(const struct run_vm *run)
{
    struct pollfd p = {.fd = vm_end_fd(run->vm), .events = POLLIN};

    return poll(&p, 1, 500) == 1;
}

static int orphaned(const struct run_vm *run)
{
    log_error("the process that wanted this run is gone");
    return run->failed_status;
}

int run_vm_process(struct run_vm *run, const struct process_args *process, char **argv,
                   const struct process_io *io)
{
    struct exec_result result;
    struct err err = {0};
    struct process_io with_cancel = *io;
    int r;

    with_cancel.cancel_fd = run->cancel.command;
    r = process_run(vm_socket(run->vm), process, argv, &with_cancel, &result, &err);
    if (r == 0 && result.status == 0) {
        return 0;
    }
    run->has_core |= r == 0 && result.core_dumped && argv == run->argv;
    if (run_cancel_timed_out(&run->cancel)) {
        log_error("timeout: the command did not end within %.3g s", (double)run->timeout_ns / 1e9);
        return run->failed_status;
    }
    if (r < 0 && run_cancel_is_orphan(&run->cancel)) {
        return orphaned(run);
    }
    if (r < 0 && r != -EINTR && has_ended(run)) {
        return status_of_end(run);
    }
    if (r < 0) {
        return fail(run, &err);
    }
    if (result.message[0]) {
        log_error("%s", result.message);
    }
    /* It could not be started for a reason that is not its own. */
    return result.message[0] && result.status == STATUS_FAILED ? run->failed_status : result.status;
}

static bool has_writable_share(const struct vm_spec *spec)
{
    for (unsigned i = 0; i < spec->mount_count; i++) {
        if (!spec->mounts[i].read_only) {
            return true;
        }
    }
    return false;
}

/* With the guest up. */
static int run_steps(struct run_vm *run, struct err *err)
{
    int status = run->before ? run->before(run, err) : 0;

    if (status < 0) {
        status = fail(run, err);
    }
    if (status == 0) {
        status = run_cancel_signal(&run->cancel);
    }
    if (status == 0) {
        /* Meanwhile signals are the command's: exec_run() forwards them. */
        status = run_vm_process(run, run->process, run->argv, &run->io);
    }
    if (run->after) {
        status = run->after(run, status);
    }
    run->ended_ns = tell(run, "the command ended");
    if (has_writable_share(run->spec) && vm_end(run->vm) == MACHINE_RUNS) {
        vm_shutdown(run->vm, 10 * NS_PER_S); /* what was written through mmap reaches the host */
        (void)tell(run, "the guest is down");
    }
    vm_note_exit(run->vm, status);
    return status;
}

static int start_forward(struct run_vm *run, struct err *err)
{
    int r = run->forward ? forward_start(run->forward, vm_socket(run->vm), err) : 0;

    for (size_t i = 0; run->forward && i < run->ports->count && r == 0; i++) {
        const struct forward_port *port = &run->ports->items[i];

        if (run->is_verbose || port->host == 0) {
            log_put(LOG_ERROR, "port %u of %s leads to port %u of the VM",
                    forward_host_port(run->forward, i), port->address, port->guest);
        }
    }
    return r;
}

static int boot_and_run(struct run_vm *run, struct err *err)
{
    int r = vm_boot(run->vm, run->cancel.boot, err);
    int status = r == -ECANCELED ? run_cancel_signal(&run->cancel) : 0;

    if (status > 0) {
        return status;
    }
    if (r == -ECANCELED) {
        return orphaned(run);
    }
    if (r < 0) {
        bool has_panicked = vm_end(run->vm) == MACHINE_PANIC;

        show_console_tail(run);
        (void)fail(run, err);
        return has_panicked ? STATUS_PANIC : run->failed_status;
    }
    tell_boot(run);
    r = run_cancel_watch_end(&run->cancel, vm_end_fd(run->vm), err);
    if (r == 0) {
        r = start_forward(run, err);
    }
    return r < 0 ? r : run_steps(run, err);
}

static void show_counters(const struct run_vm *run)
{
    AUTO_CALL(buf_fini) struct buf text = {0};

    if (run->vm && run->spec->count_all) {
        vm_counters(run->vm, &text);
        (void)!write(STDERR_FILENO, buf_str(&text), text.len);
    }
}

static int build(struct run_vm *run, struct err *err)
{
    struct progress progress;
    int r;

    progress_init(&progress);
    run->spec->pull = run->is_quiet ? NULL : &progress.oci;
    r = vm_new(run->spec, &run->vm, err);
    run->spec->pull = NULL;
    progress_end(&progress);
    if (r == 0 && vm_engine_warning(run->vm)[0] && !run->is_quiet) {
        log_warn("%s", vm_engine_warning(run->vm));
    }
    return r;
}

int run_vm(struct run_vm *run)
{
    AUTO_FREE char *cwd = run->process->cwd ? strdup(run->process->cwd) : getcwd(NULL, 0);
    struct err err = {0};
    char text[256];
    int64_t mount_ns = 0;
    int r;

    command_text(run->argv, text, sizeof(text));
    run->spec->command_text = text;
    run->spec->workdir = cwd;
    r = run_cancel_init(&run->cancel, run->timeout_ns, run->parent, &err);
    if (r == 0 && run->ports && run->ports->count > 0) {
        r = forward_open(run->ports, &run->forward, &err);
    }
    if (r == 0) {
        r = build(run, &err);
    }
    if (r == 0) {
        tell_machine(run);
        r = boot_and_run(run, &err);
    }
    show_counters(run);
    if (run->ended_ns) {
        mount_ns = vm_phase_ns(run->vm, "mounts") - vm_phase_ns(run->vm, "modules");
    }
    forward_close(run->forward);
    run->forward = NULL;
    vm_free(run->vm);
    run->vm = NULL;
    run_cancel_fini(&run->cancel);
    (void)tell(run, "all is gone");
    tell_split(run, mount_ns);
    run->spec->command_text = run->spec->workdir = NULL;
    return r < 0 ? fail(run, &err) : r;
}
