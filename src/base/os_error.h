/* os_error.h — operating system errors in the words that clients of Firecracker's interface match.
 *
 * Firecracker's releases are linked against musl, whose texts differ from glibc's for some errors,
 * and say "<text> (os error <number>)".
 */
#pragma once

#define OS_ERROR_MAX 96

/* Of an errno, negative or positive.  Writes into and returns `out`. */
const char *os_error(int code, char out[static OS_ERROR_MAX]);
