/* launch.h — from an ExecStart to a running process and our ends of its streams. */
#pragma once

#include <sys/types.h>

#include "base/err.h"
#include "guest/init/spawn.h"
#include "proto/exec.pb-c.h"

struct launched {
    pid_t pid;
    /* Ours, not blocking, close-on-exec.  -1: there is none.  With a terminal `in` and `out` are
     * two descriptors of its master. */
    int in;
    int out;
    int err;
};

/* `etc` is the folder of passwd and group.  Or a negative errno, the kind of fault, a sentence. */
int launch(const Ec1__V1__ExecStart *request, const char *etc, struct launched *ret_launched,
           enum spawn_fault *ret_fault, struct err *err);
