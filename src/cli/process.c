/* process.c — start the process that `run` and `exec` were asked for, as the caller would have. */
#include "cli/process.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/bits.h"
#include "base/clock.h"

/* To reach an init that is up: it answers at once, or is stuck. */
#define REACH_TIMEOUT_NS (60 * NS_PER_S)

/* The caller's user, group and supplementary groups. */
static int caller(struct exec_user *user, uint32_t **ret_groups, struct err *err)
{
    int count = getgroups(0, NULL);
    uint32_t *groups = count > 0 ? calloc((size_t)count, sizeof(*groups)) : NULL;

    _Static_assert(sizeof(gid_t) == sizeof(uint32_t), "groups are 32-bit numbers");
    if (count < 0 || (count > 0 && (!groups || getgroups(count, groups) < 0))) {
        free(groups);
        return err_sys(err, "read the caller's groups");
    }
    *user = (struct exec_user){
        .uid = geteuid(), .gid = getegid(), .groups = groups, .group_count = (size_t)count};
    *ret_groups = groups;
    return 0;
}

static mode_t caller_umask(void)
{
    mode_t mask = umask(0);

    (void)umask(mask);
    return mask;
}

int process_run(const char *socket, const struct process_args *args, char **argv,
                const struct process_io *io, struct exec_result *ret_result, struct err *err)
{
    AUTO_FREE uint32_t *groups = NULL;
    AUTO_FREE char *cwd = args->cwd ? NULL : getcwd(NULL, 0);
    char **env = process_env(args);
    struct exec_request request = EXEC_REQUEST_INIT;
    int r;

    if (!env) {
        return err_set(err, -ENOMEM, "environment: out of memory");
    }
    request.argv = (const char *const *)argv;
    request.env = (const char *const *)env;
    request.cwd = args->cwd ? args->cwd : cwd;
    request.has_umask = true;
    request.umask = caller_umask();
    request.in = io->in;
    request.out = io->out;
    request.err = io->err;
    request.cancel_fd = io->cancel_fd;
    request.on_started = io->on_started;
    request.started_arg = io->started_arg;
    request.forward_signals = true;
    request.timeout_ns = REACH_TIMEOUT_NS;
    request.tty = args->want_tty || (io->in >= 0 && isatty(io->in) && isatty(io->out));
    /* Chosen by ourselves, a terminal does not take away `2>file`. */
    request.split_err = request.tty && !args->want_tty && !isatty(io->err);
    if (args->user) {
        request.user.name = args->user;
        r = 0;
    } else {
        r = caller(&request.user, &groups, err);
    }
    if (r == 0) {
        r = exec_run(socket, &request, ret_result, err);
    }
    process_env_free(env);
    return r;
}
