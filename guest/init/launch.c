/* launch.c — from an ExecStart to a running process. */
#include "guest/init/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/auto.h"
#include "guest/init/pty.h"

enum { USUAL_FILES = 1024 };

/* NUL-terminated strings in one allocation, which is the list itself. */
static char **make_strings(const ProtobufCBinaryData *items, size_t count, int *ret_code)
{
    size_t size = (count + 1) * sizeof(char *);
    char **list;
    char *at;

    *ret_code = -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        if (items[i].len && memchr(items[i].data, 0, items[i].len)) {
            *ret_code = -EINVAL;
            return NULL;
        }
        size += items[i].len + 1; /* bounded by EXEC_REQUEST_MAX */
    }
    list = malloc(size);
    if (!list) {
        return NULL;
    }
    at = (char *)(list + count + 1);
    for (size_t i = 0; i < count; i++) {
        list[i] = at;
        if (items[i].len) {
            memcpy(at, items[i].data, items[i].len);
        }
        at += items[i].len;
        *at++ = 0;
    }
    list[count] = NULL;
    *ret_code = 0;
    return list;
}

static void free_strings(char ***list)
{
    free(*list);
}

/* The init itself holds many descriptors; commands start with the usual 1,024 unless they ask. */
static struct spawn_limit *make_limits(const Ec1__V1__ExecStart *request, size_t *ret_count)
{
    struct spawn_limit *limits = calloc(request->n_rlimits + 1, sizeof(*limits));
    struct rlimit files;
    size_t count = 0;

    if (limits && getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max < USUAL_FILES ? files.rlim_max : USUAL_FILES;
        limits[count++] = (struct spawn_limit){.resource = RLIMIT_NOFILE, .limit = files};
    }
    for (size_t i = 0; limits && i < request->n_rlimits; i++) {
        limits[count++] = (struct spawn_limit){
            .resource = (int)request->rlimits[i]->resource,
            .limit = {.rlim_cur = request->rlimits[i]->soft, .rlim_max = request->rlimits[i]->hard},
        };
    }
    *ret_count = count;
    return limits;
}

/* The child's ends and ours.  Index 0 to 2: stdin, stdout, stderr. */
struct ends {
    int child[3];
    int ours[3];
};

static void close_ends(const struct ends *ends)
{
    for (unsigned i = 0; i < 3; i++) {
        if (ends->child[i] >= 0 && (i == 0 || ends->child[i] != ends->child[0])) {
            (void)close(ends->child[i]);
        }
        if (ends->ours[i] >= 0) {
            (void)close(ends->ours[i]);
        }
    }
}

static int make_pipe(struct ends *ends, unsigned which)
{
    bool is_input = which == 0;
    int pair[2];

    if (pipe2(pair, O_CLOEXEC) < 0) {
        return -errno;
    }
    ends->child[which] = pair[is_input ? 0 : 1];
    ends->ours[which] = pair[is_input ? 1 : 0];
    return fcntl(ends->ours[which], F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
}

static int make_ends(const Ec1__V1__ExecStart *request, uid_t uid, struct ends *ends)
{
    int r = 0;

    if (request->tty) {
        int out;

        r = pty_open(uid, &ends->ours[0], &ends->child[0]);
        if (r < 0) {
            return r;
        }
        ends->child[1] = ends->child[0];
        ends->child[2] = ends->child[0];
        out = fcntl(ends->ours[0], F_DUPFD_CLOEXEC, 3);
        ends->ours[1] = out;
        if (request->window) {
            pty_resize(ends->ours[0], request->window->rows, request->window->cols);
        }
        if (out < 0) {
            return -errno;
        }
        return request->split_stderr ? make_pipe(ends, 2) : 0;
    }
    if (request->stdin) {
        r = make_pipe(ends, 0);
    } else {
        ends->child[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
        r = ends->child[0] < 0 ? -errno : 0;
    }
    for (unsigned i = 1; i < 3 && r == 0; i++) {
        r = make_pipe(ends, i);
    }
    return r;
}

/* Streams and process; `spawn` has all the rest. */
static int start(const Ec1__V1__ExecStart *request, struct spawn *spawn,
                 struct launched *ret_launched, enum spawn_fault *ret_fault, struct err *err)
{
    struct ends ends = {.child = {-1, -1, -1}, .ours = {-1, -1, -1}};
    int r = make_ends(request, spawn->user.uid, &ends);

    if (r < 0) {
        (void)err_set(err, r, "%s in the VM: %s", request->tty ? "open a terminal" : "create pipes",
                      strerror(-r));
    } else {
        spawn->in = ends.child[0];
        spawn->out = ends.child[1];
        spawn->err = ends.child[2];
        r = spawn_start(spawn, ret_fault, err);
    }
    if (r >= 0) {
        *ret_launched = (struct launched){.pid = r};
        ret_launched->in = take_fd(&ends.ours[0]);
        ret_launched->out = take_fd(&ends.ours[1]);
        ret_launched->err = take_fd(&ends.ours[2]);
        r = 0;
    }
    close_ends(&ends);
    return r;
}

int launch(const Ec1__V1__ExecStart *request, const char *etc, struct launched *ret_launched,
           enum spawn_fault *ret_fault, struct err *err)
{
    int argv_code;
    int env_code;
    AUTO_CALL(free_strings) char **argv = make_strings(request->argv, request->n_argv, &argv_code);
    AUTO_CALL(free_strings) char **env = make_strings(request->env, request->n_env, &env_code);
    size_t limit_count = 0;
    AUTO_FREE struct spawn_limit *limits = make_limits(request, &limit_count);
    AUTO_FREE char *cwd =
        request->cwd.len ? strndup((const char *)request->cwd.data, request->cwd.len) : strdup("/");
    AUTO_CALL(user_fini) struct user user = {0};
    struct spawn spawn;
    int r;

    *ret_fault = SPAWN_BAD_REQUEST;
    if (argv_code == -EINVAL || env_code == -EINVAL || !request->n_argv) {
        return err_set(err, -EINVAL, "argv must have an element, and NUL must not occur");
    }
    r = user_find(etc, request->user, &user, err);
    if (r < 0) {
        return r;
    }
    *ret_fault = SPAWN_INTERNAL;
    if (!argv || !env || !limits || !cwd) {
        return err_set(err, -ENOMEM, "out of memory in the VM");
    }
    spawn = (struct spawn){
        .argv = argv,
        .env = env,
        .cwd = cwd,
        .user = user,
        .umask = request->has_umask ? request->umask & 0777 : 022,
        .limits = limits,
        .limit_count = limit_count,
        .tty = request->tty,
    };
    return start(request, &spawn, ret_launched, ret_fault, err);
}
