/* metrics_int.h — what the values, the lines and the destination share. */
#pragma once

#include "metrics/metrics.h"

#define METRICS_KIND(name, LIST) METRICS_KIND_##name,
#define METRICS_NO_KIND(name, LIST)
enum metrics_kind { METRICS_GROUPS(METRICS_NO_KIND, METRICS_KIND, METRICS_KIND) METRICS_KINDS };

/* One device's group. */
struct metrics_device {
    struct metrics_device *next; /* in the order of their ids */
    char *id;
    struct metric values[];
};

/* The devices of a kind; read and changed with the lock. */
struct metrics_device *metrics_devices(enum metrics_kind kind);

/* Bytes that a line needs at most; with the lock. */
size_t metrics_line_max(void);
size_t metrics_line_render(char *buf, size_t cap, const char *head);

/* One at a time: who changes the list of devices, who writes a line.  False after a tenth of a
 * second: a fatal signal may have come to the thread that holds it. */
bool metrics_lock(void);
void metrics_unlock(void);

/* Room in the line buffer for all devices; 0 or -ENOMEM.  With the lock. */
int metrics_out_grow(void);
void metrics_out_close(void);
