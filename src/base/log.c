/* log.c — one message as one line, to stderr as a sentence or to a file as a record. */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

enum {
    TEXT_BYTES = 2048,  /* on the stack: most messages */
    TEXT_MAX = 1 << 20, /* a request's body is quoted whole; escaped it may be six times as long */
    HEAD_BYTES = 512,   /* time, id, thread, level, origin */
    MODULE_BYTES = 256, /* longer than any module's name */
    THREAD_NAME_BYTES = 16,
};

static _Atomic int g_level = LOG_WARN;
static const char *_Atomic g_name = "ec1";
static const char *_Atomic g_id; /* NULL: sentences */
static _Atomic int g_fd = STDERR_FILENO;
static _Atomic bool g_shows_level;
static _Atomic bool g_shows_origin;
static _Atomic bool g_is_torn; /* the last record did not get its end */
static char g_modules[2][MODULE_BYTES];
static const char *_Atomic g_module = g_modules[0];
static _Atomic uint64_t *_Atomic g_lost;
static _Atomic uint64_t *_Atomic g_limited;
static _Atomic int64_t g_zone_minute = -1; /* the zone's offset was looked up in this minute */
static _Atomic long g_zone_s;              /* east of Greenwich */
static _Thread_local bool g_is_in_signal;

#define GET(var)        atomic_load_explicit(&(var), memory_order_acquire)
#define SET(var, value) atomic_store_explicit(&(var), (value), memory_order_release)

void log_set_level(enum log_level level)
{
    SET(g_level, (int)level);
}

enum log_level log_get_level(void)
{
    return (enum log_level)GET(g_level);
}

int log_level_parse(const char *text, enum log_level *ret_level)
{
    static const struct {
        const char *word;
        enum log_level level;
    } words[] = {
        {"off", LOG_OFF},   {"error", LOG_ERROR}, {"warn", LOG_WARN},   {"warning", LOG_WARN},
        {"info", LOG_INFO}, {"debug", LOG_DEBUG}, {"trace", LOG_TRACE},
    };

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcasecmp(text, words[i].word) == 0) {
            *ret_level = words[i].level;
            return 0;
        }
    }
    return -EINVAL;
}

void log_set_name(const char *name)
{
    SET(g_name, name);
}

void log_show_level(bool show)
{
    SET(g_shows_level, show);
}

void log_show_origin(bool show)
{
    SET(g_shows_origin, show);
}

void log_set_module(const char *prefix)
{
    /* The other buffer, so that who reads the old one meanwhile reads a whole name. */
    char *next = g_modules[GET(g_module) == g_modules[0]];

    (void)snprintf(next, MODULE_BYTES, "%s", prefix ? prefix : "");
    SET(g_module, next);
}

void log_set_counters(_Atomic uint64_t *lost, _Atomic uint64_t *limited)
{
    SET(g_lost, lost);
    SET(g_limited, limited);
}

static void count(_Atomic uint64_t *counter)
{
    if (counter) {
        atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
    }
}

void log_in_signal(bool is_in)
{
    g_is_in_signal = is_in;
}

/* The offset of local time, looked up once a minute; localtime_r() takes a lock. */
static void refresh_zone(time_t now)
{
    struct tm tm;

    if (!g_is_in_signal && GET(g_zone_minute) != now / 60 && localtime_r(&now, &tm)) {
        SET(g_zone_s, tm.tm_gmtoff);
        SET(g_zone_minute, now / 60);
    }
}

void log_use_records(const char *id)
{
    SET(g_fd, STDOUT_FILENO);
    SET(g_id, id);
    SET(g_level, LOG_INFO);
}

int log_open(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_NONBLOCK | O_CLOEXEC | O_NOCTTY, 0644);
    int old = GET(g_fd);

    if (fd < 0) {
        return -errno;
    }
    if (old > STDERR_FILENO) { /* keep the number: who writes now, writes to one of the two */
        int r = dup3(fd, old, O_CLOEXEC) < 0 ? -errno : 0;

        (void)close(fd);
        return r;
    }
    SET(g_fd, fd);
    return 0;
}

/* "src/vmm/microvm.c" is the module "vmm::microvm". */
static bool is_wanted(const char *file)
{
    const char *want = GET(g_module);
    const char *at = strncmp(file, "src/", 4) == 0 ? file + 4 : file;

    for (; *want; want++, at++) {
        if (*at == '/' && want[0] == ':' && want[1] == ':') {
            want++;
        } else if (*at != *want || *at == '.') {
            return false;
        }
    }
    return true;
}

/* Day number since 1970-01-01 to a date of the Gregorian calendar: years that begin in March make
 * the leap day the last one, eras of 400 years make the divisions exact. */
static void civil_date(int64_t days, int *ret_year, int *ret_month, int *ret_day)
{
    int64_t shifted = days + 719468; /* since 0000-03-01 */
    int64_t era = shifted / 146097;
    int64_t day = shifted % 146097;
    int64_t year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
    int64_t day_of_year = day - (365 * year + year / 4 - year / 100);
    int64_t month = (5 * day_of_year + 2) / 153; /* 0: March */

    *ret_day = (int)(day_of_year - (153 * month + 2) / 5 + 1);
    *ret_month = (int)(month < 10 ? month + 3 : month - 9);
    *ret_year = (int)(year + era * 400 + (*ret_month <= 2));
}

