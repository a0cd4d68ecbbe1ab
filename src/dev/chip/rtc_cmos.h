/* rtc_cmos.h — the clock of an MC146818, showing the host's time in UTC.
 *
 * The guest can read the time and choose BCD or binary, 12 or 24 hours; it cannot set the time, and
 * there are no interrupts.  114 bytes of memory behind the clock hold what is written to them.
 */
#pragma once

#include <pthread.h>
#include <stdint.h>
#include <time.h>

#include "dev/bus/device.h"

#define RTC_PORT_LEN 2

struct rtc_cmos {
    struct device dev;
    int64_t (*now_ns)(void); /* wall clock, since 1970 */
    pthread_mutex_t lock;    /* guards all below */
    uint8_t index;
    uint8_t memory[128];
    int64_t shown_ns; /* the time that the registers show now */
};

/* NULL when out of memory.  End it with device_free().  `now_ns`: clock_wall_ns, or a test's. */
struct rtc_cmos *rtc_cmos_new(int64_t (*now_ns)(void));
