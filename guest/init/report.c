/* report.c — what there is to say about the boot. */
#include "guest/init/report.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "base/bits.h"
#include "base/clock.h"
#include "proto/exec.pb-c.h"
#include "proto/exec_msg.h"

void report_init(struct report *report)
{
    struct utsname name;

    *report = (struct report){0};
    if (uname(&name) == 0) {
        (void)snprintf(report->kernel_release, sizeof(report->kernel_release), "%s", name.release);
    }
}

void report_fini(struct report *report)
{
    for (size_t i = 0; i < report->warning_count; i++) {
        free(report->warnings[i]);
    }
    *report = (struct report){0};
}

void report_warn(struct report *report, const char *fmt, ...)
{
    char *text = NULL;
    va_list ap;

    if (report->warning_count == REPORT_WARNINGS_MAX) {
        return;
    }
    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) >= 0) {
        report->warnings[report->warning_count++] = text;
    }
    va_end(ap);
}

void report_phase(struct report *report, const char *name)
{
    if (report->phase_count < REPORT_PHASES_MAX) {
        report->phases[report->phase_count].name = name;
        report->phases[report->phase_count++].at_ns = (uint64_t)clock_ns(CLOCK_BOOTTIME);
    }
}

static int pack(const ProtobufCMessage *message, struct buf *ret_buf)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *to = buf_reserve(ret_buf, size);

    if (!to) {
        return -ENOMEM;
    }
    ret_buf->len += protobuf_c_message_pack(message, to);
    return 0;
}

static char *text_of(const char *text)
{
    return (char *)(uintptr_t)text; /* the generated structs know no const */
}

int report_pack_ready(const struct report *report, struct buf *ret_buf)
{
    Ec1__V1__Ready ready = EC1__V1__READY__INIT;
    Ec1__V1__Phase phases[REPORT_PHASES_MAX];
    Ec1__V1__Phase *list[REPORT_PHASES_MAX];

    for (size_t i = 0; i < report->phase_count; i++) {
        phases[i] = (Ec1__V1__Phase)EC1__V1__PHASE__INIT;
        phases[i].name = text_of(report->phases[i].name);
        phases[i].at_ns = report->phases[i].at_ns;
        list[i] = &phases[i];
    }
    ready.version = text_of(EXEC_VERSION);
    ready.kernel_release = text_of(report->kernel_release);
    ready.error = text_of(report->error.code ? err_text(&report->error) : "");
    ready.n_warnings = report->warning_count;
    ready.warnings = (char **)(uintptr_t)report->warnings;
    ready.n_phases = report->phase_count;
    ready.phases = list;
    return pack(&ready.base, ret_buf);
}

int report_pack_info(const struct report *report, struct buf *ret_buf)
{
    Ec1__V1__InfoResponse info = EC1__V1__INFO_RESPONSE__INIT;

    info.version = text_of(EXEC_VERSION);
    info.kernel_release = text_of(report->kernel_release);
    info.uptime_ns = (uint64_t)clock_ns(CLOCK_BOOTTIME);
    info.n_warnings = report->warning_count;
    info.warnings = (char **)(uintptr_t)report->warnings;
    return pack(&info.base, ret_buf);
}
