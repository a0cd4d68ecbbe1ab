/* limiter_state.h — a device's rate limiter in its section of a snapshot. */
#pragma once

struct limiter;
struct state;

/* Write or take back what the limiter's buckets hold; its timer is not kept. */
void virtio_limiter_fields(struct limiter *limiter, struct state *s);
