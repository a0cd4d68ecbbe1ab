/* plan.c — see plan.h. */
#include "jailer/plan.h"

#include <ctype.h>
#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/os_error.h"

#define NO_FILE_DEFAULT 2048

static int check_id(const char *id, struct err *err)
{
    size_t len = strlen(id);

    if (len < 1 || len > JAILER_ID_MAX) {
        return err_set(err, -EINVAL,
                       "Invalid instance ID: Invalid len (%zu);  the length must be between 1 and "
                       "%d",
                       len, JAILER_ID_MAX);
    }
    for (size_t i = 0; i < len; i++) {
        if (!isalnum((unsigned char)id[i]) && id[i] != '-') {
            return err_set(err, -EINVAL, "Invalid instance ID: Invalid char (%c) at position %zu",
                           id[i], i);
        }
    }
    return 0;
}

/* Digits alone, at most `max`.  NULL, or what is wrong. */
static const char *parse_number(const char *text, uint64_t max, uint64_t *ret_value)
{
    uint64_t value = 0;

    if (!text[0]) {
        return "cannot parse integer from empty string";
    }
    for (const char *c = text; *c; c++) {
        if (!isdigit((unsigned char)*c)) {
            return "invalid digit found in string";
        }
        if (__builtin_mul_overflow(value, UINT64_C(10), &value) ||
            __builtin_add_overflow(value, (uint64_t)(*c - '0'), &value) || value > max) {
            return "number too large to fit in target type";
        }
    }
    *ret_value = value;
    return NULL;
}

static int canonical(const char *path, char ret_path[static PATH_MAX], struct stat *ret_stat,
                     struct err *err)
{
    char text[OS_ERROR_MAX];

    if (!realpath(path, ret_path) || stat(ret_path, ret_stat) < 0) {
        int code = errno ? -errno : -EIO;

        return err_set(err, code, "Failed to canonicalize path %s: %s", path, os_error(code, text));
    }
    return 0;
}

static int plan_paths(const struct jailer_options *options, struct jailer_plan *plan,
                      struct err *err)
{
    char base[PATH_MAX];
    struct stat st = {0};
    int r = canonical(options->exec_file, plan->exec_file, &st, err);

    if (r < 0) {
        return r;
    }
    if (!S_ISREG(st.st_mode)) {
        return err_set(err, -EINVAL, "%s is not a file", plan->exec_file);
    }
    plan->exec_name = strrchr(plan->exec_file, '/') + 1;
    r = canonical(options->chroot_base, base, &st, err);
    if (r < 0) {
        return r;
    }
    if (!S_ISDIR(st.st_mode)) {
        return err_set(err, -ENOTDIR, "%s is not a directory", base);
    }
    r = snprintf(plan->root, sizeof(plan->root), "%s/%s/%s/root", base, plan->exec_name, plan->id);
    return r < (int)sizeof(plan->root) ? 0 : err_set(err, -ENAMETOOLONG, "%s: path too long", base);
}

static int plan_ids(const struct jailer_options *options, struct jailer_plan *plan, struct err *err)
{
    uint64_t uid, gid;

    if (parse_number(options->uid, UINT32_MAX, &uid)) {
        return err_set(err, -EINVAL, "Invalid uid: %s", options->uid);
    }
    if (parse_number(options->gid, UINT32_MAX, &gid)) {
        return err_set(err, -EINVAL, "Invalid gid: %s", options->gid);
    }
    plan->uid = (uid_t)uid;
    plan->gid = (gid_t)gid;
    return 0;
}

