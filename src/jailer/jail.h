/* jail.h — the jail's folder, and what is in it. */
#pragma once

#include "jailer/plan.h"

/* The folder, and in it the program, which belongs to the plan's user.  Refuses a program's place
 * that is a link of either kind. */
int jail_fill(const struct jailer_plan *plan, struct err *err);
/* From now on the jail's folder is the root directory, in a mount namespace of our own; what was
 * mounted in it stays visible. */
int jail_enter(const struct jailer_plan *plan, struct err *err);
/* In there: folders and devices, the plan's user's.  `userfaultfd_minor` -1: the host has none. */
int jail_furnish(const struct jailer_plan *plan, int userfaultfd_minor, struct err *err);
