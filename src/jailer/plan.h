/* plan.h — what the jailer is asked for, checked: nothing on the host has changed yet. */
#pragma once

#include <limits.h>
#include <sys/resource.h>

#include "jailer/options.h"

#define JAILER_ID_MAX 64

/* One line of --cgroup. */
struct jailer_cgroup {
    char controller[64]; /* "cpuset" */
    char file[128];      /* "cpuset.cpus" */
    const char *value;
};

struct jailer_plan {
    const char *id;
    char exec_file[PATH_MAX]; /* canonical */
    const char *exec_name;    /* its last part */
    uid_t uid;
    gid_t gid;
    char root[PATH_MAX]; /* of the jail */
    const char *netns;   /* NULL: none */
    bool daemonize, new_pid_ns;
    unsigned cgroup_version;
    const char *parent_cgroup;
    bool has_parent_cgroup; /* somebody named it */
    struct jailer_cgroup cgroups[JAILER_LIST_MAX];
    unsigned cgroup_count;
    rlim_t file_size; /* RLIM_INFINITY: as it is */
    rlim_t no_file;
    char **args; /* of the program; up to a NULL */
};

/* 0, or a negative errno with a sentence of the interface. */
int jailer_plan(const struct jailer_options *options, struct jailer_plan *ret_plan,
                struct err *err);
