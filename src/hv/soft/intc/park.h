/* park.h — how a vCPU thread sleeps, and how anybody wakes it.
 *
 * The word is vcpu->poll: others OR bits into it, the owner clears them.  park_wait() sleeps while
 * it is 0.  A wake-up cannot be lost: the sleeper announces itself, then the kernel compares the
 * word again before it sleeps; the waker sets the bits, then looks for the announcement.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PARK_FOREVER INT64_MAX

struct park {
    _Atomic uint32_t *word;
    _Atomic uint32_t sleeping;
};

void park_init(struct park *park, _Atomic uint32_t *word);
/* Set bits and wake the sleeper.  Any thread, async-signal-safe; no system call unless it sleeps.
 */
void park_wake(struct park *park, uint32_t bits);
/* Owner: sleep until the word is not 0 or the monotonic clock reaches until_ns. */
void park_wait(struct park *park, int64_t until_ns);
/* Owner: spin for at most spin_ns; true if the word became non-zero. */
bool park_spin(struct park *park, int64_t spin_ns);

/* The futex calls, for others in this room. */
void park_futex_wait(_Atomic uint32_t *word, uint32_t seen, int64_t until_ns);
void park_futex_wake(_Atomic uint32_t *word);
