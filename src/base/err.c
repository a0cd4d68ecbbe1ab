/* err.c — build the sentence that tells a person what failed. */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

__attribute__((format(printf, 3, 0))) static void put(struct err *err, int code, const char *fmt,
                                                      va_list ap, const char *tail)
{
    char head[ERR_TEXT_MAX];

    (void)vsnprintf(head, sizeof(head), fmt, ap);
    if (tail) {
        char whole[ERR_TEXT_MAX];

        /* The tail holds the cause: when both do not fit, the head is what gets cut. */
        int room = (int)sizeof(whole) - 3 - (int)strnlen(tail, sizeof(whole) / 2);
        (void)snprintf(whole, sizeof(whole), "%.*s: %s", room, head, tail);
        memcpy(err->text, whole, sizeof(whole));
    } else {
        memcpy(err->text, head, sizeof(head));
    }
    err->code = code;
}

int err_sys(struct err *err, const char *fmt, ...)
{
    int code = errno ? -errno : -EIO;

    if (err) {
        va_list ap;

        va_start(ap, fmt);
        put(err, code, fmt, ap, strerror(-code));
        va_end(ap);
    }
    return code;
}

int err_set(struct err *err, int code, const char *fmt, ...)
{
    if (err) {
        va_list ap;

        va_start(ap, fmt);
        put(err, code, fmt, ap, NULL);
        va_end(ap);
    }
    return code;
}

int err_wrap(struct err *err, int code, const char *fmt, ...)
{
    if (err) {
        va_list ap;
        char tail[ERR_TEXT_MAX];

        (void)snprintf(tail, sizeof(tail), "%s", err->text[0] ? err->text : strerror(-code));
        va_start(ap, fmt);
        put(err, code, fmt, ap, tail);
        va_end(ap);
    }
    return code;
}

const char *err_text(const struct err *err)
{
    if (err->text[0]) {
        return err->text;
    }
    return err->code ? strerror(-err->code) : "no error";
}
