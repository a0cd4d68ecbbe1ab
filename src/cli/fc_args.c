/* fc_args.c — see fc_args.h. */
#include "cli/fc_args.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/str.h"

#define DEBUG_MAX 256

struct option {
    const char *name;
    bool takes_value;
    size_t at;                /* in struct fc_args: const char * or bool */
    const char *needs, *bars; /* other options' names; NULL: none */
    const char *help;
};

#define VALUE(name_, member_) \
    .name = (name_), .takes_value = true, .at = offsetof(struct fc_args, member_)
#define FLAG(name_, member_) .name = (name_), .at = offsetof(struct fc_args, member_)

static const struct option g_options[] = {
    {VALUE("api-sock", api_sock), .help = "Unix socket of the REST interface"},
    {FLAG("boot-timer", boot_timer), .help = "give the guest the boot timer device"},
    {VALUE("config-file", config_file), .help = "JSON file to configure the VM from; starts it"},
    {VALUE("describe-snapshot", describe_snapshot),
     .help = "print the format version of a snapshot's state file"},
    {FLAG("enable-pci", enable_pci), .help = "virtio devices on a PCI bus, with hot-plug"},
    {VALUE("engine", engine),
     .help = "what runs the guest: auto, kvm or soft (not in the original)"},
    {VALUE("http-api-max-payload-size", http_api_max_payload_size),
     .help = "bytes that a request's body may have"},
    {VALUE("id", id), .help = "name of the VM: letters, digits and '-'"},
    {VALUE("level", level), .help = "log level: Error, Warning, Info or Debug"},
    {VALUE("log-path", log_path), .help = "file or FIFO for the log"},
    {VALUE("metadata", metadata), .help = "JSON file for the metadata store"},
    {VALUE("metrics-path", metrics_path), .help = "file or FIFO for metrics"},
    {VALUE("mmds-size-limit", mmds_size_limit), .help = "bytes that the metadata store may have"},
    {VALUE("module", module), .help = "log only what modules with this prefix say"},
    {FLAG("no-api", no_api), .needs = "config-file", .help = "no REST interface"},
    {FLAG("no-seccomp", no_seccomp), .bars = "seccomp-filter", .help = "no system call filter"},
    {VALUE("parent-cpu-time-us", parent_cpu_time_us), .help = "CPU time of the launcher"},
    {VALUE("seccomp-filter", seccomp_filter), .bars = "no-seccomp",
     .help = "file with system call filters of your own"},
    {FLAG("show-level", show_level), .help = "log lines tell their level"},
    {FLAG("show-log-origin", show_log_origin), .help = "log lines tell where they come from"},
    {FLAG("snapshot-version", wants_snapshot_version),
     .help = "print the format version of snapshots"},
    {VALUE("start-time-cpu-us", start_time_cpu_us), .help = "process CPU clock at the start"},
    {VALUE("start-time-us", start_time_us), .help = "monotonic clock at the launcher's start"},
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

static void *member(struct fc_args *args, const struct option *option)
{
    return (char *)args + option->at;
}

static bool is_set(struct fc_args *args, const struct option *option)
{
    return option->takes_value ? *(const char **)member(args, option) != NULL
                               : *(bool *)member(args, option);
}

static bool has(struct fc_args *args, const char *name)
{
    const struct option *option = find(name);

    return option && is_set(args, option);
}

/* The kind of the error, for stderr. */
static void put_debug(char *out, const char *kind, const char *name)
{
    (void)snprintf(out, DEBUG_MAX, "ParseArguments(%s(\"%.150s\"))", kind, name);
}

/* One option, at argv[*at]. */
static int take(struct fc_args *args, int argc, char **argv, int *at, char *debug, struct err *err)
{
    const char *word = argv[*at];
    bool is_name = str_has_prefix(word, "--");
    const struct option *option = is_name ? find(word + 2) : NULL;

    if (!option) {
        const char *name = is_name ? word + 2 : word;

        put_debug(debug, "UnexpectedArgument", name);
        return err_set(err, -EINVAL,
                       "Found argument '%s' which wasn't expected, or isn't valid in this context.",
                       name);
    }
    if (is_set(args, option)) {
        put_debug(debug, "DuplicateArgument", option->name);
        return err_set(err, -EINVAL, "The argument '%s' was provided more than once.",
                       option->name);
    }
    if (!option->takes_value) {
        *(bool *)member(args, option) = true;
        return 0;
    }
    if (*at + 1 >= argc || str_has_prefix(argv[*at + 1], "--")) {
        put_debug(debug, "MissingValue", option->name);
        return err_set(err, -EINVAL, "The argument '%s' requires a value, but none was supplied.",
                       option->name);
    }
    *(const char **)member(args, option) = argv[++*at];
    return 0;
}

static int check_relations(struct fc_args *args, char *debug, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(g_options); i++) {
        const struct option *option = &g_options[i];

        if (!is_set(args, option)) {
            continue;
        }
        if (option->needs && !has(args, option->needs)) {
            put_debug(debug, "MissingArgument", option->needs);
            return err_set(err, -EINVAL, "Argument '%s' required, but not found.", option->needs);
        }
        if (option->bars && has(args, option->bars)) {
            (void)snprintf(debug, DEBUG_MAX, "ParseArguments(ForbiddenArgument(\"%s\", \"%s\"))",
                           option->name, option->bars);
            return err_set(err, -EINVAL,
                           "Argument '%s' cannot be used together with argument '%s'.",
                           option->bars, option->name);
        }
    }
    return 0;
}

int fc_args_parse(int argc, char **argv, struct fc_args *ret_args, char *ret_debug, struct err *err)
{
    struct fc_args args = {0};
    int count = 0;

    while (count < argc && strcmp(argv[count], "--") != 0) {
        args.wants_help |= strcmp(argv[count], "--help") == 0 || strcmp(argv[count], "-h") == 0;
        args.wants_version |= strcmp(argv[count], "--version") == 0;
        count++;
    }
    for (int at = 0; at < count && !args.wants_help && !args.wants_version; at++) {
        int r = take(&args, count, argv, &at, ret_debug, err);

        if (r < 0) {
            return r;
        }
    }
    if (check_relations(&args, ret_debug, err) < 0) {
        return -EINVAL;
    }
    if (!args.api_sock) {
        args.api_sock = "/run/firecracker.socket";
    }
    if (!args.id) {
        args.id = "anonymous-instance";
    }
    *ret_args = args;
    return 0;
}

void fc_args_help(const char *version)
{
    (void)printf("Firecracker v%s\n\nUSAGE:\n  firecracker [OPTIONS]\n\noptional arguments:\n",
                 version);
    for (size_t i = 0; i < ARRAY_LEN(g_options); i++) {
        char left[64];

        (void)snprintf(left, sizeof(left), g_options[i].takes_value ? "--%s <%s>" : "--%s",
                       g_options[i].name, g_options[i].name);
        (void)printf("  %s\n      %s\n", left, g_options[i].help);
    }
    (void)printf("  --help\n      this text\n  --version\n      print the version\n");
}
