/* overlay.c — may the files of a kernel's folder lie over the host's root?
 *
 * Both trees are walked at once, and only where both have a folder: a kernel's modules, which the
 * host does not have, cost nothing, and a whole distribution some milliseconds.
 */
#include "image/rootfs/overlay.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/auto.h"
#include "base/bits.h"
#include "base/buf.h"

#define DEPTH_MAX 64u /* deeper, nobody's programs are found by links */
/* Of what is no folder and hides one: "/lib" and "/usr/lib" matter, "/usr/share/doc/x" does not. */
#define HIDES_DEPTH 2u

struct walk {
    const char *host;
    struct buf path; /* below both roots: "/usr/lib" */
    struct err *err;
};

static void auto_closedir(DIR *const *dir)
{
    if (*dir) {
        (void)closedir(*dir);
    }
}

static bool is_private(const char *name)
{
    static const char *const names[] = {"dev", "proc", "run", "sys", "tmp"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(name, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* DT_* of an entry. */
static unsigned type_of(int fd, const struct dirent *e)
{
    struct stat st;

    if (e->d_type != DT_UNKNOWN) {
        return e->d_type;
    }
    return fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 ? IFTODT(st.st_mode) : DT_UNKNOWN;
}

static int refuse_folder(struct walk *w, int host_fd, const char *name)
{
    const char *path = buf_str(&w->path);
    AUTO_CALL(buf_fini) struct buf full = {0};
    AUTO_FREE char *real = NULL;
    char target[PATH_MAX];
    ssize_t len = readlinkat(host_fd, name, target, sizeof(target) - 1);

    target[len < 0 ? 0 : len] = 0;
    buf_printf(&full, "%s%s", w->host, path);
    real = buf_status(&full) == 0 ? realpath(buf_str(&full), NULL) : NULL;
    if (!real) {
        return err_set(w->err, -EEXIST,
                       "folder '%s' shadows the host's symbolic link '%s' -> '%s': give it another "
                       "name in the image",
                       path, path, target);
    }
    return err_set(w->err, -EEXIST,
                   "folder '%s' shadows the host's symbolic link '%s' -> '%s': put its files into "
                   "'%s' in the image (and a symbolic link '%s' if the image wants one)",
                   path, path, target, real, path);
}

static int walk(struct walk *w, int image_fd, int host_fd, unsigned depth);

static int check_folder(struct walk *w, int image_fd, int host_fd, const char *name, mode_t there,
                        unsigned depth) /* NOLINT(misc-no-recursion): as deep as DEPTH_MAX */
{
    int image;
    int host;

    if (S_ISLNK(there)) {
        return refuse_folder(w, host_fd, name);
    }
    if (!S_ISDIR(there) || depth == DEPTH_MAX) {
        return 0;
    }
    image = openat(image_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    host = openat(host_fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (image < 0 || host < 0) { /* what cannot be seen from here */
        auto_close(&image);
        auto_close(&host);
        return 0;
    }
    return walk(w, image, host, depth + 1);
}

static int check_entry(struct walk *w, int image_fd, int host_fd, const struct dirent *e,
                       unsigned depth) /* NOLINT(misc-no-recursion) */
{
    unsigned type = type_of(image_fd, e);
    struct stat st;

    if (type == DT_UNKNOWN || (type != DT_DIR && depth >= HIDES_DEPTH) ||
        fstatat(host_fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        return 0;
    }
    if (type == DT_DIR) {
        return check_folder(w, image_fd, host_fd, e->d_name, st.st_mode, depth);
    }
    if (S_ISDIR(st.st_mode)) {
        return err_set(w->err, -EEXIST,
                       "%s '%s' shadows the host's folder: make it a folder in the image, or "
                       "leave it out",
                       type == DT_LNK ? "symbolic link" : "file", buf_str(&w->path));
    }
    return 0;
}

/* Takes both descriptors over. */
static int walk(struct walk *w, int image_fd, int host_fd,
                unsigned depth) /* NOLINT(misc-no-recursion) */
{
    AUTO_CLOSE int host = host_fd;
    __attribute__((cleanup(auto_closedir))) DIR *dir = fdopendir(image_fd);
    size_t len = w->path.len;
    const struct dirent *e;
    int r = 0;

    if (!dir) {
        (void)close(image_fd);
        return 0;
    }
    while (r == 0 && (e = readdir(dir))) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
            (depth == 0 && is_private(e->d_name))) {
            continue;
        }
        buf_printf(&w->path, "/%s", e->d_name);
        r = buf_status(&w->path);
        if (r == 0) {
            r = check_entry(w, image_fd, host, e, depth);
            w->path.len = len;
        }
    }
    return r;
}

int overlay_check(const char *image, const char *host, struct err *err)
{
    struct walk w = {.host = strcmp(host, "/") == 0 ? "" : host, .err = err};
    int image_fd = open(image, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int host_fd = open(host, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int r;

    if (image_fd < 0 || host_fd < 0) {
        r = err_sys(err, "open '%s'", image_fd < 0 ? image : host);
        auto_close(&image_fd);
        auto_close(&host_fd);
        return r;
    }
    r = walk(&w, image_fd, host_fd, 0);
    buf_fini(&w.path);
    return r;
}
