/* chips.c — the small devices that every PC has, placed; and what the host does with them. */
#include <errno.h>

#include "base/clock.h"
#include "base/log.h"
#include "dev/chip/boot_timer.h"
#include "dev/chip/i8042.h"
#include "dev/chip/power.h"
#include "dev/chip/rtc_cmos.h"
#include "dev/chip/uart16550.h"
#include "machine/layout.h"
#include "machine/machine_int.h"

static void on_poweroff(void *owner)
{
    machine_finish(owner, MACHINE_POWEROFF);
}

static void on_reset(void *owner)
{
    machine_finish(owner, MACHINE_REBOOT);
}

/* The words are part of the interface: tools look for them. */
static void on_booted(void *owner)
{
    const struct machine *m = owner;
    unsigned long long us = (unsigned long long)((clock_mono_ns() - m->start_mono_ns) / NS_PER_US);
    unsigned long long cpu_us =
        (unsigned long long)((clock_ns(CLOCK_PROCESS_CPUTIME_ID) - m->start_cpu_ns) / NS_PER_US);

    log_guest(LOG_INFO, "Guest-boot-time = %6llu us %llu ms, %6llu CPU us %llu CPU ms", us,
              us / 1000, cpu_us, cpu_us / 1000);
}

/* A chip that could not be made is NULL. */
static int place_chip(struct machine *m, struct bus *bus, uint64_t start, uint64_t len,
                      struct device *dev, struct err *err)
{
    return dev ? machine_place(m, bus, start, len, dev, err)
               : err_set(err, -ENOMEM, "device at 0x%llx: out of memory",
                         (unsigned long long)start);
}

static int add_uart(struct machine *m, const struct tty_port *console, struct err *err)
{
    struct irq_line irq = machine_irq(m, LAYOUT_UART_IRQ);

    m->uart = uart16550_new(&irq, console);
    return place_chip(m, &m->pio, LAYOUT_UART_PORT, UART_PORT_LEN, (struct device *)m->uart, err);
}

static int add_i8042(struct machine *m, struct err *err)
{
    struct irq_line irq = machine_irq(m, LAYOUT_I8042_IRQ);

    m->i8042 = i8042_new(&irq, &m->power);
    return place_chip(m, &m->pio, LAYOUT_I8042_PORT, I8042_PORT_LEN, (struct device *)m->i8042,
                      err);
}

int machine_add_chips(struct machine *m, const struct vm_config *config,
                      const struct tty_port *console, struct err *err)
{
    int r;

    m->power = (struct power_port){.poweroff = on_poweroff, .reset = on_reset, .owner = m};
    m->is_microvm = config->is_microvm;
    m->start_mono_ns = config->start_mono_ns;
    m->start_cpu_ns = config->start_cpu_ns;
    r = add_uart(m, console, err);
    if (r == 0) {
        r = add_i8042(m, err);
    }
    if (r == 0) {
        r = place_chip(m, &m->pio, LAYOUT_RTC_PORT, RTC_PORT_LEN,
                       (struct device *)rtc_cmos_new(clock_wall_ns), err);
    }
    if (r == 0) {
        r = place_chip(m, &m->pio, LAYOUT_POWER_PORT, POWER_PORT_LEN,
                       (struct device *)power_new(&m->power), err);
    }
    if (r == 0 && config->has_boot_timer) {
        r = place_chip(m, &m->mmio, LAYOUT_BOOT_TIMER, BOOT_TIMER_LEN,
                       (struct device *)boot_timer_new(on_booted, m), err);
    }
    return r;
}

int machine_ctrl_alt_del(struct machine *m)
{
    return i8042_ctrl_alt_del(m->i8042);
}

size_t machine_type(struct machine *m, const void *data, size_t len)
{
    return uart16550_input(m->uart, data, len);
}
