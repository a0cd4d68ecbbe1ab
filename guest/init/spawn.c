/* spawn.c — start one command.
 *
 * Theory of operation.  The child shares our memory until it execs (clone with CLONE_VM and
 * CLONE_VFORK, as posix_spawn does): no page table is copied, we sleep meanwhile, and the child
 * leaves the reason of a failure in memory that we read afterwards.  It runs on a stack of its own,
 * in shared memory, so that the same code also works when the memory is copied, which the address
 * sanitizer needs.  It makes system calls only: glibc's set*id() would touch state that is ours.
 */
#include "guest/init/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bits.h"

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#ifdef __SANITIZE_ADDRESS__
enum { CHILD_FLAGS = CLONE_VFORK | SIGCHLD };
#else
enum { CHILD_FLAGS = CLONE_VM | CLONE_VFORK | SIGCHLD };
#endif

enum { STACK_SIZE = 256 * 1024 };

enum step { STEP_NONE, STEP_SESSION, STEP_FILES, STEP_LIMITS, STEP_USER, STEP_CWD, STEP_EXEC };

struct child {
    const struct spawn *spawn;
    enum step step; /* where it failed */
    int code;       /* errno */
    int extra;      /* STEP_LIMITS: the resource */
    bool is_there;  /* STEP_EXEC: the file exists */
    char path[4096];
};

static int set_files(const struct spawn *spawn)
{
    return dup2(spawn->in, 0) < 0 || dup2(spawn->out, 1) < 0 || dup2(spawn->err, 2) < 0;
}

static int set_user(const struct user *user)
{
    return syscall(SYS_setgroups, user->group_count, user->groups) < 0 ||
           syscall(SYS_setresgid, user->gid, user->gid, user->gid) < 0 ||
           syscall(SYS_setresuid, user->uid, user->uid, user->uid) < 0;
}

/* Not root (only in tests): staying what we are needs no right. */
static bool is_same_user(const struct user *user)
{
    return user->uid == (uid_t)syscall(SYS_geteuid) && user->gid == (gid_t)syscall(SYS_getegid) &&
           user->uid != 0 && user->group_count == 0;
}

