/* tap.h — a TAP interface of the host as a net_port. */
#pragma once

#include "base/err.h"
#include "dev/port/net_port.h"

#define TAP_NAME_MAX 15 /* IFNAMSIZ without the NUL */

/* Attach to the TAP `name` of this network namespace, or make it (which takes a privilege).
 * -EINVAL: the name, or a TAP with several queues; -EBUSY: somebody else is attached.  The text of
 * `err` is part of Firecracker's interface. */
int tap_open(const char *name, struct net_port **ret_port, struct err *err);
