/* e820.h — types of memory in the BIOS memory map (ACPI 6.5, 15.4, table 15.5). */
#pragma once

#define E820_RAM      1
#define E820_RESERVED 2
#define E820_ACPI     3 /* tables: usable once read */
#define E820_NVS      4
