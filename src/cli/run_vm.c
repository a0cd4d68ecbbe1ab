/* run_vm.c — one VM for one command: from its spec to the command's exit status. */
#include "cli/run_vm.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
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

static int cancel_init(struct run_vm *run, struct err *err)
{
    static const int caught[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

    run->cancel.signals = run->cancel.timer = run->cancel.all = -1;
    (void)sigemptyset(&run->cancel.blocked);
    for (size_t i = 0; i < ARRAY_LEN(caught); i++) {
        (void)sigaddset(&run->cancel.blocked, caught[i]);
    }
    /* Threads that are started from here on inherit the mask: signals come to the descriptor only.
     */
    if (pthread_sigmask(SIG_BLOCK, &run->cancel.blocked, NULL) != 0) {
        return err_set(err, -EINVAL, "block signals");
    }
    run->cancel.signals = signalfd(-1, &run->cancel.blocked, SFD_CLOEXEC | SFD_NONBLOCK);
    run->cancel.all = epoll_create1(EPOLL_CLOEXEC);
    if (run->cancel.signals < 0 || run->cancel.all < 0) {
        return err_sys(err, "watch for signals");
    }
    if (run->timeout_ns > 0) {
        struct itimerspec when = {.it_value = {.tv_sec = run->timeout_ns / NS_PER_S,
                                               .tv_nsec = run->timeout_ns % NS_PER_S}};
        struct epoll_event ev = {.events = EPOLLIN};

        run->cancel.timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
        if (run->cancel.timer < 0 || timerfd_settime(run->cancel.timer, 0, &when, NULL) < 0 ||
            epoll_ctl(run->cancel.all, EPOLL_CTL_ADD, run->cancel.timer, &ev) < 0) {
            return err_sys(err, "set the timeout");
        }
    }
    return 0;
}

static void cancel_fini(struct run_vm *run)
{
    const int fds[] = {run->cancel.signals, run->cancel.timer, run->cancel.all};

    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        if (fds[i] >= 0) {
            (void)close(fds[i]);
        }
    }
}

static bool is_readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return fd >= 0 && poll(&p, 1, 0) == 1;
}

static void tell(const struct run_vm *run, const char *what)
{
    if (run->is_verbose) {
        log_put(LOG_ERROR, "%7.3f s  %s", (double)(clock_mono_ns() - run->start_ns) / 1e9, what);
    }
}

static void tell_machine(const struct run_vm *run)
{
    const struct instance_info *info = vm_info(run->vm);

    if (run->is_verbose) {
        log_put(LOG_ERROR, "engine %s, kernel %s", info->engine, info->kernel);
        log_put(LOG_ERROR, "command line: %s", vm_cmdline(run->vm));
    }
    tell(run, "the machine is built");
}

static void tell_boot(const struct run_vm *run)
{
    char text[512];

    tell(run, "the guest's init is ready");
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

int run_vm_process(struct run_vm *run, const struct process_args *process, char **argv,
                   const struct process_io *io)
{
    struct exec_result result;
    struct err err = {0};
    struct process_io with_cancel = *io;
    int r;

    with_cancel.cancel_fd = run->cancel.all;
    r = process_run(vm_socket(run->vm), process, argv, &with_cancel, &result, &err);
    if (r == 0 && result.status == 0) {
        return 0;
    }
    if (is_readable(run->cancel.timer)) {
        log_error("timeout: the command did not end within %.3g s", (double)run->timeout_ns / 1e9);
        return run->failed_status;
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

/* A signal that came while no command ran: its exit status, 0 if there was none. */
static int taken_signal(const struct run_vm *run)
{
    struct signalfd_siginfo info;
    ssize_t got = read(run->cancel.signals, &info, sizeof(info));

    return got == (ssize_t)sizeof(info) ? 128 + (int)info.ssi_signo : 0;
}

/* With the guest up. */
static int run_steps(struct run_vm *run, struct err *err)
{
    int status = run->before ? run->before(run, err) : 0;

    if (status < 0) {
        status = fail(run, err);
    }
    if (status == 0) {
        status = taken_signal(run);
    }
    if (status == 0) {
        /* Meanwhile signals are the command's: exec_run() forwards them. */
        status = run_vm_process(run, run->process, run->argv, &run->io);
    }
    tell(run, "the command ended");
    if (run->after) {
        status = run->after(run, status);
    }
    if (has_writable_share(run->spec) && vm_end(run->vm) == MACHINE_RUNS) {
        vm_shutdown(run->vm, 10 * NS_PER_S); /* what was written through mmap reaches the host */
        tell(run, "the guest is down");
    }
    vm_note_exit(run->vm, status);
    return status;
}

static int boot_and_run(struct run_vm *run, struct err *err)
{
    struct epoll_event ev = {.events = EPOLLIN};
    int r = vm_boot(run->vm, run->cancel.signals, err);
    int status = r == -ECANCELED ? taken_signal(run) : 0;

    if (status > 0) {
        return status;
    }
    if (r < 0) {
        bool has_panicked = vm_end(run->vm) == MACHINE_PANIC;

        show_console_tail(run);
        (void)fail(run, err);
        return has_panicked ? STATUS_PANIC : run->failed_status;
    }
    tell_boot(run);
    if (epoll_ctl(run->cancel.all, EPOLL_CTL_ADD, vm_end_fd(run->vm), &ev) < 0) {
        return err_sys(err, "watch the machine");
    }
    return run_steps(run, err);
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
    int r;

    command_text(run->argv, text, sizeof(text));
    run->spec->command_text = text;
    run->spec->workdir = cwd;
    r = cancel_init(run, &err);
    if (r == 0) {
        r = build(run, &err);
    }
    if (r == 0) {
        tell_machine(run);
        r = boot_and_run(run, &err);
    }
    show_counters(run);
    vm_free(run->vm);
    run->vm = NULL;
    cancel_fini(run);
    tell(run, "all is gone");
    run->spec->command_text = run->spec->workdir = NULL;
    return r < 0 ? fail(run, &err) : r;
}
