/* acpi_devices.h — the devices of the DSDT, save the PCI bridge (acpi_pci.h); for acpi.c. */
#pragma once

#include "boot/acpi.h"

struct buf;

void acpi_put_devices(struct buf *out, const struct acpi_config *config);
