/* modules.c — modules.dep and modules.builtin of a kernel's module tree.
 *
 * Both are text files of depmod(8) and of the kernel's own `make modules_install`:
 *     modules.dep:      kernel/fs/fuse/virtiofs.ko.xz: kernel/fs/fuse/fuse.ko.xz ...
 *     modules.builtin:  kernel/fs/fuse/virtiofs.ko
 * Paths are relative to the tree.  In names of modules '-' and '_' are the same.  Trees without the
 * first are read themselves (module_scan.h).
 */
#include "image/rootfs/modules.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/buf.h"
#include "base/str.h"
#include "image/rootfs/module_scan.h"

enum { FILE_MAX = 64 * 1024 * 1024, DEPTH_MAX = 64, LIST_MAX = 1024 };

struct tree {
    const char *dir;
    struct buf dep;     /* modules.dep */
    struct buf builtin; /* modules.builtin */
    bool has_builtin;   /* without it nobody knows what the kernel lacks */
};

static const struct {
    const char *module;
    const char *config;
} g_features[] = {
#define X(constant, module, config) [constant] = {module, config},
    MODULE_FEATURES(X)
#undef X
};

static const char *base_name(const char *path, size_t len)
{
    const char *slash = memrchr(path, '/', len);

    return slash ? slash + 1 : path;
}

/* Next line of a text; false at its end. */
static bool next_line(const char **text, const char **ret_line, size_t *ret_len)
{
    if (!**text) {
        return false;
    }
    *ret_line = *text;
    *ret_len = strcspn(*text, "\n");
    *text += *ret_len + ((*text)[*ret_len] == '\n');
    return true;
}

static bool is_builtin(const struct tree *tree, const char *name)
{
    const char *text = buf_str(&tree->builtin);
    const char *line;
    size_t len;

    while (next_line(&text, &line, &len)) {
        if (module_is(line, len, name)) {
            return true;
        }
    }
    return false;
}

/* The line "path: dependencies" of a module, found by name or by path; NULL if there is none. */
static const char *find_line(const struct tree *tree, const char *name, const char *path,
                             size_t path_len, size_t *ret_path_len, size_t *ret_line_len)
{
    const char *text = buf_str(&tree->dep);
    const char *line;
    size_t len;

    while (next_line(&text, &line, &len)) {
        const char *colon = memchr(line, ':', len);
        size_t head = colon ? (size_t)(colon - line) : len;

        if (name ? module_is(line, head, name)
                 : path && head == path_len && memcmp(line, path, head) == 0) {
            *ret_path_len = head;
            *ret_line_len = len;
            return line;
        }
    }
    return NULL;
}

static bool has_path(const struct module_list *list, const char *path)
{
    for (size_t i = 0; i < list->count; i++) {
        if (strcmp(list->paths[i], path) == 0) {
            return true;
        }
    }
    return false;
}

static int add_path(const struct tree *tree, const char *path, size_t len, struct module_list *list,
                    struct err *err)
{
    AUTO_CALL(buf_fini) struct buf full = {0};
    char **paths;

    if (path[0] != '/') {
        buf_printf(&full, "%s/", tree->dir);
    }
    buf_append(&full, path, len);
    if (buf_status(&full) < 0) {
        return err_set(err, -ENOMEM, "out of memory");
    }
    if (has_path(list, buf_str(&full))) {
        return 0;
    }
    if (access(buf_str(&full), R_OK) < 0) {
        return err_sys(err, "kernel module '%s'", buf_str(&full));
    }
    paths =
        list->count < LIST_MAX ? reallocarray(list->paths, list->count + 1, sizeof(*paths)) : NULL;
    if (!paths) {
        return err_set(err, -ENOMEM, "too many kernel modules");
    }
    list->paths = paths;
    paths[list->count++] = (char *)TAKE_PTR(full.data);
    return 0;
}

/* Depth first: what a module needs comes before it. */
static int add_module(const struct tree *tree, const char *line, size_t path_len, size_t line_len,
                      unsigned depth, struct module_list *list, struct err *err)
{
    const char *end = line + line_len;

    if (depth > DEPTH_MAX) {
        return err_set(err, -ELOOP, "'%s/modules.dep': dependencies form a circle", tree->dir);
    }
    for (const char *at = line + path_len + (path_len < line_len); at < end;) {
        size_t len = 0;
        size_t dep_path_len = 0;
        size_t dep_line_len = 0;
        const char *dep;

        while (at + len < end && at[len] != ' ') {
            len++;
        }
        dep = len ? find_line(tree, NULL, at, len, &dep_path_len, &dep_line_len) : NULL;
        if (dep) {
            int r = add_module(tree, dep, dep_path_len, dep_line_len, depth + 1, list, err);

            if (r < 0) {
                return r;
            }
        } else if (len) {
            return err_set(err, -ENOENT, "'%s/modules.dep' has no line for '%.*s'", tree->dir,
                           (int)len, at);
        }
        at += len + 1;
    }
    return add_path(tree, line, path_len, list, err);
}

