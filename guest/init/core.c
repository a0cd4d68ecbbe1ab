/* core.c — core dumps, from the kernel's pipe to a folder of the host (core(5)). */
#include "guest/init/core.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "guest/init/setup.h"

/* A link to where dumps go: a folder's name may be longer than core_pattern, and have blanks. */
#define CORE_DIR "/run/.ec1-core"
/* The words behind the program: soft limit of the size, program, pid. */
#define CORE_PATTERN "|/proc/1/exe core %c %e-%p"
/* So many may be written at a time; others are not dumped.  Not 0: a process that dies waits then
 * until its dump is complete, and so does who waits for it. */
#define CORE_PIPES "64"

enum { CHUNK = 64 * 1024, PAGE = 4096 };

void core_setup(const void *dir, size_t len, struct report *report)
{
    char path[4096];
    int r;

    (void)snprintf(path, sizeof(path), "%.*s", (int)len, (const char *)dir);
    r = symlink(path, CORE_DIR) < 0 ? -errno : 0;
    if (r == 0) {
        r = setup_sysctl("/proc/sys", "kernel.core_pipe_limit", CORE_PIPES);
    }
    if (r == 0) {
        r = setup_sysctl("/proc/sys", "kernel.core_pattern", CORE_PATTERN);
    }
    if (r < 0) {
        report_warn(report, "core dumps: %s (CONFIG_COREDUMP)", strerror(-r));
    }
}

static bool is_zero(const uint8_t *data, size_t len)
{
    return len > 0 && data[0] == 0 && memcmp(data, data + 1, len - 1) == 0;
}

/* Pages of zeros become holes: most of a program's memory was never touched. */
static int put(int fd, const uint8_t *data, size_t len, off_t at)
{
    for (size_t done = 0; done < len;) {
        size_t part = len - done < PAGE ? len - done : PAGE;
        ssize_t written = (ssize_t)part;

        if (!is_zero(data + done, part)) {
            written = pwrite(fd, data + done, part, at + (off_t)done);
        }
        if (written < 0 && errno != EINTR) {
            return -errno;
        }
        done += written < 0 ? 0 : (size_t)written;
    }
    return 0;
}

static int copy(int in, int out)
{
    static uint8_t chunk[CHUNK];
    off_t at = 0;
    ssize_t got;

    while ((got = read(in, chunk, sizeof(chunk))) != 0) {
        int r = 0;

        if (got < 0 && errno != EINTR) {
            return -errno;
        }
        if (got > 0) {
            r = put(out, chunk, (size_t)got, at);
            at += got;
        }
        if (r < 0) {
            return r;
        }
    }
    return ftruncate(out, at) < 0 ? -errno : 0;
}

int core_store(int in, const char *path)
{
    AUTO_CLOSE int out = -1;
    int r;

    if (unlink(path) < 0 && errno != ENOENT) {
        return -errno;
    }
    out = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (out < 0) {
        return -errno;
    }
    r = copy(in, out);
    if (r < 0) {
        (void)unlink(path);
    }
    return r;
}

int core_main(int argc, char **argv)
{
    char path[512];
    size_t start = strlen(CORE_DIR) + 1;
    int r;

    if (argc != 4) {
        return 2;
    }
    if (strcmp(argv[2], "0") == 0) {
        return 0; /* `ulimit -c 0`, which the kernel leaves to us */
    }
    (void)snprintf(path, sizeof(path), CORE_DIR "/core-%s", argv[3]);
    for (char *c = path + start; *c; c++) {
        if (*c == '/') { /* a program names itself as it likes */
            *c = '!';
        }
    }
    r = core_store(STDIN_FILENO, path);
    if (r < 0) {
        (void)dprintf(STDERR_FILENO, "ec1-init: core dump '%s': %s\n", path, strerror(-r));
    }
    return r < 0;
}
