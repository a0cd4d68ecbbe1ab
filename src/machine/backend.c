/* backend.c — choose KVM or the software engine. */
#include "machine/backend.h"

#include <errno.h>
#include <stdio.h>

#include "hv/hv.h"
#include "hv/kvm/kvm.h"
#include "hv/soft/soft.h"

static const struct hv_ops *ops_of(enum config_engine engine)
{
    return engine == ENGINE_KVM ? &hv_kvm_ops : &hv_soft_ops;
}

int backend_probe(enum config_engine engine, struct err *err)
{
    return ops_of(engine)->probe(err);
}

static int check_vcpus(const struct hv_ops *ops, unsigned vcpu_count, struct err *err)
{
    if (vcpu_count > ops->vcpu_max) {
        return err_set(err, -EINVAL, "vcpu count %u: the %s engine runs 1 to %u", vcpu_count,
                       ops->name, ops->vcpu_max);
    }
    return 0;
}

int backend_choose(enum config_engine engine, unsigned vcpu_count,
                   struct backend_choice *ret_choice, struct err *err)
{
    struct backend_choice choice = {.ops = ops_of(engine)};
    struct err why = {0};
    int r;

    if (engine == ENGINE_AUTO) {
        choice.ops = &hv_kvm_ops;
        r = hv_kvm_ops.probe(&why);
        if (r < 0) {
            choice.ops = &hv_soft_ops;
            if (r == -EACCES) { /* the user can mend that; the rest is for `ec1 doctor` */
                (void)snprintf(choice.warning, sizeof(choice.warning),
                               "using the software engine: %.200s", why.text);
            }
        }
    } else {
        r = choice.ops->probe(&why);
        if (r < 0) {
            return err_set(err, r, "engine '%s': %s", choice.ops->name, err_text(&why));
        }
    }
    r = check_vcpus(choice.ops, vcpu_count, err);
    if (r < 0) {
        return r;
    }
    *ret_choice = choice;
    return 0;
}

bool backend_is_soft(enum config_engine engine)
{
    return engine == ENGINE_SOFT || (engine == ENGINE_AUTO && backend_probe(ENGINE_KVM, NULL) < 0);
}
