/* jailer.c — see jailer.h; the steps, in their order. */
#include "jailer/jailer.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/os_error.h"
#include "base/str.h"
#include "jailer/cgroup.h"
#include "jailer/jail.h"
#include "jailer/libraries.h"
#include "jailer/plan.h"

#define PROC_FILE_MAX (1u << 20)

struct jailer {
    struct jailer_plan plan;
    struct jailer_libraries libraries;
    int64_t start_us;       /* monotonic clock */
    int64_t parents_cpu_us; /* of processes that this one is a child of */
    int null_fd;            /* -1: not daemonized */
    int userfaultfd_minor;  /* -1: none */
};

static int fail(struct err *err, const char *what)
{
    char text[OS_ERROR_MAX];
    int code = errno ? -errno : -EIO;

    return err_set(err, code, "%s: %s", what, os_error(code, text));
}

static int64_t cpu_us(void)
{
    return clock_ns(CLOCK_PROCESS_CPUTIME_ID) / NS_PER_US;
}

/* --- on the host --- */

static int join_netns(const char *path, struct err *err)
{
    AUTO_CLOSE int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;

    if (!path) {
        return 0;
    }
    return fd < 0 || setns(fd, CLONE_NEWNET) < 0
               ? fail(err, "Failed to join network namespace: netns")
               : 0;
}

static int set_limit(int resource, rlim_t value, struct err *err)
{
    const struct rlimit limit = {.rlim_cur = value, .rlim_max = value};

    return setrlimit((__rlimit_resource_t)resource, &limit) < 0
               ? fail(err, "Failed to set limit for resource")
               : 0;
}

static int set_limits(const struct jailer_plan *plan, struct err *err)
{
    int r = set_limit(RLIMIT_NOFILE, plan->no_file, err);

    return r < 0 || plan->file_size == RLIM_INFINITY
               ? r
               : set_limit(RLIMIT_FSIZE, plan->file_size, err);
}

static int enter_cgroups(const struct jailer_plan *plan, struct err *err)
{
    AUTO_CALL(buf_fini) struct buf mounts = {0};
    int r = buf_read_file(&mounts, "/proc/mounts", PROC_FILE_MAX);

    return r < 0 ? err_set(err, r, "Failed to open /proc/mounts: %s", strerror(-r))
                 : jailer_cgroups(plan, buf_str(&mounts), err);
}

/* " 257 userfaultfd" is a line of it, where the host has the device. */
static int find_userfaultfd(void)
{
    AUTO_CALL(buf_fini) struct buf misc = {0};
    const char *line;

    if (buf_read_file(&misc, "/proc/misc", PROC_FILE_MAX) < 0) {
        return -1;
    }
    for (line = buf_str(&misc); *line; line += strcspn(line, "\n"), line += !!*line) {
        char *name = NULL;
        long number = strtol(line, &name, 10);

        if (str_has_prefix(name, " userfaultfd\n") && number >= 0 && number <= INT_MAX) {
            return (int)number;
        }
    }
    return -1;
}

static int prepare(struct jailer *j, struct err *err)
{
    int r = jail_fill(&j->plan, err);

    r = r < 0 ? r : jailer_libraries_open(j->plan.exec_file, &j->libraries, err);
    r = r < 0 ? r : join_netns(j->plan.netns, err);
    r = r < 0 ? r : enter_cgroups(&j->plan, err);
    j->userfaultfd_minor = find_userfaultfd();
    if (r == 0 && j->plan.daemonize) {
        j->null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        r = j->null_fd < 0 ? fail(err, "Failed to open /dev/null") : 0;
    }
    return r;
}

/* --- in the jail --- */

/* The process goes on as its own child; the parent is done. */
static int become_child(struct jailer *j, struct err *err)
{
    pid_t pid;

    j->parents_cpu_us += cpu_us();
    pid = fork();
    if (pid > 0) {
        _exit(0);
    }
    return pid < 0 ? fail(err, "Failed to fork") : 0;
}

static int daemonize(struct jailer *j, struct err *err)
{
    int r = become_child(j, err);

    if (r == 0 && setsid() < 0) {
        r = fail(err, "Failed to start a session");
    }
    r = r < 0 ? r : become_child(j, err);
    for (int fd = 0; r == 0 && fd <= 2; fd++) {
        r = dup2(j->null_fd, fd) < 0 ? fail(err, "Failed to redirect to /dev/null") : 0;
    }
    return r;
}

static int write_pid(const struct jailer_plan *plan, pid_t pid, struct err *err)
{
    char path[PATH_MAX];
    AUTO_CLOSE int fd = -1;

    (void)snprintf(path, sizeof(path), "/%s.pid", plan->exec_name);
    (void)unlink(path); /* of an earlier inmate */
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    return fd < 0 || dprintf(fd, "%d", (int)pid) < 0 ? fail(err, "Failed to write the pid file")
                                                     : 0;
}

