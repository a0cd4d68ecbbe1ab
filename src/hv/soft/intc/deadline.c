/* deadline.c — the timer thread.
 *
 * Theory of operation.  Each slot holds a time.  The thread publishes until when it will sleep, and
 * looks at the slots once more after that; an armer stores its time first and then reads the
 * published one.  Sequential consistency makes at least one of them see the other, so that no
 * deadline is slept over.
 */
#include "hv/soft/intc/deadline.h"

#include <errno.h>

#include "base/clock.h"
#include "hv/soft/intc/park.h"

void deadline_init(struct deadline *d, void (*fire)(void *owner, unsigned slot), void *owner)
{
    *d = (struct deadline){.fire = fire, .owner = owner};
    atomic_store(&d->sleeping_until, INT64_MIN);
    for (unsigned i = 0; i < HV_VCPU_MAX; i++) {
        atomic_store(&d->due_ns[i], DEADLINE_NEVER);
    }
}

static int64_t earliest(struct deadline *d)
{
    int64_t min = DEADLINE_NEVER;

    for (unsigned i = 0; i < HV_VCPU_MAX; i++) {
        int64_t due = atomic_load(&d->due_ns[i]);

        min = due < min ? due : min;
    }
    return min;
}

static void fire_due(struct deadline *d, int64_t now)
{
    for (unsigned i = 0; i < HV_VCPU_MAX; i++) {
        int64_t due = atomic_load(&d->due_ns[i]);

        /* Lost exchange: somebody armed it anew, and will be seen by earliest(). */
        if (due <= now && atomic_compare_exchange_strong(&d->due_ns[i], &due, DEADLINE_NEVER)) {
            d->fire(d->owner, i);
        }
    }
}

static void *run(void *arg)
{
    struct deadline *d = arg;

    if (d->client && d->client->enter_thread) {
        d->client->enter_thread(d->client->owner);
    }
    while (!atomic_load(&d->stop)) {
        uint32_t turn = atomic_load(&d->turn);
        int64_t until;

        atomic_store(&d->sleeping_until, INT64_MIN);
        fire_due(d, clock_mono_ns());
        until = earliest(d);
        atomic_store(&d->sleeping_until, until);
        if (earliest(d) >= until && !atomic_load(&d->stop)) {
            park_futex_wait(&d->turn, turn, until == DEADLINE_NEVER ? PARK_FOREVER : until);
        }
    }
    return NULL;
}

int deadline_start(struct deadline *d, const struct hv_client *client, struct err *err)
{
    int r;

    d->client = client;
    r = pthread_create(&d->thread, NULL, run, d);

    if (r) {
        return err_set(err, -r, "start the timer thread");
    }
    d->started = true;
    (void)pthread_setname_np(d->thread, "vm-timer");
    return 0;
}

static void call_attention(struct deadline *d)
{
    atomic_fetch_add(&d->turn, 1);
    park_futex_wake(&d->turn);
}

void deadline_stop(struct deadline *d)
{
    if (!d->started) {
        return;
    }
    atomic_store(&d->stop, true);
    call_attention(d);
    (void)pthread_join(d->thread, NULL);
    d->started = false;
}

void deadline_arm(struct deadline *d, unsigned slot, int64_t due_ns)
{
    atomic_store(&d->due_ns[slot], due_ns);
    if (due_ns < atomic_load(&d->sleeping_until)) {
        call_attention(d);
    }
}
