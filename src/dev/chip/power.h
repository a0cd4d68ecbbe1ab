/* power.h — sleep control, sleep status and reset registers of hardware-reduced ACPI
 * (ACPI 6.5, 4.8.3.7 and 4.8.3.6), at +0, +1 and +4.  The FADT names them to the guest.
 */
#pragma once

#include <stdint.h>

#include "dev/bus/device.h"
#include "dev/port/power_port.h"

#define POWER_PORT_LEN   8
#define POWER_SLEEP_TYPE 5 /* of S5, as the DSDT has it */
#define POWER_RESET      1 /* value of the reset register */

struct power {
    struct device dev;
    struct power_port port;
};

/* NULL when out of memory.  End it with device_free(). */
struct power *power_new(const struct power_port *port);