static int plan_cgroup(const char *text, struct jailer_cgroup *to, struct err *err)
{
    const char *equal = strchr(text, '=');
    size_t file_len = equal ? (size_t)(equal - text) : 0;
    size_t controller_len = strcspn(text, ".");

    if (!equal || file_len == 0 || !equal[1] || strchr(equal + 1, '=')) {
        return err_set(err, -EINVAL, "Invalid format for cgroups: %s", text);
    }
    if (file_len >= sizeof(to->file) || controller_len == 0 || controller_len + 1 >= file_len ||
        controller_len >= sizeof(to->controller) || memchr(text, '/', file_len)) {
        return err_set(err, -EINVAL, "Cgroup invalid file: %.*s", (int)file_len, text);
    }
    memcpy(to->controller, text, controller_len);
    memcpy(to->file, text, file_len);
    to->value = equal + 1;
    return 0;
}

/* Down from where cgroups are mounted, by names alone. */
static bool is_parent_good(const char *path)
{
    if (path[0] == '/') {
        return false;
    }
    while (*path) {
        size_t len = strcspn(path, "/");

        if ((len == 1 && path[0] == '.') || (len == 2 && memcmp(path, "..", 2) == 0)) {
            return false;
        }
        path += len + (path[len] == '/');
    }
    return true;
}

static int plan_cgroups(const struct jailer_options *options, struct jailer_plan *plan,
                        struct err *err)
{
    const char *version = options->cgroup_version ? options->cgroup_version : "1";

    if (strcmp(version, "1") != 0 && strcmp(version, "2") != 0) {
        return err_set(err, -EINVAL, "%s is an invalid cgroup version specifier", version);
    }
    plan->cgroup_version = (unsigned)(version[0] - '0');
    plan->has_parent_cgroup = options->parent_cgroup != NULL;
    plan->parent_cgroup = options->parent_cgroup ? options->parent_cgroup : plan->exec_name;
    if (!is_parent_good(plan->parent_cgroup)) {
        return err_set(err, -EINVAL,
                       "Parent cgroup path is invalid. Path should not be absolute or contain '..' "
                       "or '.'");
    }
    for (unsigned i = 0; i < options->cgroups.count; i++) {
        int r = plan_cgroup(options->cgroups.items[i], &plan->cgroups[i], err);

        if (r < 0) {
            return r;
        }
        plan->cgroup_count++;
    }
    return 0;
}

static int plan_limit(const char *text, struct jailer_plan *plan, struct err *err)
{
    const char *equal = strchr(text, '='), *problem;
    int len = equal ? (int)(equal - text) : 0;
    uint64_t value = 0;
    rlim_t *to;

    if (!equal) {
        return err_set(err, -EINVAL, "Invalid format for resources limits: %s", text);
    }
    to = len == 5 && memcmp(text, "fsize", 5) == 0     ? &plan->file_size
         : len == 7 && memcmp(text, "no-file", 7) == 0 ? &plan->no_file
                                                       : NULL;
    if (!to) {
        return err_set(err, -EINVAL, "Invalid resource argument: %.*s", len, text);
    }
    problem = parse_number(equal + 1, UINT64_MAX, &value);
    if (problem) {
        return err_set(err, -EINVAL, "Invalid limit value for resource: %.*s: %s", len, text,
                       problem);
    }
    *to = value;
    return 0;
}

static int plan_limits(const struct jailer_options *options, struct jailer_plan *plan,
                       struct err *err)
{
    int r = 0;

    plan->file_size = RLIM_INFINITY;
    plan->no_file = NO_FILE_DEFAULT;
    for (unsigned i = 0; r == 0 && i < options->limits.count; i++) {
        r = plan_limit(options->limits.items[i], plan, err);
    }
    return r;
}

int jailer_plan(const struct jailer_options *options, struct jailer_plan *plan, struct err *err)
{
    int r = check_id(options->id, err);

    *plan = (struct jailer_plan){.id = options->id,
                                 .netns = options->netns,
                                 .daemonize = options->daemonize,
                                 .new_pid_ns = options->new_pid_ns,
                                 .args = options->rest};
    r = r < 0 ? r : plan_paths(options, plan, err);
    r = r < 0 ? r : plan_ids(options, plan, err);
    r = r < 0 ? r : plan_cgroups(options, plan, err);
    return r < 0 ? r : plan_limits(options, plan, err);
}
