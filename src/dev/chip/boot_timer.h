/* boot_timer.h — a register into which the guest's first program writes that it runs.
 *
 * One byte of memory; the number is 123.  Reads give 0.
 */
#pragma once

#include <stdint.h>

#include "dev/bus/device.h"

#define BOOT_TIMER_LEN 0x1000u /* a page: a program maps it */

/* On the vCPU's thread. */
typedef void (*boot_timer_fn)(void *owner);

struct boot_timer {
    struct device dev;
    boot_timer_fn booted;
    void *owner;
};

/* NULL when out of memory.  End it with device_free(). */
struct boot_timer *boot_timer_new(boot_timer_fn booted, void *owner);
