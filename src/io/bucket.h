/* bucket.h — a token bucket: a budget that fills at a steady rate up to its size, and a burst that
 * is there once.
 *
 * Pure arithmetic; the caller brings the time (ns of any clock that never goes backwards).  A
 * bucket starts full.  A zeroed struct is a bucket that does not limit.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Size or time 0, or a time whose nanoseconds do not fit 64 bits: does not limit. */
struct bucket_config {
    uint64_t size;      /* tokens */
    uint64_t refill_ms; /* to fill it from empty */
    uint64_t burst;     /* further tokens, spent first and never filled up again */
};

struct bucket {
    struct bucket_config config;
    bool is_limiting;
    uint64_t burst;  /* what is left */
    uint64_t budget; /* at most config.size */
    int64_t last_ns; /* until when the budget is accounted for */
};

enum bucket_answer {
    BUCKET_GRANTED,
    BUCKET_REFUSED,
    BUCKET_OVERDRAWN, /* granted, and more than the bucket can ever hold */
};

/* What a snapshot keeps. */
struct bucket_state {
    struct bucket_config config;
    uint64_t burst;
    uint64_t budget;
    uint64_t elapsed_ns; /* since the last refill */
};

void bucket_init(struct bucket *bucket, const struct bucket_config *config, int64_t now_ns);
/* Take `tokens`.  After BUCKET_OVERDRAWN the owner has to let *ret_pause_ns pass before it takes
 * any more; the other answers leave it alone. */
enum bucket_answer bucket_take(struct bucket *bucket, uint64_t tokens, int64_t now_ns,
                               int64_t *ret_pause_ns);
/* Give back what was taken for something that did not happen. */
void bucket_refund(struct bucket *bucket, uint64_t tokens);

void bucket_save(const struct bucket *bucket, int64_t now_ns, struct bucket_state *ret_state);
/* `state` may be anything: what does not fit its own configuration is cut to it. */
void bucket_load(struct bucket *bucket, const struct bucket_state *state, int64_t now_ns);
