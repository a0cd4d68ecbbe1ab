/* layout.h — where boot/ puts things below 1 MiB, each with its reason.
 *
 *   0x00500  GDT             above the real-mode vectors and the BIOS data area
 *   0x06000  PVH start info  with the module list behind it
 *   0x07000  zero page       in the first 64 KiB, which Linux reserves for good; PVH's memory map
 *   0x08ff0  stack           the entry code of old kernels pushes before it has its own
 *   0x09000  page tables     6 pages: one PML4, one PDPT, four PDs
 *   0x20000  command line    64 KiB
 *   0x9fc00  MP table        end of low RAM: where a PC's extended BIOS data area begins
 *   0xa0000  ACPI tables     as far as they reach
 *   0xde000  VM clock        a page (machine/generation.h)
 *   0xdfff0  VM generation   16 bytes
 *   0xe0000  RSDP            where kernels without acpi_rsdp_addr look for it
 *   0xffff0  reset vector    where a kernel jumps that wants the BIOS to reboot
 *
 * Linux copies zero page and command line before it uses any memory, and leaves the page tables as
 * soon as it has its own.
 */
#pragma once

#include "base/bits.h"

#define BOOT_GDT         UINT64_C(0x500)
#define BOOT_PVH_INFO    UINT64_C(0x6000)
#define BOOT_PVH_MODULES UINT64_C(0x6040)
#define BOOT_PVH_MEMORY  UINT64_C(0x7000)
#define BOOT_ZERO_PAGE   UINT64_C(0x7000)
#define BOOT_STACK       UINT64_C(0x8ff0)
#define BOOT_PAGE_TABLES UINT64_C(0x9000)
#define BOOT_CMDLINE     UINT64_C(0x20000)
#define BOOT_CMDLINE_LEN UINT64_C(0x10000)
#define BOOT_LOW_RAM_END UINT64_C(0x9fc00)
#define BOOT_MPTABLE     BOOT_LOW_RAM_END
#define BOOT_MPTABLE_LEN UINT64_C(0x400)
#define BOOT_ACPI        UINT64_C(0xa0000)
#define BOOT_VMCLOCK     UINT64_C(0xde000)
#define BOOT_VMCLOCK_LEN UINT32_C(0x1000)
#define BOOT_VMGENID     UINT64_C(0xdfff0)
#define BOOT_RSDP        UINT64_C(0xe0000)
#define BOOT_RESET       UINT64_C(0xffff0)
#define BOOT_LOW_END     UINT64_C(0x100000)
#define BOOT_ACPI_LEN    (BOOT_VMCLOCK - BOOT_ACPI)

/* Identity-mapped at entry: everything that boot/ places is below. */
#define BOOT_MAPPED (4 * GIB)

/* PCI configuration space: 256 buses of 1 MiB below the I/O APIC.  One is there. */
#define BOOT_MMCONFIG     UINT64_C(0xeec00000)
#define BOOT_MMCONFIG_LEN (256 * MIB)
