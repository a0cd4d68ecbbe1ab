/* address.h — where the gdb server listens. */
#pragma once

#include "base/err.h"

#define GDB_ADDRESS_DEFAULT "localhost:1234"
/* "localhost:49152", "unix:/path", "[2001:db8::1]:1234" */
#define GDB_ADDRESS_MAX 128

/* "HOST:PORT", ":PORT", "PORT" or "unix:PATH"; "" is the default.  HOST is an IP address ([...] for
 * IPv6) or "localhost", which it is if there is none; port 0 takes a free one.  Returns a socket
 * that listens; `ret_text` is how gdb reaches it. */
int gdb_listen(const char *address, char ret_text[static GDB_ADDRESS_MAX], struct err *err);
/* Undo what gdb_listen() left in the filesystem. */
void gdb_unlisten(const char *text);
