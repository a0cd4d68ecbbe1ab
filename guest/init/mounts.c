/* mounts.c — the file system that commands see. */
#include "guest/init/mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/bits.h"
#include "base/str.h"

#define LOWER  "/mnt/lower"
#define IMAGE  "/mnt/image"
#define OVER   "/mnt/over"
#define MERGED "/mnt/root"
#define STAGE  "/run/.ec1"

/* What the kernel says to a file system that it does not have. */
static int explain(struct err *err, int code, const char *what, const char *config)
{
    if (code == ENODEV) {
        return err_set(err, -code, "%s: the kernel needs %s", what, config);
    }
    return err_set(err, -code, "%s: %s", what, strerror(code));
}

/* Of 9P's ways to cache: what is mapped and nothing else, so that both sides see what the other
 * does (`directio` says so to kernels since 6.4, the others do not know it); or all that was ever
 * seen, for what nobody changes.  Messages hold 128 KiB of data: Linux takes buffers of their size
 * for each open folder, and old kernels for each message. */
#define P9_OPTIONS "trans=virtio,version=9p2000.L,msize=131096,access=client,cache="
#define P9_CAUTION P9_OPTIONS "mmap,directio"
#define P9_TRUST   P9_OPTIONS "loose,noxattr"

/* A share is offered by one device or by two: what the kernel knows is mounted. */
static int mount_share(const char *tag, const char *target, const char *p9, struct err *err)
{
    int fs_code;
    int p9_code;
    char what[512];

    if (mount(tag, target, "virtiofs", 0, NULL) == 0) {
        return 0;
    }
    fs_code = errno;
    if (mount(tag, target, "9p", 0, p9) == 0) {
        return 0;
    }
    p9_code = errno;
    (void)snprintf(what, sizeof(what), "mount share '%s' on '%s'", tag, target);
    if (fs_code == ENODEV && p9_code == ENODEV) {
        return explain(err, ENODEV, what,
                       "CONFIG_VIRTIO_FS, or CONFIG_9P_FS and CONFIG_NET_9P_VIRTIO");
    }
    /* EINVAL of the one and ENOENT of the other are about the device. */
    return err_set(err, -EIO,
                   "%s: as virtio-fs: %s; as 9P: %s; the kernel needs CONFIG_VIRTIO_MMIO or "
                   "CONFIG_VIRTIO_PCI to find the device, and CONFIG_NET_9P_VIRTIO for 9P",
                   what, strerror(fs_code), strerror(p9_code));
}

static int make_read_only(const char *target)
{
    return mount(NULL, target, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) < 0 ? -errno : 0;
}

