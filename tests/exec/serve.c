/* serve.c — the init's gRPC service on a Unix socket of this host, for foreign clients in tests.
 *
 * usage: exec-serve SOCKET.  Prints "ready" and serves until it is killed.  Commands run on the
 * host as whoever started it; `Shutdown` ends this process with status 0, or 3 for a reboot.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "guest/init/server.h"

static int g_status;

static void flush(void *owner)
{
    server_flush(owner);
}

static void on_shutdown(void *owner, bool reboot)
{
    struct server *server = owner;

    g_status = reboot ? 3 : 0;
    reactor_stop(server->reactor);
}

int main(int argc, char **argv)
{
    static struct report report;
    static struct reactor reactor;
    static struct server server;
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (argc != 2 || strlen(argv[1]) >= sizeof(addr.sun_path)) {
        (void)fprintf(stderr, "usage: exec-serve SOCKET\n");
        return 2;
    }
    memcpy(addr.sun_path, argv[1], strlen(argv[1]));
    (void)signal(SIGPIPE, SIG_IGN);
    report_init(&report);
    if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 64) < 0 ||
        reactor_init(&reactor) < 0 || server_init(&server, &reactor, fd, &report) < 0) {
        perror("exec-serve");
        return 1;
    }
    server.shutdown = on_shutdown;
    server.owner = &server;
    reactor.after = flush;
    reactor.owner = &server;
    (void)puts("ready");
    (void)fflush(stdout);
    (void)reactor_run(&reactor);
    server_fini(&server);
    reactor_fini(&reactor);
    report_fini(&report);
    return g_status;
}
