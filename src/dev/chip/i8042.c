/* i8042.c — a keyboard controller (IBM PC/AT technical reference, "8042"). */
#include "dev/chip/i8042.h"

#include <errno.h>
#include <stdlib.h>

#include "metrics/metrics.h"
#include "state/state.h"

#define OFFSET_DATA    0
#define OFFSET_PORT_B  1
#define OFFSET_COMMAND 4

#define STATUS_OUTPUT  0x01u /* a byte for the CPU */
#define STATUS_COMMAND 0x08u /* the next data byte belongs to a command */
#define STATUS_UNLOCK  0x10u /* keyboard not locked */

#define CONTROL_KBD_IRQ 0x01u
#define CONTROL_TESTED  0x04u /* power-on self test passed */

#define COMMAND_READ_CONTROL  0x20u
#define COMMAND_WRITE_CONTROL 0x60u
#define COMMAND_SELF_TEST     0xaau
#define COMMAND_PORT_TEST     0xabu
#define COMMAND_READ_OUTPUTS  0xd0u
#define COMMAND_WRITE_OUTPUTS 0xd1u
#define COMMAND_RESET         0xfeu

#define SELF_TEST_OK 0x55u
#define PORT_TEST_OK 0x00u
#define KEYBOARD_ACK 0xfau

static uint32_t fifo_used(const struct i8042 *chip)
{
    return chip->tail - chip->head;
}

static void flush(struct i8042 *chip)
{
    chip->head = chip->tail;
    chip->status &= (uint8_t)~STATUS_OUTPUT;
}

static void push(struct i8042 *chip, uint8_t byte)
{
    if (fifo_used(chip) < I8042_FIFO_SIZE) {
        chip->fifo[chip->tail++ % I8042_FIFO_SIZE] = byte;
        chip->status |= STATUS_OUTPUT;
    }
}

static bool interrupt(const struct i8042 *chip)
{
    if (!(chip->control & CONTROL_KBD_IRQ)) {
        return false;
    }
    irq_pulse(&chip->irq);
    return true;
}

static void answer(struct i8042 *chip, uint8_t byte)
{
    flush(chip);
    push(chip, byte);
}

static void write_command(struct i8042 *chip, uint8_t value)
{
    switch (value) {
    case COMMAND_RESET:
        metric_inc(&g_metrics.i8042.reset_count);
        chip->power.reset(chip->power.owner);
        break;
    case COMMAND_READ_CONTROL: answer(chip, chip->control); break;
    case COMMAND_READ_OUTPUTS: answer(chip, chip->outputs); break;
    case COMMAND_SELF_TEST: answer(chip, SELF_TEST_OK); break;
    case COMMAND_PORT_TEST: answer(chip, PORT_TEST_OK); break;
    case COMMAND_WRITE_CONTROL:
    case COMMAND_WRITE_OUTPUTS:
        flush(chip);
        chip->status |= STATUS_COMMAND;
        chip->command = value;
        break;
    default: break;
    }
}

static void write_data(struct i8042 *chip, uint8_t value)
{
    if (!(chip->status & STATUS_COMMAND)) { /* for the keyboard, which agrees to everything */
        answer(chip, KEYBOARD_ACK);
        (void)interrupt(chip);
        return;
    }
    chip->status &= (uint8_t)~STATUS_COMMAND;
    if (chip->command == COMMAND_WRITE_CONTROL) {
        chip->control = value;
    } else {
        chip->outputs = value;
    }
}

static uint8_t read_data(struct i8042 *chip)
{
    uint8_t byte = 0;

    if (fifo_used(chip)) {
        byte = chip->fifo[chip->head++ % I8042_FIFO_SIZE];
        if (fifo_used(chip)) {
            (void)interrupt(chip);
        } else {
            chip->status &= (uint8_t)~STATUS_OUTPUT;
        }
    }
    return byte;
}