int mounts_make_path(const char *path)
{
    char part[4096];
    size_t len = strlen(path);
    struct stat st;

    if (len >= sizeof(part)) {
        return -ENAMETOOLONG;
    }
    for (size_t i = 1; i <= len; i++) {
        if (i == len || path[i] == '/') {
            memcpy(part, path, i);
            part[i] = 0;
            if (mkdir(part, 0755) < 0 && errno != EEXIST) {
                return -errno;
            }
        }
    }
    if (stat(path, &st) < 0) {
        return -errno;
    }
    return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

/* ---- root ---- */

static int mount_overlay(const char *lower, struct err *err)
{
    /* Old kernels do not know all of these; the last line asks for nothing.  redirect_dir allows
     * renaming folders of the lower layer, the others are for upper layers that outlive the mount.
     */
    static const char *const options[] = {
        ",redirect_dir=on,index=off,metacopy=off,xino=off",
        ",redirect_dir=on,index=off",
        "",
    };
    char data[256];

    for (size_t i = 0; i < ARRAY_LEN(options); i++) {
        (void)snprintf(data, sizeof(data),
                       "lowerdir=%s,upperdir=" OVER "/up,workdir=" OVER "/work%s", lower,
                       options[i]);
        if (mount("overlay", MERGED, "overlay", 0, data) == 0) {
            return 0;
        }
        if (errno != EINVAL) {
            break;
        }
    }
    return explain(err, errno, "mount the overlay over the root", "CONFIG_OVERLAY_FS");
}

static int mount_upper(uint64_t bytes, struct err *err)
{
    char data[64];

    (void)snprintf(data, sizeof(data), bytes ? "mode=0755,size=%llu" : "mode=0755",
                   (unsigned long long)bytes);
    if (mount("tmpfs", OVER, "tmpfs", 0, data) < 0) {
        return explain(err, errno, "mount a tmpfs for the overlay", "CONFIG_TMPFS");
    }
    if (mkdir(OVER "/up", 0755) < 0 || mkdir(OVER "/work", 0755) < 0) {
        return err_sys(err, "create the overlay's folders");
    }
    return 0;
}

static int mount_lower(const char *tag, const char *target, struct err *err)
{
    int r = mounts_make_path(target);

    if (r < 0) {
        return err_set(err, r, "create '%s' in the initramfs: %s", target, strerror(-r));
    }
    r = mount_share(tag, target, P9_TRUST, err);
    if (r < 0) {
        return r;
    }
    r = make_read_only(target);
    return r < 0 ? err_set(err, r, "make share '%s' read-only: %s", tag, strerror(-r)) : 0;
}

int mounts_enter_root(const Ec1__V1__Root *root, struct err *err)
{
    int r;

    if (mounts_make_path(OVER) < 0 || mounts_make_path(MERGED) < 0) {
        return err_set(err, -EIO, "create folders in the initramfs");
    }
    r = mount_lower(root->tag, LOWER, err);
    if (r == 0 && root->image_tag[0]) {
        r = mount_lower(root->image_tag, IMAGE, err);
    }
    if (r < 0) {
        return r;
    }
    r = mount_upper(root->overlay_bytes, err);
    if (r < 0) {
        return r;
    }
    r = mount_overlay(root->image_tag[0] ? IMAGE ":" LOWER : LOWER, err);
    if (r < 0) {
        return r;
    }
    /* The initramfs cannot be left by pivot_root(2); its "/" is covered instead. */
    if (chdir(MERGED) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 ||
        chdir("/") < 0) {
        return err_sys(err, "enter the new root");
    }
    return 0;
}

/* ---- private file systems ---- */

struct private_mount {
    const char *target;
    const char *type;
    const char *data;
    unsigned long flags;
    const char *config;
    bool is_needed;
};

static const struct private_mount g_mounts[] = {
    {"/proc", "proc", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC, "CONFIG_PROC_FS", true},
    {"/sys", "sysfs", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC, "CONFIG_SYSFS", false},
    {"/dev", "devtmpfs", "mode=0755", MS_NOSUID, "CONFIG_DEVTMPFS", false},
    {"/run", "tmpfs", "mode=0755", MS_NOSUID | MS_NODEV, "CONFIG_TMPFS", true},
    {"/tmp", "tmpfs", "mode=1777", MS_NODEV, "CONFIG_TMPFS", true}, /* set-uid as on most hosts */
    {"/dev/pts", "devpts", "newinstance,ptmxmode=0666,mode=0620,gid=5", MS_NOSUID | MS_NOEXEC,
     "CONFIG_UNIX98_PTYS", false},
    {"/dev/shm", "tmpfs", "mode=1777", MS_NOSUID | MS_NODEV, "CONFIG_TMPFS", false},
    {"/dev/mqueue", "mqueue", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC, "CONFIG_POSIX_MQUEUE", false},
    {"/sys/fs/cgroup", "cgroup2", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC, "CONFIG_CGROUPS", false},
    {"/sys/fs/bpf", "bpf", "mode=0700", MS_NOSUID | MS_NODEV | MS_NOEXEC, "CONFIG_BPF_SYSCALL",
     false},
    {"/sys/kernel/debug", "debugfs", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC, "CONFIG_DEBUG_FS",
     false},
    {"/sys/kernel/tracing", "tracefs", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC, "CONFIG_FTRACE",
     false},
    {"/sys/kernel/security", "securityfs", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC,
     "CONFIG_SECURITYFS", false},
};

/* A kernel without devtmpfs still has these. */
static int make_devices(void)
{
    static const struct {
        const char *path;
        mode_t mode;
        unsigned major;
        unsigned minor;
    } nodes[] = {
        {"/dev/null", 0666, 1, 3},   {"/dev/zero", 0666, 1, 5},    {"/dev/full", 0666, 1, 7},
        {"/dev/random", 0666, 1, 8}, {"/dev/urandom", 0666, 1, 9}, {"/dev/kmsg", 0644, 1, 11},
        {"/dev/tty", 0666, 5, 0},    {"/dev/console", 0600, 5, 1}, {"/dev/ptmx", 0666, 5, 2},
    };

    if (mount("tmpfs", "/dev", "tmpfs", MS_NOSUID, "mode=0755") < 0) {
        return -errno;
    }
    for (size_t i = 0; i < ARRAY_LEN(nodes); i++) {
        if (mknod(nodes[i].path, S_IFCHR | nodes[i].mode, makedev(nodes[i].major, nodes[i].minor)) <
                0 ||
            chmod(nodes[i].path, nodes[i].mode) < 0) {
            return -errno;
        }
    }
    return 0;
}

/* Devices whose modules the kernel loads when they are opened: others have their names from udev.
 */
static void make_module_devices(void)
{
    /* Documentation/admin-guide/devices.txt of the kernel */
    static const struct {
        const char *path;
        mode_t mode;
        unsigned minor;
    } nodes[] = {
        {"/dev/net/tun", 0666, 200}, /* both check rights of their own */
        {"/dev/fuse", 0666, 229},
        {"/dev/loop-control", 0660, 237},
    };
    enum { MISC_MAJOR = 10 };

    (void)mkdir("/dev/net", 0755);
    for (size_t i = 0; i < ARRAY_LEN(nodes); i++) {
        (void)mknod(nodes[i].path, S_IFCHR | nodes[i].mode, makedev(MISC_MAJOR, nodes[i].minor));
        (void)chmod(nodes[i].path, nodes[i].mode);
    }
}

static void link_devices(void)
{
    (void)!symlink("/proc/self/fd", "/dev/fd");
    (void)!symlink("/proc/self/fd/0", "/dev/stdin");
    (void)!symlink("/proc/self/fd/1", "/dev/stdout");
    (void)!symlink("/proc/self/fd/2", "/dev/stderr");
}

static int mount_private(const struct private_mount *mnt, struct report *report, struct err *err)
{
    char what[256];
    int code;

    if (mounts_make_path(mnt->target) == 0 &&
        mount(mnt->type, mnt->target, mnt->type, mnt->flags, mnt->data) == 0) {
        return 0;
    }
    code = errno;
    if (strcmp(mnt->target, "/dev") == 0 && make_devices() == 0) {
        report_warn(report, "/dev holds only the basic devices: no CONFIG_DEVTMPFS");
        return 0;
    }
    (void)snprintf(what, sizeof(what), "mount %s on '%s'", mnt->type, mnt->target);
    if (mnt->is_needed) {
        return explain(err, code, what, mnt->config);
    }
    /* A folder that is not there to be mounted on (ENOENT in /sys) is the same lack. */
    report_warn(report, "no %s: %s (%s)", mnt->target, strerror(code), mnt->config);
    return 0;
}

int mounts_private(struct report *report, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(g_mounts); i++) {
        int r = mount_private(&g_mounts[i], report, err);

        if (r < 0) {
            return r;
        }
    }
    link_devices();
    make_module_devices();
    return 0;
}

