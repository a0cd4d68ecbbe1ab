/* rtc_cmos.c — the clock of an MC146818 (Motorola data sheet, 1984). */
#include "dev/chip/rtc_cmos.h"

#include <stdlib.h>

#include "base/clock.h"
#include "state/state.h"

/* Address map, figure 9; the century is where the PC/AT's BIOS keeps it. */
enum {
    RTC_SECONDS = 0,
    RTC_MINUTES = 2,
    RTC_HOURS = 4,
    RTC_WEEKDAY = 6,
    RTC_DAY = 7,
    RTC_MONTH = 8,
    RTC_YEAR = 9,
    RTC_A = 10,
    RTC_B = 11,
    RTC_C = 12,
    RTC_D = 13,
    RTC_CENTURY = 0x32,
};

#define A_DIVIDER  0x26u /* 32768 Hz, 1024 Hz rate; "update in progress" is never seen */
#define B_24H      0x02u
#define B_BINARY   0x04u
#define B_WRITABLE 0x0fu /* no interrupt enables, no halt */
#define D_VALID    0x80u
#define HOUR_PM    0x80u
/* A reading of all registers shows one time: the data sheet promises 244 us, be generous. */
#define HOLD_NS (2 * NS_PER_MS)

static void latch_time(struct rtc_cmos *rtc, struct tm *ret_tm)
{
    int64_t now = rtc->now_ns();
    time_t seconds;

    if (now < rtc->shown_ns || now - rtc->shown_ns > HOLD_NS) {
        rtc->shown_ns = now;
    }
    seconds = (time_t)(rtc->shown_ns / NS_PER_S);
    if (!gmtime_r(&seconds, ret_tm)) {
        *ret_tm = (struct tm){.tm_mday = 1, .tm_year = 70};
    }
}

static uint8_t encode(const struct rtc_cmos *rtc, int value)
{
    if (rtc->memory[RTC_B] & B_BINARY) {
        return (uint8_t)value;
    }
    return (uint8_t)(value / 10 << 4 | value % 10);
}

static uint8_t encode_hour(const struct rtc_cmos *rtc, int hour)
{
    if (rtc->memory[RTC_B] & B_24H) {
        return encode(rtc, hour);
    }
    return (uint8_t)(encode(rtc, (hour + 11) % 12 + 1) | (hour >= 12 ? HOUR_PM : 0));
}

static uint8_t read_memory(struct rtc_cmos *rtc)
{
    struct tm tm;

    latch_time(rtc, &tm);
    switch (rtc->index) {
    case RTC_SECONDS: return encode(rtc, tm.tm_sec % 60); /* no leap seconds */
    case RTC_MINUTES: return encode(rtc, tm.tm_min);
    case RTC_HOURS: return encode_hour(rtc, tm.tm_hour);
    case RTC_WEEKDAY: return encode(rtc, tm.tm_wday + 1);
    case RTC_DAY: return encode(rtc, tm.tm_mday);
    case RTC_MONTH: return encode(rtc, tm.tm_mon + 1);
    case RTC_YEAR: return encode(rtc, tm.tm_year % 100);
    case RTC_CENTURY: return encode(rtc, 19 + tm.tm_year / 100);
    case RTC_A: return A_DIVIDER;
    case RTC_C: return 0;
    case RTC_D: return D_VALID;
    default: return rtc->memory[rtc->index];
    }
}

static void write_memory(struct rtc_cmos *rtc, uint8_t value)
{
    if (rtc->index == RTC_B) {
        value &= B_WRITABLE;
    }
    rtc->memory[rtc->index] = value;
}

static void rtc_read(struct device *dev, uint64_t offset, void *data, unsigned len)
{
    struct rtc_cmos *rtc = (struct rtc_cmos *)dev;
    uint8_t *to = data;

    (void)pthread_mutex_lock(&rtc->lock);
    for (unsigned i = 0; i < len; i++) {
        to[i] = offset + i == 1 ? read_memory(rtc) : 0xff; /* the index is write-only */
    }
    (void)pthread_mutex_unlock(&rtc->lock);
}

static void rtc_write(struct device *dev, uint64_t offset, const void *data, unsigned len)
{
    struct rtc_cmos *rtc = (struct rtc_cmos *)dev;
    const uint8_t *from = data;

    (void)pthread_mutex_lock(&rtc->lock);
    for (unsigned i = 0; i < len; i++) {
        if (offset + i == 0) {
            rtc->index = from[i] & 0x7f; /* guest: bit 7 masks the NMI, elsewhere */
        } else {
            write_memory(rtc, from[i]);
        }
    }
    (void)pthread_mutex_unlock(&rtc->lock);
}

static void rtc_free(struct device *dev)
{
    struct rtc_cmos *rtc = (struct rtc_cmos *)dev;

    if (rtc) {
        (void)pthread_mutex_destroy(&rtc->lock);
        free(rtc);
    }
}

/* The time is the host's. */
static void rtc_fields(struct device *dev, struct state *s)
{
    struct rtc_cmos *rtc = (struct rtc_cmos *)dev;

    (void)pthread_mutex_lock(&rtc->lock);
    STATE(s, rtc->index);
    rtc->index &= 0x7f;
    state_bytes(s, "memory", rtc->memory, sizeof(rtc->memory));
    (void)pthread_mutex_unlock(&rtc->lock);
}

static const struct device_ops rtc_ops = {.kind = "rtc-cmos",
                                          .read = rtc_read,
                                          .write = rtc_write,
                                          .free = rtc_free,
                                          .save = rtc_fields,
                                          .load = rtc_fields};

struct rtc_cmos *rtc_cmos_new(int64_t (*now_ns)(void))
{
    struct rtc_cmos *rtc = calloc(1, sizeof(*rtc));

    if (rtc) {
        rtc->dev.ops = &rtc_ops;
        rtc->now_ns = now_ns;
        rtc->memory[RTC_B] = B_24H;
        (void)pthread_mutex_init(&rtc->lock, NULL);
    }
    return rtc;
}