static int lacks(const struct tree *tree, enum module_feature feature, struct err *err)
{
    const char *release = base_name(tree->dir, strlen(tree->dir));

    return err_set(err, -ENOENT, "kernel %s has no %s: needs %s%s", release,
                   g_features[feature].module, g_features[feature].config,
                   feature == FEATURE_FS ? ", or CONFIG_9P_FS and CONFIG_NET_9P_VIRTIO" : "");
}

static int add_feature(const struct tree *tree, enum module_feature feature, bool is_needed,
                       struct module_list *list, struct err *err)
{
    const char *name = g_features[feature].module;
    size_t path_len = 0;
    size_t line_len = 0;
    const char *line = NULL;

    if (!is_builtin(tree, name)) {
        line = find_line(tree, name, NULL, 0, &path_len, &line_len);
        if (!line) {
            return is_needed && tree->has_builtin ? lacks(tree, feature, err) : 0;
        }
    }
    list->found |= FEATURE_BIT(feature);
    return line ? add_module(tree, line, path_len, line_len, 0, list, err) : 0;
}

/* One of the two ways to share files; the first is the better. */
static int add_share(const struct tree *tree, bool is_needed, struct module_list *list,
                     struct err *err)
{
    int r = add_feature(tree, FEATURE_FS, false, list, err);

    if (r < 0 || (list->found & FEATURE_BIT(FEATURE_FS))) {
        return r;
    }
    r = add_feature(tree, FEATURE_9P_VIRTIO, false, list, err);
    if (r == 0) {
        r = add_feature(tree, FEATURE_9P, false, list, err);
    }
    if (r == 0 && (list->found & FEATURES_9P) != FEATURES_9P) {
        return is_needed && tree->has_builtin ? lacks(tree, FEATURE_FS, err) : 0;
    }
    return r;
}

static int read_dep(struct tree *tree, struct err *err)
{
    AUTO_CALL(buf_fini) struct buf path = {0};
    const char *names[FEATURE_COUNT];
    int r;

    buf_printf(&path, "%s/modules.dep", tree->dir);
    r = buf_read_file(&tree->dep, buf_str(&path), FILE_MAX);
    if (r != -ENOENT) {
        return r < 0 ? err_set(err, r, "read '%s': %s", buf_str(&path), strerror(-r)) : 0;
    }
    for (size_t i = 0; i < FEATURE_COUNT; i++) {
        names[i] = g_features[i].module;
    }
    r = module_scan(tree->dir, names, FEATURE_COUNT, &tree->dep, err);
    return r < 0 ? err_wrap(err, r, "'%s' is missing (depmod makes it)", buf_str(&path)) : 0;
}

static int read_tree(struct tree *tree, struct err *err)
{
    AUTO_CALL(buf_fini) struct buf path = {0};
    int r;

    buf_printf(&path, "%s/modules.builtin", tree->dir);
    r = buf_read_file(&tree->builtin, buf_str(&path), FILE_MAX);
    if (r < 0 && r != -ENOENT) {
        return err_set(err, r, "read '%s': %s", buf_str(&path), strerror(-r));
    }
    tree->has_builtin = r == 0;
    return read_dep(tree, err);
}

static int make(const struct tree *tree, unsigned needed, unsigned wanted, struct module_list *list,
                struct err *err)
{
    for (unsigned i = 0; i < FEATURE_COUNT; i++) {
        if ((needed | wanted) & FEATURE_BIT(i)) {
            bool is_needed = needed & FEATURE_BIT(i);
            int r = i == FEATURE_FS
                        ? add_share(tree, is_needed, list, err)
                        : add_feature(tree, (enum module_feature)i, is_needed, list, err);

            if (r < 0) {
                return r;
            }
        }
    }
    return 0;
}

int module_list_make(const char *dir, unsigned needed, unsigned wanted,
                     struct module_list *ret_list, struct err *err)
{
    AUTO_FREE char *clean = strdup(dir);
    struct tree tree = {.dir = clean};
    struct module_list list = {0};
    int r;

    if (!clean) {
        return err_set(err, -ENOMEM, "out of memory");
    }
    for (size_t len = strlen(clean); len > 1 && clean[len - 1] == '/'; len--) {
        clean[len - 1] = 0;
    }
    r = read_tree(&tree, err);
    if (r == 0) {
        r = make(&tree, needed, wanted, &list, err);
    }
    buf_fini(&tree.dep);
    buf_fini(&tree.builtin);
    if (r < 0) {
        module_list_fini(&list);
        return r;
    }
    *ret_list = list;
    return 0;
}

void module_list_fini(struct module_list *list)
{
    if (list) {
        for (size_t i = 0; i < list->count; i++) {
            free(list->paths[i]);
        }
        free(list->paths);
        *list = (struct module_list){0};
    }
}
