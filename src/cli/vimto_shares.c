/* vimto_shares.c — which folders the VM shares with the host, read-write: what Go's tools and the
 * tests write to, and what the VM's own /tmp and /run would hide.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/bits.h"
#include "base/log.h"
#include "base/str.h"
#include "cli/vimto.h"

/* Is `path` the folder `dir` or in it? */
static bool is_below(const char *path, const char *dir)
{
    size_t len = strlen(dir);

    return strncmp(path, dir, len) == 0 && (path[len] == 0 || path[len] == '/');
}

static bool is_below_any(const char *path, const char *const *dirs, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (is_below(path, dirs[i])) {
            return true;
        }
    }
    return false;
}

/* Folders that the VM has of its own, empty (guest/init/mounts.c): what is needed of the host's is
 * a share. */
static bool is_hidden(const char *path)
{
    static const char *const dirs[] = {"/tmp", "/run", "/dev/shm"};

    return is_below_any(path, dirs, ARRAY_LEN(dirs));
}

/* What the VM has of its own and must keep. */
static bool is_private(const char *path)
{
    static const char *const dirs[] = {"/proc", "/sys", "/dev"};

    return !is_hidden(path) && is_below_any(path, dirs, ARRAY_LEN(dirs));
}

/* The system's: the VM has it as it is, below what an image puts over it. */
static bool is_system(const char *path)
{
    static const char *const dirs[] = {"/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc", "/boot"};

    return is_below_any(path, dirs, ARRAY_LEN(dirs));
}

static void drop_at(struct vimto_shares *shares, unsigned at)
{
    free(shares->paths[at]);
    shares->paths[at] = shares->paths[--shares->count];
    shares->paths[shares->count] = NULL;
}

/* The folder `dir`, which may not be there: then nothing is shared.  0, -ENOMEM or -E2BIG. */
static int add(struct vimto_shares *shares, const char *dir)
{
    AUTO_FREE char *real = realpath(dir, NULL);
    struct stat st;

    if (!real || stat(real, &st) < 0 || !S_ISDIR(st.st_mode) || strcmp(real, "/") == 0 ||
        is_private(real)) {
        return 0;
    }
    for (unsigned i = 0; i < shares->count; i++) {
        if (is_below(real, shares->paths[i])) {
            return 0;
        }
    }
    for (unsigned i = shares->count; i > 0; i--) {
        if (is_below(shares->paths[i - 1], real)) {
            drop_at(shares, i - 1);
        }
    }
    if (shares->count == ARRAY_LEN(shares->paths)) {
        return -E2BIG;
    }
    shares->paths[shares->count++] = TAKE_PTR(real);
    return 0;
}

static int add_parent(struct vimto_shares *shares, const char *file)
{
    AUTO_FREE char *dir = strdup(file);
    char *slash = dir ? strrchr(dir, '/') : NULL;

    if (!dir) {
        return -ENOMEM;
    }
    if (!slash) {
        return 0;
    }
    slash[slash == dir] = 0;
    return add(shares, dir);
}

/* --- the command --- */

static bool is_program(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

/* As execvp(3) looks; NULL: not on this host, perhaps in the image. */
static char *find_program(const char *cwd, const char *name)
{
    const char *at = getenv("PATH");
    char *path;

    if (strchr(name, '/')) {
        if (asprintf(&path, "%s%s%s", name[0] == '/' ? "" : cwd, name[0] == '/' ? "" : "/", name) <
            0) {
            return NULL;
        }
        return path;
    }
    for (; at; at = strchr(at, ':') ? strchr(at, ':') + 1 : NULL) {
        int len = (int)strcspn(at, ":");

        if (asprintf(&path, "%.*s%s%s", len ? len : (int)strlen(cwd), len ? at : cwd, "/", name) <
            0) {
            return NULL;
        }
        if (is_program(path)) {
            return path;
        }
        free(path);
    }
    return NULL;
}

/* The folder of the program, and of what it is a link to: a test binary writes beside itself, and a
 * folder that the VM has of its own hides it. */
static int add_program(struct vimto_shares *shares, const char *cwd, const char *name)
{
    AUTO_FREE char *path = find_program(cwd, name);
    AUTO_FREE char *real = path ? realpath(path, NULL) : NULL;
    int r = 0;

    if (!real) {
        return 0;
    }
    if (is_hidden(path) || (strchr(name, '/') && !is_system(path))) {
        r = add_parent(shares, path);
    }
    if (r == 0 && (is_hidden(real) || (strchr(name, '/') && !is_system(real)))) {
        r = add_parent(shares, real);
    }
    return r;
}

/* --- Go's folders --- */

/* Flags that `go test` gives a test binary, with the place that it writes to. */
static const struct {
    const char *name;
    bool is_file;
} g_places[] = {
    {"outputdir", false},   {"gocoverdir", false}, {"fuzzcachedir", false}, {"testlogfile", true},
    {"coverprofile", true}, {"cpuprofile", true},  {"memprofile", true},    {"blockprofile", true},
    {"mutexprofile", true}, {"trace", true},
};

/* The fuzzer makes its folder only when it has something to keep, which would stay in the VM. */
static void make_folders(const char *path)
{
    AUTO_FREE char *part = strdup(path);
    char *at = part;

    while (part && (at = strchr(at + 1, '/')) != NULL) {
        *at = 0;
        (void)mkdir(part, 0777);
        *at = '/';
    }
    (void)mkdir(path, 0777);
}

static int add_places(struct vimto_shares *shares, const char *word)
{
    static const char prefix[] = "-test.";

    if (!str_has_prefix(word, prefix)) {
        return 0;
    }
    word += strlen(prefix);
    for (size_t i = 0; i < ARRAY_LEN(g_places); i++) {
        size_t len = strlen(g_places[i].name);

        if (strncmp(word, g_places[i].name, len) == 0 && word[len] == '=' && word[len + 1] == '/') {
            if (strcmp(g_places[i].name, "fuzzcachedir") == 0) {
                make_folders(word + len + 1);
            }
            return g_places[i].is_file ? add_parent(shares, word + len + 1)
                                       : add(shares, word + len + 1);
        }
    }
    return 0;
}

int vimto_shares_find(const char *cwd, const char *root, char *const *argv,
                      struct vimto_shares *ret_shares, struct err *err)
{
    struct vimto_shares shares = {.count = 0};
    const char *coverage = getenv("GOCOVERDIR"); /* of programs built by `go build -cover` */
    int r = add(&shares, cwd);

    if (r == 0 && root) {
        r = add(&shares, root);
    }
    if (r == 0) {
        r = add_program(&shares, cwd, argv[0]);
    }
    if (r == 0 && coverage && coverage[0]) {
        r = add(&shares, coverage);
    }
    for (char *const *word = argv + 1; r == 0 && *word; word++) {
        r = add_places(&shares, *word);
    }
    if (r < 0) {
        vimto_shares_fini(&shares);
        return err_set(err, r, "shares: %s",
                       r == -E2BIG ? "too many folders to share" : "out of memory");
    }
    *ret_shares = shares;
    return 0;
}

void vimto_shares_fini(struct vimto_shares *shares)
{
    while (shares->count) {
        drop_at(shares, shares->count - 1);
    }
}