/* exec resets handlers, but neither the mask nor what is ignored: SIGPIPE, by us. */
static void reset_signals(void)
{
    sigset_t none;

    (void)signal(SIGPIPE, SIG_DFL);
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static const char *path_of(char *const *env)
{
    for (; *env; env++) {
        if (strncmp(*env, "PATH=", 5) == 0) {
            return *env + 5;
        }
    }
    return DEFAULT_PATH;
}

/* Returns only when it failed, with errno. */
static int try_exec(struct child *child)
{
    struct stat st;
    int code;

    /* Not the library's: compilers put coverage code around it, whose state is ours. */
    (void)syscall(SYS_execve, child->path, child->spawn->argv, child->spawn->env);
    code = errno;
    child->is_there = stat(child->path, &st) == 0;
    if (child->is_there && S_ISDIR(st.st_mode)) {
        code = EISDIR;
    }
    return code;
}

/* Search PATH as shells do: go on after what is not there or not allowed, remember the latter. */
static int search(struct child *child, const char *name)
{
    int denied = 0;

    for (const char *dir = path_of(child->spawn->env);;) {
        size_t len = strcspn(dir, ":");
        int put = snprintf(child->path, sizeof(child->path), "%.*s%s%s", (int)len, dir,
                           len ? "/" : "", name);

        if (put > 0 && (size_t)put < sizeof(child->path)) {
            int code = try_exec(child);

            if (code == EISDIR || (code == EACCES && child->is_there)) {
                denied = EACCES;
            } else if (code == EACCES) {
                /* A folder of PATH that the user may not search has not got the command: shells
                 * say "not found". */
            } else if ((code != ENOENT && code != ENOTDIR && code != ESTALE && code != ENODEV &&
                        code != ETIMEDOUT) ||
                       child->is_there) {
                return code;
            }
        }
        if (!dir[len]) {
            return denied ? denied : ENOENT;
        }
        dir += len + 1;
    }
}

static int fail(struct child *child, enum step step)
{
    child->step = step;
    child->code = errno;
    return 1;
}

/* A terminal needs a session of its own.  Without one, a group is enough to signal: the leader of a
 * session would get any terminal that it opens as its own, and SIGHUP when that is closed. */
static int make_group(const struct spawn *spawn)
{
    if (!spawn->tty) {
        return setpgid(0, 0);
    }
    return setsid() < 0 ? -1 : ioctl(spawn->in, TIOCSCTTY, 0);
}

static int child_main(void *arg)
{
    struct child *child = arg;
    const struct spawn *spawn = child->spawn;
    const char *name = spawn->argv[0];

    reset_signals();
    if (make_group(spawn) < 0) {
        return fail(child, STEP_SESSION);
    }
    if (set_files(spawn)) {
        return fail(child, STEP_FILES);
    }
    for (size_t i = 0; i < spawn->limit_count; i++) {
        child->extra = spawn->limits[i].resource;
        if (syscall(SYS_prlimit64, 0, spawn->limits[i].resource, &spawn->limits[i].limit, NULL) <
            0) {
            return fail(child, STEP_LIMITS);
        }
    }
    (void)umask(spawn->umask);
    if (!is_same_user(&spawn->user) && set_user(&spawn->user)) {
        return fail(child, STEP_USER);
    }
    if (chdir(spawn->cwd) < 0) {
        return fail(child, STEP_CWD);
    }
    if (strchr(name, '/') && strlen(name) < sizeof(child->path)) {
        (void)snprintf(child->path, sizeof(child->path), "%s", name);
        errno = try_exec(child);
    } else if (!name[0] || strchr(name, '/') || strlen(name) > 255) {
        errno = name[0] ? ENAMETOOLONG : ENOENT;
    } else {
        errno = search(child, name);
    }
    return fail(child, STEP_EXEC);
}

static enum spawn_fault explain_exec(const struct child *child, struct err *err)
{
    const char *name = child->spawn->argv[0];

    if (child->code == ENOENT && child->is_there) {
        (void)err_set(err, -ENOENT,
                      "'%s' is there, but its interpreter or dynamic loader is not in the VM",
                      child->path);
        return SPAWN_NOT_FOUND;
    }
    if (child->code == ENOENT || child->code == ENOTDIR) {
        (void)err_set(err, -child->code,
                      strchr(name, '/') ? "'%s': no such file in the VM"
                                        : "'%s': not found in the VM's PATH",
                      name);
        return SPAWN_NOT_FOUND;
    }
    (void)err_set(err, -child->code, "run '%s': %s", child->is_there ? child->path : name,
                  strerror(child->code));
    return SPAWN_NOT_EXECUTABLE;
}

static enum spawn_fault explain(const struct child *child, struct err *err)
{
    const char *why = strerror(child->code);

    switch (child->step) {
    case STEP_EXEC: return explain_exec(child, err);
    case STEP_CWD:
        (void)err_set(err, -child->code, "working directory '%s' in the VM: %s", child->spawn->cwd,
                      why);
        return SPAWN_BAD_REQUEST;
    case STEP_LIMITS:
        (void)err_set(err, -child->code, "resource limit %d: %s", child->extra, why);
        return SPAWN_BAD_REQUEST;
    case STEP_USER:
        (void)err_set(err, -child->code, "become uid %u, gid %u: %s", child->spawn->user.uid,
                      child->spawn->user.gid, why);
        return SPAWN_BAD_REQUEST;
    case STEP_SESSION: (void)err_set(err, -child->code, "start a process group: %s", why); break;
    case STEP_FILES:
        (void)err_set(err, -child->code, "set up stdin, stdout, stderr: %s", why);
        break;
    case STEP_NONE: (void)err_set(err, -EIO, "the child ended before it ran the command"); break;
    }
    return SPAWN_INTERNAL;
}

/* Once for all: fresh pages would cost more than the rest of the call. */
static struct child *get_child(uint8_t **ret_stack_top)
{
    static uint8_t *memory;

    if (!memory) {
        void *fresh = mmap(NULL, STACK_SIZE + sizeof(struct child), PROT_READ | PROT_WRITE,
                           MAP_SHARED | MAP_ANONYMOUS, -1, 0);

        if (fresh == MAP_FAILED) {
            return NULL;
        }
        memory = fresh;
    }
    *ret_stack_top = memory + STACK_SIZE;
    return (struct child *)(void *)(memory + STACK_SIZE);
}

int spawn_start(const struct spawn *spawn, enum spawn_fault *ret_fault, struct err *err)
{
    uint8_t *stack_top = NULL;
    struct child *child = get_child(&stack_top);
    sigset_t all;
    sigset_t old;
    int pid;

    *ret_fault = SPAWN_INTERNAL;
    if (!child) {
        return err_sys(err, "allocate a stack");
    }
    child->spawn = spawn;
    child->step = STEP_NONE;
    child->code = 0;
    child->is_there = false;
    /* No handler of ours may run in the child. */
    (void)sigfillset(&all);
    (void)sigprocmask(SIG_SETMASK, &all, &old);
    pid = clone(child_main, stack_top, CHILD_FLAGS, child);
    if (pid < 0) {
        pid = err_sys(err, "create a process in the VM");
    } else if (child->code) {
        (void)waitpid(pid, NULL, 0);
        *ret_fault = explain(child, err);
        pid = -child->code;
    }
    (void)sigprocmask(SIG_SETMASK, &old, NULL);
    return pid;
}
