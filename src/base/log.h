/* log.h — levelled messages, for the doors (cli, api, vmm) and thread heads.
 *
 * Everything below the doors returns its error instead of logging it; debug level is free outside
 * hot loops, and what a guest can cause goes through log_guest(), which is rate-limited.  Form:
 * names in 'quotes', units, no full stop, except where docs/microvm.md prescribes the words.
 *
 * There are two forms.  A command of ec1 writes "ec1: warning: ..." to stderr.  A microVM process
 * (log_use_records()) writes records to stdout or to a file, for people and for programs:
 *
 *     2026-08-21T14:05:33.123456789 [my-vm:fc_api:INFO:src/vmm/microvm.c:98] message text
 *
 * Any thread may log, a signal handler too (with nothing but %s, %d, %u, %x and the like); one
 * message is one write(2), so lines do not mix.  Nothing ever waits for the destination: what it
 * does not take is lost and counted.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* LOG_OFF is for log_set_level() alone. */
enum log_level { LOG_OFF = -1, LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG, LOG_TRACE };

/* Messages above `level` are dropped.  Default LOG_WARN, for records LOG_INFO. */
void log_set_level(enum log_level level);
enum log_level log_get_level(void);

/* "Off", "Error", "Warn", "Warning", "Info", "Debug", "Trace" in any case; -EINVAL. */
int log_level_parse(const char *text, enum log_level *ret_level);

/* The word in front of each message ("ec1: warning: ...").  `name` must outlive all logging. */
void log_set_name(const char *name);

/* --- records --- */

/* From now on records, to stdout.  `id` must outlive all logging. */
void log_use_records(const char *id);
/* What a record says of itself; both are off at first. */
void log_show_level(bool show);
void log_show_origin(bool show);
/* Only messages of modules whose name begins like this; NULL or "": all.  A module is the path of a
 * source file, as in "vmm::microvm" for src/vmm/microvm.c. */
void log_set_module(const char *prefix);
/* Write to this file: created when missing, never truncated; a FIFO needs no reader.  0 or -errno,
 * and then nothing has changed. */
int log_open(const char *path);
/* A signal handler says true before it logs, false before it returns: it may take no lock. */
void log_in_signal(bool is_in);
/* Count lost messages here, and those that log_guest() held back. */
void log_set_counters(_Atomic uint64_t *lost, _Atomic uint64_t *limited);

/* --- writing --- */

void log_record(enum log_level level, const char *file, unsigned line, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

#define log_put(level, ...) log_record((level), __FILE__, __LINE__, __VA_ARGS__)
#define log_error(...)      log_put(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)       log_put(LOG_WARN, __VA_ARGS__)
#define log_info(...)       log_put(LOG_INFO, __VA_ARGS__)
#define log_debug(...)      log_put(LOG_DEBUG, __VA_ARGS__)

/* One place that logs what a guest can cause as often as it likes. */
struct log_site {
    _Atomic int64_t window_ns; /* when the current span began */
    _Atomic uint32_t count;    /* in it */
};

enum { LOG_SITE_BURST = 10, LOG_SITE_WINDOW_S = 5 };

/* May this site log at the (monotonic) time `now_ns`?  *ret_held: how many the span before held
 * back, to be told now. */
bool log_site_pass(struct log_site *site, int64_t now_ns, uint32_t *ret_held);
void log_guest_record(struct log_site *site, enum log_level level, const char *file, unsigned line,
                      const char *fmt, ...) __attribute__((format(printf, 5, 6)));

#define log_guest(level, ...)                                               \
    do {                                                                    \
        static struct log_site site_;                                       \
        log_guest_record(&site_, (level), __FILE__, __LINE__, __VA_ARGS__); \
    } while (0)
