/* tcp.h — the service's TCP port, over lwIP: IPv4 packets in, HTTP answers out as IPv4 packets.
 *
 * lwIP has one stack for each process, so all interfaces of all microVMs of a process share one
 * loop: that of the first.  A connection is told by the interface it came over and never answered
 * over another.
 *
 * Threads: that of the loop, or any while no thread runs it.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct loop;
struct mmds;
struct tcp_if;

/* A packet for the guest: at most 1500 bytes.  Negative errno: it is dropped, TCP sends it again.
 */
typedef int (*tcp_if_send_fn)(void *owner, const void *packet, size_t len);

/* `ipv4` in host order.  -EBUSY: interfaces of another loop are there. */
int tcp_if_new(struct mmds *mmds, uint32_t ipv4, struct loop *loop, tcp_if_send_fn send,
               void *owner, struct tcp_if **ret_if, struct err *err);
/* Its connections end without a word. */
void tcp_if_free(struct tcp_if *tif);

/* An IPv4 packet with TCP in it, from the guest; nothing of it was checked, and its checksums are
 * not.  0, or -EPROTO: it is not for the service. */
int tcp_if_take(struct tcp_if *tif, const uint8_t *packet, size_t len);
