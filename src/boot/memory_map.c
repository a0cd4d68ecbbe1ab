/* memory_map.c — what a kernel is told of its memory at boot. */
#include "boot/memory_map.h"

#include "boot/layout.h"
#include "mem/map.h"
#include "x86/e820.h"

static unsigned add(struct memory_entry out[MEMORY_MAP_MAX], unsigned count, uint64_t start,
                    uint64_t end, uint32_t type)
{
    if (start >= end || count == MEMORY_MAP_MAX) {
        return count;
    }
    out[count] = (struct memory_entry){.start = start, .len = end - start, .type = type};
    return count + 1;
}

/* All RAM, save what a PC has below 1 MiB: the BIOS's data, video memory and ROMs, where our tables
 * are.  Linux believes in MMCONFIG only where the map reserves it. */
unsigned memory_map_make(const struct mem_map *mem, struct memory_entry out[MEMORY_MAP_MAX])
{
    unsigned count = 0;

    for (unsigned i = 0; i < mem_range_count(mem); i++) {
        const struct mem_range *range = mem_range_at(mem, i);
        uint64_t start = range->gpa.v;
        uint64_t end = start + range->len;

        if (range->slots) {
            continue; /* comes later, by a device of its own */
        }
        if (start == 0) {
            count = add(out, count, 0, BOOT_LOW_RAM_END, E820_RAM);
            count = add(out, count, BOOT_LOW_RAM_END, BOOT_RSDP, E820_RESERVED);
            count =
                add(out, count, BOOT_MMCONFIG, BOOT_MMCONFIG + BOOT_MMCONFIG_LEN, E820_RESERVED);
            start = BOOT_LOW_END;
        }
        count = add(out, count, start, end, E820_RAM);
    }
    return count;
}
