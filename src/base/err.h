/* err.h — one sentence about a failure, built on the way up and shown at the door.
 *
 * Convention of the whole tree: a function that can fail returns 0 (or a useful non-negative value)
 * on success and a negative errno on failure.  In control code the last parameter is a `struct err
 * *` that may be NULL; it lives in the caller's frame and nothing here allocates.  All three
 * writers return the code, so that reporting and returning cannot come apart:
 *
 *     return err_sys(err, "open disk '%s'", path);          errno   -> "open disk 'x': No such
 * file" return err_set(err, -EINVAL, "vcpu count %u: must be 1 to %u", n, max); return
 * err_wrap(err, r, "drive '%s'", id);            prefix  -> "drive 'a': open disk ..."
 */
#pragma once

#define ERR_TEXT_MAX 1024

struct err {
    int code;                /* negative errno, 0 while nothing was reported */
    char text[ERR_TEXT_MAX]; /* NUL-terminated, no trailing newline */
};

/* Report errno.  Reads errno first; returns -errno (or -EIO when errno is 0). */
int err_sys(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Report `code` (negative errno) with a complete sentence. */
int err_set(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Put "fmt: " in front of what is already there (or of strerror(code) if nothing is). */
int err_wrap(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The sentence, never NULL and never empty: falls back to the text of `code`. */
const char *err_text(const struct err *err);
