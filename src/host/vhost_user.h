/* vhost_user.h — vhost_port.h over a Unix socket, in the vhost-user protocol, as its front end.
 *
 * Opening connects, agrees on features and, where the other side can, on configurations.  The
 * protocol's features are those of a block device; a peer that does not answer within seconds is an
 * error, so nobody waits for it for ever.  What the interface says about failures is in the texts.
 */
#pragma once

#include "base/err.h"
#include "dev/port/vhost_port.h"

/* `features`: what we can do; `ret_config`: the configuration, zeros where the peer has none. */
int vhost_user_open(const char *path, uint64_t features, struct vhost_port **ret_port,
                    uint8_t ret_config[VHOST_CONFIG_BYTES], struct err *err);
