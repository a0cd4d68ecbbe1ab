/* instance.c — folders of running and finished VMs. */
#include "vmm/instance.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/bits.h"
#include "base/clock.h"
#include "base/str.h"

/* A folder is made under this prefix and renamed once its lock is held, so that nobody sees it
 * before. */
#define NEW_PREFIX ".new-"
/* A maker that died before it took the lock leaves a folder without one; older than this it is
 * garbage. */
#define NEW_GRACE_NS (30 * NS_PER_S)

static void join(char *out, size_t size, const char *dir, const char *name)
{
    if (snprintf(out, size, "%s/%s", dir, name) >= (int)size) {
        out[0] = 0; /* an empty path opens nothing */
    }
}

/* Our folder must be ours alone: /tmp is everybody's. */
static int check_private(const char *dir, struct err *err)
{
    struct stat st;

    if (lstat(dir, &st) < 0) {
        return err_sys(err, "look at '%s'", dir);
    }
    if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077)) {
        return err_set(err, -EPERM,
                       "'%s' must be a folder of user %u with mode 0700: remove it or set "
                       "XDG_RUNTIME_DIR",
                       dir, (unsigned)geteuid());
    }
    return 0;
}

static int root_dir(char out[static INSTANCE_DIR_MAX], struct err *err)
{
    const char *xdg = getenv("XDG_RUNTIME_DIR");
    int len;

    if (xdg && xdg[0] == '/' && access(xdg, W_OK) == 0) {
        len = snprintf(out, INSTANCE_DIR_MAX, "%s/ec1", xdg);
    } else if (geteuid() == 0) {
        len = snprintf(out, INSTANCE_DIR_MAX, "/run/ec1");
    } else {
        len = snprintf(out, INSTANCE_DIR_MAX, "/tmp/ec1-%u", (unsigned)geteuid());
    }
    if (len + 2 + INSTANCE_ID_LEN > INSTANCE_DIR_MAX) {
        return err_set(
            err, -ENAMETOOLONG,
            "XDG_RUNTIME_DIR '%s': at most %d bytes, a Unix socket's path has no more room", xdg,
            INSTANCE_DIR_MAX - INSTANCE_ID_LEN - 7);
    }
    if (mkdir(out, 0700) < 0 && errno != EEXIST) {
        return err_sys(err, "create '%s'", out);
    }
    return check_private(out, err);
}

static bool lock_is_held(const char *dir)
{
    char path[INSTANCE_DIR_MAX + 16];
    AUTO_CLOSE int fd = -1;

    join(path, sizeof(path), dir, "lock");
    fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

static void remove_dir(const char *dir)
{
    DIR *d = opendir(dir);

    if (d) {
        for (const struct dirent *e = readdir(d); e; e = readdir(d)) {
            if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
                (void)unlinkat(dirfd(d), e->d_name, 0);
            }
        }
        (void)closedir(d);
    }
    (void)rmdir(dir);
}

static void copy_text(char *out, size_t size, json_t *state, const char *key)
{
    const char *text = json_string_value(json_object_get(state, key));

    (void)snprintf(out, size, "%s", text ? text : "");
}

static int read_info(const char *dir, const char *id, struct instance_info *info)
{
    char path[INSTANCE_DIR_MAX + 16];
    json_t *state;

    join(path, sizeof(path), dir, "state.json");
    state = json_load_file(path, 0, NULL);
    if (!json_is_object(state)) {
        json_decref(state);
        return -ENOENT;
    }
    *info = (struct instance_info){
        .pid = (pid_t)json_integer_value(json_object_get(state, "pid")),
        .vcpu_count = (unsigned)json_integer_value(json_object_get(state, "vcpus")),
        .mem_bytes = (uint64_t)json_integer_value(json_object_get(state, "memory_bytes")),
        .started_wall_ns = json_integer_value(json_object_get(state, "started_ns")),
        .ended_wall_ns = json_integer_value(json_object_get(state, "ended_ns")),
        .is_kept = json_is_true(json_object_get(state, "kept")),
        .is_ready = json_is_true(json_object_get(state, "ready")),
        .exit_status = (int)json_integer_value(json_object_get(state, "exit_status")),
        .is_alive = lock_is_held(dir),
    };
    (void)snprintf(info->id, sizeof(info->id), "%s", id);
    (void)snprintf(info->dir, sizeof(info->dir), "%s", dir);
    copy_text(info->name, sizeof(info->name), state, "name");
    copy_text(info->engine, sizeof(info->engine), state, "engine");
    copy_text(info->kernel, sizeof(info->kernel), state, "kernel");
    copy_text(info->command, sizeof(info->command), state, "command");
    copy_text(info->end, sizeof(info->end), state, "end");
    json_decref(state);
    return 0;
}

