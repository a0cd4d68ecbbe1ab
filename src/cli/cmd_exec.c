/* cmd_exec.c — `ec1 exec` and `ec1 stop`: reach into a VM of another process. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "cli/args.h"
#include "cli/cmd.h"
#include "cli/process.h"
#include "vmm/vm.h"

struct exec_args {
    struct process_args process; /* first: the shared setters */
    bool help;
};

static int set_help(void *owner, const char *text, struct err *err)
{
    (void)text;
    (void)err;
    ((struct exec_args *)owner)->help = true;
    return 0;
}

static const struct arg_option g_exec_options[] = {
    PROCESS_OPTIONS,
    {"help", 'h', NULL, "show this", set_help},
};

static int run_in(const struct instance_info *info, const struct process_args *process, char **argv,
                  struct err *err)
{
    char socket[INSTANCE_DIR_MAX + 16];
    struct exec_result result;
    struct process_io io = {
        .in = STDIN_FILENO, .out = STDOUT_FILENO, .err = STDERR_FILENO, .cancel_fd = -1};
    int r;

    if (!info->is_alive) {
        return err_set(err, -ESRCH, "VM '%s': does not run", info->name[0] ? info->name : info->id);
    }
    (void)snprintf(socket, sizeof(socket), "%s/vsock.sock", info->dir);
    r = process_run(socket, process, argv, &io, &result, err);
    if (r < 0) {
        return err_wrap(err, r, "VM '%s'", info->name[0] ? info->name : info->id);
    }
    if (result.message[0]) {
        log_error("%s", result.message);
    }
    return result.status;
}

int cmd_exec(int argc, char **argv)
{
    struct exec_args args = {0};
    struct instance_info info = {0};
    struct err err = {0};
    int at = args_parse(g_exec_options, ARRAY_LEN(g_exec_options), argc, argv, &args, &err);
    int command = at + 1;
    int status;

    if (at < 0) {
        status = at;
    } else if (args.help) {
        cmd_usage(argv[0]);
        args_print(g_exec_options, ARRAY_LEN(g_exec_options));
        status = 0;
    } else {
        if (command < argc && strcmp(argv[command], "--") == 0) {
            command++;
        }
        if (command >= argc) {
            status =
                err_set(&err, -EINVAL, "exec: which VM and command? `ec1 exec VM -- COMMAND...`");
        } else {
            status = instance_find(argv[at], &info, &err);
        }
        if (status == 0) {
            status = run_in(&info, &args.process, argv + command, &err);
        }
    }
    process_args_fini(&args.process);
    return status < 0 ? cmd_fail(&err) : status;
}

struct stop_args {
    int64_t timeout_ns;
    bool help;
};

static int set_stop_timeout(void *owner, const char *text, struct err *err)
{
    return str_to_duration("timeout", text, &((struct stop_args *)owner)->timeout_ns, err);
}

static int set_stop_help(void *owner, const char *text, struct err *err)
{
    (void)text;
    (void)err;
    ((struct stop_args *)owner)->help = true;
    return 0;
}

static const struct arg_option g_stop_options[] = {
    {"timeout", 0, "TIME", "how long the guest may take (default 30s)", set_stop_timeout},
    {"help", 'h', NULL, "show this", set_stop_help},
};

int cmd_stop(int argc, char **argv)
{
    struct stop_args args = {.timeout_ns = 30 * NS_PER_S};
    struct err err = {0};
    int at = args_parse(g_stop_options, ARRAY_LEN(g_stop_options), argc, argv, &args, &err);
    int status = 0;

    if (at < 0) {
        return cmd_fail(&err);
    }
    if (args.help) {
        cmd_usage(argv[0]);
        args_print(g_stop_options, ARRAY_LEN(g_stop_options));
        return 0;
    }
    if (at >= argc) {
        log_error("stop: which VM? `ec1 ps` lists them");
        return STATUS_FAILED;
    }
    for (; at < argc; at++) {
        struct instance_info info = {0};

        err = (struct err){0};
        if (instance_find(argv[at], &info, &err) < 0 ||
            (info.is_alive && vm_shutdown_other(&info, args.timeout_ns, &err) < 0)) {
            status = cmd_fail(&err);
        }
    }
    return status;
}
