/* limits.h — rate limits, from the words of the interface to those of a device. */
#pragma once

#include "config/resource.h"
#include "io/limiter.h"

/* `has` false: no limit. */
struct limiter_config limits_config(const struct resource_limiter *limiter, bool has);
struct limiter_update limits_update(const struct resource_limiter *limiter, bool has);
