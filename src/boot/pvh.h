/* pvh.h — PVH, Xen's boot protocol for 32-bit protected mode (Xen, docs/misc/pvh.pandoc).
 *
 * The kernel gets one address, in EBX: that of a start info (Xen, public/arch-x86/hvm/start_info.h)
 * at BOOT_PVH_INFO, which points to command line, modules and memory map.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"

struct mem_map;

struct pvh {
    uint64_t cmdline; /* physical, NUL-terminated */
    uint64_t initrd;  /* physical; 0 without one */
    uint64_t initrd_len;
};

/* Write start info, module list and memory map. */
int pvh_write(const struct pvh *pvh, struct mem_map *mem, struct err *err);
