/* cmd_run.c — `ec1 run`: a VM for one command. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/bits.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "cli/args.h"
#include "cli/cmd.h"
#include "cli/process.h"
#include "cli/process_args.h"
#include "cli/progress.h"
#include "vmm/vm.h"

#define DEFAULT_MEM_BYTES (512 * MIB)
/* How much of the console is shown when the guest dies. */
#define TAIL_SHOWN 4096

struct run_args {
    struct process_args process; /* first: the shared setters */
    struct vm_spec spec;
    char *mount_paths[2 * VM_MOUNT_MAX]; /* owned */
    int64_t timeout_ns;
    bool detach;
    bool remove;
    bool quiet;
    bool verbose;
    bool json;
    bool help;
};

#define FLAG_SETTER(field)                                                 \
    static int set_##field(void *owner, const char *text, struct err *err) \
    {                                                                      \
        (void)text;                                                        \
        (void)err;                                                         \
        ((struct run_args *)owner)->field = true;                          \
        return 0;                                                          \
    }
FLAG_SETTER(detach)
FLAG_SETTER(remove)
FLAG_SETTER(quiet)
FLAG_SETTER(verbose)
FLAG_SETTER(json)
FLAG_SETTER(help)

static int set_console(void *owner, const char *text, struct err *err)
{
    (void)text;
    (void)err;
    ((struct run_args *)owner)->spec.show_console = true;
    return 0;
}

static int set_engine_stats(void *owner, const char *text, struct err *err)
{
    (void)text;
    (void)err;
    ((struct run_args *)owner)->spec.count_all = true;
    return 0;
}

static int set_cpus(void *owner, const char *text, struct err *err)
{
    uint64_t n;
    int r = str_to_u64("cpus", text, 1, CONFIG_VCPU_MAX, &n, err);

    if (r == 0) {
        ((struct run_args *)owner)->spec.vcpu_count = (unsigned)n;
    }
    return r;
}

static int set_memory(void *owner, const char *text, struct err *err)
{
    uint64_t bytes;
    int r =
        str_to_size("memory", text, MIB, CONFIG_MEM_MIN_BYTES, CONFIG_MEM_MAX_BYTES, &bytes, err);

    if (r == 0) {
        ((struct run_args *)owner)->spec.mem_bytes = align_down(bytes, MIB);
    }
    return r;
}

static int set_kernel(void *owner, const char *text, struct err *err)
{
    (void)err;
    ((struct run_args *)owner)->spec.kernel = text;
    return 0;
}

static int set_kernel_args(void *owner, const char *text, struct err *err)
{
    (void)err;
    ((struct run_args *)owner)->spec.extra_args = text;
    return 0;
}

static int set_all_kernel_args(void *owner, const char *text, struct err *err)
{
    (void)err;
    ((struct run_args *)owner)->spec.all_args = text;
    return 0;
}

static int set_engine(void *owner, const char *text, struct err *err)
{
    return config_engine_parse(text, &((struct run_args *)owner)->spec.engine, err);
}

static int set_name(void *owner, const char *text, struct err *err)
{
    (void)err;
    ((struct run_args *)owner)->spec.name = text;
    return 0;
}

static int set_hostname(void *owner, const char *text, struct err *err)
{
    if (!text[0] || strlen(text) > HOST_NAME_MAX) {
        return err_set(err, -EINVAL, "hostname '%s': must have 1 to %d bytes", text, HOST_NAME_MAX);
    }
    ((struct run_args *)owner)->spec.hostname = text;
    return 0;
}

static int set_pci(void *owner, const char *text, struct err *err)
{
    (void)text;
    (void)err;
    ((struct run_args *)owner)->spec.has_pci = true;
    return 0;
}

static int set_timeout(void *owner, const char *text, struct err *err)
{
    return str_to_duration("timeout", text, &((struct run_args *)owner)->timeout_ns, err);
}

static int set_boot_timeout(void *owner, const char *text, struct err *err)
{
    return str_to_duration("boot-timeout", text, &((struct run_args *)owner)->spec.boot_timeout_ns,
                           err);
}

/* Where a share can be in the VM: an absolute path, and not the root, which has been entered when
 * shares are mounted. */
