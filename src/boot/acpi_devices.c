/* acpi_devices.c — see acpi_devices.h. */
#include "boot/acpi_devices.h"

#include <stdio.h>

#include "boot/aml.h"
#include "boot/layout.h"

/* "Device specific" notification (ACPI 6.5, table 5.163 ff.): what both drivers wait for. */
#define NOTIFY_CHANGED 0x80
#define STATUS_ALL     0x0f /* present, enabled, shown, working (6.3.7) */

static void put_virtio(struct buf *out, const struct acpi_virtio *v, uint32_t first_irq)
{
    size_t device = aml_open(out);
    size_t resources;
    char name[16];

    (void)snprintf(name, sizeof(name), "V%03u", (v->irq - first_irq) % 1000);
    aml_name_str(out, "_HID", "LNRO0005"); /* Linux: drivers/virtio/virtio_mmio.c */
    aml_name_int(out, "_UID", v->irq - first_irq);
    aml_name_int(out, "_CCA", 1); /* DMA is coherent */
    resources = aml_open(out);
    aml_memory32(out, (uint32_t)v->gpa.v, v->len);
    aml_interrupt(out, v->irq);
    aml_close_resources(out, resources);
    aml_close_device(out, device, name);
}

/* The generation's id is an address in a package, the clock a page of memory. */
static void put_generation(struct buf *out, const struct acpi_generation *generation)
{
    size_t device = aml_open(out);
    size_t resources;

    aml_name_str(out, "_HID", "VMGENCTR");
    aml_name_str(out, "_CID", "VM_Gen_Counter");
    aml_name_str(out, "_DDN", "VM_Gen_Counter");
    aml_name_pair(out, "ADDR", (uint32_t)generation->id.v, (uint32_t)(generation->id.v >> 32));
    aml_close_device(out, device, "VGEN");

    device = aml_open(out);
    aml_name_str(out, "_HID", "AMZNC10C");
    aml_name_str(out, "_CID", "VMCLOCK");
    aml_name_str(out, "_DDN", "VMCLOCK");
    resources = aml_open(out);
    aml_memory32(out, (uint32_t)generation->clock.v, BOOT_VMCLOCK_LEN);
    aml_close_resources(out, resources);
    aml_close_device(out, device, "VCLK");
}

/* The generic event device (5.6.9) turns an interrupt into a notification. */
static void put_events(struct buf *out, const struct acpi_generation *generation)
{
    size_t device = aml_open(out);
    size_t part;

    aml_name_str(out, "_HID", "ACPI0013");
    aml_name_int(out, "_UID", 0);
    part = aml_open(out);
    aml_interrupt(out, generation->id_irq);
    aml_interrupt(out, generation->clock_irq);
    aml_close_resources(out, part);
    part = aml_open(out);
    aml_notify_if_arg(out, generation->id_irq, "VGEN", NOTIFY_CHANGED);
    aml_notify_if_arg(out, generation->clock_irq, "VCLK", NOTIFY_CHANGED);
    aml_close_method(out, part, "_EVT", 1);
    aml_close_device(out, device, "GED_");
}

static void put_uart(struct buf *out, const struct acpi_config *config)
{
    size_t device = aml_open(out);
    size_t resources;

    aml_name_str(out, "_HID", "PNP0501"); /* 16550A-compatible COM port */
    aml_name_int(out, "_UID", 0);
    aml_name_str(out, "_DDN", "COM1");
    resources = aml_open(out);
    aml_io(out, config->uart_port, config->uart_len);
    aml_interrupt(out, config->uart_irq);
    aml_close_resources(out, resources);
    aml_close_device(out, device, "COM1");
}

/* Data and command registers are four ports apart. */
static void put_keyboard(struct buf *out, const struct acpi_config *config)
{
    size_t device = aml_open(out);
    size_t resources;

    aml_name_str(out, "_HID", "PNP0303"); /* 101/102-key keyboard */
    aml_name_int(out, "_STA", STATUS_ALL);
    resources = aml_open(out);
    aml_io(out, config->i8042_port, 1);
    aml_io(out, (uint16_t)(config->i8042_port + 4), 1);
    aml_interrupt(out, config->i8042_irq);
    aml_close_resources(out, resources);
    aml_close_device(out, device, "PS2_");
}

void acpi_put_devices(struct buf *out, const struct acpi_config *config)
{
    for (unsigned i = 0; i < config->virtio_count; i++) {
        put_virtio(out, &config->virtio[i], config->first_irq);
    }
    if (config->generation) {
        put_generation(out, config->generation);
        put_events(out, config->generation);
    }
    if (config->uart_len) {
        put_uart(out, config);
    }
    if (config->i8042_port) {
        put_keyboard(out, config);
    }
}