static uint8_t read_register(struct i8042 *chip, uint64_t offset)
{
    struct metrics_i8042 *metrics = &g_metrics.i8042;

    switch (offset) {
    case OFFSET_DATA: metric_inc(&metrics->read_count); return read_data(chip);
    case OFFSET_COMMAND: metric_inc(&metrics->read_count); return chip->status;
    case OFFSET_PORT_B: return 0;
    default: metric_inc(&metrics->missed_read_count); return 0;
    }
}

static void write_register(struct i8042 *chip, uint64_t offset, uint8_t value)
{
    struct metrics_i8042 *metrics = &g_metrics.i8042;

    switch (offset) {
    case OFFSET_DATA:
        metric_inc(&metrics->write_count);
        write_data(chip, value);
        break;
    case OFFSET_COMMAND:
        metric_inc(&metrics->write_count);
        write_command(chip, value);
        break;
    default: metric_inc(&metrics->missed_write_count); break;
    }
}

static void i8042_read(struct device *dev, uint64_t offset, void *data, unsigned len)
{
    struct i8042 *chip = (struct i8042 *)dev;
    uint8_t *to = data;

    (void)pthread_mutex_lock(&chip->lock);
    for (unsigned i = 0; i < len; i++) {
        to[i] = read_register(chip, offset + i);
    }
    (void)pthread_mutex_unlock(&chip->lock);
}

static void i8042_write(struct device *dev, uint64_t offset, const void *data, unsigned len)
{
    struct i8042 *chip = (struct i8042 *)dev;
    const uint8_t *from = data;

    (void)pthread_mutex_lock(&chip->lock);
    for (unsigned i = 0; i < len; i++) {
        write_register(chip, offset + i, from[i]);
    }
    (void)pthread_mutex_unlock(&chip->lock);
}

int i8042_ctrl_alt_del(struct i8042 *chip)
{
    /* Scan codes of set 2: left Ctrl, left Alt, Delete (two bytes). */
    static const uint8_t codes[] = {0x14, 0x11, 0xe0, 0x71};
    int r = -ENOSPC;

    (void)pthread_mutex_lock(&chip->lock);
    if (I8042_FIFO_SIZE - fifo_used(chip) >= sizeof(codes)) {
        for (unsigned i = 0; i < sizeof(codes); i++) {
            push(chip, codes[i]);
        }
        r = interrupt(chip);
    }
    (void)pthread_mutex_unlock(&chip->lock);
    return r;
}

static void i8042_free(struct device *dev)
{
    struct i8042 *chip = (struct i8042 *)dev;

    if (chip) {
        (void)pthread_mutex_destroy(&chip->lock);
        free(chip);
    }
}

static void i8042_fields(struct device *dev, struct state *s)
{
    struct i8042 *chip = (struct i8042 *)dev;

    (void)pthread_mutex_lock(&chip->lock);
    STATE(s, chip->status);
    STATE(s, chip->control);
    STATE(s, chip->outputs);
    STATE(s, chip->command);
    STATE(s, chip->head);
    STATE(s, chip->tail);
    if (s->is_loading && !s->failed && fifo_used(chip) > I8042_FIFO_SIZE) {
        state_refuse(s, "bytes", "%u: must be at most %d", (unsigned)fifo_used(chip),
                     I8042_FIFO_SIZE);
        chip->head = chip->tail;
    }
    state_bytes(s, "fifo", chip->fifo, sizeof(chip->fifo));
    (void)pthread_mutex_unlock(&chip->lock);
}

static const struct device_ops i8042_ops = {.kind = "i8042",
                                            .read = i8042_read,
                                            .write = i8042_write,
                                            .free = i8042_free,
                                            .save = i8042_fields,
                                            .load = i8042_fields};

struct i8042 *i8042_new(const struct irq_line *irq, const struct power_port *power)
{
    struct i8042 *chip = calloc(1, sizeof(*chip));

    if (chip) {
        chip->dev.ops = &i8042_ops;
        chip->irq = *irq;
        chip->power = *power;
        chip->status = STATUS_UNLOCK;
        chip->control = CONTROL_TESTED | CONTROL_KBD_IRQ;
        (void)pthread_mutex_init(&chip->lock, NULL);
    }
    return chip;
}
