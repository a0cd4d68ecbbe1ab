/* unpack.c — see unpack.h.
 *
 * A layer says by names what of the layers below it is gone (OCI image specification 1.1,
 * "Whiteouts"): `.wh.x` stands for "no x", `.wh..wh..opq` for "nothing of this folder".  Both speak
 * of lower layers only, wherever in the archive they stand, so a first pass takes away and a second
 * one puts.
 */
#include "image/oci/unpack.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/file.h"
#include "base/str.h"
#include "image/oci/tree.h"

#define CHUNK         65536
#define WHITEOUT      ".wh."
#define WHITEOUT_ALL  ".wh..wh..opq"
#define WHITEOUT_META ".wh..wh." /* AUFS's own files */

struct layer {
    struct archive *tar;
    int root_fd;
    uint64_t *budget;
    struct err *err;
};

/* --- paths below the root --- */

/* The folder at `path`, made as far as it is not there.  As deep as a path of PATH_MAX can be. */
static int open_folder(int root_fd, char *path) /* NOLINT(misc-no-recursion) */
{
    int fd = file_open_below(root_fd, path, O_DIRECTORY | O_RDONLY);
    char *slash = strrchr(path, '/');
    char root[] = "";
    int parent;

    if (fd != -ENOENT) {
        return fd;
    }
    if (slash) {
        *slash = 0;
    }
    parent = open_folder(root_fd, slash ? path : root);
    if (slash) {
        *slash = '/';
    }
    if (parent < 0) {
        return parent;
    }
    fd = mkdirat(parent, slash ? slash + 1 : path, 0755) < 0 && errno != EEXIST ? -errno : 0;
    (void)close(parent);
    return fd < 0 ? fd : file_open_below(root_fd, path, O_DIRECTORY | O_RDONLY);
}

/* "./a//b/" -> "a/b" in place; false: it has "..", or is too long. */
static bool tidy(char *path)
{
    char *out = path;

    for (const char *in = path; *in;) {
        size_t len = strcspn(in, "/");

        if ((len == 2 && in[0] == '.' && in[1] == '.') || len > NAME_MAX) {
            return false;
        }
        if (len > 0 && !(len == 1 && in[0] == '.')) {
            if (out != path) {
                *out++ = '/';
            }
            memmove(out, in, len);
            out += len;
        }
        in += len;
        in += strspn(in, "/");
    }
    *out = 0;
    return strlen(path) < PATH_MAX;
}

/* --- taking away --- */

static void empty(int folder_fd)
{
    int copy = openat(folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    const struct dirent *entry;

    while (dir && (entry = readdir(dir))) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            oci_tree_remove(dirfd(dir), entry->d_name);
        }
    }
    if (dir) {
        (void)closedir(dir);
    } else if (copy >= 0) {
        (void)close(copy);
    }
}

/* `path` is cut into folder and name. */
static int split(char *path, char **ret_name)
{
    char *slash = strrchr(path, '/');

    if (!slash) {
        *ret_name = path;
        return 0;
    }
    *slash = 0;
    *ret_name = slash + 1;
    return 1;
}

static void take_away(int root_fd, char *path)
{
    char *name;
    bool has_folder = split(path, &name);
    int fd;

    if (!str_has_prefix(name, WHITEOUT)) {
        return;
    }
    fd = file_open_below(root_fd, has_folder ? path : "", O_DIRECTORY | O_RDONLY);
    if (fd < 0) {
        return; /* nothing there to take away */
    }
    if (strcmp(name, WHITEOUT_ALL) == 0) {
        empty(fd);
    } else if (!str_has_prefix(name, WHITEOUT_META) && name[strlen(WHITEOUT)] &&
               strcmp(name + strlen(WHITEOUT), ".") != 0 &&
               strcmp(name + strlen(WHITEOUT), "..") != 0) {
        oci_tree_remove(fd, name + strlen(WHITEOUT));
    }
    (void)close(fd);
}

/* --- putting --- */

static int write_all(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);

        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        if (n > 0) {
            data += n;
            len -= (size_t)n;
        }
    }
    return 0;
}

static int put_file(struct layer *l, struct archive_entry *entry, int folder, const char *name)
{
    mode_t mode = (archive_entry_perm(entry) & 0777) | S_IRUSR | S_IWUSR;
    AUTO_FREE char *bytes = malloc(CHUNK);
    AUTO_CLOSE int fd = -1;
    la_ssize_t n;

    if (!bytes) {
        return -ENOMEM;
    }
    fd = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    if (fd < 0) {
        return -errno;
    }
    while ((n = archive_read_data(l->tar, bytes, CHUNK)) > 0) {
        int r;

        if ((uint64_t)n > *l->budget) {
            return -EFBIG;
        }
        *l->budget -= (uint64_t)n;
        r = write_all(fd, bytes, (size_t)n);
        if (r < 0) {
            return r;
        }
    }
    if (n < 0) {
        return -EBADMSG;
    }
    (void)fchmod(fd, mode); /* whatever the umask */
    return 0;
}

