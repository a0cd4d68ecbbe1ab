/* kernel_find.c — from what a user calls a kernel to its image and its module tree. */
#include "vmm/kernel_find.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/str.h"
#include "image/oci/ref.h"

static void auto_closedir(DIR *const *dir)
{
    if (*dir) {
        (void)closedir(*dir);
    }
}

static const char *home_dir(void)
{
    const char *home = getenv("HOME");
    const struct passwd *pw;

    if (home && home[0] == '/') {
        return home;
    }
    pw = getpwuid(geteuid());
    return pw ? pw->pw_dir : NULL;
}

/* mkdir -p for the last two levels. */
static int make_dirs(char *path, struct err *err)
{
    char *last = strrchr(path, '/');

    *last = 0;
    (void)mkdir(path, 0700);
    *last = '/';
    if (mkdir(path, 0700) < 0 && errno != EEXIST) {
        return err_sys(err, "create cache folder '%s'", path);
    }
    return 0;
}

int kernel_cache_dir(char out[static KERNEL_PATH_MAX], struct err *err)
{
    const char *xdg = getenv("XDG_CACHE_HOME");
    const char *home = home_dir();
    int len;

    if (xdg && xdg[0] == '/') {
        len = snprintf(out, KERNEL_PATH_MAX, "%s/ec1", xdg);
    } else if (home) {
        len = snprintf(out, KERNEL_PATH_MAX, "%s/.cache/ec1", home);
    } else {
        return err_set(err, -ENOENT, "no cache folder: neither XDG_CACHE_HOME nor HOME is set");
    }
    if (len >= KERNEL_PATH_MAX) {
        return err_set(err, -ENAMETOOLONG, "cache folder: path too long");
    }
    return make_dirs(out, err);
}

/* The newest (by version order) entry of `dir` that begins with `prefix`; "" if none. */
static void newest(const char *dir, const char *prefix, char *out, size_t size)
{
    __attribute__((cleanup(auto_closedir))) DIR *d = opendir(dir);
    char best[NAME_MAX + 1] = "";

    out[0] = 0;
    if (!d) {
        return;
    }
    for (const struct dirent *e = readdir(d); e; e = readdir(d)) {
        if (e->d_name[0] != '.' && str_has_prefix(e->d_name, prefix) &&
            faccessat(dirfd(d), e->d_name, R_OK, 0) == 0 && strverscmp(e->d_name, best) > 0) {
            (void)snprintf(best, sizeof(best), "%s", e->d_name);
        }
    }
    if (best[0] && snprintf(out, size, "%s/%s", dir, best) >= (int)size) {
        out[0] = 0;
    }
}

static bool is_dir(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Fill `modules` with <root>/lib/modules/<release> if it exists. */
static bool modules_in(const char *root, struct kernel_choice *choice)
{
    static const char *const places[] = {"lib/modules", "usr/lib/modules"};

    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        char path[KERNEL_PATH_MAX];

        if (choice->release[0]) {
            if (snprintf(path, sizeof(path), "%s/%s/%s", root, places[i], choice->release) <
                    (int)sizeof(path) &&
                is_dir(path)) {
                memcpy(choice->modules, path, sizeof(path));
                return true;
            }
        } else if (snprintf(path, sizeof(path), "%s/%s", root, places[i]) < (int)sizeof(path)) {
            newest(path, "", choice->modules, sizeof(choice->modules));
            if (choice->modules[0]) {
                (void)snprintf(choice->release, sizeof(choice->release), "%s",
                               strrchr(choice->modules, '/') + 1);
                return true;
            }
        }
    }
    return false;
}

/* "vmlinuz-6.1.0" -> "6.1.0". */
static void release_from_name(struct kernel_choice *choice)
{
    const char *base = strrchr(choice->image, '/');
    const char *dash;

    base = base ? base + 1 : choice->image;
    dash = strchr(base, '-');
    if (dash && str_has_prefix(base, "vmlinu")) {
        (void)snprintf(choice->release, sizeof(choice->release), "%s", dash + 1);
    }
}

