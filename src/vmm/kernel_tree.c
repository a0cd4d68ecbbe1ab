/* kernel_tree.c — the kernel of a folder with boot/ and lib/modules/, and the modules for a kernel.
 */
#include "vmm/kernel_tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/bits.h"
#include "base/file.h"
#include "base/str.h"
#include "vmm/kernel_release.h"

struct root {
    const char *dir;
    bool is_image;
    int fd;
};

static const char *const g_module_places[] = {"lib/modules", "usr/lib/modules"};

static void auto_closedir(DIR *const *dir)
{
    if (*dir) {
        (void)closedir(*dir);
    }
}

/* Where a descriptor's file is.  Not everybody has /proc. */
static int path_of(int fd, char out[static KERNEL_PATH_MAX])
{
    char link[32];
    ssize_t len;

    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    len = readlink(link, out, KERNEL_PATH_MAX);
    if (len < 0) {
        return -errno;
    }
    if (len == KERNEL_PATH_MAX) {
        return -ENAMETOOLONG;
    }
    out[len] = 0;
    return 0;
}

/* The place of `name` after all links. */
static int resolve(const struct root *root, const char *name, char out[static KERNEL_PATH_MAX])
{
    AUTO_CLOSE int fd = file_open_below(root->fd, name, O_PATH);
    AUTO_FREE char *real = NULL;
    char path[PATH_MAX];

    if (fd >= 0) {
        int r = path_of(fd, out);

        if (r == 0 || root->is_image) {
            return r;
        }
    } else if (root->is_image) {
        return fd;
    }
    if (snprintf(path, sizeof(path), "%s/%s", root->dir, name) >= (int)sizeof(path)) {
        return -ENAMETOOLONG;
    }
    real = realpath(path, NULL);
    if (!real) {
        return -errno;
    }
    return snprintf(out, KERNEL_PATH_MAX, "%s", real) < KERNEL_PATH_MAX ? 0 : -ENAMETOOLONG;
}

static bool is_kind(const char *path, mode_t type)
{
    struct stat st;

    return stat(path, &st) == 0 && (st.st_mode & S_IFMT) == type;
}

/* The newest (by version order) entry of folder `name` that begins with `prefix`, is of `type` and
 * can be read.  */
static bool newest(const struct root *root, const char *name, const char *prefix, mode_t type,
                   char out[static KERNEL_PATH_MAX])
{
    char dir[KERNEL_PATH_MAX];
    char best[NAME_MAX + 1] = "";
    __attribute__((cleanup(auto_closedir))) DIR *d =
        resolve(root, name, dir) == 0 ? opendir(dir) : NULL;
    const struct dirent *e;

    while (d && (e = readdir(d))) {
        char path[KERNEL_PATH_MAX];
        char entry[NAME_MAX + 32];

        (void)snprintf(entry, sizeof(entry), "%s/%s", name, e->d_name);
        if (e->d_name[0] != '.' && str_has_prefix(e->d_name, prefix) &&
            strverscmp(e->d_name, best) > 0 && resolve(root, entry, path) == 0 &&
            is_kind(path, type) && access(path, R_OK) == 0) {
            (void)snprintf(best, sizeof(best), "%s", e->d_name);
            memcpy(out, path, sizeof(path));
        }
    }
    return best[0];
}

/* ---- modules ---- */

static bool modules_of(const struct root *root, const char *release, struct kernel_choice *choice)
{
    for (size_t i = 0; release[0] && i < ARRAY_LEN(g_module_places); i++) {
        char name[KERNEL_RELEASE_MAX + 32];
        char path[KERNEL_PATH_MAX];

        (void)snprintf(name, sizeof(name), "%s/%s", g_module_places[i], release);
        if (resolve(root, name, path) == 0 && is_kind(path, S_IFDIR)) {
            memcpy(choice->modules, path, sizeof(path));
            return true;
        }
    }
    return false;
}

static bool any_modules(const struct root *root, char out[static KERNEL_PATH_MAX])
{
    for (size_t i = 0; i < ARRAY_LEN(g_module_places); i++) {
        if (newest(root, g_module_places[i], "", S_IFDIR, out)) {
            return true;
        }
    }
    return false;
}

/* Fill in modules and release; -ENOEXEC if there are modules, but not for this kernel.  The name
 * is believed where the file does not say at a glance, as long as there are modules to match.
 * -ENOKEY: nothing says which kernel it is; then the newest modules were put in. */
static int find_modules(const struct root *root, struct kernel_choice *choice, struct err *err)
{
    char named[KERNEL_RELEASE_MAX];
    char release[KERNEL_RELEASE_MAX];
    char other[KERNEL_PATH_MAX];

    kernel_release(choice->image, false, release);
    kernel_release_of_name(choice->image, named);
    (void)snprintf(choice->release, sizeof(choice->release), "%s", release[0] ? release : named);
    if (modules_of(root, choice->release, choice) || !any_modules(root, other)) {
        return 0;
    }
    kernel_release(choice->image, true, release);
    if (release[0]) {
        memcpy(choice->release, release, sizeof(release));
        return modules_of(root, release, choice)
                   ? 0
                   : err_set(err, -ENOEXEC,
                             "its release is %s, but the modules beside it are for another: '%s': "
                             "put its own there, or name the kernel's file in place of the folder",
                             release, other);
    }
    if (named[0]) {
        return 0;
    }
    memcpy(choice->modules, other, sizeof(other));
    (void)snprintf(choice->release, sizeof(choice->release), "%s", strrchr(other, '/') + 1);
    return -ENOKEY;
}

/* ---- the kernel ---- */

static int find_image(const struct root *root, char out[static KERNEL_PATH_MAX], struct err *err)
{
    static const char *const exact[] = {"boot/vmlinux", "boot/vmlinuz"};

    for (size_t i = 0; i < ARRAY_LEN(exact); i++) {
        if (resolve(root, exact[i], out) == 0 && is_kind(out, S_IFREG)) {
            return access(out, R_OK) < 0 ? err_sys(err, "'%s'", out) : 0;
        }
    }
    if (newest(root, "boot", "vmlinux", S_IFREG, out) ||
        newest(root, "boot", "vmlinuz", S_IFREG, out)) {
        return 0;
    }
    return err_set(err, -ENOENT, "it has no readable boot/vmlinux* or boot/vmlinuz*");
}

static int open_root(const char *dir, bool is_image, struct root *root, struct err *err)
{
    *root = (struct root){.dir = dir, .is_image = is_image};
    root->fd = open(dir[0] ? dir : "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    return root->fd < 0 ? err_sys(err, "open the folder") : 0;
}

int kernel_tree_find(const char *dir, bool is_image, struct kernel_choice *choice, struct err *err)
{
    struct root root;
    int r = open_root(dir, is_image, &root, err);

    if (r < 0) {
        return r;
    }
    r = find_image(&root, choice->image, err);
    if (r == 0) {
        r = find_modules(&root, choice, err);
    }
    (void)close(root.fd);
    return r == -ENOKEY ? 0 : r; /* whose folder it is will know */
}

bool kernel_tree_modules(const char *dir, struct kernel_choice *choice)
{
    struct root root;
    int r;

    if (open_root(dir, false, &root, NULL) < 0) {
        return false;
    }
    r = find_modules(&root, choice, NULL);
    if (r == -ENOKEY) {
        choice->modules[0] = choice->release[0] = 0;
    }
    (void)close(root.fd);
    return choice->modules[0];
}
