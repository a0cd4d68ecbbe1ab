/* debug.c — a machine under a debugger.
 *
 * Theory of operation.  A vCPU is held by its own flag and waits where a paused one does (park() in
 * vcpu.c); the two do not know of each other.  A vCPU that stops by itself notes why, holds all,
 * and goes to wait; the debugger's thread then sees that all do, before it looks at anything.
 *
 * Others may stop by themselves meanwhile.  A breakpoint stops them again when they go on, and a
 * step that was cut short is nothing to tell; but watched memory was accessed, so that is kept.
 */
#include "machine/debug.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "machine/machine_int.h"

static void signal_stop(struct machine *m)
{
    uint64_t one = 1;

    (void)!write(m->debug.fd, &one, sizeof(one));
}

/* Under the lock. */
static void hold_all(struct machine *m, const struct machine_vcpu *self)
{
    for (unsigned i = 0; i < m->vcpu_count; i++) {
        atomic_store(&m->vcpus[i].is_held, true);
        if (&m->vcpus[i] != self) {
            hv_vcpu_kick(m->vcpus[i].hv);
        }
    }
    if (m->debug.stopped_since_ns == 0) {
        m->debug.stopped_since_ns = clock_mono_ns();
    }
}

int machine_debug_begin(struct machine *m, struct err *err)
{
    m->debug.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (m->debug.fd < 0) {
        return err_sys(err, "eventfd");
    }
    m->debug.is_on = true;
    m->debug.is_disarmed = true;
    for (unsigned i = 0; i < m->vcpu_count; i++) {
        atomic_store(&m->vcpus[i].is_held, true);
    }
    m->debug.stopped_since_ns = clock_mono_ns();
    return 0;
}

void machine_debug_fini(struct machine *m)
{
    if (m->debug.is_on) {
        (void)close(m->debug.fd);
    }
}

unsigned machine_debug_vcpu_count(const struct machine *m)
{
    return m->vcpu_count;
}

struct mem_map *machine_debug_mem(const struct machine *m)
{
    return m->mem;
}

int64_t machine_debug_stopped_ns(struct machine *m)
{
    int64_t sum;

    (void)pthread_mutex_lock(&m->pause.lock);
    sum = m->debug.stopped_ns;
    if (m->debug.stopped_since_ns) {
        sum += clock_mono_ns() - m->debug.stopped_since_ns;
    }
    (void)pthread_mutex_unlock(&m->pause.lock);
    return sum;
}

int machine_debug_fd(const struct machine *m)
{
    return m->debug.fd;
}

void machine_debug_hit(struct machine_vcpu *vcpu)
{
    struct machine *m = vcpu->machine;

    (void)pthread_mutex_lock(&m->pause.lock);
    vcpu->stop = hv_vcpu_stop(vcpu->hv);
    hold_all(m, vcpu);
    (void)pthread_mutex_unlock(&m->pause.lock);
    signal_stop(m);
}

/* Before their threads are started, none is anywhere else. */
static bool all_wait(const struct machine *m)
{
    return !m->is_started || m->pause.parked_count == m->vcpu_count ||
           machine_end(m) != MACHINE_RUNS;
}

bool machine_debug_stop(struct machine *m)
{
    uint64_t count;
    bool has_ended;

    (void)pthread_mutex_lock(&m->pause.lock);
    hold_all(m, NULL);
    while (!all_wait(m)) {
        (void)pthread_cond_wait(&m->pause.changed, &m->pause.lock);
    }
    has_ended = machine_end(m) != MACHINE_RUNS;
    (void)pthread_mutex_unlock(&m->pause.lock);
    (void)!read(m->debug.fd, &count, sizeof(count));
    if (has_ended || m->debug.is_disarmed) {
        return !has_ended;
    }
    m->debug.is_disarmed = true;
    hv_debug_disarm(m->vm);
    return true;
}

bool machine_debug_take(struct machine *m, unsigned *ret_vcpu, struct hv_stop *ret_stop)
{
    for (unsigned i = 0; i < m->vcpu_count; i++) {
        struct hv_stop *stop = &m->vcpus[i].stop;

        if (stop->why != HV_STOP_NONE) {
            *ret_vcpu = i;
            *ret_stop = *stop;
            stop->why = HV_STOP_NONE;
            return true;
        }
    }
    return false;
}

/* What is left of the last stop.  Is there something to tell? */
static bool has_more(struct machine *m)
{
    bool has_any = false;

    for (unsigned i = 0; i < m->vcpu_count; i++) {
        struct hv_stop *stop = &m->vcpus[i].stop;

        if (stop->why == HV_STOP_WATCH) {
            has_any = true;
        } else {
            stop->why = HV_STOP_NONE;
        }
    }
    return has_any;
}

/* A guest's watchdogs wait for many seconds.  To be told means that its clock is another one: a
 * read of the clock begins anew, and would never end if each step did that. */
#define TELL_NS NS_PER_S

static void tell_guest(struct machine *m)
{
    m->debug.untold_ns += clock_mono_ns() - m->debug.stopped_since_ns;
    if (m->debug.untold_ns < TELL_NS) {
        return;
    }
    m->debug.untold_ns = 0;
    for (unsigned i = 0; i < m->vcpu_count; i++) {
        hv_vcpu_paused(m->vcpus[i].hv);
    }
}

int machine_debug_resume(struct machine *m, const enum machine_debug_action *actions)
{
    uint32_t step = 0;
    int r;

    if (has_more(m)) {
        signal_stop(m);
        return 0;
    }
    for (unsigned i = 0; i < m->vcpu_count; i++) {
        step |= (uint32_t)(actions[i] == MACHINE_DEBUG_STEP) << i;
    }
    r = hv_debug_arm(m->vm, step);
    if (r < 0) {
        return r;
    }
    m->debug.is_disarmed = false;
    tell_guest(m);
    (void)pthread_mutex_lock(&m->pause.lock);
    m->debug.stopped_ns += clock_mono_ns() - m->debug.stopped_since_ns;
    m->debug.stopped_since_ns = 0;
    for (unsigned i = 0; i < m->vcpu_count; i++) {
        atomic_store(&m->vcpus[i].is_held, actions[i] == MACHINE_DEBUG_HOLD);
    }
    (void)pthread_cond_broadcast(&m->pause.changed);
    (void)pthread_mutex_unlock(&m->pause.lock);
    return 0;
}

int machine_debug_set(struct machine *m, const struct hv_debug *debug)
{
    return hv_debug_set(m->vm, debug);
}

int machine_debug_get_regs(struct machine *m, unsigned vcpu, struct cpu_state *ret_state)
{
    return hv_vcpu_get(m->vcpus[vcpu].hv, ret_state);
}

int machine_debug_set_regs(struct machine *m, unsigned vcpu, const struct cpu_state *state)
{
    return hv_vcpu_set_regs(m->vcpus[vcpu].hv, state);
}
