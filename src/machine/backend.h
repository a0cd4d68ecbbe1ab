/* backend.h — which engine executes the guest: the only place above hv/ that knows there are two.
 */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "config/vm_config.h"

struct hv_ops;

struct backend_choice {
    const struct hv_ops *ops;
    char warning[256]; /* one line for the user, or "" */
};

/* ENGINE_AUTO takes KVM where /dev/kvm can be opened, else the software engine; it warns when
 * /dev/kvm is there but closed to this user. */
int backend_choose(enum config_engine engine, unsigned vcpu_count,
                   struct backend_choice *ret_choice, struct err *err);

/* For reports: can this host run `engine`?  0, or an error that says why not and how to mend it. */
int backend_probe(enum config_engine engine, struct err *err);

/* Would backend_choose() take the software engine? */
bool backend_is_soft(enum config_engine engine);
