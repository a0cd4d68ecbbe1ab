/* tree.c — see tree.h. */
#include "image/oci/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/buf.h"

#define LIST_MAX (64u << 20) /* bytes: some hundred thousand files */
/* The first line: an empty list is a broken one, an empty image is not. */
#define LIST_HEAD "ec1 tree 1"
#define DEPTH_MAX 64

static int skip_dots(const struct dirent *entry)
{
    return strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
}

/* "f 123 1700000000.5 boot/vmlinuz\0".  Folders change their times when they are looked after. */
static void put_line(struct buf *list, const struct stat *st, const char *path)
{
    if (S_ISDIR(st->st_mode)) {
        buf_printf(list, "d 0 0.0 %s", path);
    } else {
        buf_printf(list, "%c %lld %lld.%09ld %s", S_ISLNK(st->st_mode) ? 'l' : 'f',
                   (long long)st->st_size, (long long)st->st_mtim.tv_sec, st->st_mtim.tv_nsec,
                   path);
    }
    buf_append_u8(list, 0);
}

static int walk(int folder_fd, const char *path, unsigned depth, struct buf *list)
{
    struct dirent **entries = NULL;
    int count;
    int r = 0;

    if (depth > DEPTH_MAX) {
        return -ELOOP;
    }
    count = scandirat(folder_fd, path, &entries, skip_dots, NULL);
    if (count < 0) {
        return -errno;
    }
    for (int i = 0; i < count; i++) {
        AUTO_FREE char *below = NULL;
        struct stat st;

        if (r == 0 && asprintf(&below, "%s/%s", path, entries[i]->d_name) < 0) {
            below = NULL;
            r = -ENOMEM;
        }
        if (r == 0) {
            r = fstatat(folder_fd, below, &st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
        }
        if (r == 0) {
            put_line(list, &st, below);
            r = S_ISDIR(st.st_mode) ? walk(folder_fd, below, depth + 1, list) : buf_status(list);
        }
        free(entries[i]);
    }
    free(entries);
    return r;
}

int oci_tree_seal(int folder_fd, struct err *err)
{
    AUTO_CALL(buf_fini) struct buf list = {0};
    AUTO_CLOSE int fd = -1;
    int r;

    buf_append(&list, LIST_HEAD, sizeof(LIST_HEAD));
    r = walk(folder_fd, "root", 0, &list);

    if (r < 0) {
        return err_set(err, r, "image: list its files: %s", strerror(-r));
    }
    fd = openat(folder_fd, "list", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        return err_sys(err, "image: create the list of its files");
    }
    for (size_t at = 0; at < list.len;) {
        ssize_t n = write(fd, list.data + at, list.len - at);

        if (n < 0 && errno != EINTR) {
            return err_sys(err, "image: write the list of its files");
        }
        at += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static int read_list(int folder_fd, struct buf *list)
{
    AUTO_CLOSE int fd = openat(folder_fd, "list", O_RDONLY | O_CLOEXEC);
    struct stat st;
    ssize_t n;

    if (fd < 0 || fstat(fd, &st) < 0) {
        return -errno;
    }
    if (st.st_size <= 0 || st.st_size > (off_t)LIST_MAX || !buf_reserve(list, (size_t)st.st_size)) {
        return -EBADMSG;
    }
    n = pread(fd, list->data, (size_t)st.st_size, 0);
    list->len = n > 0 ? (size_t)n : 0;
    return n == st.st_size && n >= (ssize_t)sizeof(LIST_HEAD) && list->data[n - 1] == 0 &&
                   memcmp(list->data, LIST_HEAD, sizeof(LIST_HEAD)) == 0
               ? 0
               : -EBADMSG;
}

int oci_tree_check(int folder_fd, struct err *err)
{
    AUTO_CALL(buf_fini) struct buf list = {0};
    AUTO_CALL(buf_fini) struct buf now = {0};
    int r = read_list(folder_fd, &list);

    if (r < 0) {
        return err_set(err, -ESTALE, "image: the list of its files cannot be read: %s",
                       strerror(-r));
    }
    for (const char *line = (const char *)list.data + sizeof(LIST_HEAD);
         line < (const char *)list.data + list.len; line += strlen(line) + 1) {
        const char *path = strstr(line, " root/");
        struct stat st;

        buf_clear(&now);
        if (path && fstatat(folder_fd, path + 1, &st, AT_SYMLINK_NOFOLLOW) == 0) {
            put_line(&now, &st, path + 1);
        }
        if (strcmp(buf_str(&now), line) != 0) {
            return err_set(err, -ESTALE, "image: '%.200s' is not as it was unpacked",
                           path ? path + 1 : "list");
        }
    }
    return 0;
}

void oci_tree_remove(int folder_fd, const char *name)
{
    struct dirent **entries = NULL;
    int fd;
    int count;

    if (unlinkat(folder_fd, name, 0) == 0 || (errno != EISDIR && errno != EPERM)) {
        return;
    }
    fd = openat(folder_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0) {
        count = scandirat(fd, ".", &entries, skip_dots, NULL);
        for (int i = 0; i < count; i++) {
            oci_tree_remove(fd, entries[i]->d_name);
            free(entries[i]);
        }
        free(entries);
        (void)close(fd);
    }
    (void)unlinkat(folder_fd, name, AT_REMOVEDIR);
}
