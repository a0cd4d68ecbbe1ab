/* cmd_run.c — `ec1 run`: a VM for one command. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/bits.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "cli/args.h"
#include "cli/cmd.h"
#include "cli/process_args.h"
#include "cli/run_vm.h"
#include "vmm/vm.h"

#define DEFAULT_MEM_BYTES (512 * MIB)

struct run_args {
    struct process_args process; /* first: the shared setters */
    struct vm_spec spec;
    struct forward_ports ports;
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

static int set_gdb(void *owner, const char *text, struct err *err)
{
    (void)err;
    ((struct run_args *)owner)->spec.gdb = text ? text : "";
    return 0;
}

static int set_boot_timeout(void *owner, const char *text, struct err *err)
{
    return str_to_duration("boot-timeout", text, &((struct run_args *)owner)->spec.boot_timeout_ns,
                           err);
}

static int set_publish(void *owner, const char *text, struct err *err)
{
    return forward_ports_add(&((struct run_args *)owner)->ports, text, err);
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
    {"publish", 'p', "HOST:GUEST",
     "lead a TCP port of this host (127.0.0.1) to one of the VM's loopback", set_publish},
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
    {"gdb", 0, "[ADDRESS]",
     "wait for gdb before the first instruction (default localhost:1234; unix:PATH)", set_gdb},
    {"boot-timeout", 0, "TIME", "give the guest this long to boot", set_boot_timeout},
    {"console", 0, NULL, "show the guest's console on stderr", set_console},
    {"engine-stats", 0, NULL, "print on stderr what the engine counted", set_engine_stats},
    {"quiet", 'q', NULL, "no warnings", set_quiet},
    {"verbose", 0, NULL, "say what is done, and how long it took", set_verbose},
    {"json", 0, NULL, "with -d: print the VM as JSON", set_json},
    {"help", 'h', NULL, "show this", set_help},
};

/* A running `ec1 run`. */
struct run {
    struct run_vm vm;
    struct run_args *args;
    int notify_fd; /* -d: the foreground process waits here for the id; -1: none, or it has it */
    int null_fd;   /* -d: /dev/null */
};

/* -d: the command's output goes to files. */
static int open_logs(struct run_vm *vm, struct err *err)
{
    struct run *run = vm->owner;
    const struct instance_info *info = vm_info(vm->vm);
    char path[INSTANCE_DIR_MAX + 16];

    run->null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    (void)snprintf(path, sizeof(path), "%s/out.log", info->dir);
    vm->io.out = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    (void)snprintf(path, sizeof(path), "%s/err.log", info->dir);
    vm->io.err = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (vm->io.out < 0 || vm->io.err < 0 || run->null_fd < 0) {
        return err_sys(err, "create '%s'", path);
    }
    return 0;
}

/* -d: tell the process in the foreground that the command runs; it goes away then. */
static void report_detached(void *arg)
{
    struct run *run = arg;

    (void)dprintf(run->notify_fd, "%s", vm_info(run->vm.vm)->id);
    (void)close(take_fd(&run->notify_fd));
    /* From here on what we have to say goes to the VM's own log. */
    (void)dup2(run->null_fd, STDIN_FILENO);
    (void)dup2(run->null_fd, STDOUT_FILENO);
    (void)dup2(run->vm.io.err, STDERR_FILENO);
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

/* Returns the exit status; in the foreground of -d that of the start. */
static int run_command(struct run_args *args, char **argv)
{
    struct run run = {.vm = {.spec = &args->spec,
                             .process = &args->process,
                             .argv = argv,
                             .io = {.in = STDIN_FILENO, .out = STDOUT_FILENO, .err = STDERR_FILENO},
                             .failed_status = STATUS_FAILED,
                             .timeout_ns = args->timeout_ns,
                             .is_quiet = args->quiet,
                             .is_verbose = args->verbose,
                             .start_ns = clock_mono_ns(),
                             .ports = &args->ports,
                             .owner = &run},
                      .args = args,
                      .notify_fd = -1,
                      .null_fd = -1};

    if (args->detach) {
        int status = detach(&run);

        if (status >= 0) {
            return status;
        }
        run.vm.io.in = -1;
        run.vm.io.on_started = report_detached;
        run.vm.io.started_arg = &run;
        run.vm.before = open_logs;
    }
    return run_vm(&run.vm);
}

int cmd_run(int argc, char **argv)
{
    struct run_args args = {.spec = {.vcpu_count = 1, .mem_bytes = DEFAULT_MEM_BYTES}};
    struct err err = {0};
    int at = parse(&args, argc, argv, &err);
    int status = 0;

    if (at < 0) {
        status = cmd_fail(&err);
    } else if (args.help) {
        cmd_usage(argv[0]);
        args_print(g_options, ARRAY_LEN(g_options));
    } else {
        status = run_command(&args, argv + at);
    }
    args_fini(&args);
    return status;
}
