/* begin.c — what every program of ours does first. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>

#include "cli/cmd.h"

/* A closed 0, 1 or 2 would be taken by the next open file, which would then get our messages. */
static void fill_standard_fds(void)
{
    for (int fd = 0; fd <= 2; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF) {
            (void)open("/dev/null", fd ? O_WRONLY : O_RDONLY); /* NOLINT(android-cloexec-open):
                                                                  meant to stay open */
        }
    }
}

void cmd_begin(void)
{
    fill_standard_fds();
    (void)signal(SIGPIPE, SIG_IGN); /* a reader that went away is an error of write() */
}
