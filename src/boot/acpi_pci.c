/* acpi_pci.c — see acpi_pci.h. */
#include "boot/acpi_pci.h"

#include "boot/aml.h"

#define CONFIG_PORT     0xcf8
#define CONFIG_PORT_LEN 8

/* Linux takes MMCONFIG only where a motherboard resource or the memory map reserves it. */
static void put_reservation(struct buf *out, const struct acpi_pci *pci)
{
    size_t device = aml_open(out);
    size_t resources;

    aml_name_str(out, "_HID", "PNP0C02");
    aml_name_int(out, "_UID", 0);
    resources = aml_open(out);
    aml_memory32(out, (uint32_t)pci->mmconfig.v, pci->mmconfig_len);
    aml_close_resources(out, resources);
    aml_close_device(out, device, "MBRD");
}

void acpi_put_pci(struct buf *out, const struct acpi_pci *pci)
{
    size_t device = aml_open(out);
    size_t resources;

    aml_name_str(out, "_HID", "PNP0A08"); /* PCI Express root bridge */
    aml_name_str(out, "_CID", "PNP0A03"); /* PCI root bridge */
    aml_name_int(out, "_ADR", 0);
    aml_name_int(out, "_SEG", 0);
    aml_name_int(out, "_UID", 0);
    aml_name_int(out, "_CCA", 1); /* DMA is coherent */
    resources = aml_open(out);
    aml_bus_range(out, 0, 0);
    aml_io(out, CONFIG_PORT, CONFIG_PORT_LEN);
    for (unsigned i = 0; i < ACPI_PCI_WINDOWS; i++) {
        aml_memory_window(out, pci->windows[i].start.v, pci->windows[i].len);
    }
    aml_close_resources(out, resources);
    aml_close_device(out, device, "PC00");
    put_reservation(out, pci);
}
