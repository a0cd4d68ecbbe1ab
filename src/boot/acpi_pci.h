/* acpi_pci.h — the PCI host bridge as the DSDT describes it. */
#pragma once

#include "base/buf.h"
#include "boot/acpi.h"

/* PC00, one bus without interrupt lines, and PNP0C02, which keeps MMCONFIG for it. */
void acpi_put_pci(struct buf *out, const struct acpi_pci *pci);
