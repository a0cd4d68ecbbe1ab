/* chips_test.c — keyboard controller, clock, boot timer and power registers do what Linux asks of
 * them. */
#include <errno.h>

#include "base/clock.h"
#include "dev/chip/boot_timer.h"
#include "dev/chip/i8042.h"
#include "dev/chip/power.h"
#include "dev/chip/rtc_cmos.h"
#include "tests/lib/test.h"

static unsigned g_poweroff_count;
static unsigned g_reset_count;

static void poweroff(void *owner)
{
    (void)owner;
    g_poweroff_count++;
}

static void reset(void *owner)
{
    (void)owner;
    g_reset_count++;
}

static const struct power_port port = {.poweroff = poweroff, .reset = reset};

static uint8_t in(struct device *dev, unsigned offset)
{
    uint8_t value = 0xee;

    dev->ops->read(dev, offset, &value, 1);
    return value;
}

static void out(struct device *dev, unsigned offset, uint8_t value)
{
    dev->ops->write(dev, offset, &value, 1);
}

static unsigned g_pulse_count;

static void pulse(void *owner, unsigned line)
{
    (void)owner;
    CHECK_INT(line, 1);
    g_pulse_count++;
}

static const struct irq_line irq = {.pulse = pulse, .line = 1};

TEST(dev_chip, i8042_resets)
{
    struct i8042 *chip = i8042_new(&irq, &port);
    struct device *dev = &chip->dev;

    g_reset_count = 0;
    CHECK_INT(in(dev, 4), 0x10); /* input empty: Linux waits for that before it writes */
    CHECK_INT(in(dev, 1), 0);
    out(dev, 0, 0xfe); /* that is data */
    CHECK_INT(g_reset_count, 0);
    out(dev, 4, 0xfe);
    CHECK_INT(g_reset_count, 1);
    device_free(dev);
}

TEST(dev_chip, i8042_answers_commands)
{
    static const uint8_t vectors[][2] = {{0xaa, 0x55}, {0xab, 0x00}, {0x20, 0x05}, {0xd0, 0x00}};
    struct i8042 *chip = i8042_new(&irq, &port);
    struct device *dev = &chip->dev;

    for (unsigned i = 0; i < 4; i++) {
        out(dev, 4, vectors[i][0]);
        CHECK_INT(in(dev, 4), 0x11);
        CHECK_INT(in(dev, 0), vectors[i][1]);
        CHECK_INT(in(dev, 4), 0x10);
    }
    CHECK_INT(in(dev, 0), 0);
    out(dev, 4, 0x60);
    CHECK_INT(in(dev, 4), 0x18);
    out(dev, 0, 0x44);
    out(dev, 4, 0xd1);
    out(dev, 0, 0x99);
    out(dev, 4, 0x20);
    CHECK_INT(in(dev, 0), 0x44);
    out(dev, 4, 0xd0);
    CHECK_INT(in(dev, 0), 0x99);
    device_free(dev);
}

TEST(dev_chip, i8042_keyboard_agrees_to_everything)
{
    struct i8042 *chip = i8042_new(&irq, &port);
    struct device *dev = &chip->dev;

    g_pulse_count = 0;
    out(dev, 0, 0xf4);
    CHECK_INT(g_pulse_count, 1);
    out(dev, 0, 0xff);
    CHECK_INT(in(dev, 0), 0xfa);
    CHECK_INT(in(dev, 4), 0x10); /* one answer, not two */
    device_free(dev);
}

TEST(dev_chip, i8042_types_ctrl_alt_del)
{
    static const uint8_t codes[] = {0x14, 0x11, 0xe0, 0x71};
    struct i8042 *chip = i8042_new(&irq, &port);
    struct device *dev = &chip->dev;

    g_pulse_count = 0;
    CHECK_INT(i8042_ctrl_alt_del(chip), 1);
    for (unsigned i = 0; i < sizeof(codes); i++) {
        CHECK_INT(g_pulse_count, i + 1); /* another one for every byte that waits */
        CHECK_INT(in(dev, 4), 0x11);
        CHECK_INT(in(dev, 0), codes[i]);
    }
    CHECK_INT(in(dev, 4), 0x10);
    CHECK_INT(g_pulse_count, 4);
    out(dev, 4, 0x60);
    out(dev, 0, 0x04); /* no interrupt, please */
    for (unsigned i = 0; i < 4; i++) {
        CHECK_INT(i8042_ctrl_alt_del(chip), 0);
    }
    CHECK_INT(i8042_ctrl_alt_del(chip), -ENOSPC);
    CHECK_INT(g_pulse_count, 4);
    device_free(dev);
}

static unsigned g_boot_count;

static void booted(void *owner)
{
    (void)owner;
    g_boot_count++;
}

