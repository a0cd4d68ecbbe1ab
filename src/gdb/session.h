/* session.h — one connection with a gdb: bytes in, bytes out, and what it does to the target.
 *
 * The session begins with all CPUs standing still.  Whoever has it reads and writes the connection
 * (server.c): gdb_session_input() takes what arrived, gdb_session_stopped() is called when the
 * target's stop_fd became readable, and what is in gdb_session_output() is to be sent.  Once
 * gdb_session_is_over(), the connection is to be closed.
 *
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gdb/target.h"

struct buf;
struct gdb_session;

/* NULL when out of memory. */
struct gdb_session *gdb_session_new(const struct gdb_target *target);
/* The guest runs on, without breakpoints, or stays as it is where `is_to_wait`. */
void gdb_session_free(struct gdb_session *session, bool is_to_wait);

void gdb_session_input(struct gdb_session *session, const void *data, size_t len);
void gdb_session_stopped(struct gdb_session *session);
/* The guest has ended; `status` is what its command exited with. */
void gdb_session_exited(struct gdb_session *session, int status);
struct buf *gdb_session_output(struct gdb_session *session);
bool gdb_session_is_over(const struct gdb_session *session);
/* Was the peer a gdb: did it send a packet? */
bool gdb_session_has_talked(const struct gdb_session *session);
