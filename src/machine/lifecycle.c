/* lifecycle.c — how a machine ends, and how one learns why. */
#include <stdint.h>
#include <unistd.h>

#include "base/bits.h"
#include "machine/machine_int.h"

const char *machine_end_name(enum machine_end end)
{
    static const char *const names[] = {
#define X(name, text) [name] = text,
        MACHINE_END_LIST(X)
#undef X
    };

    return names[end];
}

void machine_finish(struct machine *m, enum machine_end end)
{
    int none = MACHINE_RUNS;
    uint64_t one = 1;

    if (end == MACHINE_REBOOT || end == MACHINE_TRIPLE_FAULT) {
        /* A panicked kernel resets, one way or the other. */
        if (atomic_load_explicit(&m->panicked, memory_order_acquire)) {
            end = MACHINE_PANIC;
        }
    }
    /* release: whoever sees the end sees `why` */
    if (!atomic_compare_exchange_strong_explicit(&m->end, &none, (int)end, memory_order_acq_rel,
                                                 memory_order_acquire)) {
        return;
    }
    (void)!write(m->end_fd, &one, sizeof(one));
    for (unsigned i = 0; i < m->vcpu_count; i++) {
        if (m->vcpus[i].hv) {
            hv_vcpu_kick(m->vcpus[i].hv);
        }
    }
    machine_wake_parked(m);
}

void machine_stop(struct machine *m)
{
    machine_finish(m, MACHINE_STOPPED);
}

void machine_note_panic(struct machine *m)
{
    atomic_store_explicit(&m->panicked, true, memory_order_release);
}

int machine_end_fd(const struct machine *m)
{
    return m->end_fd;
}

enum machine_end machine_end(const struct machine *m)
{
    return (enum machine_end)atomic_load_explicit(&m->end, memory_order_acquire);
}

const char *machine_why(const struct machine *m)
{
    return machine_end(m) == MACHINE_BROKEN ? m->why : "";
}

const char *machine_engine(const struct machine *m)
{
    return m->backend.ops->name;
}

const char *machine_engine_warning(const struct machine *m)
{
    return m->backend.warning;
}