static int put_time(char *out, size_t size)
{
    int64_t now_ns = clock_wall_ns();
    int64_t local_s;
    int64_t of_day;
    int year;
    int month;
    int day;

    refresh_zone(now_ns / NS_PER_S);
    local_s = now_ns / NS_PER_S + GET(g_zone_s);
    of_day = local_s % 86400;
    civil_date(local_s / 86400, &year, &month, &day);
    return snprintf(out, size, "%04d-%02d-%02dT%02d:%02d:%02d.%09d", year, month, day,
                    (int)(of_day / 3600), (int)(of_day / 60 % 60), (int)(of_day % 60),
                    (int)(now_ns % NS_PER_S));
}

static int put_record_head(char *out, size_t size, enum log_level level, const char *file,
                           unsigned line)
{
    static const char *const words[] = {[LOG_ERROR] = "ERROR",
                                        [LOG_WARN] = "WARN",
                                        [LOG_INFO] = "INFO",
                                        [LOG_DEBUG] = "DEBUG",
                                        [LOG_TRACE] = "TRACE"};
    char thread[THREAD_NAME_BYTES] = "";
    char origin[MODULE_BYTES] = "";
    char when[64];
    bool shows_level = GET(g_shows_level);

    (void)prctl(PR_GET_NAME, thread);
    (void)put_time(when, sizeof(when));
    if (GET(g_shows_origin)) {
        (void)snprintf(origin, sizeof(origin), ":%s:%u", file, line);
    }
    return snprintf(out, size, "%s%s [%s:%s%s%s%s] ", GET(g_is_torn) ? "\n" : "", when, GET(g_id),
                    thread, shows_level ? ":" : "", shows_level ? words[level] : "", origin);
}

static int put_sentence_head(char *out, size_t size, enum log_level level)
{
    static const char *const words[] = {[LOG_ERROR] = "",
                                        [LOG_WARN] = "warning: ",
                                        [LOG_INFO] = "",
                                        [LOG_DEBUG] = "debug: ",
                                        [LOG_TRACE] = "trace: "};

    return snprintf(out, size, "%s: %s", GET(g_name), words[level]);
}

static void write_line(const char *line, size_t len)
{
    bool is_torn = false;

    while (len > 0) {
        ssize_t n = write(GET(g_fd), line, len);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            count(GET(g_lost));
            SET(g_is_torn, is_torn);
            return;
        }
        line += n;
        len -= (size_t)n;
        is_torn = true;
    }
    SET(g_is_torn, false);
}

/* Head and message into `line` of `size` bytes; returns how long they are (may be more). */
__attribute__((format(printf, 4, 0))) static size_t
format(char *line, size_t size, const char *head, const char *fmt, va_list ap)
{
    size_t head_len = strlen(head);
    int body;

    (void)snprintf(line, size, "%s", head);
    body = vsnprintf(line + head_len, size - head_len, fmt, ap);
    return head_len + (body > 0 ? (size_t)body : 0);
}

__attribute__((format(printf, 4, 0))) static void put(enum log_level level, const char *file,
                                                      unsigned line, const char *fmt, va_list ap)
{
    char head[HEAD_BYTES];
    char text[TEXT_BYTES];
    char *whole = NULL;
    va_list again;
    size_t len;
    int errno_before = errno;

    if (GET(g_id)) {
        (void)put_record_head(head, sizeof(head), level, file, line);
    } else {
        (void)put_sentence_head(head, sizeof(head), level);
    }
    va_copy(again, ap);
    len = format(text, sizeof(text), head, fmt, ap);
    if (len >= sizeof(text) && len < TEXT_MAX && !g_is_in_signal) {
        whole = malloc(len + 1);
    }
    if (whole) {
        (void)format(whole, len + 1, head, fmt, again);
    } else if (len > sizeof(text) - 1) {
        len = sizeof(text) - 1;
    }
    va_end(again);
    (whole ? whole : text)[len] = '\n';
    write_line(whole ? whole : text, len + 1);
    free(whole);
    errno = errno_before;
}

static bool passes(enum log_level level, const char *file)
{
    return level <= log_get_level() && is_wanted(file);
}

void log_record(enum log_level level, const char *file, unsigned line, const char *fmt, ...)
{
    va_list ap;

    if (passes(level, file)) {
        va_start(ap, fmt);
        put(level, file, line, fmt, ap);
        va_end(ap);
    }
}

bool log_site_pass(struct log_site *site, int64_t now_ns, uint32_t *ret_held)
{
    int64_t began = GET(site->window_ns);
    uint32_t before;

    *ret_held = 0;
    if ((began == 0 || now_ns - began >= LOG_SITE_WINDOW_S * NS_PER_S) &&
        atomic_compare_exchange_strong(&site->window_ns, &began, now_ns)) {
        before = atomic_exchange(&site->count, 1);
        *ret_held = before > LOG_SITE_BURST ? before - LOG_SITE_BURST : 0;
        return true;
    }
    before = atomic_fetch_add(&site->count, 1);
    return before < LOG_SITE_BURST;
}

void log_guest_record(struct log_site *site, enum log_level level, const char *file, unsigned line,
                      const char *fmt, ...)
{
    uint32_t held;
    va_list ap;

    if (!passes(level, file)) {
        return;
    }
    if (!log_site_pass(site, clock_mono_ns(), &held)) {
        count(GET(g_limited));
        return;
    }
    if (held > 0) {
        log_record(level, file, line, "%u messages of this place were held back", held);
    }
    va_start(ap, fmt);
    put(level, file, line, fmt, ap);
    va_end(ap);
}
