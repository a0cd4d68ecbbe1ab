/* str.h — text in, numbers out, with errors that name the field, the value and what is allowed. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* A decimal number between min and max.  `field` is the name shown in the error. */
int str_to_u64(const char *field, const char *text, uint64_t min, uint64_t max, uint64_t *ret_value,
               struct err *err);

/* A size in bytes with an optional suffix K, M, G, T (powers of 1024, either case, optional "iB" or
 * "B"); without a suffix the number counts `unit` bytes. */
int str_to_size(const char *field, const char *text, uint64_t unit, uint64_t min, uint64_t max,
                uint64_t *ret_bytes, struct err *err);

/* A time span in ns: decimal number with ms, s (default), m or h; "0" means none. */
int str_to_duration(const char *field, const char *text, int64_t *ret_ns, struct err *err);

bool str_has_prefix(const char *text, const char *prefix);
bool str_has_suffix(const char *text, const char *suffix);

/* "512 MiB", "1.5 GiB": for messages.  Writes into and returns `out`. */
const char *str_from_size(uint64_t bytes, char out[static 32]);
