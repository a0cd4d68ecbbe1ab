/* filter.c — see filter.h. */
#include "vmm/filter.h"

#include "vmm/exit.h"

void filter_enter(const struct seccomp_filters *filters, enum seccomp_thread thread)
{
    struct err err = {0};

    if (filters && seccomp_filters_install(filters, thread, &err) < 0) {
        exit_panic("Failed to set the seccomp filter: %s", err_text(&err));
    }
}

void filter_machine_thread(void *filters, enum config_thread kind)
{
    filter_enter(filters, kind == CONFIG_THREAD_VCPU ? SECCOMP_VCPU : SECCOMP_VMM);
}
