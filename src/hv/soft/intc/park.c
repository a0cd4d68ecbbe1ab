/* park.c — sleep and wake on a futex. */
#include "hv/soft/intc/park.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

void park_futex_wait(_Atomic uint32_t *word, uint32_t seen, int64_t until_ns)
{
    struct timespec ts = {.tv_sec = until_ns / NS_PER_S, .tv_nsec = until_ns % NS_PER_S};

    /* FUTEX_WAIT_BITSET takes an absolute time on the monotonic clock. */
    (void)syscall(SYS_futex, word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, seen,
                  until_ns == PARK_FOREVER ? NULL : &ts, NULL, FUTEX_BITSET_MATCH_ANY);
}

void park_futex_wake(_Atomic uint32_t *word)
{
    int saved = errno; /* may run in a signal handler */

    (void)syscall(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, NULL, NULL, 0);
    errno = saved;
}

void park_init(struct park *park, _Atomic uint32_t *word)
{
    park->word = word;
    atomic_init(&park->sleeping, 0);
}

void park_wake(struct park *park, uint32_t bits)
{
    atomic_fetch_or_explicit(park->word, bits, memory_order_seq_cst);
    /* pairs with the store in park_wait(): one of the two sees the other */
    if (atomic_load_explicit(&park->sleeping, memory_order_seq_cst)) {
        park_futex_wake(park->word);
    }
}

void park_wait(struct park *park, int64_t until_ns)
{
    atomic_store_explicit(&park->sleeping, 1, memory_order_seq_cst);
    if (atomic_load_explicit(park->word, memory_order_seq_cst) == 0) {
        park_futex_wait(park->word, 0, until_ns);
    }
    atomic_store_explicit(&park->sleeping, 0, memory_order_relaxed);
}

bool park_spin(struct park *park, int64_t spin_ns)
{
    int64_t end = clock_mono_ns() + spin_ns;

    do {
        for (unsigned i = 0; i < 32; i++) {
            if (atomic_load_explicit(park->word, memory_order_acquire)) {
                return true;
            }
            __builtin_ia32_pause();
        }
    } while (clock_mono_ns() < end);
    return false;
}
