/* os_error_test.c — the texts that clients match. */
#include <errno.h>

#include "base/os_error.h"
#include "tests/lib/test.h"

TEST(os_error, speaks_as_musl_does)
{
    char out[OS_ERROR_MAX];

    CHECK_STR(os_error(EADDRINUSE, out), "Address in use (os error 98)");
    CHECK_STR(os_error(-EBUSY, out), "Resource busy (os error 16)");
    CHECK_STR(os_error(EMFILE, out), "No file descriptors available (os error 24)");
    CHECK_STR(os_error(-ENOENT, out), "No such file or directory (os error 2)");
    CHECK_STR(os_error(ENOSPC, out), "No space left on device (os error 28)");
    CHECK_STR(os_error(ECONNREFUSED, out), "Connection refused (os error 111)");
    CHECK_STR(os_error(EACCES, out), "Permission denied (os error 13)");
}