/* Is this a folder of ours, by its name? */
static bool is_id(const char *name)
{
    return strlen(name) == INSTANCE_ID_LEN && strspn(name, "0123456789abcdef") == INSTANCE_ID_LEN;
}

/* One entry of the root folder: garbage is removed, a VM is returned (true). */
static bool visit(const char *root, const char *name, struct instance_info *info)
{
    char dir[INSTANCE_DIR_MAX];
    struct stat st;
    bool is_new = str_has_prefix(name, NEW_PREFIX);

    join(dir, sizeof(dir), root, name);
    if ((!is_new && !is_id(name)) || lstat(dir, &st) < 0) {
        return false;
    }
    if (is_new) {
        int64_t age =
            clock_wall_ns() - ((int64_t)st.st_mtim.tv_sec * NS_PER_S + st.st_mtim.tv_nsec);

        if (age > NEW_GRACE_NS && !lock_is_held(dir)) {
            remove_dir(dir);
        }
        return false;
    }
    if (read_info(dir, name, info) < 0) {
        if (!lock_is_held(dir)) {
            remove_dir(dir);
        }
        return false;
    }
    if (!info->is_alive && !info->is_kept) {
        remove_dir(dir);
        return false;
    }
    return true;
}

static int by_start(const void *a, const void *b)
{
    int64_t x = ((const struct instance_info *)a)->started_wall_ns;
    int64_t y = ((const struct instance_info *)b)->started_wall_ns;

    return (x > y) - (x < y);
}

static int list_root(const char *root, struct instance_info **ret_list, struct err *err)
{
    DIR *d = opendir(root);
    struct instance_info *list = NULL;
    int count = 0;

    if (!d) {
        return err_sys(err, "read '%s'", root);
    }
    for (const struct dirent *e = readdir(d); e; e = readdir(d)) {
        struct instance_info *more = realloc(list, sizeof(*list) * ((size_t)count + 1));

        if (!more) {
            free(list);
            (void)closedir(d);
            return err_set(err, -ENOMEM, "list the VMs: out of memory");
        }
        list = more;
        count += visit(root, e->d_name, &list[count]);
    }
    (void)closedir(d);
    if (list) {
        qsort(list, (size_t)count, sizeof(*list), by_start);
    }
    *ret_list = list;
    return count;
}

int instance_list(struct instance_info **ret_list, struct err *err)
{
    char root[INSTANCE_DIR_MAX];
    int r = root_dir(root, err);

    return r < 0 ? r : list_root(root, ret_list, err);
}

int instance_find(const char *which, struct instance_info *ret_info, struct err *err)
{
    AUTO_FREE struct instance_info *list = NULL;
    int count = instance_list(&list, err);
    int found = -1;

    if (count < 0) {
        return count;
    }
    for (int i = 0; i < count; i++) {
        if (which[0] && (strcmp(list[i].id, which) == 0 || strcmp(list[i].name, which) == 0)) {
            *ret_info = list[i];
            return 0;
        }
        if (which[0] && str_has_prefix(list[i].id, which)) {
            if (found >= 0) {
                return err_set(err, -EINVAL, "VM '%s': more than one id begins like this", which);
            }
            found = i;
        }
    }
    if (found < 0) {
        return err_set(err, -ENOENT, "VM '%s': there is none; `ec1 ps -a` lists them", which);
    }
    *ret_info = list[found];
    return 0;
}

static int check_name(const char *root, const char *name, struct err *err)
{
    AUTO_FREE struct instance_info *list = NULL;
    int count = list_root(root, &list, err); /* sweeps, too */

    if (count < 0 || !name) {
        return count < 0 ? count : 0;
    }
    if (!name[0] || strlen(name) >= INSTANCE_NAME_MAX ||
        strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") !=
            strlen(name) ||
        strchr("_.-", name[0])) {
        return err_set(
            err, -EINVAL,
            "name '%s': 1 to %d letters, digits, '_', '.', '-', not beginning with a sign", name,
            INSTANCE_NAME_MAX - 1);
    }
    for (int i = 0; i < count; i++) {
        /* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): count > 0, so there is a list */
        if (strcmp(list[i].name, name) == 0) {
            return err_set(err, -EEXIST, "name '%s': VM %s has it; `ec1 rm` it first", name,
                           list[i].id);
        }
    }
    return 0;
}

