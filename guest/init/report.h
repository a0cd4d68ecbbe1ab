/* report.h — what there is to say about the boot: warnings, the error that ended it, times. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

enum { REPORT_WARNINGS_MAX = 64, REPORT_PHASES_MAX = 16 };

struct report {
    char kernel_release[128];
    struct err error; /* code 0: the boot went well */
    char *warnings[REPORT_WARNINGS_MAX];
    size_t warning_count;
    struct {
        const char *name;
        uint64_t at_ns;
    } phases[REPORT_PHASES_MAX];
    size_t phase_count;
};

void report_init(struct report *report);
void report_fini(struct report *report);
void report_warn(struct report *report, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* `name` has ended just now; it must outlive the report. */
void report_phase(struct report *report, const char *name);
/* A Ready message; 0 or -ENOMEM. */
int report_pack_ready(const struct report *report, struct buf *ret_buf);
/* An InfoResponse. */
int report_pack_info(const struct report *report, struct buf *ret_buf);
