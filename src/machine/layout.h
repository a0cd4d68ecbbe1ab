/* layout.h — every address and interrupt line of our machine, each with its reason.
 *
 *   0           .. 3 GiB         RAM (less if the guest has less)
 *   3 GiB       .. 4 GiB         gap for devices, below the APICs where every PC has one
 *     0xc0000000                   boot timer
 *     0xc0001000 + n * 4 KiB       virtio-mmio device n
 *     0xfec00000                   I/O APIC (hv)
 *     0xfee00000                   local APICs (hv)
 *     0xeec00000                   PCI configuration space (MMCONFIG), 1 MiB for one bus
 *   4 GiB       ..               the rest of RAM
 *   256 GiB     .. 512 GiB       memory BARs of PCI devices
 *   512 GiB     .. 1 TiB         memory of devices (pmem)
 *
 * What lies inside low RAM at boot (zero page, command line, ACPI tables) is boot/'s.
 */
#pragma once

#include "base/bits.h"

#define LAYOUT_RAM_LOW_MAX    (3 * GIB)
#define LAYOUT_RAM_HIGH_START (4 * GIB)

/* Where guests that measure their boot expect it. */
#define LAYOUT_BOOT_TIMER UINT64_C(0xc0000000)

/* A page each, so that a guest could map one without seeing the next; where Firecracker has them,
 * so that its guests and command lines fit. */
#define LAYOUT_VIRTIO_START  UINT64_C(0xc0001000)
#define LAYOUT_VIRTIO_STRIDE UINT64_C(0x1000)
#define LAYOUT_VIRTIO_MAX    19u
/* Lines 0 to 4 belong to what a PC has there (timer, keyboard, cascade, COM2, COM1). */
#define LAYOUT_VIRTIO_IRQ 5u

/* Below the APICs, where Firecracker has it: 256 MiB are kept, one bus is there. */
#define LAYOUT_PCI_MMCONFIG UINT64_C(0xeec00000)
/* BARs: the guest may put them into either, we put all into the high one. */
#define LAYOUT_PCI_LOW_START  UINT64_C(0xc0001000)
#define LAYOUT_PCI_LOW_LEN    (LAYOUT_PCI_MMCONFIG - LAYOUT_PCI_LOW_START)
#define LAYOUT_PCI_HIGH_START (256 * GIB)
#define LAYOUT_PCI_HIGH_LEN   (256 * GIB)

/* Memory of devices, behind all RAM. */
#define LAYOUT_EXTRA_START (512 * GIB)
#define LAYOUT_EXTRA_LEN   (512 * GIB)
#define LAYOUT_EXTRA_ALIGN (2 * MIB)

/* COM1, where `console=ttyS0` and every early console look. */
#define LAYOUT_UART_PORT 0x3f8u
#define LAYOUT_UART_IRQ  4u
/* Keyboard controller: Linux's `reboot=k` pulses the CPU's reset line through it. */
#define LAYOUT_I8042_PORT 0x60u
#define LAYOUT_I8042_IRQ  1u
/* Real-time clock: index and data. */
#define LAYOUT_RTC_PORT 0x70u
/* Sleep control, sleep status and reset registers; the FADT tells the guest. */
#define LAYOUT_POWER_PORT 0x600u
