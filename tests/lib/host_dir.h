/* host_dir.h — a folder of the host for tests of shares: made, filled, looked at, removed; and to
 * be somebody else for the while of a test.
 *
 * host_path(), host_file() and host_text() take a pointer to any struct with a member `dir`.
 */
#pragma once

#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/test.h"

#define HOST_DIR_MAX 64

#define host_path(c, name)       host_dir_path((c)->dir, name)
#define host_file(c, name, text) host_dir_file((c)->dir, name, text)
#define host_text(c, name)       host_dir_text((c)->dir, name)

static inline void host_dir_make(char dir[HOST_DIR_MAX])
{
    (void)snprintf(dir, HOST_DIR_MAX, "/tmp/ec1-fs-XXXXXX");
    CHECK(mkdtemp(dir) != NULL);
    CHECK_INT(chmod(dir, 0777), 0);
}

static inline int host_dir_remove_one(const char *path, const struct stat *st, int type,
                                      struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static inline void host_dir_remove(const char *dir)
{
    (void)nftw(dir, host_dir_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static inline const char *host_dir_path(const char *dir, const char *name)
{
    static char path[2][512];
    static unsigned turn;

    turn ^= 1;
    (void)snprintf(path[turn], sizeof(path[turn]), "%s/%s", dir, name);
    return path[turn];
}

static inline void host_dir_file(const char *dir, const char *name, const char *text)
{
    int fd = open(host_dir_path(dir, name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    CHECK(fd >= 0);
    CHECK_INT(write(fd, text, strlen(text)), strlen(text));
    (void)close(fd);
}

static inline const char *host_dir_text(const char *dir, const char *name)
{
    static char text[4096];
    int fd = open(host_dir_path(dir, name), O_RDONLY | O_CLOEXEC);
    ssize_t n;

    CHECK(fd >= 0);
    n = read(fd, text, sizeof(text) - 1);
    CHECK(n >= 0);
    text[n] = '\0';
    (void)close(fd);
    return text;
}

/* Run a test body as nobody; everything it makes is below a directory of its own. */
static inline void as_nobody(void (*body)(void))
{
    pid_t pid;
    int status;

    if (geteuid() != 0) {
        body();
        return;
    }
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        if (setgid(65534) < 0 || setuid(65534) < 0) {
            _exit(1);
        }
        body();
        _exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK_INT(status, 0);
}

/* Of a test that repeats itself: *state is not 0. */
static inline uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}
