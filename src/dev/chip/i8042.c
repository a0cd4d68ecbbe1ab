/* i8042.c — a keyboard controller with nothing attached (IBM PC/AT technical reference, "8042"). */
#include "dev/chip/i8042.h"

#include <stdbool.h>
#include <stdlib.h>

#define OFFSET_DATA    0
#define OFFSET_COMMAND 4

#define STATUS_OUTPUT  0x01u /* a byte for the CPU */
#define STATUS_SYSTEM  0x04u /* self test passed */
#define STATUS_UNLOCK  0x10u /* keyboard not locked */
#define COMMAND_SELF   0xaau
#define COMMAND_PORT   0xabu
#define COMMAND_CONFIG 0x20u
#define COMMAND_RESET  0xfeu
#define ANSWER         0x100u

static void command(struct i8042 *chip, uint8_t value)
{
    switch (value) {
    case COMMAND_RESET: chip->power.reset(chip->power.owner); break;
    case COMMAND_SELF:
        atomic_store_explicit(&chip->answer, ANSWER | 0x55, memory_order_relaxed);
        break;
    case COMMAND_PORT: /* clock line stuck: nothing attached */
        atomic_store_explicit(&chip->answer, ANSWER | 0x01, memory_order_relaxed);
        break;
    case COMMAND_CONFIG: /* keyboard and mouse disabled, no interrupts */
        atomic_store_explicit(&chip->answer, ANSWER | 0x34, memory_order_relaxed);
        break;
    default: break;
    }
}

static uint8_t read_register(struct i8042 *chip, uint64_t offset)
{
    if (offset == OFFSET_DATA) {
        return (uint8_t)atomic_exchange_explicit(&chip->answer, 0, memory_order_relaxed);
    }
    if (offset == OFFSET_COMMAND) {
        bool has_byte = atomic_load_explicit(&chip->answer, memory_order_relaxed) & ANSWER;

        return STATUS_SYSTEM | STATUS_UNLOCK | (has_byte ? STATUS_OUTPUT : 0);
    }
    return 0;
}

static void i8042_read(struct device *dev, uint64_t offset, void *data, unsigned len)
{
    uint8_t *to = data;

    for (unsigned i = 0; i < len; i++) {
        to[i] = read_register((struct i8042 *)dev, offset + i);
    }
}

static void i8042_write(struct device *dev, uint64_t offset, const void *data, unsigned len)
{
    const uint8_t *from = data;

    for (unsigned i = 0; i < len; i++) {
        if (offset + i == OFFSET_COMMAND) {
            command((struct i8042 *)dev, from[i]);
        }
    }
}

static void i8042_free(struct device *dev)
{
    free(dev);
}

static const struct device_ops i8042_ops = {
    .kind = "i8042", .read = i8042_read, .write = i8042_write, .free = i8042_free};

struct i8042 *i8042_new(const struct power_port *power)
{
    struct i8042 *chip = calloc(1, sizeof(*chip));

    if (chip) {
        chip->dev.ops = &i8042_ops;
        chip->power = *power;
    }
    return chip;
}