static int from_folder(const char *dir, struct kernel_choice *choice, struct err *err)
{
    char boot[KERNEL_PATH_MAX];

    if (snprintf(boot, sizeof(boot), "%s/boot", dir) >= (int)sizeof(boot)) {
        return err_set(err, -ENAMETOOLONG, "kernel '%s': path too long", dir);
    }
    newest(boot, "vmlinux", choice->image, sizeof(choice->image));
    if (!choice->image[0]) {
        newest(boot, "vmlinuz", choice->image, sizeof(choice->image));
    }
    if (!choice->image[0]) {
        return err_set(err, -ENOENT,
                       "kernel '%s': the folder has no readable boot/vmlinux* or boot/vmlinuz*",
                       dir);
    }
    release_from_name(choice);
    (void)modules_in(dir, choice);
    return 0;
}

static int from_file(const char *path, struct kernel_choice *choice, struct err *err)
{
    char root[KERNEL_PATH_MAX];
    char *slash;

    AUTO_FREE char *real = realpath(path, NULL);

    if (!real) {
        return err_sys(err, "kernel '%s'", path);
    }
    if (snprintf(choice->image, sizeof(choice->image), "%s", real) >= (int)sizeof(choice->image)) {
        return err_set(err, -ENAMETOOLONG, "kernel '%s': path too long", path);
    }
    release_from_name(choice);
    /* .../boot/vmlinuz-R has its modules in .../lib/modules/R; else those of the host may fit. */
    memcpy(root, choice->image, sizeof(root));
    slash = strrchr(root, '/');
    *slash = 0;
    slash = strrchr(root, '/');
    if (slash && strcmp(slash, "/boot") == 0) {
        *slash = 0;
        if (modules_in(root, choice)) {
            return 0;
        }
    }
    if (choice->release[0]) {
        (void)modules_in("", choice);
    }
    return 0;
}

static int find_default(struct kernel_choice *choice, struct err *err)
{
    char cache[KERNEL_PATH_MAX] = "";
    char dir[KERNEL_PATH_MAX + 32];

    if (kernel_cache_dir(cache, NULL) == 0) {
        (void)snprintf(dir, sizeof(dir), "%s/kernels/default", cache);
        if (is_dir(dir)) {
            return from_folder(dir, choice, err);
        }
    }
    if (from_folder("", choice, NULL) == 0) {
        return 0;
    }
    return err_set(err, -ENOENT,
                   "no kernel: %s/kernels is empty and /boot holds none you can read; run "
                   "tools/fetch-kernel, or name one with -k",
                   cache[0] ? cache : "the cache");
}

static int from_image(const char *which, const struct oci_progress *progress,
                      struct kernel_choice *choice, struct err *err)
{
    char cache[KERNEL_PATH_MAX];
    struct oci_ref ref;
    int r = kernel_cache_dir(cache, err);

    if (r == 0) {
        r = oci_ref_parse(which, &ref, err);
    }
    if (r < 0) {
        return r;
    }
    r = oci_get(cache, &ref, progress, &choice->tree, err);
    oci_ref_fini(&ref);
    if (r < 0) {
        return r;
    }
    if (from_folder(choice->tree.path, choice, NULL) < 0) {
        r = err_set(err, -ENOENT, "image '%s': it has no boot/vmlinux* or boot/vmlinuz*", which);
        kernel_choice_fini(choice);
    }
    return r;
}

void kernel_choice_fini(struct kernel_choice *choice)
{
    if (choice->tree.path) {
        oci_tree_fini(&choice->tree);
    }
}

int kernel_find(const char *which, const struct oci_progress *progress,
                struct kernel_choice *ret_choice, struct err *err)
{
    struct kernel_choice choice = {.image = ""};
    struct stat st;
    int r;

    if (!which) {
        which = getenv("EC1_KERNEL");
    }
    if (!which || !which[0]) {
        r = find_default(&choice, err);
    } else if (oci_ref_is(which)) {
        r = from_image(which, progress, &choice, err);
    } else if (stat(which, &st) < 0) {
        r = err_sys(err, "kernel '%s'", which);
    } else if (S_ISDIR(st.st_mode)) {
        r = from_folder(which, &choice, err);
    } else if (S_ISREG(st.st_mode)) {
        r = from_file(which, &choice, err);
    } else {
        r = err_set(err, -EINVAL, "kernel '%s': neither a file nor a folder", which);
    }
    if (r == 0) {
        *ret_choice = choice;
    }
    return r;
}
