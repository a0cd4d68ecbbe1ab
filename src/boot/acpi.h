/* acpi.h — the ACPI tables that tell Linux about our machine (ACPI specification 6.5).
 *
 * Hardware-reduced ACPI: no PM timer, no SCI, no PIC, no PIT; power off and reset are three I/O
 * ports.  RSDP, XSDT, FADT, MADT, MCFG and a DSDT with one `LNRO0005` device per virtio-mmio
 * device, COM1 and what the configuration names.  Where they lie is in boot/layout.h.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "mem/addr.h"

struct mem_map;

/* A virtio-mmio device; its interrupt is edge-triggered, active high. */
struct acpi_virtio {
    gpa_t gpa; /* [gpa, gpa + len) is below 4 GiB */
    uint32_t len;
    uint32_t irq; /* I/O APIC input */
};

/* A PCI host bridge with one bus. */
#define ACPI_PCI_WINDOWS 2
struct acpi_pci {
    gpa_t mmconfig; /* configuration space, below 4 GiB */
    uint32_t mmconfig_len;
    struct {
        gpa_t start;
        uint64_t len;            /* not 0 */
    } windows[ACPI_PCI_WINDOWS]; /* where BARs may lie */
};

/* The VM's generation: an id that changes when the VM is restored, and a page that says how its
 * clock was disrupted (machine/generation.h); both announced by the interrupt. */
struct acpi_generation {
    gpa_t id;
    uint32_t id_irq;
    gpa_t clock; /* below 4 GiB */
    uint32_t clock_irq;
};

struct acpi_config {
    unsigned vcpu_count; /* APIC ids are 0 to vcpu_count - 1 */
    const struct acpi_virtio *virtio;
    unsigned virtio_count;
    uint32_t first_irq;                       /* of virtio devices: counts their names */
    const struct acpi_generation *generation; /* NULL: none */
    gpa_t mmconfig;                           /* PCI configuration space of one bus; 0: none */
    const struct acpi_pci *pci;               /* NULL: none */
    /* COM1; len 0: there is none. */
    uint16_t uart_port;
    uint8_t uart_len;
    uint32_t uart_irq;
    /* A keyboard's controller; port 0: none is told of.  Costs Linux a probe. */
    uint16_t i8042_port;
    uint32_t i8042_irq;
    /* dev/chip/power.h is at this port: sleep control at +0, sleep status at +1, reset at +4.
     * 0: none. */
    uint16_t power_port;
    /* Tell the guest that there is a CMOS clock.  Costs Linux a probe; it takes its time from
     * kvm-clock anyway. */
    bool has_rtc;
};

/* Sleep type of S5 (power off), as the DSDT names it. */
#define ACPI_SLEEP_TYPE_S5 5

/* Write all tables.  -EFAULT: no RAM there, -ENOSPC: too many, -EINVAL: something in `config` does
 * not fit its field. */
int acpi_write(const struct acpi_config *config, struct mem_map *mem, struct err *err);
