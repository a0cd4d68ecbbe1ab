/* job.h — one command that a client runs: from ExecStart to its exit status.
 *
 * A job is born with its call and frees itself once the call is closed and the process is reaped.
 */
#pragma once

#include <sys/types.h>

#include "base/list.h"
#include "guest/init/flow.h"
#include "guest/init/reactor.h"
#include "proto/grpc.h"

struct jobs {
    struct reactor *reactor;
    const char *etc; /* where passwd and group are: "/etc" */
    struct list running;
    struct list leftovers; /* outputs that outlived their job */
    bool holds_exits; /* somebody in the guest ends the machine: that is the outcome, and not how
                         commands died of it */
    struct flow_host host;
};

void jobs_init(struct jobs *jobs, struct reactor *reactor);
/* After all calls are closed; commands that still run are left alone. */
void jobs_fini(struct jobs *jobs);
/* Serve a call of Init.Exec.  A failure to do so is answered on the call. */
void job_accept(struct jobs *jobs, struct grpc_call *call);
/* A child was reaped; false if it is none of ours. */
bool jobs_reaped(struct jobs *jobs, pid_t pid, int wait_status);
