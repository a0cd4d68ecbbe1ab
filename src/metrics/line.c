/* line.c — one JSON line of all metrics, without allocating: a fatal signal's handler writes one,
 * too.
 *
 * Theory of operation: a group's struct is nothing but `struct metric` after `struct metric`, so a
 * table of names and kinds is walked beside it.  Showing a counter moves its `written` forward, so
 * each device is shown once and its deltas are kept for the sum that follows.
 */
#include <string.h>

#include "base/clock.h"
#include "metrics/metrics_int.h"

enum field_kind { FIELD_COUNT, FIELD_STORE, FIELD_AGG };

struct field {
    const char *name;
    enum field_kind kind;
};

#define AS_COUNT(field) {#field, FIELD_COUNT},
#define AS_STORE(field) {#field, FIELD_STORE},
#define AS_AGG(field)   {#field, FIELD_AGG},
#define ONE(field)      +1
#define THREE(field)    +3
#define FIELDS(name, LIST)                                                                     \
    static const struct field g_fields_##name[] = {LIST(AS_COUNT, AS_STORE, AS_AGG){NULL, 0}}; \
    _Static_assert(sizeof(struct metrics_##name) ==                                            \
                       (0 LIST(ONE, ONE, THREE)) * sizeof(struct metric),                      \
                   "a group is an array of metrics");
METRICS_GROUPS(FIELDS, FIELDS, FIELDS)

enum {
    GROUP_METRICS_MAX = 64, /* of a group that has a sum */
    NAME_MAX_BYTES = 64,    /* "name": and its number and comma */
};

#define FITS(name, LIST) \
    _Static_assert((0 LIST(ONE, ONE, THREE)) <= GROUP_METRICS_MAX, "a sum has room for " #name);
#define NOTHING(name, LIST)
METRICS_GROUPS(NOTHING, FITS, NOTHING)

struct line {
    char *buf;
    size_t len;
    size_t cap;
    bool is_full;
};

static void put(struct line *line, const char *text)
{
    size_t len = strlen(text);

    if (len > line->cap - line->len) {
        line->is_full = true;
        return;
    }
    memcpy(line->buf + line->len, text, len);
    line->len += len;
}

static void put_u64(struct line *line, uint64_t value)
{
    char digits[21]; /* 2^64 has 20 */
    char *at = digits + sizeof(digits) - 1;

    *at = '\0';
    do {
        *--at = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    put(line, at);
}

static void put_key(struct line *line, const char *key, const char *tail)
{
    put(line, "\"");
    put(line, key);
    if (tail) {
        put(line, "_");
        put(line, tail);
    }
    put(line, "\":");
}

static void put_named(struct line *line, const char *key, uint64_t value)
{
    put_key(line, key, NULL);
    put_u64(line, value);
}

static uint64_t take(struct metric *metric, enum field_kind kind)
{
    uint64_t value = metric_get(metric);

    if (kind == FIELD_STORE) {
        return value;
    }
    return value - atomic_exchange_explicit(&metric->written, value, memory_order_relaxed);
}

/* What a group shows now: as many numbers as it has metrics. */
static void take_all(struct metric *values, const struct field *fields, uint64_t *shown)
{
    for (; fields->name; fields++) {
        if (fields->kind == FIELD_AGG) {
            *shown++ = take(values++, FIELD_STORE);
            *shown++ = take(values++, FIELD_STORE);
            *shown++ = take(values++, FIELD_COUNT);
        } else {
            *shown++ = take(values++, fields->kind);
        }
    }
}

static void put_values(struct line *line, const char *name, const char *id,
                       const struct field *fields, const uint64_t *shown)
{
    const char *comma = "";

    put(line, ",");
    put_key(line, name, id);
    put(line, "{");
    for (; fields->name; fields++) {
        put(line, comma);
        comma = ",";
        if (fields->kind == FIELD_AGG) {
            put_key(line, fields->name, NULL);
            put(line, "{");
            put_named(line, "min_us", *shown++);
            put(line, ",");
            put_named(line, "max_us", *shown++);
            put(line, ",");
            put_named(line, "sum_us", *shown++);
            put(line, "}");
        } else {
            put_named(line, fields->name, *shown++);
        }
    }
    put(line, "}");
}

static void put_group(struct line *line, const char *name, void *values, const struct field *fields)
{
    uint64_t shown[GROUP_METRICS_MAX];

    take_all(values, fields, shown);
    put_values(line, name, NULL, fields, shown);
}

static void sum_up(const struct field *fields, const uint64_t *shown, uint64_t *total)
{
    for (; fields->name; fields++) {
        if (fields->kind == FIELD_AGG) {
            if (total[0] == 0 || (shown[0] > 0 && shown[0] < total[0])) {
                total[0] = shown[0];
            }
            total[1] = shown[1] > total[1] ? shown[1] : total[1];
            shown += 2;
            total += 2;
        }
        *total++ += *shown++;
    }
}

static void put_devices(struct line *line, const char *name, enum metrics_kind kind,
                        const struct field *fields, bool has_sum)
{
    uint64_t total[GROUP_METRICS_MAX] = {0};

    for (struct metrics_device *dev = metrics_devices(kind); dev; dev = dev->next) {
        uint64_t shown[GROUP_METRICS_MAX];

        take_all(dev->values, fields, shown);
        put_values(line, name, dev->id, fields, shown);
        sum_up(fields, shown, total);
    }
    if (has_sum) {
        put_values(line, name, NULL, fields, total);
    }
}

size_t metrics_line_render(char *buf, size_t cap, const char *head)
{
    struct line line = {.buf = buf, .cap = cap};

    put(&line, "{");
    put_named(&line, "utc_timestamp_ms", (uint64_t)(clock_wall_ns() / NS_PER_MS));
    put(&line, head);
#define PUT_GROUP(name, LIST) put_group(&line, #name, &g_metrics.name, g_fields_##name);
#define PUT_SUMMED(name, LIST) \
    put_devices(&line, #name, METRICS_KIND_##name, g_fields_##name, true);
#define PUT_EACH(name, LIST) put_devices(&line, #name, METRICS_KIND_##name, g_fields_##name, false);
    METRICS_GROUPS(PUT_GROUP, PUT_SUMMED, PUT_EACH)
    put(&line, "}\n");
    return line.is_full ? 0 : line.len;
}

#define BYTES(name, LIST) \
    (NAME_MAX_BYTES + NAME_MAX_BYTES * sizeof(struct metrics_##name) / sizeof(struct metric))
#define PLUS_BYTES(name, LIST) +BYTES(name, LIST)
#define NEXT_BYTES(name, LIST) BYTES(name, LIST),

size_t metrics_line_max(void)
{
    static const size_t device_bytes[] = {METRICS_GROUPS(NOTHING, NEXT_BYTES, NEXT_BYTES)};
    size_t max = NAME_MAX_BYTES METRICS_GROUPS(PLUS_BYTES, PLUS_BYTES, NOTHING);

    for (unsigned kind = 0; kind < METRICS_KINDS; kind++) {
        for (struct metrics_device *dev = metrics_devices(kind); dev; dev = dev->next) {
            max += device_bytes[kind] + strlen(dev->id);
        }
    }
    return max;
}
