/* serial.h — a microVM's serial port on the host: stdout or a file, and stdin.
 *
 * Output never waits: what the destination does not take, or the rate limit refuses, is lost and
 * counted (g_metrics.uart).  Input comes from stdin when it is a terminal or a FIFO and output goes
 * to stdout; what the guest does not read stays where it is.
 *
 * Threads: the port on a vCPU's, under the device's lock; the rest on the loop's.
 */
#pragma once

#include <stddef.h>

#include "base/err.h"
#include "dev/port/tty_port.h"
#include "io/bucket.h"

struct loop;
struct serial;

struct serial_config {
    const char *path;           /* NULL: stdout, and stdin for input */
    struct bucket_config limit; /* of bytes */
    struct loop *loop;          /* for stdin; NULL: no input */
};

/* Give the guest `len` bytes; returns how many fit (machine_type()). */
typedef size_t (*serial_input_fn)(void *owner, const void *data, size_t len);

/* Opens the file, switches stdout to not waiting. */
int serial_new(const struct serial_config *config, struct serial **ret_serial, struct err *err);
const struct tty_port *serial_port(struct serial *serial);
/* Take input from now on; a terminal changes to raw mode.  -errno when stdin cannot be watched. */
int serial_connect(struct serial *serial, serial_input_fn input, void *owner);
/* Once no device uses the port any more. */
void serial_free(struct serial *serial);

/* Terminal and stdout as they were before; a signal handler may call it. */
void serial_restore(void);
