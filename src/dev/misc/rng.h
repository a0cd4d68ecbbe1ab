/* rng.h — virtio-rng (virtio 1.2, 5.4): random bytes of the host for the guest. */
#pragma once

#include "base/err.h"

struct limiter_config;
struct loop;
struct mem_map;
struct virtio_dev;

/* `limit` may be NULL: no limit. */
int rng_new(struct mem_map *mem, struct loop *loop, const struct limiter_config *limit,
            struct virtio_dev **ret_dev, struct err *err);
