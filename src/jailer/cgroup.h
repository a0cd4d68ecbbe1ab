/* cgroup.h — this process into a cgroup of its own, with the values that were asked for. */
#pragma once

#include "jailer/plan.h"

/* `mounts` is the text of /proc/mounts.  A failure leaves directories that were made. */
int jailer_cgroups(const struct jailer_plan *plan, const char *mounts, struct err *err);
