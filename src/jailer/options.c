/* options.c — see options.h. */
#include "jailer/options.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/str.h"

enum kind { VALUE, FLAG, LIST };

struct option {
    const char *name;
    enum kind kind;
    size_t at; /* in struct jailer_options */
    bool is_required;
    const char *help;
};

#define AT(member) offsetof(struct jailer_options, member)

static const struct option g_options[] = {
    {"id", VALUE, AT(id), true, "name of the VM: letters, digits and '-'"},
    {"exec-file", VALUE, AT(exec_file), true, "the program to run in the jail"},
    {"uid", VALUE, AT(uid), true, "user that it becomes"},
    {"gid", VALUE, AT(gid), true, "group that it becomes"},
    {"chroot-base-dir", VALUE, AT(chroot_base), false, "where jails are; default: /srv/jailer"},
    {"netns", VALUE, AT(netns), false, "file of a network namespace to join"},
    {"daemonize", FLAG, AT(daemonize), false, "in the background, in a session of its own"},
    {"new-pid-ns", FLAG, AT(new_pid_ns), false, "as the first process of a PID namespace"},
    {"cgroup", LIST, AT(cgroups), false, "FILE=VALUE: write it in the VM's cgroup; repeatable"},
    {"cgroup-version", VALUE, AT(cgroup_version), false, "1 or 2; default: 1"},
    {"parent-cgroup", VALUE, AT(parent_cgroup), false,
     "cgroup that has that of the VM; default: the program's name"},
    {"resource-limit", LIST, AT(limits), false, "fsize=BYTES or no-file=NUMBER; repeatable"},
};

static const struct option *find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(g_options); i++) {
        if (strcmp(g_options[i].name, name) == 0) {
            return &g_options[i];
        }
    }
    return NULL;
}

static void *member(struct jailer_options *options, const struct option *option)
{
    return (char *)options + option->at;
}

static bool is_set(struct jailer_options *options, const struct option *option)
{
    switch (option->kind) {
    case VALUE: return *(const char **)member(options, option) != NULL;
    case FLAG: return *(bool *)member(options, option);
    case LIST: return false; /* may be given again */
    }
    return false;
}

static int store(struct jailer_options *options, const struct option *option, const char *value,
                 struct err *err)
{
    struct jailer_list *list = member(options, option);

    if (option->kind == VALUE) {
        *(const char **)member(options, option) = value;
    } else if (list->count < JAILER_LIST_MAX) {
        list->items[list->count++] = value;
    } else {
        return err_set(err, -E2BIG, "The argument '%s' was provided more than %d times.",
                       option->name, JAILER_LIST_MAX);
    }
    return 0;
}

/* One option, at argv[*at]. */
static int take(struct jailer_options *options, int argc, char **argv, int *at, struct err *err)
{
    const char *word = argv[*at];
    bool is_name = str_has_prefix(word, "--");
    const struct option *option = is_name ? find(word + 2) : NULL;

    if (!option) {
        return err_set(err, -EINVAL,
                       "Found argument '%s' which wasn't expected, or isn't valid in this context.",
                       is_name ? word + 2 : word);
    }
    if (is_set(options, option)) {
        return err_set(err, -EINVAL, "The argument '%s' was provided more than once.",
                       option->name);
    }
    if (option->kind == FLAG) {
        *(bool *)member(options, option) = true;
        return 0;
    }
    if (*at + 1 >= argc || str_has_prefix(argv[*at + 1], "--")) {
        return err_set(err, -EINVAL, "The argument '%s' requires a value, but none was supplied.",
                       option->name);
    }
    return store(options, option, argv[++*at], err);
}

int jailer_options_parse(int argc, char **argv, struct jailer_options *ret_options, struct err *err)
{
    struct jailer_options options = {0};
    int end = 1;

    while (end < argc && strcmp(argv[end], "--") != 0) {
        options.wants_help |= strcmp(argv[end], "--help") == 0 || strcmp(argv[end], "-h") == 0;
        options.wants_version |= strcmp(argv[end], "--version") == 0;
        end++;
    }
    options.rest = argv + end + (end < argc);
    for (int at = 1; at < end && !options.wants_help && !options.wants_version; at++) {
        int r = take(&options, end, argv, &at, err);

        if (r < 0) {
            return r;
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(g_options); i++) {
        if (g_options[i].is_required && !is_set(&options, &g_options[i]) && !options.wants_help &&
            !options.wants_version) {
            return err_set(err, -EINVAL, "Argument '%s' required, but not found.",
                           g_options[i].name);
        }
    }
    if (!options.chroot_base) {
        options.chroot_base = "/srv/jailer";
    }
    *ret_options = options;
    return 0;
}

void jailer_options_help(void)
{
    (void)printf("\nUSAGE:\n  jailer [OPTIONS] -- [options of the program]\n\n");
    for (size_t i = 0; i < ARRAY_LEN(g_options); i++) {
        (void)printf("  --%s%s\n      %s\n", g_options[i].name,
                     g_options[i].kind == FLAG ? "" : " <value>", g_options[i].help);
    }
    (void)printf("  --help\n      this text\n  --version\n      print the version\n");
}
