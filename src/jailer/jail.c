/* jail.c — see jail.h.
 *
 * Nothing of the host is in sight any more when folders and devices are made: a link that an
 * earlier inmate left there leads to nothing but the jail.
 */
#include "jailer/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/bits.h"
#include "base/os_error.h"

static int fail(struct err *err, const char *what, const char *path)
{
    char text[OS_ERROR_MAX];
    int code = errno ? -errno : -EIO;

    return err_set(err, code, "Failed to %s %s: %s", what, path, os_error(code, text));
}

/* --- outside --- */

static int make_folders(const char *path, struct err *err)
{
    char part[PATH_MAX];

    (void)snprintf(part, sizeof(part), "%s", path);
    for (char *at = part + 1;; at++) {
        char c = *at;

        if (c == '/' || c == '\0') {
            *at = '\0';
            if (mkdir(part, 0700) < 0 && errno != EEXIST) {
                return fail(err, "create directory", part);
            }
            *at = c;
        }
        if (c == '\0') {
            return 0;
        }
    }
}

static int copy_into(int to, int from, const struct stat *st)
{
    off_t at = 0;

    if (ftruncate(to, 0) < 0) {
        return -1;
    }
    while (at < st->st_size) {
        if (sendfile(to, from, &at, (size_t)(st->st_size - at)) <= 0) {
            return -1;
        }
    }
    return 0;
}

/* The place is opened as it is, looked at, and only then written to. */
static int copy_program(const struct jailer_plan *plan, struct err *err)
{
    AUTO_CLOSE int from = open(plan->exec_file, O_RDONLY | O_CLOEXEC);
    AUTO_CLOSE int to = -1;
    struct stat source, target;
    char path[PATH_MAX];

    if (snprintf(path, sizeof(path), "%s/%s", plan->root, plan->exec_name) >= (int)sizeof(path)) {
        return err_set(err, -ENAMETOOLONG, "%s: path too long", plan->root);
    }
    if (from < 0 || fstat(from, &source) < 0) {
        return fail(err, "open", plan->exec_file);
    }
    to = open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
    if (to < 0 || fstat(to, &target) < 0) {
        return fail(err, "open", path);
    }
    if (!S_ISREG(target.st_mode)) {
        return err_set(err, -EINVAL, "%s is not a file", path);
    }
    if (target.st_nlink > 1) {
        return err_set(err, -EMLINK, "Detected hard link at: %s", path);
    }
    if (copy_into(to, from, &source) < 0 || fchown(to, plan->uid, plan->gid) < 0 ||
        fchmod(to, source.st_mode & 0777) < 0) {
        return fail(err, "copy the program to", path);
    }
    return 0;
}

int jail_fill(const struct jailer_plan *plan, struct err *err)
{
    int r = make_folders(plan->root, err);

    return r < 0 ? r : copy_program(plan, err);
}

/* --- in --- */

int jail_enter(const struct jailer_plan *plan, struct err *err)
{
    if (unshare(CLONE_NEWNS) < 0) {
        return fail(err, "unshare into a new mount namespace for", plan->root);
    }
    if (mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL) < 0) {
        return fail(err, "change the propagation of", "/");
    }
    if (mount(plan->root, plan->root, NULL, MS_BIND | MS_REC, NULL) < 0 || chdir(plan->root) < 0) {
        return fail(err, "bind-mount", plan->root);
    }
    if (mkdir("old_root", 0700) < 0 && errno != EEXIST) {
        return fail(err, "create directory", "old_root");
    }
    if (syscall(SYS_pivot_root, ".", "old_root") < 0 || chdir("/") < 0) {
        return fail(err, "pivot the root to", plan->root);
    }
    if (umount2("old_root", MNT_DETACH) < 0 || rmdir("old_root") < 0) {
        return fail(err, "unmount and remove", "old_root");
    }
    return 0;
}

static int make_own_folder(const struct jailer_plan *plan, const char *path, struct err *err)
{
    if ((mkdir(path, 0700) < 0 && errno != EEXIST) || chmod(path, 0700) < 0 ||
        lchown(path, plan->uid, plan->gid) < 0) {
        return fail(err, "create directory", path);
    }
    return 0;
}

static int make_device(const struct jailer_plan *plan, const char *path, unsigned major_number,
                       unsigned minor_number, struct err *err)
{
    if (mknod(path, S_IFCHR | 0600, makedev(major_number, minor_number)) < 0) {
        return fail(err, "create by mknod in the jail", path);
    }
    return lchown(path, plan->uid, plan->gid) < 0 ? fail(err, "change the owner of", path) : 0;
}

#define MISC_MAJOR 10 /* linux/major.h; tun and kvm: linux/miscdevice.h */

int jail_furnish(const struct jailer_plan *plan, int userfaultfd_minor, struct err *err)
{
    static const char *const folders[] = {"/", "/dev", "/dev/net", "/run"};
    struct err ignored;
    int r = 0;

    for (unsigned i = 0; r == 0 && i < ARRAY_LEN(folders); i++) {
        r = make_own_folder(plan, folders[i], err);
    }
    r = r < 0 ? r : make_device(plan, "/dev/net/tun", MISC_MAJOR, 200, err);
    r = r < 0 ? r : make_device(plan, "/dev/kvm", MISC_MAJOR, 232, err);
    if (r == 0 && make_device(plan, "/dev/urandom", 1, 9, &ignored) < 0) {
        (void)fprintf(stderr, "Warning: %s\n", err_text(&ignored));
    }
    if (r == 0 && userfaultfd_minor >= 0) {
        r = make_device(plan, "/dev/userfaultfd", MISC_MAJOR, (unsigned)userfaultfd_minor, err);
    }
    return r;
}
