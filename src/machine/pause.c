/* pause.c — hold a machine, and let it run on.
 *
 * Theory of operation.  vCPUs first: each is kicked out of the guest and waits in park() of vcpu.c,
 * between two instructions.  A vCPU may be in the midst of a register access that waits for a loop,
 * so the loops are held only when all vCPUs wait.  A held loop still serves loop_call(), so a
 * device can be changed or saved meanwhile.  Resuming goes the other way: the devices' doorbells
 * are rung while the loops are held, then the loops go on, then the vCPUs.
 *
 * Threads are born held: a machine starts by the same steps as it resumes.
 *
 * Whoever touches memory that a page fault handler brings (host/uffd.h) waits for that handler, in
 * the kernel, and cannot be held there.  So a pause has a deadline: when it has passed, all that
 * stands still runs on, and the pause has failed.
 */
#include <errno.h>

#include "base/clock.h"
#include "dev/virtio/virtio.h"
#include "io/loop.h"
#include "machine/machine_int.h"

/* As long as Firecracker waits for its vCPUs. */
#define PAUSE_MAX_NS (30 * NS_PER_S)

void machine_pause_init(struct machine *m)
{
    m->pause.max_ns = PAUSE_MAX_NS;
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

static void unpark_vcpus(struct machine *m)
{
    (void)pthread_mutex_lock(&m->pause.lock);
    atomic_store(&m->pause.is_wanted, false);
    (void)pthread_cond_broadcast(&m->pause.changed);
    (void)pthread_mutex_unlock(&m->pause.lock);
}

static int park_vcpus(struct machine *m, int64_t until_ns)
{
    struct timespec until = clock_timespec(until_ns);
    struct machine_pause *p = &m->pause;
    int r = 0;

    (void)pthread_mutex_lock(&p->lock);
    atomic_store(&p->is_wanted, true);
    for (unsigned i = 0; i < m->vcpu_count; i++) {
        hv_vcpu_kick(m->vcpus[i].hv);
    }
    while (r == 0 && p->parked_count < m->vcpu_count && machine_end(m) == MACHINE_RUNS) {
        r = -pthread_cond_clockwait(&p->changed, &p->lock, CLOCK_MONOTONIC, &until);
    }
    (void)pthread_mutex_unlock(&p->lock);
    return r;
}

static int hold_loops(struct machine *m, int64_t until_ns)
{
    for (unsigned i = 0; i < m->loop_count; i++) {
        int r = loop_pause(m->loops[i], until_ns);

        if (r < 0) {
            while (i-- > 0) {
                loop_resume(m->loops[i]);
            }
            return r;
        }
    }
    return 0;
}

static int stand_still(struct machine *m, struct err *err)
{
    int64_t until_ns = clock_mono_ns() + m->pause.max_ns;
    int r = park_vcpus(m, until_ns);

    if (r == 0) {
        r = hold_loops(m, until_ns);
    }
    if (r < 0) {
        unpark_vcpus(m);
        return err_set(err, r, "the machine did not stand still within %lld ms",
                       (long long)(m->pause.max_ns / NS_PER_MS));
    }
    return 0;
}

int machine_pause(struct machine *m, struct err *err)
{
    int r;

    if (!m->is_started || atomic_load(&m->pause.is_wanted)) {
        return 0;
    }
    r = stand_still(m, err);
    if (r < 0) {
        return r;
    }
    for (unsigned i = 0; i < m->vcpu_count && machine_end(m) == MACHINE_RUNS; i++) {
        hv_vcpu_paused(m->vcpus[i].hv);
    }
    return 0;
}

static void enter_loop(void *owner)
{
    machine_enter_thread(owner, CONFIG_THREAD_DEVICES);
}

int machine_start_paused(struct machine *m, struct err *err)
{
    int r;

    atomic_store(&m->pause.is_wanted, true);
    m->is_started = true;
    for (unsigned i = 0; i < m->loop_count; i++) {
        loop_on_start(m->loops[i], enter_loop, m);
        (void)loop_pause(m->loops[i], 0); /* at once: nobody runs it yet */
        r = loop_thread_start(m->loops[i], i ? "share" : "io", err);
        if (r < 0) {
            return r;
        }
    }
    r = machine_start_vcpus(m, err);
    return r < 0 ? r : stand_still(m, err); /* now each has been where it enters */
}

int machine_resume(struct machine *m, struct err *err)
{
    int r = m->is_started ? 0 : machine_start_paused(m, err);

    if (r < 0 || !atomic_load(&m->pause.is_wanted)) {
        return r;
    }
    hv_vm_go(m->vm);
    for (unsigned i = 0; i < m->slot_count; i++) {
        virtio_dev_resume(m->slots[i].vdev);
    }
    for (unsigned i = 0; i < m->loop_count; i++) {
        loop_resume(m->loops[i]);
    }
    unpark_vcpus(m);
    return 0;
}
