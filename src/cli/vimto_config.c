/* vimto_config.c — .vimto.toml: where it is, what it says. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/bits.h"
#include "base/buf.h"
#include "base/str.h"
#include "cli/vimto.h"
#include "codec/toml.h"
#include "codec/words.h"
#include "image/oci/ref.h"

#define FILE_NAME ".vimto.toml"
#define FILE_MAX  (1u << 20) /* bytes */

/* Go's tools need more than a plain program. */
#define DEFAULT_MEM_BYTES (512 * MIB)

/* --- where it is --- */

static char *join(const char *dir, const char *name)
{
    char *path;

    return asprintf(&path, "%s%s%s", dir, str_has_suffix(dir, "/") ? "" : "/", name) < 0 ? NULL
                                                                                         : path;
}

static bool has(const char *dir, const char *name)
{
    AUTO_FREE char *path = join(dir, name);

    return path && access(path, F_OK) == 0;
}

/* What version control systems put into the root of a repository: folders, or files in a work tree
 * or submodule. */
static bool is_repository(const char *dir)
{
    static const char *const marks[] = {".git",   ".hg",    ".jj", ".sl",       ".svn",    ".bzr",
                                        "_darcs", ".pijul", "CVS", ".fslckout", "_FOSSIL_"};

    for (size_t i = 0; i < ARRAY_LEN(marks); i++) {
        if (has(dir, marks[i])) {
            return true;
        }
    }
    return false;
}

static bool is_module(const char *dir)
{
    return has(dir, "go.work") || has(dir, "go.mod");
}

/* "/a/b" becomes "/a", "/a" becomes "/"; false at the end. */
static bool go_up(char *dir)
{
    char *slash = strrchr(dir, '/');

    if (!slash || !slash[1]) {
        return false;
    }
    slash[slash == dir] = 0;
    return true;
}

static char *find_up(const char *dir, bool (*is_root)(const char *dir))
{
    AUTO_FREE char *at = strdup(dir);

    if (!at) {
        return NULL;
    }
    do {
        if (is_root(at)) {
            return TAKE_PTR(at);
        }
    } while (go_up(at));
    return NULL;
}

char *vimto_find_root(const char *dir)
{
    char *root = find_up(dir, is_repository);

    return root ? root : find_up(dir, is_module);
}

/* The path of the file, NULL if there is none. */
static char *find_file(const char *dir, const char *root)
{
    AUTO_FREE char *at = strdup(dir);

    if (!at) {
        return NULL;
    }
    for (;;) {
        char *path = join(at, FILE_NAME);

        if (path && access(path, F_OK) == 0) {
            return path;
        }
        free(path);
        if (!root || strcmp(at, root) == 0 || !go_up(at)) {
            return NULL;
        }
    }
}

/* --- what it says --- */

/* While it is read. */
struct reading {
    const char *path;
    char *dir; /* of the file */
    struct vimto_config *config;
    struct err *err;
};

static int no_memory(const struct reading *in)
{
    return err_set(in->err, -ENOMEM, "'%s': out of memory", in->path);
}

static int wrong(const struct reading *in, const struct toml_value *value, const char *key,
                 const char *want)
{
    return err_set(in->err, -EINVAL, "'%s': line %u: %s: must be %s, not %s", in->path, value->line,
                   key, want, toml_type_text(value->type));
}

/* Puts the place in front of what was said. */
static int at_line(const struct reading *in, const struct toml_value *value, int r)
{
    return r < 0 ? err_wrap(in->err, r, "'%s': line %u", in->path, value->line) : r;
}

static int take_string(struct reading *in, const struct toml_value *value, char **ret_text)
{
    if (value->type != TOML_STRING) {
        return wrong(in, value, value->key, "a string");
    }
    free(*ret_text);
    *ret_text = strdup(value->text);
    return *ret_text ? 0 : no_memory(in);
}

static int take_kernel(struct reading *in, const struct toml_value *value)
{
    AUTO_FREE char *text = NULL;
    int r = take_string(in, value, &text);

    if (r < 0 || !text || !text[0]) {
        return r;
    }
    in->config->kernel = vimto_kernel_path(in->dir, text);
    return in->config->kernel ? 0 : no_memory(in);
}

static int take_user(struct reading *in, const struct toml_value *value)
{
    int r = take_string(in, value, &in->config->user);

    if (r == 0 && !in->config->user[0]) {
        free(TAKE_PTR(in->config->user));
    }
    return r;
}

