/* pause.c — hold a machine, and let it run on.
 *
 * Theory of operation.  vCPUs first: each is kicked out of the guest and waits in park() of vcpu.c,
 * between two instructions.  A vCPU may be in the midst of a register access that waits for a loop,
 * so the loops are held only when all vCPUs wait.  A held loop still serves loop_call(), so a
 * device can be changed or saved meanwhile.  Resuming goes the other way: the devices' doorbells
 * are rung while the loops are held, then the loops go on, then the vCPUs.
 *
 * A machine from a snapshot has no threads before its first resume.
 */
#include "dev/virtio/virtio.h"
#include "io/loop.h"
#include "machine/machine_int.h"

void machine_pause_init(struct machine *m)
{
    (void)pthread_mutex_init(&m->pause.lock, NULL);
    (void)pthread_cond_init(&m->pause.changed, NULL);
}

void machine_pause_fini(struct machine *m)
{
    (void)pthread_cond_destroy(&m->pause.changed);
    (void)pthread_mutex_destroy(&m->pause.lock);
}

void machine_wake_parked(struct machine *m)
{
    (void)pthread_mutex_lock(&m->pause.lock);
    (void)pthread_cond_broadcast(&m->pause.changed);
    (void)pthread_mutex_unlock(&m->pause.lock);
}

static void park_vcpus(struct machine *m)
{
    struct machine_pause *p = &m->pause;

    (void)pthread_mutex_lock(&p->lock);
    atomic_store(&p->is_wanted, true);
    for (unsigned i = 0; i < m->vcpu_count; i++) {
        hv_vcpu_kick(m->vcpus[i].hv);
    }
    while (p->parked_count < m->vcpu_count && machine_end(m) == MACHINE_RUNS) {
        (void)pthread_cond_wait(&p->changed, &p->lock);
    }
    (void)pthread_mutex_unlock(&p->lock);
}

void machine_pause(struct machine *m)
{
    if (!m->is_started || atomic_load(&m->pause.is_wanted)) {
        return;
    }
    park_vcpus(m);
    for (unsigned i = 0; i < m->loop_count; i++) {
        loop_pause(m->loops[i]);
    }
    for (unsigned i = 0; i < m->vcpu_count && machine_end(m) == MACHINE_RUNS; i++) {
        hv_vcpu_paused(m->vcpus[i].hv);
    }
}

static void unpark_vcpus(struct machine *m)
{
    (void)pthread_mutex_lock(&m->pause.lock);
    atomic_store(&m->pause.is_wanted, false);
    (void)pthread_cond_broadcast(&m->pause.changed);
    (void)pthread_mutex_unlock(&m->pause.lock);
}

int machine_resume(struct machine *m, struct err *err)
{
    if (m->is_started && !atomic_load(&m->pause.is_wanted)) {
        return 0;
    }
    hv_vm_go(m->vm);
    for (unsigned i = 0; i < m->slot_count; i++) {
        virtio_dev_resume(m->slots[i].vdev);
    }
    for (unsigned i = 0; i < m->loop_count; i++) {
        loop_resume(m->loops[i]);
    }
    if (!m->is_started) {
        return machine_start(m, err);
    }
    unpark_vcpus(m);
    return 0;
}
