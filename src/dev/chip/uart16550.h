/* uart16550.h — a National Semiconductor PC16550D serial port, 8 byte-wide registers.
 *
 * Sends at once, so the transmitter is always empty.  Receives into a ring larger than the chip's
 * FIFO; what does not fit stays with the host.  The interrupt is an edge for every new cause, which
 * is what a driver that loops until the IIR says "none" needs.  Baud rate, parity and break do
 * nothing.
 *
 * Threads: guest side on any vCPU, uart16550_input() from any one other thread.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dev/bus/device.h"
#include "dev/bus/irq.h"
#include "dev/port/tty_port.h"

#define UART_PORT_LEN  8
#define UART_RING_SIZE 64 /* a power of two */

struct uart16550 {
    struct device dev;
    struct irq_line irq;
    struct tty_port tty;
    pthread_mutex_t lock; /* guards all below */
    uint8_t ier, fcr, lcr, mcr, scr, dll, dlm;
    bool is_thre_pending; /* transmitter empty, not yet reported */
    bool has_overrun;
    bool is_input_held; /* the last uart16550_input() did not take all */
    uint32_t head;      /* of the ring: next to read; counts on without end */
    uint32_t tail;      /* next to fill */
    uint8_t ring[UART_RING_SIZE];
};

/* NULL when out of memory.  End it with device_free(). */
struct uart16550 *uart16550_new(const struct irq_line *irq, const struct tty_port *tty);

/* Bytes for the guest to read.  Returns how many were taken; when that is not all,
 * tty_port.has_room is called once there is room again. */
size_t uart16550_input(struct uart16550 *uart, const void *data, size_t len);
