/* server.h — a gdb server: listens, serves one gdb after the other, on a thread of its own.
 *
 * The guest stands still from the moment a gdb connects.  When gdb detaches, or is gone, the guest
 * runs on without breakpoints, and the next one may connect.  A guest that stood still before the
 * first one goes on doing so when a peer leaves that was none.
 */
#pragma once

#include "base/err.h"
#include "gdb/target.h"

struct gdb_server;

/* Listen at `address` (gdb/address.h); `target` is copied, what it names outlives the server. */
int gdb_server_new(const char *address, const struct gdb_target *target,
                   struct gdb_server **ret_server, struct err *err);
/* What to tell gdb's `target remote`. */
const char *gdb_server_address(const struct gdb_server *server);
int gdb_server_start(struct gdb_server *server, struct err *err);
/* Tell gdb, if it waits, that the guest has ended with this status; end the thread. */
void gdb_server_free(struct gdb_server *server, int status);
