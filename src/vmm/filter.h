/* filter.h — a microVM's threads behind their system call filters. */
#pragma once

#include "config/vm_config.h"
#include "seccomp/filters.h"

/* The calling thread gets its filter; NULL: none.  A thread that cannot have it must not go on: the
 * process panics. */
void filter_enter(const struct seccomp_filters *filters, enum seccomp_thread thread);
/* As vm_config.enter_thread; `filters` is a struct seccomp_filters. */
void filter_machine_thread(void *filters, enum config_thread kind);
