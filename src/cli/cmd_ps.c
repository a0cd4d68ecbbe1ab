/* cmd_ps.c — `ec1 ps`, `rm`, `kill`: the books of VMs. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/bits.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "cli/args.h"
#include "cli/cmd.h"
#include "vmm/instance.h"

struct ps_args {
    bool all;
    bool json;
    bool help;
};

static int set_all(void *owner, const char *text, struct err *err)
{
    (void)text;
    (void)err;
    ((struct ps_args *)owner)->all = true;
    return 0;
}

static int set_json(void *owner, const char *text, struct err *err)
{
    (void)text;
    (void)err;
    ((struct ps_args *)owner)->json = true;
    return 0;
}

static int set_help(void *owner, const char *text, struct err *err)
{
    (void)text;
    (void)err;
    ((struct ps_args *)owner)->help = true;
    return 0;
}

static const struct arg_option g_ps_options[] = {
    {"all", 'a', NULL, "also VMs that ended", set_all},
    {"json", 0, NULL, "as a JSON array", set_json},
    {"help", 'h', NULL, "show this", set_help},
};

static const char *status_of(const struct instance_info *info)
{
    if (!info->is_alive) {
        return info->end[0] ? info->end : "died";
    }
    return info->is_ready ? "running" : "starting";
}

static json_t *to_json(const struct instance_info *info)
{
    json_t *row = json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:I, s:I}", "id", info->id, "name", info->name,
        "status", status_of(info), "engine", info->engine, "kernel", info->kernel, "command",
        info->command, "pid", (int)info->pid, "vcpus", (int)info->vcpu_count, "memory_bytes",
        (json_int_t)info->mem_bytes, "started_ns", (json_int_t)info->started_wall_ns);

    if (row && !info->is_alive && info->exit_status >= 0) {
        (void)json_object_set_new(row, "exit_status", json_integer(info->exit_status));
    }
    return row;
}

/* "5s", "3m", "2h", "4d". */
static void age(int64_t since_ns, char out[static 16])
{
    int64_t s = (clock_wall_ns() - since_ns) / NS_PER_S;

    if (s < 0) {
        s = 0;
    }
    if (s < 120) {
        (void)snprintf(out, 16, "%" PRId64 "s", s);
    } else if (s < 7200) {
        (void)snprintf(out, 16, "%" PRId64 "m", s / 60);
    } else if (s < 172800) {
        (void)snprintf(out, 16, "%" PRId64 "h", s / 3600);
    } else {
        (void)snprintf(out, 16, "%" PRId64 "d", s / 86400);
    }
}

static void print_row(const struct instance_info *info)
{
    char mem[32];
    char since[16];
    char status[40];

    age(info->started_wall_ns, since);
    if (!info->is_alive && info->exit_status >= 0) {
        (void)snprintf(status, sizeof(status), "%s (%d)", status_of(info), info->exit_status);
    } else {
        (void)snprintf(status, sizeof(status), "%s", status_of(info));
    }
    (void)printf("%-12s  %-16s  %-14s  %-6s  %4u  %8s  %6s  %s\n", info->id,
                 info->name[0] ? info->name : "-", status, info->engine, info->vcpu_count,
                 str_from_size(info->mem_bytes, mem), since, info->command);
}