TEST(dev_chip, boot_timer_rings_for_its_number)
{
    struct boot_timer *timer = boot_timer_new(booted, NULL);
    struct device *dev = &timer->dev;
    uint32_t wide = 123;

    g_boot_count = 0;
    out(dev, 1, 123);
    out(dev, 0, 122);
    dev->ops->write(dev, 0, &wide, 4);
    CHECK_INT(g_boot_count, 0);
    out(dev, 0, 123);
    CHECK_INT(g_boot_count, 1);
    CHECK_INT(in(dev, 0), 0);
    device_free(dev);
}

TEST(dev_chip, power_registers_call_back)
{
    struct power *power = power_new(&port);
    struct device *dev = &power->dev;

    g_poweroff_count = 0;
    g_reset_count = 0;
    CHECK_INT(in(dev, 1), 0);
    out(dev, 1, 0x80);            /* clear the wake status */
    out(dev, 0, 5 << 2);          /* not enabled */
    out(dev, 0, 0x20 | (3 << 2)); /* S3: there is none */
    out(dev, 4, 2);
    CHECK_INT(g_poweroff_count + g_reset_count, 0);
    out(dev, 0, 0x20 | (5 << 2));
    CHECK_INT(g_poweroff_count, 1);
    CHECK_INT(g_reset_count, 0);
    out(dev, 4, 1);
    CHECK_INT(g_poweroff_count, 1);
    CHECK_INT(g_reset_count, 1);
    device_free(dev);
}

static int64_t g_now;

static int64_t now(void)
{
    return g_now;
}

static uint8_t cmos(struct device *dev, uint8_t index)
{
    out(dev, 0, index);
    return in(dev, 1);
}

TEST(dev_chip, rtc_shows_utc)
{
    struct rtc_cmos *rtc = rtc_cmos_new(now);
    struct device *dev = &rtc->dev;

    g_now = INT64_C(1709251199) * NS_PER_S; /* 2024-02-29 23:59:59, a Thursday */
    CHECK_INT(cmos(dev, 0), 0x59);
    CHECK_INT(cmos(dev, 2), 0x59);
    CHECK_INT(cmos(dev, 4), 0x23);
    CHECK_INT(cmos(dev, 6), 0x05);
    CHECK_INT(cmos(dev, 7), 0x29);
    CHECK_INT(cmos(dev, 8), 0x02);
    CHECK_INT(cmos(dev, 9), 0x24);
    CHECK_INT(cmos(dev, 0x32), 0x20);
    CHECK_INT(cmos(dev, 10), 0x26);
    CHECK_INT(cmos(dev, 11), 0x02);
    CHECK_INT(cmos(dev, 12), 0);
    CHECK_INT(cmos(dev, 13), 0x80);
    CHECK_INT(in(dev, 0), 0xff);
    device_free(dev);
}

TEST(dev_chip, rtc_follows_register_b)
{
    static const uint8_t hours[][2] = {{0, 0x12}, {1, 0x01}, {12, 0x92}, {13, 0x81}, {23, 0x91}};
    struct rtc_cmos *rtc = rtc_cmos_new(now);
    struct device *dev = &rtc->dev;

    out(dev, 0, 11);
    out(dev, 1, 0xf0); /* BCD, 12 hours; the enables do not stick */
    CHECK_INT(cmos(dev, 11), 0);
    for (unsigned i = 0; i < 5; i++) {
        g_now = hours[i][0] * 3600 * NS_PER_S + 59 * 60 * NS_PER_S;
        CHECK_INT(cmos(dev, 4), hours[i][1]);
    }
    out(dev, 0, 11);
    out(dev, 1, 0x06);
    CHECK_INT(cmos(dev, 4), 23);
    CHECK_INT(cmos(dev, 2), 59);
    CHECK_INT(cmos(dev, 9), 70);
    device_free(dev);
}

TEST(dev_chip, rtc_does_not_tear)
{
    struct rtc_cmos *rtc = rtc_cmos_new(now);
    struct device *dev = &rtc->dev;

    g_now = 60 * NS_PER_S - 1;
    CHECK_INT(cmos(dev, 0), 0x59);
    g_now += NS_PER_MS;
    CHECK_INT(cmos(dev, 2), 0);
    g_now += 3 * NS_PER_MS;
    CHECK_INT(cmos(dev, 2), 1);
    CHECK_INT(cmos(dev, 0), 0);
    g_now = -1; /* the host's clock was set back */
    (void)cmos(dev, 0);
    rtc->dev.ops->free(NULL);
    device_free(dev);
}

TEST(dev_chip, rtc_keeps_its_memory)
{
    struct rtc_cmos *rtc = rtc_cmos_new(clock_wall_ns);
    struct device *dev = &rtc->dev;

    out(dev, 0, 0x80 | 0x7f); /* bit 7 is not part of the index */
    out(dev, 1, 0xa5);
    CHECK_INT(cmos(dev, 0x7f), 0xa5);
    device_free(dev);
}