/* The child is the first process of a PID namespace; the parent knows its number outside, and the
 * child goes on when it is written. */
static int enter_pid_ns(struct jailer *j, struct err *err)
{
    int ends[2];
    char none;
    long pid;

    if (pipe2(ends, O_CLOEXEC) < 0) {
        return fail(err, "Failed to make a pipe");
    }
    j->parents_cpu_us += cpu_us();
    pid = syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, NULL, NULL, NULL, NULL);
    if (pid < 0) {
        return fail(err, "Failed to clone into a new PID namespace");
    }
    if (pid > 0) {
        int r = write_pid(&j->plan, (pid_t)pid, err);

        if (r < 0) {
            (void)fprintf(stderr, "%s\n", err_text(err));
            (void)kill((pid_t)pid, SIGKILL);
        }
        _exit(r < 0); /* which closes its end of the pipe */
    }
    (void)close(ends[1]);
    (void)!read(ends[0], &none, 1);
    (void)close(ends[0]);
    return 0;
}

static int drop_privileges(const struct jailer_plan *plan, struct err *err)
{
    if (setgroups(0, NULL) < 0 || setresgid(plan->gid, plan->gid, plan->gid) < 0 ||
        setresuid(plan->uid, plan->uid, plan->uid) < 0) {
        return fail(err, "Failed to become the user");
    }
    return 0;
}

/* Returns only if it fails. */
static int execute(const struct jailer *j, struct err *err)
{
    char program[PATH_MAX], start[24], cpu[24], parents[24];
    const char *ours[] = {program,    "--id",
                          j->plan.id, "--start-time-us",
                          start,      "--start-time-cpu-us",
                          cpu,        "--parent-cpu-time-us",
                          parents};
    unsigned count = sizeof(ours) / sizeof(ours[0]), given = 0;
    AUTO_FREE char **argv = NULL;
    char *no_environment[] = {NULL};
    int64_t now_us = cpu_us();

    while (j->plan.args[given]) {
        given++;
    }
    argv = calloc(count + given + 1, sizeof(*argv));
    if (!argv) {
        return err_set(err, -ENOMEM, "out of memory");
    }
    (void)snprintf(program, sizeof(program), "/%s", j->plan.exec_name);
    (void)snprintf(start, sizeof(start), "%" PRId64, j->start_us);
    (void)snprintf(cpu, sizeof(cpu), "%" PRId64, now_us);
    (void)snprintf(parents, sizeof(parents), "%" PRId64, j->parents_cpu_us + now_us);
    memcpy(argv, ours, sizeof(ours));
    memcpy(argv + count, j->plan.args, given * sizeof(*argv));
    (void)execve(program, argv, no_environment);
    return fail(err, "Failed to exec into Firecracker");
}

static int run(struct jailer *j, struct err *err)
{
    int r = prepare(j, err);

    r = r < 0 ? r : jail_enter(&j->plan, err);
    r = r < 0 ? r : jailer_libraries_write(&j->libraries, err);
    r = r < 0 ? r : jail_furnish(&j->plan, j->userfaultfd_minor, err);
    r = r < 0 ? r : set_limits(&j->plan, err);
    if (r == 0 && j->plan.daemonize) {
        r = daemonize(j, err);
    }
    if (r == 0) {
        r = j->plan.new_pid_ns ? enter_pid_ns(j, err) : write_pid(&j->plan, getpid(), err);
    }
    r = r < 0 ? r : drop_privileges(&j->plan, err);
    return r < 0 ? r : execute(j, err);
}

int jailer_main(int argc, char **argv, const char *version)
{
    struct jailer *j = calloc(1, sizeof(*j));
    struct jailer_options options;
    struct err err = {0};
    int r;

    if (!j || close_range(3, ~0u, CLOSE_RANGE_UNSHARE) < 0 || clearenv() != 0) {
        (void)fprintf(stderr, "Failed to start in order: %s\n", strerror(errno));
        free(j);
        return 1;
    }
    j->start_us = clock_mono_ns() / NS_PER_US;
    j->null_fd = -1;
    r = jailer_options_parse(argc, argv, &options, &err);
    if (r < 0) {
        (void)fprintf(stderr, "Failed to parse arguments: %s\n", err_text(&err));
    } else if (options.wants_help || options.wants_version) {
        (void)printf("Jailer v%s\n", version);
        if (options.wants_help) {
            jailer_options_help();
        }
    } else {
        r = jailer_plan(&options, &j->plan, &err);
        r = r < 0 ? r : run(j, &err);
        (void)fprintf(stderr, "%s\n", err_text(&err));
    }
    jailer_libraries_fini(&j->libraries);
    free(j);
    return r < 0;
}
