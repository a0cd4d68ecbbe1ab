/* exec.c — round trip of `true` in a running VM, from the call of the client to its exit status.
 *
 * Usage: exec SOCKET COUNT.  Prints the host's own fork + exec + wait of the same program beside
 * it, as one JSON object with medians and 95th percentiles in microseconds.
 */
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "exec/client.h"

#define COUNT_MAX 10000

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

static int in_vm(const char *socket, int64_t *ret_ns)
{
    static const char *const argv[] = {"/bin/true", NULL};
    struct exec_request request = EXEC_REQUEST_INIT;
    struct exec_result result;
    struct err err = {0};
    int64_t start = clock_mono_ns();
    int r;

    request.argv = argv;
    r = exec_run(socket, &request, &result, &err);
    *ret_ns = clock_mono_ns() - start;
    if (r < 0 || result.status != 0) {
        (void)fprintf(stderr, "exec: %s\n", r < 0 ? err_text(&err) : result.message);
        return -1;
    }
    return 0;
}

static int on_host(int64_t *ret_ns)
{
    char name[] = "/bin/true";
    char *argv[] = {name, NULL};
    int64_t start = clock_mono_ns();
    pid_t pid = fork();
    int status = 0;

    if (pid == 0) {
        (void)execv(name, argv);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid) {
        return -1;
    }
    *ret_ns = clock_mono_ns() - start;
    return status;
}

static void print(const char *name, int64_t *ns, int count, const char *tail)
{
    qsort(ns, (size_t)count, sizeof(*ns), by_value);
    (void)printf("\"%s_us\": %.1f, \"%s_p95_us\": %.1f%s", name, (double)ns[count / 2] / 1e3, name,
                 (double)ns[count * 95 / 100] / 1e3, tail);
}

int main(int argc, char **argv)
{
    static int64_t vm[COUNT_MAX];
    static int64_t host[COUNT_MAX];
    int count = argc > 2 ? atoi(argv[2]) : 0; /* NOLINT(cert-err34-c): 0 is refused below */

    if (count < 1 || count > COUNT_MAX) {
        (void)fprintf(stderr, "usage: exec SOCKET COUNT (1 to %d)\n", COUNT_MAX);
        return 2;
    }
    for (int i = -3; i < count; i++) { /* three to warm up */
        int at = i < 0 ? 0 : i;

        if (in_vm(argv[1], &vm[at]) != 0 || on_host(&host[at]) != 0) {
            return 1;
        }
    }
    (void)printf("{");
    print("vm", vm, count, ", ");
    print("host", host, count, "}\n");
    return 0;
}
