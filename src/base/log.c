/* log.c — write one message as one line to stderr. */
#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

static _Atomic int g_level = LOG_WARN;
static const char *_Atomic g_name = "ec1";

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&g_level, (int)level, memory_order_relaxed);
}

enum log_level log_get_level(void)
{
    return (enum log_level)atomic_load_explicit(&g_level, memory_order_relaxed);
}

void log_set_name(const char *name)
{
    atomic_store_explicit(&g_name, name, memory_order_relaxed);
}

void log_put(enum log_level level, const char *fmt, ...)
{
    static const char *const words[] = {
        [LOG_ERROR] = "", [LOG_WARN] = "warning: ", [LOG_INFO] = "", [LOG_DEBUG] = "debug: "};
    char line[2048];
    va_list ap;
    int head;
    int body;
    size_t len;

    if (level > log_get_level()) {
        return;
    }
    head = snprintf(line, sizeof(line), "%s: %s",
                    atomic_load_explicit(&g_name, memory_order_relaxed), words[level]);
    va_start(ap, fmt);
    body = vsnprintf(line + head, sizeof(line) - (size_t)head, fmt, ap);
    va_end(ap);
    len = (size_t)head + (body > 0 ? (size_t)body : 0);
    if (len > sizeof(line) - 1) {
        len = sizeof(line) - 1;
    }
    line[len] = '\n';
    (void)!write(STDERR_FILENO, line, len + 1);
}