static int check_mount_point(const char *text, const char *guest, struct err *err)
{
    if (guest[0] != '/') {
        return err_set(err, -EINVAL, "volume '%s': the path in the VM, '%s', must be absolute",
                       text, guest);
    }
    if (guest[strspn(guest, "/.")] == 0) {
        return err_set(err, -EINVAL, "volume '%s': the path in the VM cannot be its root", text);
    }
    if (strchr(guest, ':')) {
        return err_set(err, -EINVAL, "volume '%s': must be HOST:GUEST, HOST:GUEST:ro or :rw", text);
    }
    return 0;
}

/* "HOST:GUEST[:ro|:rw]", or "PATH[:ro]" for the same place in both. */
static int set_volume(void *owner, const char *text, struct err *err)
{
    struct run_args *args = owner;
    struct vm_mount *mount = &args->spec.mounts[args->spec.mount_count];
    AUTO_FREE char *copy = strdup(text);
    AUTO_FREE char *host = NULL;
    char *guest;
    unsigned slot = 2 * args->spec.mount_count;

    if (args->spec.mount_count == VM_MOUNT_MAX) {
        return err_set(err, -E2BIG, "volume '%s': at most %d", text, VM_MOUNT_MAX);
    }
    if (!copy) {
        return err_set(err, -ENOMEM, "volume: out of memory");
    }
    mount->read_only = str_has_suffix(copy, ":ro");
    if (mount->read_only || str_has_suffix(copy, ":rw")) {
        copy[strlen(copy) - 3] = 0;
    }
    guest = strchr(copy, ':');
    if (guest) {
        *guest++ = 0;
    }
    host = realpath(copy, NULL);
    if (!host) {
        return err_sys(err, "volume '%s': host path '%s'", text, copy);
    }
    if (check_mount_point(text, guest ? guest : copy, err) < 0) {
        return err->code;
    }
    args->mount_paths[slot] = TAKE_PTR(host);
    args->mount_paths[slot + 1] = strdup(guest ? guest : copy);
    if (!args->mount_paths[slot + 1]) {
        return err_set(err, -ENOMEM, "volume: out of memory");
    }
    mount->host = args->mount_paths[slot];
    mount->guest = args->mount_paths[slot + 1];
    args->spec.mount_count++;
    return 0;
}

static const struct arg_option g_options[] = {
    PROCESS_OPTIONS,
    {"volume", 'v', "HOST:GUEST[:ro]", "share a host folder or file", set_volume},
    {"cpus", 0, "N", "virtual CPUs, 1 to 32 (default 1)", set_cpus},
    {"memory", 'm', "SIZE", "memory of the VM (default 512M)", set_memory},
    {"kernel", 'k', "FILE|DIR|IMAGE", "kernel to boot (default: the fetched one)", set_kernel},
    {"kernel-args", 'a', "TEXT", "append to the kernel's command line", set_kernel_args},
    {"all-kernel-args", 0, "TEXT", "the kernel's command line, in place of the usual one",
     set_all_kernel_args},
    {"engine", 0, "auto|kvm|soft", "what executes the guest (default auto)", set_engine},
    {"pci", 0, NULL, "devices on a PCI bus (default: virtio-mmio)", set_pci},
    {"name", 0, "NAME", "a name for exec, stop and the others", set_name},
    {"hostname", 0, "NAME", "host name in the VM", set_hostname},
    {"detach", 'd', NULL, "go on in the background, print the id", set_detach},
    {"rm", 0, NULL, "with -d: forget the VM when it ends", set_remove},
    {"timeout", 0, "TIME", "end the VM after this long, such as 30s or 5m", set_timeout},
    {"boot-timeout", 0, "TIME", "give the guest this long to boot", set_boot_timeout},
    {"console", 0, NULL, "show the guest's console on stderr", set_console},
    {"engine-stats", 0, NULL, "print on stderr what the engine counted", set_engine_stats},
    {"quiet", 'q', NULL, "no warnings", set_quiet},
    {"verbose", 0, NULL, "say what is done, and how long it took", set_verbose},
    {"json", 0, NULL, "with -d: print the VM as JSON", set_json},
    {"help", 'h', NULL, "show this", set_help},
};

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

