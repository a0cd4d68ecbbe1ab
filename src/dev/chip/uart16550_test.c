/* uart16550_test.c — what Linux's 8250 driver looks at and relies on. */
#include <stdlib.h>

#include "dev/chip/uart16550.h"
#include "tests/lib/test.h"

struct host {
    char text[64];
    size_t len;
    unsigned pulse_count;
    unsigned room_count;
};

static void take(void *owner, const void *data, size_t len)
{
    struct host *host = owner;

    CHECK(host->len + len < sizeof(host->text));
    memcpy(host->text + host->len, data, len);
    host->len += len;
}

static void room(void *owner)
{
    ((struct host *)owner)->room_count++;
}

static void pulse(void *owner, unsigned line)
{
    CHECK_INT(line, 4);
    ((struct host *)owner)->pulse_count++;
}

static struct uart16550 *make(struct host *host)
{
    struct irq_line irq = {.pulse = pulse, .owner = host, .line = 4};
    struct tty_port tty = {.write = take, .has_room = room, .owner = host};
    struct uart16550 *uart = uart16550_new(&irq, &tty);

    CHECK(uart != NULL);
    return uart;
}

static uint8_t in(struct uart16550 *uart, unsigned reg)
{
    uint8_t value = 0xee;

    uart->dev.ops->read(&uart->dev, reg, &value, 1);
    return value;
}

static void out(struct uart16550 *uart, unsigned reg, uint8_t value)
{
    uart->dev.ops->write(&uart->dev, reg, &value, 1);
}

TEST(dev_chip, uart_sends_bytes)
{
    struct host host = {0};
    struct uart16550 *uart = make(&host);

    CHECK_INT(in(uart, 5), 0x60);
    out(uart, 0, 'h');
    out(uart, 0, 'i');
    CHECK_STR(host.text, "hi");
    CHECK_INT(host.pulse_count, 0); /* nothing enabled */
    out(uart, 3, 0x83);             /* the divisor is not data */
    out(uart, 0, 12);
    out(uart, 1, 1);
    CHECK_INT(in(uart, 0), 12);
    CHECK_INT(in(uart, 1), 1);
    out(uart, 3, 0x03);
    CHECK_INT(host.len, 2);
    CHECK_INT(in(uart, 3), 3);
    CHECK_INT(in(uart, 1), 0);
    device_free(&uart->dev);
}

TEST(dev_chip, uart_interrupts_for_every_byte_sent)
{
    struct host host = {0};
    struct uart16550 *uart = make(&host);

    CHECK_INT(in(uart, 2), 0x01);
    out(uart, 1, 0x02);
    CHECK_INT(host.pulse_count, 1); /* it is empty already */
    CHECK_INT(in(uart, 2), 0x02);
    CHECK_INT(in(uart, 2), 0x01); /* reading took it back */
    out(uart, 0, 'x');
    CHECK_INT(host.pulse_count, 2);
    out(uart, 1, 0x02); /* enabled already */
    CHECK_INT(host.pulse_count, 2);
    CHECK_INT(in(uart, 2), 0x02);
    device_free(&uart->dev);
}

TEST(dev_chip, uart_receives_in_order)
{
    struct host host = {0};
    struct uart16550 *uart = make(&host);

    out(uart, 2, 0x07);
    CHECK_INT(in(uart, 2), 0xc1); /* FIFOs are on */
    CHECK_INT(uart16550_input(uart, "ab", 2), 2);
    CHECK_INT(host.pulse_count, 0);
    out(uart, 1, 0x0f);
    CHECK_INT(host.pulse_count, 2); /* data, and empty */
    CHECK_INT(in(uart, 2), 0xc4);   /* data first */
    CHECK_INT(in(uart, 5), 0x61);
    CHECK_INT(in(uart, 0), 'a');
    CHECK_INT(in(uart, 0), 'b');
    CHECK_INT(in(uart, 5), 0x60);
    CHECK_INT(in(uart, 0), 0);
    CHECK_INT(in(uart, 2), 0xc2);
    CHECK_INT(in(uart, 2), 0xc1);
    CHECK_INT(uart16550_input(uart, "c", 1), 1);
    CHECK_INT(host.pulse_count, 3);
    out(uart, 2, 0x03); /* clear */
    CHECK_INT(in(uart, 5), 0x60);
    device_free(&uart->dev);
}

TEST(dev_chip, uart_says_when_there_is_room_again)
{
    struct host host = {0};
    struct uart16550 *uart = make(&host);
    uint8_t *data = calloc(1, UART_RING_SIZE + 1);

    CHECK_INT(uart16550_input(uart, data, UART_RING_SIZE + 1), UART_RING_SIZE);
    CHECK_INT(uart16550_input(uart, data, 1), 0);
    for (unsigned i = 0; i < UART_RING_SIZE; i++) {
        CHECK_INT(host.room_count, i > UART_RING_SIZE / 2);
        (void)in(uart, 0);
    }
    CHECK_INT(host.room_count, 1);
    CHECK_INT(uart16550_input(uart, data, UART_RING_SIZE + 1), UART_RING_SIZE);
    out(uart, 2, 0x03);
    CHECK_INT(host.room_count, 2);
    free(data);
    device_free(&uart->dev);
}

TEST(dev_chip, uart_loops_back)
{
    struct host host = {0};
    struct uart16550 *uart = make(&host);

    CHECK_INT(in(uart, 6), 0xb0);
    out(uart, 4, 0x1a); /* Linux's test: loop, OUT2, RTS */
    CHECK_INT(in(uart, 4), 0x1a);
    CHECK_INT(in(uart, 6) & 0xf0, 0x90);
    out(uart, 4, 0x15);
    CHECK_INT(in(uart, 6) & 0xf0, 0x60);
    out(uart, 1, 0x01);
    out(uart, 0, 'z');
    CHECK_INT(host.len, 0);
    CHECK_INT(host.pulse_count, 1);
    CHECK_INT(in(uart, 0), 'z');
    for (unsigned i = 0; i <= UART_RING_SIZE; i++) {
        out(uart, 0, 'z');
    }
    CHECK_INT(in(uart, 5), 0x63); /* overrun, once */
    CHECK_INT(in(uart, 5), 0x61);
    device_free(&uart->dev);
}

TEST(dev_chip, uart_keeps_its_scratch_register)
{
    struct host host = {0};
    struct uart16550 *uart = make(&host);
    uint32_t wide = 0;

    out(uart, 7, 0xa5);
    out(uart, 6, 0xff); /* read only */
    out(uart, 5, 0xff);
    CHECK_INT(in(uart, 7), 0xa5);
    uart->dev.ops->read(&uart->dev, 4, &wide, 4);
    CHECK_INT(wide, 0xa5b06008);
    uart->dev.ops->free(NULL);
    device_free(&uart->dev);
}
