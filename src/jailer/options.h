/* options.h — the jailer's command line: `--name value`, and what follows `--`. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

#define JAILER_LIST_MAX 64 /* of --cgroup and of --resource-limit */

struct jailer_list {
    const char *items[JAILER_LIST_MAX];
    unsigned count;
};

struct jailer_options {
    const char *id, *exec_file, *uid, *gid;             /* required */
    const char *chroot_base;                            /* default: /srv/jailer */
    const char *netns, *cgroup_version, *parent_cgroup; /* NULL: not given */
    struct jailer_list cgroups, limits;
    bool daemonize, new_pid_ns, wants_help, wants_version;
    char **rest; /* behind "--", up to its NULL */
};

/* The strings stay argv's.  -EINVAL or -E2BIG with a sentence of the interface. */
int jailer_options_parse(int argc, char **argv, struct jailer_options *ret_options,
                         struct err *err);
void jailer_options_help(void);
