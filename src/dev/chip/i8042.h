/* i8042.h — as much of a keyboard controller as Linux's `reboot=k` needs: command FEH resets.
 *
 * No keyboard, no mouse.  Occupies ports 60H to 64H; 61H (system control port B) reads 0, so that
 * nobody sees a parity error there.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "dev/bus/device.h"
#include "dev/port/power_port.h"

#define I8042_PORT_LEN 5

struct i8042 {
    struct device dev;
    struct power_port power;
    _Atomic uint16_t answer; /* bit 8: there is a byte to read, bits 0 to 7: the byte */
};

/* NULL when out of memory.  End it with device_free(). */
struct i8042 *i8042_new(const struct power_port *power);
