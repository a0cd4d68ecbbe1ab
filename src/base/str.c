/* str.c — text in, numbers out. */
#include "base/str.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/clock.h"

/* Digits at the start of `text`; *ret_rest is what follows.  -EINVAL without a digit, -ERANGE
 * beyond 64 bits. */
static int digits(const char *text, uint64_t *ret_value, const char **ret_rest)
{
    uint64_t value = 0;

    if (!isdigit((unsigned char)*text)) {
        return -EINVAL;
    }
    for (; isdigit((unsigned char)*text); text++) {
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*text - '0'), &value)) {
            return -ERANGE;
        }
    }
    *ret_value = value;
    *ret_rest = text;
    return 0;
}

int str_to_u64(const char *field, const char *text, uint64_t min, uint64_t max, uint64_t *ret_value,
               struct err *err)
{
    uint64_t value = 0;
    const char *rest = "";
    int r = digits(text, &value, &rest);

    if (r == -EINVAL || *rest) {
        return err_set(err, -EINVAL, "%s '%s': not a whole number; must be %llu to %llu", field,
                       text, (unsigned long long)min, (unsigned long long)max);
    }
    if (r < 0 || value < min || value > max) {
        return err_set(err, -ERANGE, "%s '%s': must be %llu to %llu", field, text,
                       (unsigned long long)min, (unsigned long long)max);
    }
    *ret_value = value;
    return 0;
}

static bool suffix_unit(const char *rest, uint64_t *unit)
{
    static const char letters[] = "kmgt";
    const char *at = *rest ? strchr(letters, tolower((unsigned char)*rest)) : NULL;

    if (!*rest) {
        return true;
    }
    if (at) {
        *unit = UINT64_C(1) << (10 * (at - letters + 1));
        rest++;
        if (!*rest || strcasecmp(rest, "b") == 0 || strcasecmp(rest, "ib") == 0) {
            return true;
        }
        return false;
    }
    if (strcasecmp(rest, "b") == 0) {
        *unit = 1;
        return true;
    }
    return false;
}

int str_to_size(const char *field, const char *text, uint64_t unit, uint64_t min, uint64_t max,
                uint64_t *ret_bytes, struct err *err)
{
    char lo[32];
    char hi[32];
    uint64_t value = 0;
    const char *rest = "";
    int r = digits(text, &value, &rest);

    if (r == -EINVAL || (r == 0 && !suffix_unit(rest, &unit))) {
        return err_set(err, -EINVAL,
                       "%s '%s': not a size; write a number with K, M or G, such as 512M", field,
                       text);
    }
    if (r < 0 || __builtin_mul_overflow(value, unit, &value) || value < min || value > max) {
        return err_set(err, -ERANGE, "%s '%s': must be %s to %s", field, text,
                       str_from_size(min, lo), str_from_size(max, hi));
    }
    *ret_bytes = value;
    return 0;
}

int str_to_duration(const char *field, const char *text, int64_t *ret_ns, struct err *err)
{
    static const struct {
        const char *name;
        int64_t ns;
    } units[] = {{"", NS_PER_S},
                 {"s", NS_PER_S},
                 {"ms", NS_PER_MS},
                 {"m", 60 * NS_PER_S},
                 {"h", 3600 * NS_PER_S}};
    uint64_t value = 0;
    const char *rest = "";

    if (digits(text, &value, &rest) == 0) {
        for (size_t i = 0; i < ARRAY_LEN(units); i++) {
            int64_t ns;

            if (strcmp(rest, units[i].name) == 0 && value <= INT64_MAX &&
                !__builtin_mul_overflow((int64_t)value, units[i].ns, &ns)) {
                *ret_ns = ns;
                return 0;
            }
        }
    }
    return err_set(err, -EINVAL, "%s '%s': not a duration; write a number with ms, s, m or h",
                   field, text);
}

bool str_has_prefix(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

bool str_has_suffix(const char *text, const char *suffix)
{
    size_t len = strlen(text);
    size_t tail = strlen(suffix);

    return len >= tail && strcmp(text + len - tail, suffix) == 0;
}

const char *str_from_size(uint64_t bytes, char out[static 32])
{
    static const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    unsigned unit = 0;
    uint64_t whole = bytes;
    uint64_t tenths = 0;

    while (whole >= 1024 && unit + 1 < ARRAY_LEN(names)) {
        tenths = (whole % 1024) * 10 / 1024;
        whole /= 1024;
        unit++;
    }
    if (tenths) {
        (void)snprintf(out, 32, "%llu.%llu %s", (unsigned long long)whole,
                       (unsigned long long)tenths, names[unit]);
    } else {
        (void)snprintf(out, 32, "%llu %s", (unsigned long long)whole, names[unit]);
    }
    return out;
}