/* What cuts a run short: the machine's end, the timeout, and, while the guest boots, signals. */
struct cancel {
    sigset_t blocked;
    int signals; /* signalfd */
    int timer;   /* timerfd, -1: no timeout */
    int all;     /* epoll over the end of the machine and the timer: readable when either is */
};

static int cancel_init(struct cancel *c, int64_t timeout_ns, struct err *err)
{
    static const int caught[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

    *c = (struct cancel){.signals = -1, .timer = -1, .all = -1};
    (void)sigemptyset(&c->blocked);
    for (size_t i = 0; i < ARRAY_LEN(caught); i++) {
        (void)sigaddset(&c->blocked, caught[i]);
    }
    /* Threads that are started from here on inherit the mask: signals come to the descriptor only.
     */
    if (pthread_sigmask(SIG_BLOCK, &c->blocked, NULL) != 0) {
        return err_set(err, -EINVAL, "block signals");
    }
    c->signals = signalfd(-1, &c->blocked, SFD_CLOEXEC | SFD_NONBLOCK);
    c->all = epoll_create1(EPOLL_CLOEXEC);
    if (c->signals < 0 || c->all < 0) {
        return err_sys(err, "watch for signals");
    }
    if (timeout_ns > 0) {
        struct itimerspec when = {
            .it_value = {.tv_sec = timeout_ns / NS_PER_S, .tv_nsec = timeout_ns % NS_PER_S}};
        struct epoll_event ev = {.events = EPOLLIN};

        c->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
        if (c->timer < 0 || timerfd_settime(c->timer, 0, &when, NULL) < 0 ||
            epoll_ctl(c->all, EPOLL_CTL_ADD, c->timer, &ev) < 0) {
            return err_sys(err, "set the timeout");
        }
    }
    return 0;
}

static void cancel_fini(struct cancel *c)
{
    const int fds[] = {c->signals, c->timer, c->all};

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

/* A running `ec1 run`. */
struct run {
    struct run_args *args;
    char **argv;
    struct vm *vm;
    struct cancel cancel;
    int notify_fd; /* -d: the foreground process waits here for the id; -1: none, or it has it */
    int null_fd;   /* -d: /dev/null */
    int out_fd;
    int err_fd;
    int64_t start_ns;
};

static void tell(const struct run *run, const char *what)
{
    if (run->args->verbose) {
        log_put(LOG_ERROR, "%7.3f s  %s", (double)(clock_mono_ns() - run->start_ns) / 1e9, what);
    }
}

static void tell_phases(const struct run *run)
{
    char text[512];

    if (run->args->verbose) {
        vm_phases_text(run->vm, text, sizeof(text));
        log_put(LOG_ERROR, "           in the guest: %s", text);
    }
}

static void show_console_tail(const struct run *run)
{
    AUTO_FREE char *tail = malloc(TAIL_SHOWN);

    if (tail && !run->args->spec.show_console) {
        vm_console_tail(run->vm, tail, TAIL_SHOWN);
        (void)!write(STDERR_FILENO, tail, strlen(tail));
    }
}

/* The guest ended under the command. */
static int status_of_end(const struct run *run)
{
    char text[512];
    enum machine_end end = vm_end(run->vm);

    if (end != MACHINE_POWEROFF && end != MACHINE_REBOOT) {
        show_console_tail(run);
    }
    vm_end_text(run->vm, text, sizeof(text));
    log_error("%s", text);
    return end == MACHINE_PANIC ? STATUS_PANIC : STATUS_FAILED;
}

/* A guest that dies takes the connection with it a moment before we learn of its end. */
static bool has_ended(const struct run *run)
{
    struct pollfd p = {.fd = vm_end_fd(run->vm), .events = POLLIN};

    return poll(&p, 1, 500) == 1;
}

/* -d: the command's output goes to files. */
static int open_logs(struct run *run, struct err *err)
{
    const struct instance_info *info = vm_info(run->vm);
    char path[INSTANCE_DIR_MAX + 16];

    run->null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    (void)snprintf(path, sizeof(path), "%s/out.log", info->dir);
    run->out_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    (void)snprintf(path, sizeof(path), "%s/err.log", info->dir);
    run->err_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (run->out_fd < 0 || run->err_fd < 0 || run->null_fd < 0) {
        return err_sys(err, "create '%s'", path);
    }
    return 0;
}

/* -d: tell the process in the foreground that the command runs; it goes away then. */
static void report_detached(void *arg)
{
    struct run *run = arg;

    (void)dprintf(run->notify_fd, "%s", vm_info(run->vm)->id);
    (void)close(take_fd(&run->notify_fd));
    /* From here on what we have to say goes to the VM's own log. */
    (void)dup2(run->null_fd, STDIN_FILENO);
    (void)dup2(run->null_fd, STDOUT_FILENO);
    (void)dup2(run->err_fd, STDERR_FILENO);
}

static int run_command(struct run *run)
{
    struct exec_result result;
    struct err err = {0};
    struct process_io io = {.in = run->args->detach ? -1 : STDIN_FILENO,
                            .out = run->out_fd,
                            .err = run->err_fd,
                            .cancel_fd = run->cancel.all,
                            .on_started = run->args->detach ? report_detached : NULL,
                            .started_arg = run};
    int r = process_run(vm_socket(run->vm), &run->args->process, run->argv, &io, &result, &err);

    if (r == 0 && result.status == 0) {
        return 0;
    }
    if (is_readable(run->cancel.timer)) {
        log_error("timeout: the command did not end within %.3g s",
                  (double)run->args->timeout_ns / 1e9);
        return STATUS_FAILED;
    }
    if (r < 0 && r != -EINTR && has_ended(run)) {
        return status_of_end(run);
    }
    if (r < 0) {
        return cmd_fail(&err);
    }
    if (result.message[0]) {
        log_error("%s", result.message);
    }
    return result.status;
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

static int boot_and_run(struct run *run, struct err *err)
{
    struct epoll_event ev = {.events = EPOLLIN};
    struct signalfd_siginfo info;
    int status;
    int r = vm_boot(run->vm, run->cancel.signals, err);

    if (r == -ECANCELED &&
        read(run->cancel.signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        return 128 + (int)info.ssi_signo;
    }
    if (r < 0) {
        bool has_panicked = vm_end(run->vm) == MACHINE_PANIC;

        show_console_tail(run);
        (void)cmd_fail(err);
        return has_panicked ? STATUS_PANIC : STATUS_FAILED;
    }
    tell(run, "the guest's init is ready");
    tell_phases(run);
    if (epoll_ctl(run->cancel.all, EPOLL_CTL_ADD, vm_end_fd(run->vm), &ev) < 0) {
        return err_sys(err, "watch the machine");
    }
    if (run->args->detach) {
        r = open_logs(run, err);
        if (r < 0) {
            return r;
        }
    }
    /* From here on signals are the command's: exec_run() forwards them. */
    (void)pthread_sigmask(SIG_UNBLOCK, &run->cancel.blocked, NULL);
    status = run_command(run);
    tell(run, "the command ended");
    if (has_writable_share(&run->args->spec) && vm_end(run->vm) == MACHINE_RUNS) {
        vm_shutdown(run->vm, 10 * NS_PER_S); /* what was written through mmap reaches the host */
        tell(run, "the guest is down");
    }
    vm_note_exit(run->vm, status);
    return status;
}

static void show_counters(const struct run *run)
{
    AUTO_CALL(buf_fini) struct buf text = {0};

    if (run->vm && run->args->spec.count_all) {
        vm_counters(run->vm, &text);
        (void)!write(STDERR_FILENO, buf_str(&text), text.len);
    }
}

/* Returns the exit status, or a negative errno with `err` filled. */
static int run_vm(struct run *run, struct err *err)
{
    struct vm_spec *spec = &run->args->spec;
    struct progress progress;
    int r = cancel_init(&run->cancel, run->args->timeout_ns, err);

    if (r == 0) {
        progress_init(&progress);
        spec->pull = run->args->quiet ? NULL : &progress.oci;
        r = vm_new(spec, &run->vm, err);
        spec->pull = NULL;
        progress_end(&progress);
    }
    if (r == 0 && vm_engine_warning(run->vm)[0] && !run->args->quiet) {
        log_warn("%s", vm_engine_warning(run->vm));
    }
    if (r == 0) {
        if (run->args->verbose) {
            const struct instance_info *info = vm_info(run->vm);

            log_put(LOG_ERROR, "engine %s, kernel %s", info->engine, info->kernel);
            log_put(LOG_ERROR, "command line: %s", vm_cmdline(run->vm));
        }
        tell(run, "the machine is built");
        r = boot_and_run(run, err);
    }
    show_counters(run);
    vm_free(run->vm);
    cancel_fini(&run->cancel);
    tell(run, "all is gone");
    return r;
}

/* The process in the foreground of -d: wait for the id or for the end of the other. */
static int wait_detached(const struct run_args *args, int fd, pid_t pid)
{
    char id[64] = "";
    ssize_t len = 0;
    int status = 0;

    while (len < (ssize_t)sizeof(id) - 1) {
        ssize_t got = read(fd, id + len, sizeof(id) - 1 - (size_t)len);

        if (got <= 0) {
            break;
        }
        len += got;
    }
    id[len] = 0;
    if (id[0]) {
        (void)printf(args->json ? "{\"id\": \"%s\"}\n" : "%s\n", id);
        return fflush(stdout) == 0 ? 0 : STATUS_FAILED;
    }
    (void)waitpid(pid, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : STATUS_FAILED;
}

/* Fork for -d.  Returns -1 in the process that goes on with the VM, else the exit status. */
static int detach(struct run *run)
{
    int fds[2];
    pid_t pid;

    if (pipe2(fds, O_CLOEXEC) < 0) {
        log_error("pipe: %s", strerror(errno));
        return STATUS_FAILED;
    }
    pid = fork();
    if (pid < 0) {
        log_error("fork: %s", strerror(errno));
        return STATUS_FAILED;
    }
    if (pid > 0) {
        int status;

        (void)close(fds[1]);
        status = wait_detached(run->args, fds[0], pid);
        (void)close(fds[0]);
        return status;
    }
    (void)close(fds[0]);
    (void)setsid();
    run->notify_fd = fds[1];
    return -1;
}

static void args_fini(struct run_args *args)
{
    process_args_fini(&args->process);
    for (size_t i = 0; i < ARRAY_LEN(args->mount_paths); i++) {
        free(args->mount_paths[i]);
    }
}

static int parse(struct run_args *args, int argc, char **argv, struct err *err)
{
    int at = args_parse(g_options, ARRAY_LEN(g_options), argc, argv, args, err);

    if (at < 0 || args->help) {
        return at;
    }
    if (at >= argc) {
        return err_set(err, -EINVAL, "run: which command? `ec1 run -- COMMAND...`");
    }
    if (args->detach && args->process.want_tty) {
        return err_set(err, -EINVAL, "run: -d and -t do not go together");
    }
    args->spec.is_kept = args->detach && !args->remove;
    return at;
}

int cmd_run(int argc, char **argv)
{
    struct run_args args = {.spec = {.vcpu_count = 1, .mem_bytes = DEFAULT_MEM_BYTES}};
    struct run run = {.args = &args,
                      .notify_fd = -1,
                      .null_fd = -1,
                      .out_fd = STDOUT_FILENO,
                      .err_fd = STDERR_FILENO,
                      .start_ns = clock_mono_ns()};
    struct err err = {0};
    char text[256];
    AUTO_FREE char *cwd = NULL;
    int at = parse(&args, argc, argv, &err);
    int status = -1;

    if (at < 0) {
        status = cmd_fail(&err);
    } else if (args.help) {
        cmd_usage(argv[0]);
        args_print(g_options, ARRAY_LEN(g_options));
        status = 0;
    } else if (args.detach) {
        status = detach(&run);
    }
    if (status < 0) {
        run.argv = argv + at;
        command_text(run.argv, text, sizeof(text));
        args.spec.command_text = text;
        cwd = args.process.cwd ? strdup(args.process.cwd) : getcwd(NULL, 0);
        args.spec.workdir = cwd;
        status = run_vm(&run, &err);
        if (status < 0) {
            status = cmd_fail(&err);
        }
    }
    args_fini(&args);
    return status;
}
