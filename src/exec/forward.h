/* forward.h — TCP ports of this host that lead to ports of a VM's loopback interface.
 *
 * forward_open() listens, so that a port that is taken is known before there is a VM; clients wait
 * in the kernel until forward_start() finds the VM's init, which connects them (Init.Connect).
 * Then a thread of its own moves bytes, with back-pressure and both ends of each stream, until
 * forward_close() or the end of the VM.  A client whose port nobody serves in the VM is reset.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { FORWARD_PORTS_MAX = 32, FORWARD_ADDRESS_MAX = 46 };

struct forward_port {
    char address[FORWARD_ADDRESS_MAX]; /* of this host, numeric */
    uint16_t host;                     /* 0: any that is free */
    uint16_t guest;
};

struct forward_ports {
    struct forward_port items[FORWARD_PORTS_MAX];
    size_t count;
};

struct forward;

/* "[ADDRESS:]HOST:GUEST", as docker's -p, "[...]" around an IPv6 address, "/tcp" at the end is
 * fine.  Without ADDRESS it is 127.0.0.1: nothing of a VM is open to others by accident. */
int forward_port_parse(const char *text, struct forward_port *ret_port, struct err *err);
/* One more. */
int forward_ports_add(struct forward_ports *ports, const char *text, struct err *err);

int forward_open(const struct forward_ports *ports, struct forward **ret_forward, struct err *err);
/* The host's port of the `index`th. */
uint16_t forward_host_port(const struct forward *forward, size_t index);
/* Once the init of the VM is ready.  Signals that are blocked now stay so in its thread. */
int forward_start(struct forward *forward, const char *uds_path, struct err *err);
/* The same over a connected socket, which becomes its own. */
int forward_start_on(struct forward *forward, int fd, struct err *err);
/* Resets what is still open.  NULL is fine. */
void forward_close(struct forward *forward);
