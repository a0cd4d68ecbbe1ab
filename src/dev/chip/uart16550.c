/* uart16550.c — a serial port (National Semiconductor PC16550D data sheet, 1995; sections 8.x).
 *
 * Theory of operation: three causes can interrupt, in this order: received data (level: as long as
 * the ring is not empty), transmitter empty (latched: set when enabled and by every byte written,
 * cleared by reading it from the IIR), and nothing else, since the modem lines never change.  Each
 * new cause is one pulse on the line, if the IER enables it.
 */
#include "dev/chip/uart16550.h"

#include <stdlib.h>

#include "metrics/metrics.h"
#include "state/state.h"

/* Register offsets, table II. */
enum { REG_DATA, REG_IER, REG_IIR_FCR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCR };

#define IER_RX       0x01u
#define IER_TX       0x02u
#define IER_MASK     0x0fu
#define IIR_NONE     0x01u
#define IIR_TX       0x02u
#define IIR_RX       0x04u
#define IIR_FIFO     0xc0u
#define FCR_ENABLE   0x01u
#define FCR_CLEAR_RX 0x02u
#define LCR_DLAB     0x80u
#define MCR_DTR      0x01u
#define MCR_RTS      0x02u
#define MCR_OUT1     0x04u
#define MCR_OUT2     0x08u
#define MCR_LOOP     0x10u
#define MCR_MASK     0x1fu
#define LSR_RX       0x01u
#define LSR_OVERRUN  0x02u
#define LSR_TX_EMPTY 0x60u /* holding and shift register */
#define MSR_CTS      0x10u
#define MSR_DSR      0x20u
#define MSR_RI       0x40u
#define MSR_DCD      0x80u

static uint32_t ring_used(const struct uart16550 *uart)
{
    return uart->tail - uart->head;
}

static void put_received(struct uart16550 *uart, uint8_t byte)
{
    if (ring_used(uart) == UART_RING_SIZE) {
        uart->has_overrun = true;
        return;
    }
    uart->ring[uart->tail++ % UART_RING_SIZE] = byte;
}

static void pulse_received(const struct uart16550 *uart)
{
    if ((uart->ier & IER_RX) && ring_used(uart)) {
        irq_pulse(&uart->irq);
    }
}

static uint8_t take_received(struct uart16550 *uart)
{
    uint8_t byte = 0;

    if (ring_used(uart)) {
        byte = uart->ring[uart->head++ % UART_RING_SIZE];
        metric_inc(&g_metrics.uart.read_count);
    }
    if (uart->is_input_held && ring_used(uart) < UART_RING_SIZE / 2) {
        uart->is_input_held = false;
        uart->tty.has_room(uart->tty.owner);
    }
    return byte;
}

static void set_thre(struct uart16550 *uart)
{
    uart->is_thre_pending = true;
    if (uart->ier & IER_TX) {
        irq_pulse(&uart->irq);
    }
}

static uint8_t read_iir(struct uart16550 *uart)
{
    uint8_t fifo = uart->fcr & FCR_ENABLE ? IIR_FIFO : 0;

    if ((uart->ier & IER_RX) && ring_used(uart)) {
        return fifo | IIR_RX;
    }
    if ((uart->ier & IER_TX) && uart->is_thre_pending) {
        uart->is_thre_pending = false;
        return fifo | IIR_TX;
    }
    return fifo | IIR_NONE;
}

static uint8_t read_lsr(struct uart16550 *uart)
{
    uint8_t value = LSR_TX_EMPTY;

    value |= ring_used(uart) ? LSR_RX : 0;
    value |= uart->has_overrun ? LSR_OVERRUN : 0;
    uart->has_overrun = false;
    return value;
}

/* In loopback the four outputs feed the four inputs (8.7); else a cable with everything ready. */
static uint8_t read_msr(const struct uart16550 *uart)
{
    uint8_t value = 0;

    if (!(uart->mcr & MCR_LOOP)) {
        return MSR_CTS | MSR_DSR | MSR_DCD;
    }
    value |= uart->mcr & MCR_RTS ? MSR_CTS : 0;
    value |= uart->mcr & MCR_DTR ? MSR_DSR : 0;
    value |= uart->mcr & MCR_OUT1 ? MSR_RI : 0;
    value |= uart->mcr & MCR_OUT2 ? MSR_DCD : 0;
    return value;
}

static uint8_t read_register(struct uart16550 *uart, uint64_t offset)
{
    bool dlab = uart->lcr & LCR_DLAB;

    switch (offset) {
    case REG_DATA: return dlab ? uart->dll : take_received(uart);
    case REG_IER: return dlab ? uart->dlm : uart->ier;
    case REG_IIR_FCR: return read_iir(uart);
    case REG_LCR: return uart->lcr;
    case REG_MCR: return uart->mcr;
    case REG_LSR: return read_lsr(uart);
    case REG_MSR: return read_msr(uart);
    default: return uart->scr;
    }
}

static void write_data(struct uart16550 *uart, uint8_t value)
{
    if (uart->mcr & MCR_LOOP) {
        put_received(uart, value);
        pulse_received(uart);
    } else {
        metric_inc(&g_metrics.uart.write_count);
        uart->tty.write(uart->tty.owner, &value, 1);
    }
    set_thre(uart);
}

