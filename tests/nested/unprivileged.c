/* unprivileged.c — preloaded into a virtiofsd that is root of a user namespace
 * (tests/nested/outer).
 *
 * Two things that it does as a matter of course are refused to such a root, and it takes that as
 * fatal: dropping its groups (user_namespaces(7), "setgroups"), and O_NOATIME on files of others
 * (open(2)), which the guest's overlay asks for.  So it keeps the groups of the user who started
 * it, and access times move.
 */
#include <fcntl.h>
#include <grp.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>

int __openat64_2(int dir, const char *path, int flags); /* openat() where no mode is given */

int setgroups(size_t count, const gid_t *list)
{
    (void)count;
    (void)list;
    return 0;
}

int openat64(int dir, const char *path, int flags, ...)
{
    va_list ap;
    unsigned mode;

    va_start(ap, flags);
    mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, unsigned) : 0;
    va_end(ap);
    return (int)syscall(SYS_openat, dir, path, flags & ~O_NOATIME, mode);
}

int __openat64_2(int dir, const char *path, int flags)
{
    return openat64(dir, path, flags);
}
