/* vcpu.c — one thread per vCPU: run until the machine ends, wait while it is paused. */
#include <stdio.h>
#include <string.h>

#include "machine/machine_int.h"
#include "metrics/metrics.h"

static bool must_wait(const struct machine_vcpu *vcpu)
{
    return atomic_load_explicit(&vcpu->machine->pause.is_wanted, memory_order_acquire) ||
           atomic_load_explicit(&vcpu->is_held, memory_order_acquire);
}

/* While somebody wants the vCPU to stand still, do. */
static void park(struct machine_vcpu *vcpu)
{
    struct machine *m = vcpu->machine;
    struct machine_pause *p = &m->pause;

    if (!must_wait(vcpu)) {
        return;
    }
    (void)pthread_mutex_lock(&p->lock);
    p->parked_count++;
    (void)pthread_cond_broadcast(&p->changed);
    while (must_wait(vcpu) && machine_end(m) == MACHINE_RUNS) {
        (void)pthread_cond_wait(&p->changed, &p->lock);
    }
    p->parked_count--;
    (void)pthread_mutex_unlock(&p->lock);
}

void machine_enter_thread(struct machine *m, enum config_thread kind)
{
    if (m->enter_thread) {
        m->enter_thread(m->enter_owner, kind);
    }
}

static void *vcpu_main(void *arg)
{
    struct machine_vcpu *vcpu = arg;
    struct machine *m = vcpu->machine;
    char name[16];

    (void)snprintf(name, sizeof(name), m->is_microvm ? "fc_vcpu %u" : "vcpu%u", vcpu->index);
    (void)pthread_setname_np(pthread_self(), name);
    machine_enter_thread(m, CONFIG_THREAD_VCPU);
    while (atomic_load_explicit(&m->end, memory_order_acquire) == MACHINE_RUNS) {
        enum hv_exit why = HV_EXIT_KICKED;
        int r;

        park(vcpu);
        if (machine_end(m) != MACHINE_RUNS) {
            break; /* a debugger may still look at it */
        }
        r = hv_vcpu_run(vcpu->hv, &why);

        if (r < 0 || why == HV_EXIT_BROKEN) {
            const char *text = hv_vcpu_why(vcpu->hv);

            metric_inc(&g_metrics.vcpu.failures);
            (void)snprintf(m->why, sizeof(m->why), "vCPU %u: %s", vcpu->index,
                           text[0] ? text : strerror(-r));
            machine_finish(m, MACHINE_BROKEN);
        } else if (why == HV_EXIT_TRIPLE_FAULT) {
            metric_inc(&g_metrics.vcpu.failures);
            machine_finish(m, MACHINE_TRIPLE_FAULT);
        } else if (why == HV_EXIT_DEBUG) {
            machine_debug_hit(vcpu);
        }
    }
    return NULL;
}

int machine_start_vcpus(struct machine *m, struct err *err)
{
    for (unsigned i = 0; i < m->vcpu_count; i++) {
        struct machine_vcpu *vcpu = &m->vcpus[i];
        int r = pthread_create(&vcpu->thread, NULL, vcpu_main, vcpu);

        if (r) {
            return err_set(err, -r, "start the thread of vCPU %u: %s", i, strerror(r));
        }
        vcpu->has_thread = true;
    }
    return 0;
}

void machine_join_vcpus(struct machine *m)
{
    for (unsigned i = 0; i < m->vcpu_count; i++) {
        struct machine_vcpu *vcpu = &m->vcpus[i];

        if (vcpu->has_thread) {
            (void)pthread_join(vcpu->thread, NULL);
            vcpu->has_thread = false;
        }
    }
}