static void write_ier(struct uart16550 *uart, uint8_t value)
{
    uint8_t risen = (uint8_t)(value & ~uart->ier);

    uart->ier = value & IER_MASK;
    if (risen & IER_TX) {
        set_thre(uart);
    }
    if (risen & IER_RX) {
        pulse_received(uart);
    }
}

static void write_fcr(struct uart16550 *uart, uint8_t value)
{
    /* Switching the FIFOs on or off empties them too (8.5). */
    if ((value & FCR_CLEAR_RX) || ((value ^ uart->fcr) & FCR_ENABLE)) {
        uart->head = uart->tail;
        if (uart->is_input_held) {
            uart->is_input_held = false;
            uart->tty.has_room(uart->tty.owner);
        }
    }
    uart->fcr = value & FCR_ENABLE;
}

static void write_register(struct uart16550 *uart, uint64_t offset, uint8_t value)
{
    bool dlab = uart->lcr & LCR_DLAB;

    switch (offset) {
    case REG_DATA:
        if (dlab) {
            uart->dll = value;
        } else {
            write_data(uart, value);
        }
        break;
    case REG_IER:
        if (dlab) {
            uart->dlm = value;
        } else {
            write_ier(uart, value);
        }
        break;
    case REG_IIR_FCR: write_fcr(uart, value); break;
    case REG_LCR: uart->lcr = value; break;
    case REG_MCR: uart->mcr = value & MCR_MASK; break;
    case REG_SCR: uart->scr = value; break;
    default: break; /* LSR, MSR: read only */
    }
}

/* guest: wider accesses are so many byte accesses, as on the ISA bus. */
static void uart_read(struct device *dev, uint64_t offset, void *data, unsigned len)
{
    struct uart16550 *uart = (struct uart16550 *)dev;
    uint8_t *to = data;

    (void)pthread_mutex_lock(&uart->lock);
    for (unsigned i = 0; i < len; i++) {
        to[i] = read_register(uart, offset + i);
    }
    (void)pthread_mutex_unlock(&uart->lock);
}

static void uart_write(struct device *dev, uint64_t offset, const void *data, unsigned len)
{
    struct uart16550 *uart = (struct uart16550 *)dev;
    const uint8_t *from = data;

    (void)pthread_mutex_lock(&uart->lock);
    for (unsigned i = 0; i < len; i++) {
        write_register(uart, offset + i, from[i]);
    }
    (void)pthread_mutex_unlock(&uart->lock);
}

static void uart_free(struct device *dev)
{
    struct uart16550 *uart = (struct uart16550 *)dev;

    if (uart) {
        (void)pthread_mutex_destroy(&uart->lock);
        free(uart);
    }
}

static void uart_fields(struct device *dev, struct state *s)
{
    struct uart16550 *uart = (struct uart16550 *)dev;

    (void)pthread_mutex_lock(&uart->lock);
    STATE(s, uart->ier);
    STATE(s, uart->fcr);
    STATE(s, uart->lcr);
    STATE(s, uart->mcr);
    STATE(s, uart->scr);
    STATE(s, uart->dll);
    STATE(s, uart->dlm);
    STATE(s, uart->is_thre_pending);
    STATE(s, uart->has_overrun);
    STATE(s, uart->head);
    STATE(s, uart->tail);
    if (s->is_loading && !s->failed && ring_used(uart) > UART_RING_SIZE) {
        state_refuse(s, "received bytes", "%u: must be at most %d", ring_used(uart),
                     UART_RING_SIZE);
        uart->head = uart->tail;
    }
    state_bytes(s, "ring", uart->ring, sizeof(uart->ring));
    (void)pthread_mutex_unlock(&uart->lock);
}

static const struct device_ops uart_ops = {.kind = "uart16550",
                                           .read = uart_read,
                                           .write = uart_write,
                                           .free = uart_free,
                                           .save = uart_fields,
                                           .load = uart_fields};

struct uart16550 *uart16550_new(const struct irq_line *irq, const struct tty_port *tty)
{
    struct uart16550 *uart = calloc(1, sizeof(*uart));

    if (uart) {
        uart->dev.ops = &uart_ops;
        uart->irq = *irq;
        uart->tty = *tty;
        uart->mcr = MCR_OUT2;
        uart->dll = 1; /* 115200 baud, as firmware leaves it */
        uart->lcr = 3; /* 8 bits */
        (void)pthread_mutex_init(&uart->lock, NULL);
    }
    return uart;
}

size_t uart16550_input(struct uart16550 *uart, const void *data, size_t len)
{
    const uint8_t *from = data;
    size_t count;

    (void)pthread_mutex_lock(&uart->lock);
    count = UART_RING_SIZE - ring_used(uart);
    count = count < len ? count : len;
    for (size_t i = 0; i < count; i++) {
        put_received(uart, from[i]);
    }
    uart->is_input_held = count < len;
    if (count) {
        pulse_received(uart);
    }
    (void)pthread_mutex_unlock(&uart->lock);
    return count;
}