static int put_folder(struct archive_entry *entry, int folder, const char *name)
{
    struct stat st;

    if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        if (S_ISDIR(st.st_mode)) {
            return 0;
        }
        if (S_ISLNK(st.st_mode)) { /* /lib -> usr/lib below, files in /lib above: they go there */
            return 0;
        }
        oci_tree_remove(folder, name);
    }
    return mkdirat(folder, name, (archive_entry_perm(entry) & 0777) | S_IRWXU) < 0 ? -errno : 0;
}

static int put_hard_link(const struct layer *l, const char *target, int folder, const char *name)
{
    AUTO_FREE char *path = strdup(target);
    AUTO_CLOSE int from = -1;
    char *base;
    bool has_folder;

    if (!path || !tidy(path) || !path[0]) {
        return -EINVAL;
    }
    has_folder = split(path, &base);
    from = file_open_below(l->root_fd, has_folder ? path : "", O_DIRECTORY | O_RDONLY);
    if (from < 0) {
        return from;
    }
    return linkat(from, base, folder, name, 0) < 0 ? -errno : 0;
}

static int put_entry(struct layer *l, struct archive_entry *entry, char *path)
{
    const char *hard = archive_entry_hardlink(entry);
    const char *soft = archive_entry_symlink(entry);
    mode_t type = archive_entry_filetype(entry);
    AUTO_CLOSE int folder = -1;
    char root[] = "";
    char *name;
    bool has_folder = split(path, &name);

    if (str_has_prefix(name, WHITEOUT)) {
        return 0;
    }
    folder = open_folder(l->root_fd, has_folder ? path : root);
    if (folder < 0) {
        return folder;
    }
    if (!hard && type == AE_IFDIR) {
        return put_folder(entry, folder, name);
    }
    if (!hard && type != AE_IFREG && type != AE_IFLNK) {
        return 0; /* devices, FIFOs and sockets are not an image's to make */
    }
    if (hard && strcmp(hard, archive_entry_pathname(entry)) == 0) {
        return 0;
    }
    oci_tree_remove(folder, name);
    if (hard) {
        return put_hard_link(l, hard, folder, name);
    }
    if (type == AE_IFLNK) {
        return symlinkat(soft ? soft : "", folder, name) < 0 ? -errno : 0;
    }
    return put_file(l, entry, folder, name);
}

/* --- both passes --- */

static int trouble(const struct layer *l, const char *path, int r)
{
    if (r == -EFBIG) {
        return err_set(l->err, r, "'%s': the image's files are larger than is allowed", path);
    }
    if (r == -EBADMSG) {
        return err_set(l->err, r, "'%s': %s", path, archive_error_string(l->tar));
    }
    return err_set(l->err, r, "unpack '%s': %s", path, strerror(-r));
}

static int pass(struct layer *l, bool puts)
{
    struct archive_entry *entry;
    int status;

    while ((status = archive_read_next_header(l->tar, &entry)) >= ARCHIVE_WARN &&
           status != ARCHIVE_EOF) {
        const char *pathname = archive_entry_pathname(entry);
        AUTO_FREE char *path = strdup(pathname ? pathname : "");
        int r = 0;

        if (!path || !tidy(path)) {
            return err_set(l->err, -EINVAL, "the layer names '%.200s': must stay in the image",
                           pathname ? pathname : "");
        }
        if (!path[0]) {
            continue;
        }
        if (puts) {
            r = put_entry(l, entry, path);
        } else {
            take_away(l->root_fd, path);
        }
        if (r < 0) {
            return trouble(l, pathname, r);
        }
    }
    return status == ARCHIVE_EOF ? 0
                                 : err_set(l->err, -EBADMSG, "the layer cannot be read: %s",
                                           archive_error_string(l->tar));
}

static int open_tar(struct layer *l, int fd)
{
    l->tar = archive_read_new();
    if (!l->tar) {
        return err_set(l->err, -ENOMEM, "image: out of memory");
    }
    /* one by one: "all" would run programs for some */
    (void)archive_read_support_filter_gzip(l->tar);
    (void)archive_read_support_filter_zstd(l->tar);
    (void)archive_read_support_filter_bzip2(l->tar);
    (void)archive_read_support_filter_xz(l->tar);
    (void)archive_read_support_format_tar(l->tar);
    (void)archive_read_support_format_empty(l->tar);
    if (lseek(fd, 0, SEEK_SET) < 0 || archive_read_open_fd(l->tar, fd, CHUNK) != ARCHIVE_OK) {
        return err_set(l->err, -EBADMSG, "the layer cannot be read: %s",
                       archive_error_string(l->tar));
    }
    return 0;
}

int oci_unpack_layer(int fd, int root_fd, uint64_t *budget, struct err *err)
{
    int r = 0;

    for (int puts = 0; r == 0 && puts <= 1; puts++) {
        struct layer layer = {.root_fd = root_fd, .budget = budget, .err = err};

        r = open_tar(&layer, fd);
        if (r == 0) {
            r = pass(&layer, puts);
        }
        (void)archive_read_free(layer.tar);
    }
    return r;
}
