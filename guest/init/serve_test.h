/* serve_test.h — the init's service in a process of its own, for tests. */
#pragma once

#include <sys/types.h>

struct serve {
    pid_t pid;
    char dir[32];
    char path[64]; /* the Unix socket */
};

void serve_start(struct serve *serve);
void serve_stop(struct serve *serve);
/* A new connection. */
int serve_connect(const struct serve *serve);
