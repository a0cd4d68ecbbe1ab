/* bucket.c — see bucket.h.
 *
 * Theory of operation.  The budget is brought up to date only when it does not suffice.  Then the
 * time since the last refill becomes whole tokens, and the clock of the bucket advances by the time
 * these tokens took (rounded up), so that fractions of a token are neither lost nor given twice.
 */
#include "io/bucket.h"

#include <string.h>

#include "base/clock.h"

typedef __uint128_t wide;

static bool limits(const struct bucket_config *config, uint64_t *ret_refill_ns)
{
    return config->size && config->refill_ms &&
           !__builtin_mul_overflow(config->refill_ms, (uint64_t)NS_PER_MS, ret_refill_ns);
}

static uint64_t refill_ns(const struct bucket *bucket)
{
    return bucket->config.refill_ms * (uint64_t)NS_PER_MS;
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

void bucket_init(struct bucket *bucket, const struct bucket_config *config, int64_t now_ns)
{
    uint64_t ns;

    memset(bucket, 0, sizeof(*bucket));
    if (limits(config, &ns)) {
        *bucket = (struct bucket){.config = *config,
                                  .is_limiting = true,
                                  .burst = config->burst,
                                  .budget = config->size,
                                  .last_ns = now_ns};
    }
}

static void refill(struct bucket *bucket, int64_t now_ns)
{
    uint64_t size = bucket->config.size;
    uint64_t whole = refill_ns(bucket);
    uint64_t passed = now_ns > bucket->last_ns ? (uint64_t)(now_ns - bucket->last_ns) : 0;
    uint64_t tokens;

    if (passed >= whole) {
        bucket->budget = size;
        bucket->last_ns = now_ns;
        return;
    }
    tokens = (uint64_t)((wide)passed * size / whole); /* below size */
    bucket->last_ns += (int64_t)(((wide)tokens * whole + size - 1) / size);
    bucket->budget = tokens > size - bucket->budget ? size : bucket->budget + tokens;
}

/* The longest pause, so that a deadline made of it stays within an int64_t: 146 years. */
#define PAUSE_MAX_NS (INT64_MAX / 2)

/* How long it takes to refill `tokens`, which are more than the bucket holds. */
static int64_t time_of(const struct bucket *bucket, uint64_t tokens)
{
    wide ns = (wide)tokens * refill_ns(bucket) / bucket->config.size;

    return ns > PAUSE_MAX_NS ? PAUSE_MAX_NS : (int64_t)ns;
}

enum bucket_answer bucket_take(struct bucket *bucket, uint64_t tokens, int64_t now_ns,
                               int64_t *ret_pause_ns)
{
    if (!bucket->is_limiting) {
        return BUCKET_GRANTED;
    }
    if (bucket->burst >= tokens && bucket->burst > 0) {
        bucket->burst -= tokens;
        bucket->last_ns = now_ns;
        return BUCKET_GRANTED;
    }
    tokens -= bucket->burst;
    bucket->burst = 0;
    if (tokens > bucket->budget) {
        refill(bucket, now_ns);
        if (tokens > bucket->config.size) {
            *ret_pause_ns = time_of(bucket, tokens - bucket->budget);
            bucket->budget = 0;
            return BUCKET_OVERDRAWN;
        }
        if (tokens > bucket->budget) {
            return BUCKET_REFUSED;
        }
    }
    bucket->budget -= tokens;
    return BUCKET_GRANTED;
}

void bucket_refund(struct bucket *bucket, uint64_t tokens)
{
    uint64_t sum;

    if (bucket->burst > 0) {
        bucket->burst = __builtin_add_overflow(bucket->burst, tokens, &sum) ? UINT64_MAX : sum;
    } else if (bucket->is_limiting) {
        bucket->budget = tokens > bucket->config.size - bucket->budget ? bucket->config.size
                                                                       : bucket->budget + tokens;
    }
}

void bucket_save(const struct bucket *bucket, int64_t now_ns, struct bucket_state *ret_state)
{
    *ret_state = (struct bucket_state){
        .config = bucket->config,
        .burst = bucket->burst,
        .budget = bucket->budget,
        .elapsed_ns = now_ns > bucket->last_ns ? (uint64_t)(now_ns - bucket->last_ns) : 0,
    };
}

void bucket_load(struct bucket *bucket, const struct bucket_state *state, int64_t now_ns)
{
    bucket_init(bucket, &state->config, now_ns);
    if (bucket->is_limiting) {
        bucket->burst = min_u64(state->burst, state->config.burst);
        bucket->budget = min_u64(state->budget, state->config.size);
        /* longer than a whole refill says nothing more */
        bucket->last_ns =
            now_ns - (int64_t)min_u64(state->elapsed_ns, min_u64(refill_ns(bucket), INT64_MAX / 2));
    }
}
