/* os_error.c — see os_error.h. */
#include "base/os_error.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"

/* Where musl (1.2, src/errno/__strerror.h) says it differently from glibc. */
static const struct {
    int code;
    const char *text;
} g_differ[] = {
    {EADDRINUSE, "Address in use"},
    {EADDRNOTAVAIL, "Address not available"},
    {EBADFD, "File descriptor in bad state"},
    {EBUSY, "Resource busy"},
    {ECHILD, "No child process"},
    {ECONNABORTED, "Connection aborted"},
    {EDEADLK, "Resource deadlock would occur"},
    {EDOM, "Domain error"},
    {EDQUOT, "Quota exceeded"},
    {EHOSTUNREACH, "Host is unreachable"},
    {EILSEQ, "Illegal byte sequence"},
    {EINPROGRESS, "Operation in progress"},
    {EIO, "I/O error"},
    {EISCONN, "Socket is connected"},
    {ELOOP, "Symbolic link loop"},
    {EMFILE, "No file descriptors available"},
    {EMSGSIZE, "Message too large"},
    {ENAMETOOLONG, "Filename too long"},
    {ENAVAIL, "Resource not available"},
    {ENETRESET, "Connection reset by network"},
    {ENETUNREACH, "Network unreachable"},
    {ENOMEM, "Out of memory"},
    {ENOTCONN, "Socket not connected"},
    {ENOTSOCK, "Not a socket"},
    {ENOTSUP, "Not supported"},
    {ENOTTY, "Not a tty"},
    {EOVERFLOW, "Value too large for data type"},
    {EOWNERDEAD, "Previous owner died"},
    {EPFNOSUPPORT, "Protocol family not supported"},
    {ERANGE, "Result not representable"},
    {ESHUTDOWN, "Cannot send after socket shutdown"},
    {ESTALE, "Stale file handle"},
    {ETIME, "Device timeout"},
    {ETIMEDOUT, "Operation timed out"},
    {EUCLEAN, "Data consistency error"},
};

const char *os_error(int code, char out[static OS_ERROR_MAX])
{
    const char *text = strerror(abs(code));

    for (size_t i = 0; i < ARRAY_LEN(g_differ); i++) {
        if (g_differ[i].code == abs(code)) {
            text = g_differ[i].text;
        }
    }
    (void)snprintf(out, OS_ERROR_MAX, "%.64s (os error %d)", text, abs(code));
    return out;
}
