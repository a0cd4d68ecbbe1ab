/* cgroup.c — see cgroup.h.
 *
 * Version 1: each controller has a tree of its own, where a new directory of cpuset is of no use
 * before it has CPUs and memory nodes, which it gets from the one above.  Version 2: one tree; a
 * directory has the controllers that the one above passes on in cgroup.subtree_control.
 */
#include "jailer/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/os_error.h"

#define VALUE_MAX 1024
#define DIR_MAX   1024 /* of a cgroup's path */

static int write_text(const char *dir, const char *file, const char *text, struct err *err)
{
    char path[DIR_MAX + 256], why[OS_ERROR_MAX];
    AUTO_CLOSE int fd = -1;

    (void)snprintf(path, sizeof(path), "%s/%s", dir, file);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, strlen(text)) < 0) {
        int code = -errno;

        return err_set(err, code, "Failed to write %s to %s: %s", text, path, os_error(code, why));
    }
    return 0;
}

/* Without the end of the line; "" also when it cannot be read. */
static void read_text(const char *dir, const char *file, char ret_text[static VALUE_MAX])
{
    char path[DIR_MAX + 256];
    AUTO_CLOSE int fd = -1;
    ssize_t got;

    (void)snprintf(path, sizeof(path), "%s/%s", dir, file);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    got = fd < 0 ? 0 : read(fd, ret_text, VALUE_MAX - 1);
    ret_text[got > 0 ? got : 0] = '\0';
    ret_text[strcspn(ret_text, "\n")] = '\0';
}

/* Is `word` among those of `text`, between any of `separators`? */
static bool has_word(const char *text, const char *word, const char *separators)
{
    while (*text) {
        size_t len = strcspn(text, separators);

        if (len == strlen(word) && memcmp(text, word, len) == 0) {
            return true;
        }
        text += len + (text[len] != '\0');
    }
    return false;
}

/* Where the tree of `controller` is mounted; NULL: that of version 2. */
static bool find_mount(const char *mounts, const char *controller, char ret_path[static DIR_MAX])
{
    for (const char *line = mounts; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        char path[DIR_MAX], type[32], flags[1024];

        if (sscanf(line, "%*s %1023s %31s %1023s", path, type, flags) != 3) {
            continue;
        }
        if (controller ? strcmp(type, "cgroup") == 0 && has_word(flags, controller, ",")
                       : strcmp(type, "cgroup2") == 0) {
            memcpy(ret_path, path, sizeof(path));
            return true;
        }
    }
    return false;
}

static int write_pid(const char *dir, const char *file, struct err *err)
{
    char pid[16];

    (void)snprintf(pid, sizeof(pid), "%d", (int)getpid());
    return write_text(dir, file, pid, err);
}

/* For each directory from `mount` down to mount/below: `fn` of it, then the next is made. */
struct walk {
    int (*fn)(const char *dir, const char *above, const char *controller, struct err *err);
    const char *controller;
};

static int walk_down(const char *mount, const char *below, const struct walk *walk,
                     char ret_dir[static DIR_MAX], struct err *err)
{
    char above[DIR_MAX], why[OS_ERROR_MAX];
    size_t len;
    int r = walk->fn ? walk->fn(mount, NULL, walk->controller, err) : 0;

    len = (size_t)snprintf(ret_dir, DIR_MAX, "%s", mount);
    while (r == 0 && *below) {
        size_t part = strcspn(below, "/");

        memcpy(above, ret_dir, len + 1);
        if (len + part + 2 > DIR_MAX) {
            return err_set(err, -ENAMETOOLONG, "%s: path too long", mount);
        }
        ret_dir[len] = '/';
        memcpy(ret_dir + len + 1, below, part);
        ret_dir[len + 1 + part] = '\0';
        len += part + 1;
        below += part + (below[part] == '/');
        if (mkdir(ret_dir, 0755) < 0 && errno != EEXIST) {
            int code = -errno;

            return err_set(err, code, "Failed to create directory %s: %s", ret_dir,
                           os_error(code, why));
        }
        r = walk->fn ? walk->fn(ret_dir, above, walk->controller, err) : 0;
    }
    return r;
}

/* --- version 1 --- */