/* ---- shares ---- */

/* The place to mount on must be of the same kind as what is mounted. */
static int make_target(const char *target, bool is_dir)
{
    AUTO_CLOSE int fd = -1;
    AUTO_FREE char *parent = strdup(target);
    char *slash;

    if (is_dir || !parent) {
        return parent ? mounts_make_path(target) : -ENOMEM;
    }
    slash = strrchr(parent, '/');
    if (slash > parent) {
        int r;

        *slash = 0;
        r = mounts_make_path(parent);
        if (r < 0) {
            return r;
        }
    }
    fd = open(target, O_RDONLY | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0644);
    return fd < 0 && errno != EACCES ? -errno : 0;
}

/* Mount the whole share aside, then bind the part. */
static int bind_part(const Ec1__V1__Mount *share, struct err *err)
{
    char source[4096];
    struct stat st;
    int r = mounts_make_path(STAGE);

    if (r < 0) {
        return err_set(err, r, "create '%s': %s", STAGE, strerror(-r));
    }
    r = mount_share(share->tag, STAGE, P9_CAUTION, err);
    if (r < 0) {
        return r;
    }
    if (snprintf(source, sizeof(source), "%s/%s", STAGE, share->subdir) >= (int)sizeof(source) ||
        stat(source, &st) < 0) {
        r = err_sys(err, "find '%s' in share '%s'", share->subdir, share->tag);
    } else {
        r = make_target(share->target, S_ISDIR(st.st_mode));
        if (r == 0 && mount(source, share->target, NULL, MS_BIND, NULL) < 0) {
            r = -errno;
        }
        if (r < 0) {
            (void)err_set(err, r, "mount '%s' of share '%s' on '%s': %s", share->subdir, share->tag,
                          share->target, strerror(-r));
        }
    }
    (void)umount2(STAGE, MNT_DETACH);
    return r;
}

static int mount_whole(const Ec1__V1__Mount *share, struct err *err)
{
    int r = mounts_make_path(share->target);

    if (r < 0) {
        return err_set(err, r, "create '%s' in the VM: %s", share->target, strerror(-r));
    }
    return mount_share(share->tag, share->target, P9_CAUTION, err);
}

int mounts_keep(const Ec1__V1__Mount *share)
{
    return share->tag[0] ? -1 : open(share->target, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

/* Bind what mounts_keep() held to where it was. */
static int bind_kept(const Ec1__V1__Mount *share, int kept, struct err *err)
{
    char source[32];
    struct stat st;
    int r;

    if (kept < 0 || stat(share->target, &st) == 0) {
        return 0; /* never there, or still there */
    }
    (void)snprintf(source, sizeof(source), "/proc/self/fd/%d", kept);
    r = mounts_make_path(share->target);
    if (r == 0 && mount(source, share->target, NULL, MS_BIND, NULL) < 0) {
        r = -errno;
    }
    return r < 0 ? err_set(err, r, "keep '%s': %s", share->target, strerror(-r)) : 0;
}

int mounts_share(const Ec1__V1__Mount *share, int kept, struct err *err)
{
    int r;

    if (share->target[0] != '/') {
        return err_set(err, -EINVAL, "mount target '%s': must be an absolute path", share->target);
    }
    if (!share->tag[0]) {
        return bind_kept(share, kept, err);
    }
    r = share->subdir[0] ? bind_part(share, err) : mount_whole(share, err);
    if (r < 0) {
        return r;
    }
    r = share->read_only ? make_read_only(share->target) : 0;
    return r < 0 ? err_set(err, r, "make '%s' read-only: %s", share->target, strerror(-r)) : 0;
}

void mounts_done(void)
{
    (void)rmdir(STAGE);
}
