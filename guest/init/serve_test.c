/* serve_test.c — the init's service in a process of its own, for tests. */
#include "guest/init/serve_test.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest/init/server.h"
#include "tests/lib/test.h"

static void flush(void *owner)
{
    server_flush(owner);
}

static void on_shutdown(void *owner, bool reboot)
{
    struct server *server = owner;

    (void)reboot;
    reactor_stop(server->reactor);
}

static void on_term(struct watch *watch, uint32_t events)
{
    (void)events;
    reactor_stop(watch->reactor);
}

/* Regular ends only, so that coverage and leak reports are written. */
static void serve_main(int listener, int life)
{
    static struct report report;
    static struct reactor reactor;
    static struct server server;
    struct watch end;

    report_init(&report);
    report_warn(&report, "warning %d", 1);
    if (reactor_init(&reactor) < 0 || server_init(&server, &reactor, listener, &report) < 0) {
        exit(1);
    }
    watch_init(&end, &reactor, life, on_term);
    (void)watch_want(&end, EPOLLIN);
    server.shutdown = on_shutdown;
    server.owner = &server;
    reactor.after = flush;
    reactor.owner = &server;
    (void)reactor_run(&reactor);
    server_fini(&server);
    watch_drop(&end);
    reactor_fini(&reactor);
    report_fini(&report);
    exit(0);
}

static int g_life = -1; /* closing it ends the server */

void serve_start(struct serve *serve)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int life[2];

    (void)signal(SIGPIPE, SIG_IGN);
    (void)snprintf(serve->dir, sizeof(serve->dir), "/tmp/ec1-serve-XXXXXX");
    CHECK(mkdtemp(serve->dir) != NULL);
    (void)snprintf(serve->path, sizeof(serve->path), "%s/s", serve->dir);
    memcpy(addr.sun_path, serve->path, sizeof(serve->path));
    CHECK(bind(listener, (struct sockaddr *)&addr, sizeof(addr)) == 0);
    CHECK(listen(listener, 16) == 0);
    CHECK(pipe2(life, O_CLOEXEC) == 0);
    serve->pid = fork();
    CHECK(serve->pid >= 0);
    if (serve->pid == 0) {
        (void)close(life[1]);
        serve_main(listener, life[0]);
    }
    (void)close(listener);
    (void)close(life[0]);
    g_life = life[1];
}

void serve_stop(struct serve *serve)
{
    int status = -1;

    (void)close(g_life);
    CHECK_INT(waitpid(serve->pid, &status, 0), serve->pid);
    CHECK_INT(status, 0);
    (void)unlink(serve->path);
    (void)rmdir(serve->dir);
}

int serve_connect(const struct serve *serve)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    memcpy(addr.sun_path, serve->path, sizeof(serve->path));
    CHECK(connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0);
    return fd;
}
