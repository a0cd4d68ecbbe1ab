/* console.h — where a guest's serial output goes: its tail in memory, optionally a file, and a
 * watch for the lines that mean something to the monitor.
 *
 * Threads: written by a vCPU's thread, read by any; it has its own lock.
 */
#pragma once

#include <stddef.h>

#include "base/err.h"
#include "dev/port/tty_port.h"

struct console;

/* A line of the guest began with `start`; `text` is the line without its end.  On the writing
 * thread. */
typedef void (*console_watch_fn)(void *owner, const char *text);

struct console_config {
    int log_fd;  /* everything is appended here; -1: nowhere.  Taken over. */
    int echo_fd; /* and shown here, such as stderr; -1: nowhere.  Stays the caller's. */
};

int console_new(const struct console_config *config, struct console **ret_console, struct err *err);
void console_free(struct console *console);
const struct tty_port *console_port(struct console *console);

/* Call `fn` for each line that contains `part` (kernel lines begin with a time stamp).  Before the
 * guest runs; at most 4. */
int console_watch(struct console *console, const char *part, console_watch_fn fn, void *owner);

/* The last `size` - 1 bytes at most, from the beginning of a line on where possible;
 * NUL-terminated. */
void console_tail(struct console *console, char *out, size_t size);