/* A string, or a plain number. */
static int take_amount(struct reading *in, const struct toml_value *value, char **ret_text)
{
    if (value->type != TOML_INT) {
        return value->type == TOML_STRING ? take_string(in, value, ret_text)
                                          : wrong(in, value, value->key, "a string or an integer");
    }
    return asprintf(ret_text, "%lld", (long long)value->number) < 0 ? no_memory(in) : 0;
}

static int take_memory(struct reading *in, const struct toml_value *value)
{
    AUTO_FREE char *text = NULL;
    int r = take_amount(in, value, &text);

    return r < 0 ? r : at_line(in, value, vimto_memory(text, &in->config->mem_bytes, in->err));
}

static int take_smp(struct reading *in, const struct toml_value *value)
{
    AUTO_FREE char *text = NULL;
    int r = take_amount(in, value, &text);

    return r < 0 ? r : at_line(in, value, vimto_smp(text, &in->config->vcpu_count, in->err));
}

/* One command: "touch 'a b'" or ["touch", "a b"]. */
static int take_command(struct reading *in, const struct toml_value *value, const char *key,
                        char ***ret_words)
{
    if (value->type == TOML_STRING) {
        int r = words_split(value->text, ret_words, in->err);

        if (r < 0) {
            return at_line(in, value, r);
        }
    } else if (value->type == TOML_ARRAY) {
        AUTO_FREE char **words = calloc(value->count + 1, sizeof(*words));

        if (!words) {
            return no_memory(in);
        }
        for (size_t i = 0; i < value->count; i++) {
            if (value->items[i].type != TOML_STRING) {
                return wrong(in, &value->items[i], key, "commands of strings");
            }
            words[i] = value->items[i].text;
        }
        *ret_words = words_copy(words);
        if (!*ret_words) {
            return no_memory(in);
        }
    } else {
        return wrong(in, value, key, "commands: strings, or arrays of strings");
    }
    if (!**ret_words) {
        return err_set(in->err, -EINVAL, "'%s': line %u: %s: a command must have a word", in->path,
                       value->line, key);
    }
    return 0;
}

