/* cmd_logs.c — `ec1 logs`: what a detached command wrote, or the VM's console; also after its end.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/bits.h"
#include "base/log.h"
#include "cli/args.h"
#include "cli/cmd.h"
#include "vmm/instance.h"

struct logs_args {
    bool boot;
    bool follow;
    bool help;
};

static int set_boot(void *owner, const char *text, struct err *err)
{
    (void)text;
    (void)err;
    ((struct logs_args *)owner)->boot = true;
    return 0;
}

static int set_follow(void *owner, const char *text, struct err *err)
{
    (void)text;
    (void)err;
    ((struct logs_args *)owner)->follow = true;
    return 0;
}

static int set_help(void *owner, const char *text, struct err *err)
{
    (void)text;
    (void)err;
    ((struct logs_args *)owner)->help = true;
    return 0;
}

static const struct arg_option g_options[] = {
    {"boot", 'b', NULL, "the VM's console in place of the command's output", set_boot},
    {"follow", 'f', NULL, "go on until the VM ends", set_follow},
    {"help", 'h', NULL, "show this", set_help},
};

/* A log file and where it goes. */
struct stream {
    int from;
    int to;
};

static int open_stream(const struct instance_info *info, const char *name)
{
    char path[INSTANCE_DIR_MAX + 16];

    (void)snprintf(path, sizeof(path), "%s/%s", info->dir, name);
    return open(path, O_RDONLY | O_CLOEXEC);
}

/* Copy what is there; false when the reader went away. */
static bool copy(const struct stream *s)
{
    char data[2048]; /* two instance_info share this frame when the compiler inlines */

    for (;;) {
        ssize_t got = s->from < 0 ? 0 : read(s->from, data, sizeof(data));
        ssize_t done = 0;

        if (got <= 0) {
            return true;
        }
        while (done < got) {
            ssize_t put = write(s->to, data + done, (size_t)(got - done));

            if (put < 0 && errno != EINTR) {
                return false;
            }
            done += put > 0 ? put : 0;
        }
    }
}

static void show(const struct instance_info *info, const struct logs_args *args)
{
    struct stream streams[2] = {{.from = -1, .to = STDOUT_FILENO},
                                {.from = -1, .to = STDERR_FILENO}};
    bool go_on = true;

    if (args->boot) {
        streams[0].from = open_stream(info, "console.log");
    } else {
        streams[0].from = open_stream(info, "out.log");
        streams[1].from = open_stream(info, "err.log");
    }
    while (go_on) {
        struct instance_info now;
        /* asked before the copy, so that nothing written before the end is missed */
        bool alive = instance_find(info->id, &now, NULL) == 0 && now.is_alive;

        go_on = copy(&streams[0]) && copy(&streams[1]) && args->follow && alive;
        if (go_on) {
            (void)usleep(100000);
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(streams); i++) {
        if (streams[i].from >= 0) {
            (void)close(streams[i].from);
        }
    }
}

int cmd_logs(int argc, char **argv)
{
    struct logs_args args = {0};
    struct instance_info info = {0};
    struct err err = {0};
    int at = args_parse(g_options, ARRAY_LEN(g_options), argc, argv, &args, &err);

    if (at < 0) {
        return cmd_fail(&err);
    }
    if (args.help) {
        cmd_usage(argv[0]);
        args_print(g_options, ARRAY_LEN(g_options));
        return 0;
    }
    if (at + 1 != argc) {
        log_error("logs: one VM, please; `ec1 ps -a` lists them");
        return STATUS_FAILED;
    }
    if (instance_find(argv[at], &info, &err) < 0) {
        return cmd_fail(&err);
    }
    show(&info, &args);
    return 0;
}
