/* tunnel.h — a TCP connection to a port of the VM's loopback interface, carried by a call. */
#pragma once

#include "guest/init/flow.h"

struct tunnels {
    struct reactor *reactor;
    struct flow_host host;
};

/* Serve a call of Init.Connect, whose end is the tunnel's end.  A failure to do so is answered on
 * the call. */
void tunnel_accept(struct tunnels *tunnels, struct grpc_call *call);
