/* boot.h — from a kernel file to the state of the first instruction.
 *
 * boot_load() fills guest memory as Linux's 64-bit boot protocol wants it, or PVH (boot/pvh.h)
 * (Documentation/arch/x86/boot.rst, "64-bit boot protocol"): kernel, initrd, command line, zero
 * page with memory map, ACPI tables, GDT and identity page tables; then says how the boot processor
 * begins.  Where things go is in boot/layout.h.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "boot/acpi.h"
#include "boot/kernel.h"
#include "hv/cpu_state.h"

struct mem_map;

/* A part of the initrd; Linux unpacks archives that follow each other, packed or not, in order. */
struct boot_part {
    const void *data;
    size_t len;
};

struct boot_config {
    struct mem_map *mem; /* low RAM begins at 0 and has at least 1 MiB */
    const struct kernel *kernel;
    const struct boot_part *initrd; /* put one behind the other, each on a multiple of 4 bytes */
    unsigned initrd_count;          /* 0: no initrd */
    const char *cmdline;
    const struct acpi_config *acpi;
    bool is_pvh;     /* enter where the ELF's note says, as PVH wants it; it must have one */
    uint64_t random; /* chooses the kernel's linear address, if that can be chosen (boot/kaslr.h) */
};

/* -ENOSPC: memory too small, -E2BIG: command line too long, -EINVAL: devices that ACPI cannot say.
 */
int boot_load(const struct boot_config *config, struct cpu_state *ret_state, struct err *err);
