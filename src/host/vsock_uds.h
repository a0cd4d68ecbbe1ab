/* vsock_uds.h — the host side of virtio-vsock over Unix sockets.
 *
 * A program on the host connects to the socket at `path` and writes "CONNECT <guest port>\n"; when
 * the guest accepted it reads "OK <host port>\n", and everything after that is the stream.  The
 * guest reaches a program that listens at "<path>_<host port>", without any text.
 */
#pragma once

#include "base/err.h"

struct stream_port;

/* Bind `path` (at most 107 bytes) at once; whoever connects waits until a device starts the port.
 * Anything that is at `path` is an error (-EADDRINUSE), also a socket that nobody listens on.
 * The socket is removed when the port is freed. */
int vsock_uds_new(const char *path, struct stream_port **ret_port, struct err *err);