static int make_dir(const char *root, struct instance *in, struct err *err)
{
    uint8_t random[INSTANCE_ID_LEN / 2];
    char fresh[INSTANCE_DIR_MAX + 16];
    char path[INSTANCE_DIR_MAX + 32];
    AUTO_CLOSE int fd = -1;

    if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random)) {
        return err_sys(err, "getrandom");
    }
    for (size_t i = 0; i < sizeof(random); i++) {
        (void)snprintf(in->info.id + 2 * i, 3, "%02x", random[i]);
    }
    join(in->info.dir, sizeof(in->info.dir), root, in->info.id);
    (void)snprintf(fresh, sizeof(fresh), "%s/" NEW_PREFIX "%.6s", root, in->info.id);
    if (mkdir(fresh, 0700) < 0) {
        return err_sys(err, "create '%s'", fresh);
    }
    join(path, sizeof(path), fresh, "lock");
    fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0 || rename(fresh, in->info.dir) < 0) {
        int r = err_sys(err, "set up '%s'", fresh);

        remove_dir(fresh);
        return r;
    }
    in->lock_fd = take_fd(&fd);
    return 0;
}

int instance_create(const char *name, struct instance *ret_instance, struct err *err)
{
    struct instance in = {.lock_fd = -1, .info = {.exit_status = -1, .is_alive = true}};
    char root[INSTANCE_DIR_MAX];
    char path[INSTANCE_DIR_MAX + 16];
    AUTO_CLOSE int guard = -1; /* names are handed out by one process at a time */
    int r = root_dir(root, err);

    if (r < 0) {
        return r;
    }
    join(path, sizeof(path), root, ".names");
    guard = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (guard < 0 || flock(guard, LOCK_EX) < 0) {
        return err_sys(err, "lock '%s'", path);
    }
    r = check_name(root, name, err);
    if (r < 0) {
        return r;
    }
    r = make_dir(root, &in, err);
    if (r < 0) {
        return r;
    }
    in.info.pid = getpid();
    in.info.started_wall_ns = clock_wall_ns();
    (void)snprintf(in.info.name, sizeof(in.info.name), "%s", name ? name : "");
    r = instance_update(&in, err);
    if (r < 0) {
        instance_close(&in);
        return r;
    }
    *ret_instance = in;
    return 0;
}

/* JSON holds UTF-8 only; a command line or path may hold anything, and is for people here. */
static void make_ascii(char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text < 0x20 || (unsigned char)*text > 0x7e) {
            *text = '?';
        }
    }
}

int instance_update(struct instance *instance, struct err *err)
{
    struct instance_info *info = &instance->info;
    char path[INSTANCE_DIR_MAX + 16];
    char fresh[INSTANCE_DIR_MAX + 16];
    json_t *state;
    int r = 0;

    make_ascii(info->command);
    make_ascii(info->kernel);
    state = json_pack("{s:s, s:s, s:s, s:s, s:i, s:i, s:I, s:I, s:I, s:b, s:b, s:i, s:s}", "name",
                      info->name, "engine", info->engine, "kernel", info->kernel, "command",
                      info->command, "pid", (int)info->pid, "vcpus", (int)info->vcpu_count,
                      "memory_bytes", (json_int_t)info->mem_bytes, "started_ns",
                      (json_int_t)info->started_wall_ns, "ended_ns",
                      (json_int_t)info->ended_wall_ns, "kept", info->is_kept, "ready",
                      info->is_ready, "exit_status", info->exit_status, "end", info->end);
    join(path, sizeof(path), info->dir, "state.json");
    join(fresh, sizeof(fresh), info->dir, "state.new");
    if (!state || json_dump_file(state, fresh, JSON_INDENT(2)) < 0 || rename(fresh, path) < 0) {
        r = err_sys(err, "write '%s'", path);
    }
    json_decref(state);
    return r;
}

void instance_close(struct instance *instance)
{
    if (!instance || instance->lock_fd < 0) {
        return;
    }
    if (!instance->info.is_kept || !instance->info.end[0]) {
        remove_dir(instance->info.dir);
    }
    (void)close(take_fd(&instance->lock_fd));
}

int instance_remove(const struct instance_info *info, struct err *err)
{
    if (lock_is_held(info->dir)) {
        return err_set(err, -EBUSY, "VM '%s': still runs; `ec1 stop` it first", info->id);
    }
    remove_dir(info->dir);
    return 0;
}