static int take_commands(struct reading *in, const struct toml_value *value,
                         struct vimto_commands *commands)
{
    if (value->type != TOML_ARRAY) {
        return wrong(in, value, value->key, "an array of commands");
    }
    commands->list = calloc(value->count + 1, sizeof(*commands->list));
    if (!commands->list) {
        return no_memory(in);
    }
    for (size_t i = 0; i < value->count; i++) {
        int r;

        commands->count = i + 1; /* also a refused one is to be freed */
        r = take_command(in, &value->items[i], value->key, &commands->list[i]);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int take_setup(struct reading *in, const struct toml_value *value)
{
    return take_commands(in, value, &in->config->setup);
}

static int take_teardown(struct reading *in, const struct toml_value *value)
{
    return take_commands(in, value, &in->config->teardown);
}

static const struct {
    const char *name;
    int (*take)(struct reading *in, const struct toml_value *value);
} g_keys[] = {
    {"kernel", take_kernel}, {"memory", take_memory}, {"smp", take_smp},
    {"user", take_user},     {"setup", take_setup},   {"teardown", take_teardown},
};

/* All keys that mean nothing, in one sentence. */
static int refuse_unknown(const struct reading *in, const struct toml_value *root)
{
    AUTO_CALL(buf_fini) struct buf names = {0};
    const struct toml_value *first = NULL;

    for (size_t i = 0; i < root->count; i++) {
        bool is_known = false;

        for (size_t j = 0; j < ARRAY_LEN(g_keys); j++) {
            is_known |= strcmp(root->items[i].key, g_keys[j].name) == 0;
        }
        if (!is_known) {
            buf_printf(&names, "%s'%s'", first ? ", " : "", root->items[i].key);
            first = first ? first : &root->items[i];
        }
    }
    return first ? err_set(in->err, -EINVAL,
                           "'%s': line %u: unknown key %s; there are kernel, memory, smp, user, "
                           "setup and teardown",
                           in->path, first->line, buf_str(&names))
                 : 0;
}

static int read_tree(struct reading *in, const struct toml_value *root)
{
    int r = refuse_unknown(in, root);

    for (size_t i = 0; r == 0 && i < ARRAY_LEN(g_keys); i++) {
        const struct toml_value *value = toml_get(root, g_keys[i].name);

        if (value) {
            r = g_keys[i].take(in, value);
        }
    }
    return r;
}

static int read_file(const char *path, struct vimto_config *config, struct err *err)
{
    AUTO_CALL(buf_fini) struct buf text = {0};
    AUTO_FREE char *dir = strdup(path);
    struct reading in = {.path = path, .dir = dir, .config = config, .err = err};
    struct toml_value root;
    int r = buf_read_file(&text, path, FILE_MAX);

    if (r < 0) {
        return err_set(err, r, "'%s': %s", path, strerror(-r));
    }
    if (!dir) {
        return no_memory(&in);
    }
    (void)go_up(dir);
    r = toml_parse(buf_str(&text), text.len, &root, err);
    if (r < 0) {
        return err_wrap(err, r, "'%s'", path);
    }
    r = read_tree(&in, &root);
    toml_fini(&root);
    return r;
}

/* --- with flags --- */

char *vimto_kernel_path(const char *dir, const char *text)
{
    static const char *const kinds[] = {"oci:", "docker-archive:"};
    AUTO_FREE char *path = text[0] == '/' ? strdup(text) : join(dir, text);
    char *whole;

    if (path && access(path, F_OK) == 0) {
        return TAKE_PTR(path);
    }
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        size_t len = strlen(kinds[i]);

        if (str_has_prefix(text, kinds[i]) && text[len] != '/') {
            return asprintf(&whole, "%s%s/%s", kinds[i], dir, text + len) < 0 ? NULL : whole;
        }
    }
    return oci_ref_is(text) ? strdup(text) : TAKE_PTR(path);
}

/* The image of the file at another tag: `text` is ":tag". */
static int swap_tag(struct vimto_config *config, const char *text, struct err *err)
{
    struct oci_ref ref;
    int r;

    if (!config->kernel || !oci_ref_is(config->kernel)) {
        return err_set(err, -EINVAL,
                       "kernel '%s': a tag alone needs an image as kernel in " FILE_NAME
                       ", which has %s",
                       text, config->kernel ? config->kernel : "none");
    }
    r = oci_ref_parse(config->kernel, &ref, err);
    if (r < 0) {
        return r;
    }
    r = ref.kind == OCI_ARCHIVE
            ? err_set(err, -EINVAL, "kernel '%s': '%s' has no tags", text, config->kernel)
            : oci_ref_set_tag(&ref, text + 1, err);
    if (r == 0) {
        free(config->kernel);
        config->kernel = oci_ref_text(&ref);
        r = config->kernel ? 0 : err_set(err, -ENOMEM, "kernel: out of memory");
    }
    oci_ref_fini(&ref);
    return r;
}

static int apply_flags(const char *dir, const struct vimto_flags *flags,
                       struct vimto_config *config, struct err *err)
{
    if (flags->mem_bytes) {
        config->mem_bytes = flags->mem_bytes;
    }
    if (flags->vcpu_count) {
        config->vcpu_count = flags->vcpu_count;
    }
    if (flags->sudo) {
        free(config->user);
        config->user = strdup("root");
        if (!config->user) {
            return err_set(err, -ENOMEM, "sudo: out of memory");
        }
    }
    if (!flags->kernel) {
        return 0;
    }
    if (flags->kernel[0] == ':') {
        return swap_tag(config, flags->kernel, err);
    }
    free(config->kernel);
    config->kernel = vimto_kernel_path(dir, flags->kernel);
    return config->kernel ? 0 : err_set(err, -ENOMEM, "kernel: out of memory");
}

int vimto_config_load(const char *dir, const char *root, const struct vimto_flags *flags,
                      struct vimto_config *ret_config, struct err *err)
{
    AUTO_FREE char *path = find_file(dir, root);
    struct vimto_config config = {.mem_bytes = DEFAULT_MEM_BYTES, .vcpu_count = 1};
    int r = path ? read_file(path, &config, err) : 0;

    if (r == 0) {
        r = apply_flags(dir, flags, &config, err);
    }
    if (r < 0) {
        vimto_config_fini(&config);
        return r;
    }
    *ret_config = config;
    return 0;
}

static void commands_fini(struct vimto_commands *commands)
{
    for (size_t i = 0; i < commands->count; i++) {
        words_free(commands->list[i]);
    }
    free(commands->list);
}

void vimto_config_fini(struct vimto_config *config)
{
    free(config->kernel);
    free(config->user);
    commands_fini(&config->setup);
    commands_fini(&config->teardown);
    *config = (struct vimto_config){0};
}
