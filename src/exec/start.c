/* start.c — an exec_request as the first message of a call. */
#include "exec/start.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/auto.h"

bool exec_start_window(int in, int out, Ec1__V1__WindowSize *ret_window)
{
    struct winsize size;

    if (ioctl(in, TIOCGWINSZ, &size) < 0 && ioctl(out, TIOCGWINSZ, &size) < 0) {
        return false;
    }
    ret_window->rows = size.ws_row;
    ret_window->cols = size.ws_col;
    return true;
}

static ProtobufCBinaryData *make_list(const char *const *strings, size_t *ret_count)
{
    ProtobufCBinaryData *list;
    size_t count = 0;

    while (strings && strings[count]) {
        count++;
    }
    list = calloc(count + 1, sizeof(*list));
    for (size_t i = 0; list && i < count; i++) {
        list[i].data = (uint8_t *)(uintptr_t)strings[i];
        list[i].len = strlen(strings[i]);
    }
    *ret_count = count;
    return list;
}

static void fill_user(const struct exec_user *user, Ec1__V1__User *message)
{
    message->uid = user->uid;
    message->gid = user->gid;
    message->groups = (uint32_t *)(uintptr_t)user->groups;
    message->n_groups = user->group_count;
    if (user->name) {
        message->name = (char *)(uintptr_t)user->name;
    }
}

static int pack(const Ec1__V1__ExecRequest *request, struct buf *ret_buf)
{
    uint8_t *to = buf_reserve(ret_buf, ec1__v1__exec_request__get_packed_size(request));

    if (!to) {
        return -ENOMEM;
    }
    ret_buf->len += ec1__v1__exec_request__pack(request, to);
    return 0;
}

int exec_start_pack(const struct exec_request *request, struct buf *ret_buf)
{
    Ec1__V1__ExecRequest message = EC1__V1__EXEC_REQUEST__INIT;
    Ec1__V1__ExecStart start = EC1__V1__EXEC_START__INIT;
    Ec1__V1__User user = EC1__V1__USER__INIT;
    Ec1__V1__WindowSize window = EC1__V1__WINDOW_SIZE__INIT;
    AUTO_FREE Ec1__V1__Rlimit *limits = calloc(request->limit_count + 1, sizeof(*limits));
    AUTO_FREE Ec1__V1__Rlimit **list = calloc(request->limit_count + 1, sizeof(Ec1__V1__Rlimit *));
    AUTO_FREE ProtobufCBinaryData *argv = make_list(request->argv, &start.n_argv);
    AUTO_FREE ProtobufCBinaryData *env = make_list(request->env, &start.n_env);

    if (!limits || !list || !argv || !env) {
        return -ENOMEM;
    }
    if (!start.n_argv) {
        return -EINVAL;
    }
    for (size_t i = 0; i < request->limit_count; i++) {
        limits[i] = (Ec1__V1__Rlimit)EC1__V1__RLIMIT__INIT;
        limits[i].resource = request->limits[i].resource;
        limits[i].soft = request->limits[i].soft;
        limits[i].hard = request->limits[i].hard;
        list[i] = &limits[i];
    }
    start.argv = argv;
    start.env = env;
    if (request->cwd) {
        start.cwd.data = (uint8_t *)(uintptr_t)request->cwd;
        start.cwd.len = strlen(request->cwd);
    }
    start.tty = request->tty;
    start.split_stderr = request->split_err;
    start.stdin = request->in >= 0;
    if (request->tty && exec_start_window(request->in, request->out, &window)) {
        start.window = &window;
    }
    fill_user(&request->user, &user);
    start.user = &user;
    start.has_umask = request->has_umask;
    start.umask = (uint32_t)request->umask;
    start.n_rlimits = request->limit_count;
    start.rlimits = list;
    message.what_case = EC1__V1__EXEC_REQUEST__WHAT_START;
    message.start = &start;
    return pack(&message, ret_buf);
}
