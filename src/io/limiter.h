/* limiter.h — a rate limiter: a bucket of bytes, a bucket of operations, and the timer that lets
 * what they refused go on.
 *
 * While the timer runs nothing is granted, not even what the other bucket would allow.  When it has
 * run out, `retry` is called and takes up the work again.  A zeroed struct that was never
 * initialised grants everything; so does one whose buckets do not limit.
 *
 *     if (!limiter_take(&dev->limiter, 1, bytes)) {
 *         return;      leave the request where it is; retry() comes back to it
 *     }
 *
 * Threads: the loop's, or any while no thread runs the loop.
 */
#pragma once

#include "io/bucket.h"

struct loop;
struct loop_timer;

struct limiter_config {
    struct bucket_config bandwidth; /* bytes */
    struct bucket_config ops;
};

/* For PATCH: a bucket that is not named stays; a named one is replaced by a full one. */
struct limiter_update {
    struct limiter_config config;
    bool has_bandwidth;
    bool has_ops;
};

struct limiter_state {
    struct bucket_state bandwidth;
    struct bucket_state ops;
};

typedef void (*limiter_fn)(void *owner);

struct limiter {
    struct bucket bandwidth;
    struct bucket ops;
    struct loop *loop;
    struct loop_timer *timer; /* NULL while it does not run */
    limiter_fn retry;
    void *owner;
};

/* `retry` is called on the loop, each time the timer has run out. */
void limiter_init(struct limiter *limiter, const struct limiter_config *config, struct loop *loop,
                  limiter_fn retry, void *owner);
void limiter_fini(struct limiter *limiter);

/* May one thing with `ops` operations (0 or 1, normally) and `bytes` go on?  False: it has to
 * wait, the timer runs (a burst may be spent on the way; that is how the interface has it). */
bool limiter_take(struct limiter *limiter, uint64_t ops, uint64_t bytes);
/* Give back what a granted thing did not use after all. */
void limiter_refund(struct limiter *limiter, uint64_t ops, uint64_t bytes);
/* Does the timer run? */
bool limiter_is_blocked(const struct limiter *limiter);

/* Live change; a running timer goes on. */
void limiter_change(struct limiter *limiter, const struct limiter_update *update);

void limiter_save(const struct limiter *limiter, struct limiter_state *ret_state);
/* After limiter_init(): budgets and bursts from a snapshot; the timer does not run. */
void limiter_load(struct limiter *limiter, const struct limiter_state *state);
