/* module_scan.c — the modules.dep of a tree that has none, from the modules themselves.
 *
 * Whoever copies modules into an image by hand has no depmod(8) run.  Each module says what it
 * needs in a text "depends=a,b" among those of its section .modinfo, so only the few modules that a
 * VM boots with, and what they need, have to be read.
 */
#include "image/rootfs/module_scan.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/auto.h"
#include "codec/decompress.h"

#define DEPTH_MAX   32u
#define MODULES_MAX 65536u /* Debian's kernel has 4,000 */
#define NEEDED_MAX  1024u  /* a VM starts with some twenty */
#define DEPENDS     "\0depends="

struct scan {
    const char *dir;
    char **paths; /* of all modules, below dir */
    size_t count;
    struct buf path; /* of the folder that is looked through */
    struct buf *dep;
    struct err *err;
};

static void auto_closedir(DIR *const *dir)
{
    if (*dir) {
        (void)closedir(*dir);
    }
}

bool module_is(const char *path, size_t len, const char *name)
{
    const char *slash = memrchr(path, '/', len);
    const char *base = slash ? slash + 1 : path;
    size_t left = len - (size_t)(base - path);
    size_t i = 0;

    for (; i < left && name[i]; i++) {
        if ((base[i] == '-' ? '_' : base[i]) != (name[i] == '-' ? '_' : name[i])) {
            return false;
        }
    }
    return !name[i] && left - i >= 3 && memcmp(base + i, ".ko", 3) == 0 &&
           (left - i == 3 || base[i + 3] == '.');
}

int module_read(const char *path, struct buf *out, struct err *err)
{
    AUTO_CALL(buf_fini) struct buf file = {0};
    enum codec_format format;
    int r = buf_read_file(&file, path, MODULE_FILE_MAX);

    if (r < 0) {
        return err_set(err, r, "read kernel module '%s': %s", path, strerror(-r));
    }
    format = codec_sniff(file.data, file.len);
    if (format == CODEC_UNKNOWN) {
        *out = file;
        file = (struct buf){0};
        return 0;
    }
    r = codec_decompress(format, file.data, file.len, MODULE_FILE_MAX, out, err);
    return r < 0 ? err_wrap(err, r, "unpack kernel module '%s'", path) : 0;
}

/* ---- all modules of the tree ---- */

static int keep(struct scan *s)
{
    char **paths =
        s->count < MODULES_MAX ? reallocarray(s->paths, s->count + 1, sizeof(*s->paths)) : NULL;

    if (!paths) {
        return err_set(s->err, -ENOMEM, "'%s': too many kernel modules", s->dir);
    }
    s->paths = paths;
    paths[s->count] = strdup(buf_str(&s->path));
    if (!paths[s->count]) {
        return err_set(s->err, -ENOMEM, "out of memory");
    }
    s->count++;
    return 0;
}

static int list(struct scan *s, int parent_fd, const char *name, unsigned depth)
{
    int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    __attribute__((cleanup(auto_closedir))) DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    size_t len = s->path.len;
    const struct dirent *e;
    int r = 0;

    while (r == 0 && dir && (e = readdir(dir))) {
        struct stat st;

        if (e->d_name[0] == '.' || fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
            continue;
        }
        buf_printf(&s->path, "%s%s", len ? "/" : "", e->d_name);
        if (S_ISREG(st.st_mode) && strstr(e->d_name, ".ko")) {
            r = keep(s);
        } else if (S_ISDIR(st.st_mode) && depth < DEPTH_MAX) {
            r = list(s, fd, e->d_name, depth + 1);
        }
        s->path.len = len;
    }
    return r;
}

/* ---- what one needs ---- */

static const char *find(const struct scan *s, const char *name)
{
    for (size_t i = 0; i < s->count; i++) {
        if (module_is(s->paths[i], strlen(s->paths[i]), name)) {
            return s->paths[i];
        }
    }
    return NULL;
}

/* "a,b" of a module; "" if it needs none. */
static int read_depends(const struct scan *s, const char *path, struct buf *ret_depends)
{
    AUTO_CALL(buf_fini) struct buf full = {0};
    AUTO_CALL(buf_fini) struct buf module = {0};
    const char *at;
    const char *end;
    int r;

    buf_printf(&full, "%s/%s", s->dir, path);
    r = module_read(buf_str(&full), &module, s->err);
    if (r < 0) {
        return r;
    }
    at = module.len ? memmem(module.data, module.len, DEPENDS, sizeof(DEPENDS) - 1) : NULL;
    if (at) {
        at += sizeof(DEPENDS) - 1;
        end = memchr(at, 0, module.len - (size_t)(at - (const char *)module.data));
        buf_append(ret_depends, at, end ? (size_t)(end - at) : 0);
    }
    return buf_status(ret_depends);
}

static bool has_line(const struct scan *s, const char *path)
{
    size_t len = strlen(path);

    for (const char *at = buf_str(s->dep); *at; at += strcspn(at, "\n") + 1) {
        if (strncmp(at, path, len) == 0 && at[len] == ':') {
            return true;
        }
    }
    return false;
}

/* The line of one module, whose needs are appended to `queue`, each with a NUL. */
static int add_line(struct scan *s, const char *path, struct buf *queue)
{
    AUTO_CALL(buf_fini) struct buf depends = {0};
    char *rest = NULL;
    int r = read_depends(s, path, &depends);

    if (r < 0) {
        return r;
    }
    buf_printf(s->dep, "%s:", path);
    for (char *name = depends.len ? strtok_r((char *)depends.data, ",", &rest) : NULL; name;
         name = strtok_r(NULL, ",", &rest)) {
        const char *needed = find(s, name);

        if (!needed) {
            return err_set(s->err, -ENOENT, "kernel module '%s/%s' needs '%s', which is not there",
                           s->dir, path, name);
        }
        buf_printf(s->dep, " %s", needed);
        buf_append(queue, needed, strlen(needed) + 1);
    }
    buf_append_str(s->dep, "\n");
    return 0;
}

static int add_lines(struct scan *s, const char *const *names, size_t name_count)
{
    AUTO_CALL(buf_fini) struct buf queue = {0};
    unsigned lines = 0;
    int r = 0;

    for (size_t i = 0; i < name_count; i++) {
        const char *path = find(s, names[i]);

        if (path) {
            buf_append(&queue, path, strlen(path) + 1);
        }
    }
    for (size_t at = 0; r == 0 && at < queue.len && buf_status(&queue) == 0;) {
        AUTO_FREE char *path = strdup((const char *)queue.data + at);

        if (!path) {
            return -ENOMEM;
        }
        at += strlen(path) + 1;
        if (has_line(s, path)) {
            continue;
        }
        if (++lines > NEEDED_MAX) { /* image: each is read and unpacked */
            return err_set(s->err, -E2BIG, "'%s': kernel modules need more than %u others", s->dir,
                           NEEDED_MAX);
        }
        r = add_line(s, path, &queue);
    }
    r = r == 0 ? buf_status(&queue) : r;
    return r == 0 ? buf_status(s->dep) : r;
}

int module_scan(const char *dir, const char *const *names, size_t name_count, struct buf *dep,
                struct err *err)
{
    struct scan s = {.dir = dir, .dep = dep, .err = err};
    int r = list(&s, AT_FDCWD, dir, 0);

    if (r == 0) {
        r = buf_status(&s.path);
    }
    if (r == 0) {
        r = add_lines(&s, names, name_count);
    }
    for (size_t i = 0; i < s.count; i++) {
        free(s.paths[i]);
    }
    free(s.paths);
    buf_fini(&s.path);
    return r;
}
