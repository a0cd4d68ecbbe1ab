/* limiter_state.c — see limiter_state.h. */
#include "dev/virtio/limiter_state.h"

#include "io/limiter.h"
#include "state/state.h"

static void bucket_fields(struct bucket_state *bucket, struct state *s)
{
    STATE(s, bucket->config.size);
    STATE(s, bucket->config.refill_ms);
    STATE(s, bucket->config.burst);
    STATE(s, bucket->burst);
    STATE(s, bucket->budget);
    STATE(s, bucket->elapsed_ns);
}

void virtio_limiter_fields(struct limiter *limiter, struct state *s)
{
    struct limiter_state kept;

    limiter_save(limiter, &kept);
    bucket_fields(&kept.bandwidth, s);
    bucket_fields(&kept.ops, s);
    if (s->is_loading && !s->failed) {
        limiter_load(limiter, &kept);
    }
}
