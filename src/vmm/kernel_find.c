/* kernel_find.c — from what a user calls a kernel to its image and its module tree. */
#include "vmm/kernel_find.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/str.h"
#include "image/oci/ref.h"
#include "vmm/kernel_tree.h"

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

static bool is_dir(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Its files lie over the root of a VM that asks for it. */
static int take_files(const char *dir, struct kernel_choice *choice, struct err *err)
{
    AUTO_FREE char *real = realpath(dir, NULL);

    if (!real) {
        return err_sys(err, "kernel '%s'", dir);
    }
    (void)snprintf(choice->files, sizeof(choice->files), "%s", real);
    return strlen(real) < sizeof(choice->files)
               ? 0
               : err_set(err, -ENAMETOOLONG, "kernel '%s': path too long", dir);
}

static int from_folder(const char *dir, struct kernel_choice *choice, struct err *err)
{
    int r = kernel_tree_find(dir, false, choice, err);

    return r < 0 ? err_wrap(err, r, "kernel '%s'", dir) : 0;
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
    /* DIR/boot/vmlinuz has its modules in DIR/lib/modules, DIR/vmlinuz perhaps, too; else those of
     * the host may fit. */
    memcpy(root, choice->image, sizeof(root));
    slash = strrchr(root, '/');
    *slash = 0;
    if (str_has_suffix(root, "/boot")) {
        *strrchr(root, '/') = 0;
    }
    if (!kernel_tree_modules(root, choice) && root[0]) {
        (void)kernel_tree_modules("", choice);
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
    if (kernel_tree_find("", false, choice, NULL) == 0) {
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
    r = kernel_tree_find(choice->tree.path, true, choice, err);
    if (r == 0) {
        r = take_files(choice->tree.path, choice, err);
    }
    if (r < 0) {
        kernel_choice_fini(choice);
        return err_wrap(err, r, "image '%s'", which);
    }
    return 0;
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
        if (r == 0) {
            r = take_files(which, &choice, err);
        }
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
