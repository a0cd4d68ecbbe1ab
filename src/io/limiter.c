/* limiter.c — see limiter.h. */
#include "io/limiter.h"

#include <string.h>

#include "base/clock.h"
#include "io/loop.h"

/* How long a refused operation waits before it asks again. */
#define REFUSED_NS (100 * NS_PER_MS)

void limiter_init(struct limiter *limiter, const struct limiter_config *config, struct loop *loop,
                  limiter_fn retry, void *owner)
{
    int64_t now = clock_mono_ns();

    *limiter = (struct limiter){.loop = loop, .retry = retry, .owner = owner};
    bucket_init(&limiter->bandwidth, &config->bandwidth, now);
    bucket_init(&limiter->ops, &config->ops, now);
}

void limiter_fini(struct limiter *limiter)
{
    if (limiter->timer) {
        loop_del_timer(limiter->loop, limiter->timer);
    }
    memset(limiter, 0, sizeof(*limiter));
}

static void on_timer(void *owner)
{
    struct limiter *limiter = owner;

    limiter->timer = NULL; /* the loop frees it */
    limiter->retry(limiter->owner);
}

/* Without memory for a timer the limit gives way: nothing may wait for ever. */
static bool arm(struct limiter *limiter, int64_t delay_ns)
{
    limiter->timer = loop_add_timer(limiter->loop, delay_ns, on_timer, limiter);
    return limiter->timer != NULL;
}

static bool take(struct limiter *limiter, struct bucket *bucket, uint64_t tokens)
{
    int64_t pause_ns = 0;

    if (limiter->timer) {
        return false;
    }
    if (!bucket->is_limiting) {
        return true;
    }
    switch (bucket_take(bucket, tokens, clock_mono_ns(), &pause_ns)) {
    case BUCKET_REFUSED: return !arm(limiter, REFUSED_NS);
    case BUCKET_OVERDRAWN: (void)arm(limiter, pause_ns); break;
    case BUCKET_GRANTED: break;
    }
    return true;
}

bool limiter_take(struct limiter *limiter, uint64_t ops, uint64_t bytes)
{
    if (!take(limiter, &limiter->ops, ops)) {
        return false;
    }
    /* nothing to ask for, nothing to be refused: the timer that the operation itself armed is for
     * what follows */
    if (bytes > 0 && !take(limiter, &limiter->bandwidth, bytes)) {
        bucket_refund(&limiter->ops, ops);
        return false;
    }
    return true;
}

void limiter_refund(struct limiter *limiter, uint64_t ops, uint64_t bytes)
{
    bucket_refund(&limiter->ops, ops);
    bucket_refund(&limiter->bandwidth, bytes);
}

bool limiter_is_blocked(const struct limiter *limiter)
{
    return limiter->timer != NULL;
}

void limiter_change(struct limiter *limiter, const struct limiter_update *update)
{
    int64_t now = clock_mono_ns();

    if (update->has_bandwidth) {
        bucket_init(&limiter->bandwidth, &update->config.bandwidth, now);
    }
    if (update->has_ops) {
        bucket_init(&limiter->ops, &update->config.ops, now);
    }
}

void limiter_save(const struct limiter *limiter, struct limiter_state *ret_state)
{
    int64_t now = clock_mono_ns();

    bucket_save(&limiter->bandwidth, now, &ret_state->bandwidth);
    bucket_save(&limiter->ops, now, &ret_state->ops);
}

void limiter_load(struct limiter *limiter, const struct limiter_state *state)
{
    int64_t now = clock_mono_ns();

    bucket_load(&limiter->bandwidth, &state->bandwidth, now);
    bucket_load(&limiter->ops, &state->ops, now);
}
