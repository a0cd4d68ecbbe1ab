/* connect.h — reach a port of the guest through the VM's vsock Unix socket. */
#pragma once

#include <stdint.h>

#include "base/err.h"

/* Connects to `uds_path`, asks for guest port `port` and waits until the guest accepts, which may
 * be after its boot.  Gives up after `timeout_ns` (0: never) with -ETIMEDOUT, or with -ECANCELED as
 * soon as `cancel_fd` (or -1) is readable.  Returns the descriptor. */
int exec_connect(const char *uds_path, uint32_t port, int64_t timeout_ns, int cancel_fd,
                 struct err *err);
