/* vsock_uds.h — the host side of virtio-vsock over Unix sockets.
 *
 * A program on the host connects to the socket at `path` and writes "CONNECT <guest port>\n"; when
 * the guest accepted it reads "OK <host port>\n", and everything after that is the stream.  The
 * guest reaches a program that listens at "<path>_<host port>", without any text.
 */
#pragma once

#include "base/err.h"

struct loop;
struct stream_port;

/* Bind `path` (at most 107 bytes) at once; taken up on `loop` when the device starts the port.  A
 * socket left over at `path` that nobody listens on is replaced; anything else there is an error.
 * The socket is removed when the port is freed. */
int vsock_uds_new(struct loop *loop, const char *path, struct stream_port **ret_port,
                  struct err *err);
