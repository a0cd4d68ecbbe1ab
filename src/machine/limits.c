/* limits.c — see limits.h. */
#include "machine/limits.h"

static struct bucket_config bucket_of(const struct resource_bucket *bucket, bool has)
{
    if (!has) {
        return (struct bucket_config){0};
    }
    return (struct bucket_config){
        .size = bucket->size,
        .refill_ms = bucket->refill_time,
        .burst = bucket->has_burst ? bucket->one_time_burst : 0,
    };
}

struct limiter_config limits_config(const struct resource_limiter *limiter, bool has)
{
    return (struct limiter_config){
        .bandwidth = bucket_of(&limiter->bandwidth, has && limiter->has_bandwidth),
        .ops = bucket_of(&limiter->ops, has && limiter->has_ops),
    };
}

struct limiter_update limits_update(const struct resource_limiter *limiter, bool has)
{
    return (struct limiter_update){
        .config = limits_config(limiter, has),
        .has_bandwidth = has && limiter->has_bandwidth,
        .has_ops = has && limiter->has_ops,
    };
}
