/* fc_args.h — the command line of `firecracker`: its own grammar, which wrappers rely on.
 *
 * "--name" and "--name value" alone; a value does not begin with "--"; nothing twice; "--" ends the
 * options.  --help and --version win over everything else.
 */
#pragma once

#include <stdbool.h>

#include "base/err.h"

struct fc_args {
    bool wants_help, wants_version, wants_snapshot_version;
    const char *api_sock, *id;
    const char *seccomp_filter;
    bool no_seccomp;
    const char *start_time_us, *start_time_cpu_us, *parent_cpu_time_us;
    const char *config_file, *metadata;
    bool no_api;
    const char *log_path, *level, *module;
    bool show_level, show_log_origin;
    const char *metrics_path;
    bool boot_timer;
    const char *describe_snapshot;
    const char *http_api_max_payload_size, *mmds_size_limit;
    bool enable_pci;
    const char *engine; /* ours: auto, kvm, soft */
};

/* `argv` without the program's name.  -EINVAL with the sentence; `ret_debug` (at least 256 bytes)
 * then has the form for stderr. */
int fc_args_parse(int argc, char **argv, struct fc_args *ret_args, char *ret_debug,
                  struct err *err);
/* For --help, to stdout. */
void fc_args_help(const char *version);
