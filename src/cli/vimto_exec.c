/* vimto_exec.c — `vimto exec`: one command in a VM that looks like the host. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/bits.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "cli/run_vm.h"
#include "cli/vimto.h"

/* A run, as its hooks see it. */
struct vimto_run {
    struct vimto_config config;
    struct vimto_shares shares;
    char *cwd;
    struct vm_spec spec;
    struct process_args process;
    struct process_args root; /* for setup and teardown */
};

/* The `go` that started us: killed, it leaves its children behind, of which nobody would take the
 * results.  0: somebody else did. */
static pid_t find_go(void)
{
    AUTO_CALL(buf_fini) struct buf name = {0};
    char path[64];
    pid_t parent = getppid();

    (void)snprintf(path, sizeof(path), "/proc/%d/comm", (int)parent);
    if (buf_read_file(&name, path, 64) < 0 || name.len == 0) {
        return 0;
    }
    name.data[name.len - 1] = 0; /* the end of its line */
    return vimto_is_go(buf_str(&name)) ? parent : 0;
}

/* As Go's strconv.ParseBool() reads a truth value. */
static int parse_bool(const char *name, bool *ret_value, struct err *err)
{
    static const char *const yes[] = {"1", "t", "T", "TRUE", "true", "True"};
    static const char *const no[] = {"0", "f", "F", "FALSE", "false", "False"};
    const char *text = getenv(name);

    *ret_value = false;
    if (!text || !text[0]) {
        return 0;
    }
    for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
        if (strcmp(text, yes[i]) == 0) {
            *ret_value = true;
            return 0;
        }
        if (strcmp(text, no[i]) == 0) {
            return 0;
        }
    }
    return err_set(err, -EINVAL, "%s '%s': must be true or false", name, text);
}

static int choose_engine(struct vm_spec *spec, struct err *err)
{
    bool is_disabled;
    int r = parse_bool("VIMTO_DISABLE_KVM", &is_disabled, err);

    if (r == 0 && is_disabled) {
        spec->engine = ENGINE_SOFT;
        log_warn("KVM disabled by VIMTO_DISABLE_KVM: the software engine is slower");
    }
    return r;
}

/* A command of .vimto.toml, as root; its output is not the command's. */
static int run_hook(struct run_vm *run, const char *kind, char **argv)
{
    struct vimto_run *vimto = run->owner;
    struct process_io io = {.in = -1, .out = STDERR_FILENO, .err = STDERR_FILENO};
    int status = run_vm_process(run, &vimto->root, argv, &io);

    if (status != 0) {
        log_error("%s command '%s' failed: exit status %d", kind, argv[0], status);
    }
    return status;
}

/* The kernel refuses a file system that is mounted on the same place already, and configurations
 * that were written for upstream mount this one, which its VMs lack. */
static int make_room(struct run_vm *run, const struct vimto_commands *setup)
{
    static char umount[] = "umount";
    static char target[] = "/sys/fs/cgroup";
    char *argv[] = {umount, target, NULL};
    bool is_asked = false;

    for (size_t i = 0; i < setup->count; i++) {
        bool is_mount = false;

        for (char **word = setup->list[i]; *word; word++) {
            is_mount |= strstr(*word, "mount") != NULL;
            is_asked |= is_mount && strstr(*word, target) != NULL;
        }
    }
    return is_asked ? run_hook(run, "setup", argv) : 0;
}

static int run_setup(struct run_vm *run, struct err *err)
{
    const struct vimto_commands *setup = &((struct vimto_run *)run->owner)->config.setup;

    (void)err;
    if (make_room(run, setup) != 0) {
        return VIMTO_FAILED;
    }
    for (size_t i = 0; i < setup->count; i++) {
        if (run_hook(run, "setup", setup->list[i]) != 0) {
            return VIMTO_FAILED;
        }
    }
    return 0;
}

static void tell_core(const struct run_vm *run)
{
    const struct vimto_run *vimto = run->owner;
    const char *name = NULL;
    struct err err = {0};

    if (vimto_keep_binary(vimto->cwd, run->argv[0], &name, &err) < 0) {
        log_warn("%s", err_text(&err));
    }
    log_warn(name ? "core dumped; the test binary is kept as '%s'" : "core dumped", name);
}

/* All of them: one that fails does not keep the others from cleaning up. */
static int run_teardown(struct run_vm *run, int status)
{
    const struct vimto_commands *teardown = &((struct vimto_run *)run->owner)->config.teardown;

    if (run->has_core) {
        tell_core(run);
    }
    for (size_t i = 0; i < teardown->count && vm_end(run->vm) == MACHINE_RUNS; i++) {
        if (run_hook(run, "teardown", teardown->list[i]) != 0 && status == 0) {
            status = VIMTO_FAILED;
        }
    }
    return status;
}

static void fill_spec(struct vimto_run *vimto, const struct vimto_flags *flags)
{
    struct vm_spec *spec = &vimto->spec;

    spec->vcpu_count = vimto->config.vcpu_count;
    spec->mem_bytes = vimto->config.mem_bytes;
    spec->kernel = vimto->config.kernel;
    spec->overlay = true;
    spec->has_tracing = true; /* it is for those who work on kernels and eBPF programs */
    spec->core_dir = vimto->cwd;
    spec->show_console = flags->show_console;
    spec->gdb = flags->gdb;
    spec->hostname = "vimto";
    for (unsigned i = 0; i < vimto->shares.count; i++) {
        spec->mounts[i] =
            (struct vm_mount){.host = vimto->shares.paths[i], .guest = vimto->shares.paths[i]};
    }
    spec->mount_count = vimto->shares.count;
    vimto->process.user = vimto->config.user;
    vimto->root.user = "0:0";
}

static int prepare(struct vimto_run *vimto, const struct vimto_flags *flags, char **argv,
                   struct err *err)
{
    const char *cwd = vimto->cwd = getcwd(NULL, 0);
    AUTO_FREE char *root = cwd ? vimto_find_root(cwd) : NULL;
    int r;

    if (!cwd) {
        return err_sys(err, "find the working directory");
    }
    r = vimto_config_load(cwd, root, flags, &vimto->config, err);
    if (r == 0) {
        r = vimto_shares_find(cwd, root, argv, &vimto->shares, err);
    }
    if (r == 0) {
        r = choose_engine(&vimto->spec, err);
    }
    if (r == 0) {
        fill_spec(vimto, flags);
    }
    return r;
}

int vimto_exec(const struct vimto_flags *flags, char **argv)
{
    struct vimto_run vimto = {.config = {.kernel = NULL}};
    struct run_vm run = {.spec = &vimto.spec,
                         .process = &vimto.process,
                         .argv = argv,
                         .io = {.in = STDIN_FILENO, .out = STDOUT_FILENO, .err = STDERR_FILENO},
                         .failed_status = VIMTO_FAILED,
                         .is_verbose = flags->is_verbose,
                         .parent = find_go(),
                         .before = run_setup,
                         .after = run_teardown,
                         .owner = &vimto,
                         .start_ns = clock_mono_ns(),
                         .ports = &flags->ports};
    struct err err = {0};
    int status = prepare(&vimto, flags, argv, &err);

    if (status < 0) {
        log_error("%s", err_text(&err));
        status = VIMTO_FAILED;
    } else {
        (void)unsetenv("TMPDIR"); /* the host's folder; the VM has a /tmp of its own */
        status = run_vm(&run);
    }
    vimto_shares_fini(&vimto.shares);
    vimto_config_fini(&vimto.config);
    free(vimto.cwd);
    return status;
}