static int inherit(const char *dir, const char *above, const char *controller, struct err *err)
{
    static const char *const files[] = {"cpuset.cpus", "cpuset.mems"};

    for (unsigned i = 0; above && strcmp(controller, "cpuset") == 0 && i < 2; i++) {
        char own[VALUE_MAX], theirs[VALUE_MAX];
        int r;

        read_text(dir, files[i], own);
        read_text(above, files[i], theirs);
        r = own[0] || !theirs[0] ? 0 : write_text(dir, files[i], theirs, err);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static bool is_first_of_controller(const struct jailer_plan *plan, unsigned index)
{
    for (unsigned i = 0; i < index; i++) {
        if (strcmp(plan->cgroups[i].controller, plan->cgroups[index].controller) == 0) {
            return false;
        }
    }
    return true;
}

/* Its cgroup of a controller of version 1. */
static int enter_v1(const struct jailer_plan *plan, const char *mounts, const char *controller,
                    struct err *err)
{
    const struct walk walk = {.fn = inherit, .controller = controller};
    char mount[DIR_MAX], below[DIR_MAX], dir[DIR_MAX];
    int r;

    if (!find_mount(mounts, controller, mount)) {
        return err_set(err, -ENOENT, "Hierarchy not found: %s", controller);
    }
    if (snprintf(below, sizeof(below), "%s/%s", plan->parent_cgroup, plan->id) >= DIR_MAX) {
        return err_set(err, -ENAMETOOLONG, "%s: path too long", plan->parent_cgroup);
    }
    r = walk_down(mount, below, &walk, dir, err);
    for (unsigned i = 0; r == 0 && i < plan->cgroup_count; i++) {
        const struct jailer_cgroup *cgroup = &plan->cgroups[i];

        if (strcmp(cgroup->controller, controller) == 0) {
            r = write_text(dir, cgroup->file, cgroup->value, err);
        }
    }
    return r < 0 ? r : write_pid(dir, "tasks", err);
}

/* --- version 2 --- */

/* Pass the controller on to what is below; the last directory has processes, and passes nothing. */
static int pass_on(const char *dir, const char *above, const char *controller, struct err *err)
{
    char text[80];

    (void)dir;
    (void)snprintf(text, sizeof(text), "+%s", controller);
    return above ? write_text(above, "cgroup.subtree_control", text, err) : 0;
}

static int enable_v2(const struct jailer_plan *plan, const char *mount, const char *below,
                     char ret_dir[static DIR_MAX], struct err *err)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < plan->cgroup_count; i++) {
        const struct walk walk = {.fn = pass_on, .controller = plan->cgroups[i].controller};
        char there[VALUE_MAX];

        read_text(mount, "cgroup.controllers", there);
        if (!has_word(there, walk.controller, " ")) {
            return err_set(err, -ENOENT, "Controller %s is unavailable", walk.controller);
        }
        if (is_first_of_controller(plan, i)) {
            r = walk_down(mount, below, &walk, ret_dir, err);
        }
    }
    return r;
}

static int enter_v2(const struct jailer_plan *plan, const char *mounts, struct err *err)
{
    char mount[DIR_MAX], below[DIR_MAX], dir[DIR_MAX];
    int r;

    if (!find_mount(mounts, NULL, mount)) {
        return err_set(err, -ENOENT,
                       "Hierarchy not found: No hierarchy found for this cgroup version.");
    }
    if (plan->cgroup_count == 0) { /* the parent itself, if it is there */
        r = snprintf(dir, sizeof(dir), "%s/%s", mount, plan->parent_cgroup);
        return r < (int)sizeof(dir) && access(dir, F_OK) == 0 ? write_pid(dir, "cgroup.procs", err)
                                                              : 0;
    }
    if (snprintf(below, sizeof(below), "%s/%s", plan->parent_cgroup, plan->id) >= DIR_MAX) {
        return err_set(err, -ENAMETOOLONG, "%s: path too long", plan->parent_cgroup);
    }
    r = enable_v2(plan, mount, below, dir, err);
    for (unsigned i = 0; r == 0 && i < plan->cgroup_count; i++) {
        r = write_text(dir, plan->cgroups[i].file, plan->cgroups[i].value, err);
    }
    return r < 0 ? r : write_pid(dir, "cgroup.procs", err);
}

int jailer_cgroups(const struct jailer_plan *plan, const char *mounts, struct err *err)
{
    int r = 0;

    if (plan->cgroup_version == 2) {
        return plan->cgroup_count || plan->has_parent_cgroup ? enter_v2(plan, mounts, err) : 0;
    }
    for (unsigned i = 0; r == 0 && i < plan->cgroup_count; i++) {
        if (is_first_of_controller(plan, i)) {
            r = enter_v1(plan, mounts, plan->cgroups[i].controller, err);
        }
    }
    return r;
}
