/* vimto_core.c — a test binary that dumped core stays beside the dump.
 *
 * `go test` builds it in a folder that it removes; without the binary a dump says little.  Go
 * itself leaves a binary under its name in the working directory when it is of use (-cpuprofile).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/str.h"
#include "cli/vimto.h"

static int copy_file(const char *from, const char *to)
{
    AUTO_CLOSE int in = open(from, O_RDONLY | O_CLOEXEC);
    AUTO_CLOSE int out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0755);
    ssize_t got = in < 0 || out < 0 ? -1 : 1;

    while (got > 0) {
        got = sendfile(out, in, NULL, (size_t)1 << 30);
    }
    return got < 0 ? -errno : 0;
}

int vimto_keep_binary(const char *cwd, const char *program, const char **ret_name, struct err *err)
{
    AUTO_FREE char *target = NULL;
    AUTO_FREE char *part = NULL;
    const char *name = strrchr(program, '/');
    struct stat there;
    struct stat here;
    int r;

    *ret_name = NULL;
    if (program[0] != '/' || !str_has_suffix(program, ".test") || stat(program, &there) < 0) {
        return 0;
    }
    name++;
    if (asprintf(&target, "%s/%s", cwd, name) < 0 ||
        asprintf(&part, "%s/.%s.%d", cwd, name, (int)getpid()) < 0) {
        return err_set(err, -ENOMEM, "keep '%s': out of memory", program);
    }
    if (stat(target, &here) == 0 && here.st_dev == there.st_dev && here.st_ino == there.st_ino) {
        return 0; /* it is there already */
    }
    r = copy_file(program, part);
    if (r == 0 && rename(part, target) < 0) {
        r = -errno;
    }
    if (r < 0) {
        (void)unlink(part);
        return err_set(err, r, "keep '%s' as '%s': %s", program, target, strerror(-r));
    }
    *ret_name = name;
    return 0;
}
