/* server.h — the init's gRPC service: connections, their calls, and the children of PID 1. */
#pragma once

#include "guest/init/job.h"
#include "guest/init/reactor.h"
#include "guest/init/report.h"
#include "guest/init/tunnel.h"

struct server {
    struct reactor *reactor;
    struct jobs jobs;
    struct tunnels tunnels;
    struct watch listener;
    struct watch children; /* signalfd of SIGCHLD */
    struct list peers;
    struct ticker lazy; /* until frames that nobody waits for are sent */
    const struct report *report;
    /* A client asked for the end of the machine, and has its answer. */
    void (*shutdown)(void *owner, bool reboot);
    void *owner;
};

/* Takes over `listen_fd`.  Blocks SIGCHLD in this process and reaps all of its children. */
int server_init(struct server *server, struct reactor *reactor, int listen_fd,
                const struct report *report);
void server_fini(struct server *server);
/* After each callback of the reactor: send what was queued. */
void server_flush(struct server *server);