int cmd_ps(int argc, char **argv)
{
    struct ps_args args = {0};
    struct err err = {0};
    AUTO_FREE struct instance_info *list = NULL;
    json_t *rows;
    int r = args_parse(g_ps_options, ARRAY_LEN(g_ps_options), argc, argv, &args, &err);
    int count;

    if (r < 0) {
        return cmd_fail(&err);
    }
    if (args.help) {
        cmd_usage(argv[0]);
        args_print(g_ps_options, ARRAY_LEN(g_ps_options));
        return 0;
    }
    count = instance_list(&list, &err);
    if (count < 0) {
        return cmd_fail(&err);
    }
    rows = json_array();
    if (!args.json) {
        (void)printf("%-12s  %-16s  %-14s  %-6s  %4s  %8s  %6s  %s\n", "ID", "NAME", "STATUS",
                     "ENGINE", "CPUS", "MEMORY", "AGE", "COMMAND");
    }
    for (int i = 0; i < count; i++) {
        if (!list[i].is_alive && !args.all) {
            continue;
        }
        if (args.json) {
            (void)json_array_append_new(rows, to_json(&list[i]));
        } else {
            print_row(&list[i]);
        }
    }
    if (args.json) {
        (void)json_dumpf(rows, stdout, JSON_INDENT(2));
        (void)putchar('\n');
    }
    json_decref(rows);
    return 0;
}

/* Kill the monitor and wait until its lock is gone. */
static int kill_monitor(const struct instance_info *info, struct err *err)
{
    int fd = (int)syscall(SYS_pidfd_open, info->pid, 0);
    struct instance_info now;

    if (fd < 0) {
        return err_sys(err, "VM '%s': monitor %d", info->id, (int)info->pid);
    }
    /* The lock was held a moment ago by the process with this number; ask again with the number
     * pinned. */
    if (instance_find(info->id, &now, NULL) == 0 && now.is_alive && now.pid == info->pid) {
        (void)syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
    }
    (void)close(fd);
    for (int i = 0; i < 500; i++) {
        if (instance_find(info->id, &now, NULL) < 0 || !now.is_alive) {
            return 0;
        }
        (void)usleep(10000);
    }
    return err_set(err, -ETIMEDOUT, "VM '%s': monitor %d does not end", info->id, (int)info->pid);
}

/* Apply `act` to each VM named; the first failure decides the status, all are tried. */
static int for_each(int argc, char **argv, int at,
                    int (*act)(const struct instance_info *, struct err *))
{
    int status = 0;

    if (at >= argc) {
        log_error("%s: which VM? `ec1 ps` lists them", argv[0]);
        return STATUS_FAILED;
    }
    for (int i = at; i < argc; i++) {
        struct instance_info info = {0};
        struct err err = {0};

        if (instance_find(argv[i], &info, &err) < 0 || act(&info, &err) < 0) {
            status = cmd_fail(&err);
        }
    }
    return status;
}

static int act_kill(const struct instance_info *info, struct err *err)
{
    if (!info->is_alive) {
        return err_set(err, -ESRCH, "VM '%s': does not run", info->id);
    }
    return kill_monitor(info, err);
}

int cmd_kill(int argc, char **argv)
{
    struct ps_args args = {0};
    struct err err = {0};
    int at = args_parse(&g_ps_options[2], 1, argc, argv, &args, &err);

    if (at < 0) {
        return cmd_fail(&err);
    }
    if (args.help) {
        cmd_usage(argv[0]);
        return 0;
    }
    return for_each(argc, argv, at, act_kill);
}

static int act_rm_force(const struct instance_info *info, struct err *err)
{
    struct instance_info now;
    int r = info->is_alive ? kill_monitor(info, err) : 0;

    if (r < 0 || instance_find(info->id, &now, NULL) < 0) {
        return r; /* a VM that was not to be kept is gone with its monitor */
    }
    return instance_remove(info, err);
}

static const struct arg_option g_rm_options[] = {
    {"force", 'f', NULL, "kill it first if it runs", set_all},
    {"help", 'h', NULL, "show this", set_help},
};

int cmd_rm(int argc, char **argv)
{
    struct ps_args args = {0};
    struct err err = {0};
    int at = args_parse(g_rm_options, ARRAY_LEN(g_rm_options), argc, argv, &args, &err);

    if (at < 0) {
        return cmd_fail(&err);
    }
    if (args.help) {
        cmd_usage(argv[0]);
        args_print(g_rm_options, ARRAY_LEN(g_rm_options));
        return 0;
    }
    return for_each(argc, argv, at, args.all ? act_rm_force : instance_remove);
}
