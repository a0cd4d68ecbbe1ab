/* process.c — what the kernel does for several processes: fork, exec, pipes. */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/soft/row.h"

static uint64_t wait_for(pid_t pid)
{
    int status;

    while (waitpid(pid, &status, 0) != pid) {
        if (errno != EINTR) {
            die("waitpid");
        }
    }
    return (uint64_t)(WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + status);
}

static uint64_t fork_run(uint64_t ops)
{
    uint64_t sum = 0;

    for (uint64_t n = 0; n < ops; n++) {
        pid_t pid = fork();

        if (pid == 0) {
            _exit((int)(n % 100));
        }
        if (pid < 0) {
            die("fork");
        }
        sum = mix(sum, wait_for(pid));
    }
    return sum;
}

static NOINLINE pid_t start_true(void)
{
    static char name[] = "true";
    static char *const argv[] = {name, NULL};
    static char *const env[] = {NULL};
    pid_t pid = vfork();

    if (pid == 0) {
        (void)execve(g_self, argv, env);
        _exit(127);
    }
    return pid;
}

static uint64_t exec_run(uint64_t ops)
{
    uint64_t sum = 0;

    for (uint64_t n = 0; n < ops; n++) {
        pid_t pid = start_true();

        if (pid < 0) {
            die("vfork");
        }
        sum = mix(sum, wait_for(pid) + 1);
    }
    return sum;
}

static void one_cpu(void)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(0, &set);
    (void)sched_setaffinity(0, sizeof(set), &set);
}

/* One process sends numbers, the other sends them back changed. */
static void echo(int in, int out)
{
    uint64_t number;

    one_cpu();
    while (read(in, &number, sizeof(number)) == (ssize_t)sizeof(number)) {
        number = mix(number, 1);
        if (write(out, &number, sizeof(number)) != (ssize_t)sizeof(number)) {
            break;
        }
    }
    _exit(0);
}

static uint64_t pipe_run(uint64_t ops)
{
    cpu_set_t before;
    uint64_t sum = 0;
    int there[2];
    int back[2];
    pid_t pid;

    (void)sched_getaffinity(0, sizeof(before), &before);
    if (pipe(there) < 0 || pipe(back) < 0) {
        die("pipe");
    }
    pid = fork();
    if (pid == 0) {
        (void)close(there[1]);
        (void)close(back[0]);
        echo(there[0], back[1]);
    }
    if (pid < 0) {
        die("fork");
    }
    one_cpu();
    (void)close(there[0]);
    (void)close(back[1]);
    for (uint64_t n = 0; n < ops; n++) {
        if (write(there[1], &sum, sizeof(sum)) != (ssize_t)sizeof(sum) ||
            read(back[0], &sum, sizeof(sum)) != (ssize_t)sizeof(sum)) {
            die("ping-pong");
        }
    }
    (void)close(there[1]);
    (void)close(back[0]);
    (void)sched_setaffinity(0, sizeof(before), &before);
    return mix(sum, wait_for(pid));
}

const struct row rows_process[] = {
    {.name = "fork", .ops = 100, .run = fork_run},
    {.name = "exec", .ops = 60, .run = exec_run},
    {.name = "pipe", .ops = 2500, .run = pipe_run},
    {0},
};
