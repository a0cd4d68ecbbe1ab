/* deadline.h — one thread per VM that tells running vCPUs that their timer is due.
 *
 * No host signals: the thread sleeps until the earliest deadline and calls `fire`.  Arming costs a
 * system call only when the new deadline is earlier than the one the thread sleeps for.  A vCPU
 * that halts sleeps with its own timeout and does not depend on this thread.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "hv/hv.h"

#define DEADLINE_NEVER INT64_MAX

struct deadline {
    pthread_t thread;
    bool started;
    _Atomic bool stop;
    _Atomic uint32_t turn;          /* futex: counts the calls for attention */
    _Atomic int64_t sleeping_until; /* INT64_MIN while the thread is awake and will look again */
    _Atomic int64_t due_ns[HV_VCPU_MAX]; /* monotonic clock */
    void (*fire)(void *owner, unsigned slot);
    void *owner;
    const struct hv_client *client;
};

/* `fire` is called on the timer thread. */
void deadline_init(struct deadline *d, void (*fire)(void *owner, unsigned slot), void *owner);
/* The thread enters by client->enter_thread; `client` may be NULL. */
int deadline_start(struct deadline *d, const struct hv_client *client, struct err *err);
/* Joins the thread; harmless if it never started. */
void deadline_stop(struct deadline *d);
/* Replace the deadline of a slot; DEADLINE_NEVER disarms.  Any thread. */
void deadline_arm(struct deadline *d, unsigned slot, int64_t due_ns);
