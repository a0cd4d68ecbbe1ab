/* setup.h — what a running system has besides its files: names, loopback, limits, sysctls, time. */
#pragma once

#include "guest/init/report.h"
#include "proto/exec.pb-c.h"

/* Nothing here is worth failing the boot: what goes wrong becomes a warning. */
void setup_system(const Ec1__V1__BootConfig *config, struct report *report);

/* Give `hostname` an entry in the hosts file `path` unless it has one. */
int setup_hosts(const char *path, const char *hostname);
/* Replace a file that may be a (dangling) link. */
int setup_file(const char *path, const void *data, size_t len);
/* Below `root` ("/proc/sys"); dots or slashes in `name`. */
int setup_sysctl(const char *root, const char *name, const char *value);
