/* i8042.h — a keyboard controller (IBM PC/AT technical reference, "8042") with a keyboard that has
 * one chord: Ctrl-Alt-Del.
 *
 * Command FEH resets the machine, which is what Linux's `reboot=k` does.  No mouse.  Occupies ports
 * 60H to 64H; 61H (system control port B) reads 0, so that nobody sees a parity error there.
 *
 * Threads: guest side on any vCPU; i8042_ctrl_alt_del() on any other.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "dev/bus/device.h"
#include "dev/bus/irq.h"
#include "dev/port/power_port.h"

#define I8042_PORT_LEN  5
#define I8042_FIFO_SIZE 16 /* a power of two */

struct i8042 {
    struct device dev;
    struct irq_line irq;
    struct power_port power;
    pthread_mutex_t lock; /* guards all below */
    uint8_t status;
    uint8_t control; /* "command byte" */
    uint8_t outputs; /* "output port" */
    uint8_t command; /* whose data byte is awaited */
    uint8_t fifo[I8042_FIFO_SIZE];
    uint32_t head; /* next to read; counts on without end */
    uint32_t tail;
};

/* NULL when out of memory.  End it with device_free(). */
struct i8042 *i8042_new(const struct irq_line *irq, const struct power_port *power);

/* Type it.  1 when the guest was interrupted, 0 when it has the keyboard's interrupt disabled (the
 * bytes wait), -ENOSPC when they do not fit. */
int i8042_ctrl_alt_del(struct i8042 *chip);
