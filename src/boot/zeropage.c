/* zeropage.c — Linux's boot_params.
 *
 * No EFI, no screen, no EDD: all that stays zero means "not there".
 */
#include "boot/zeropage.h"

#include <string.h>

#include "base/bits.h"
#include "boot/layout.h"
#include "boot/memory_map.h"
#include "mem/map.h"
#include "x86/bootparam.h"

static void fill_e820(uint8_t *page, const struct mem_map *mem)
{
    struct memory_entry map[MEMORY_MAP_MAX];
    unsigned count = memory_map_make(mem, map);

    for (unsigned i = 0; i < count; i++) {
        uint8_t *entry = page + BP_E820_TABLE + (size_t)i * BP_E820_ENTRY_LEN;

        store_le64(entry, map[i].start);
        store_le64(entry + 8, map[i].len);
        store_le32(entry + 16, map[i].type);
    }
    page[BP_E820_ENTRIES] = (uint8_t)count;
}

static void fill(uint8_t *page, const struct zeropage *zp, const struct mem_map *mem)
{
    memcpy(page + BP_HDR_START, zp->setup->setup, zp->setup->setup_len);
    page[BP_TYPE_OF_LOADER] = BP_LOADER_UNDEFINED;
    /* No heap of ours; what a kernel file says about that means its real-mode code. */
    page[BP_LOADFLAGS] = (uint8_t)(page[BP_LOADFLAGS] & ~BP_LOADFLAGS_CAN_USE_HEAP);
    page[BP_LOADFLAGS] = (uint8_t)(page[BP_LOADFLAGS] & ~BP_LOADFLAGS_KASLR);
    page[BP_LOADFLAGS] |= zp->is_randomized ? BP_LOADFLAGS_KASLR : 0;
    store_le32(page + BP_RAMDISK_IMAGE, (uint32_t)zp->initrd);
    store_le32(page + BP_RAMDISK_SIZE, (uint32_t)zp->initrd_len);
    store_le32(page + BP_EXT_RAMDISK_IMAGE, (uint32_t)(zp->initrd >> 32));
    store_le32(page + BP_EXT_RAMDISK_SIZE, (uint32_t)(zp->initrd_len >> 32));
    store_le32(page + BP_CMD_LINE_PTR, (uint32_t)zp->cmdline);
    store_le32(page + BP_EXT_CMD_LINE_PTR, (uint32_t)(zp->cmdline >> 32));
    store_le64(page + BP_ACPI_RSDP_ADDR, zp->rsdp);
    fill_e820(page, mem);
}

int zeropage_write(const struct zeropage *zp, struct mem_map *mem, struct err *err)
{
    uint8_t page[BP_LEN] = {0};
    int r;

    fill(page, zp, mem);
    r = mem_write(mem, GPA(BOOT_ZERO_PAGE), page, sizeof(page));
    return r < 0 ? err_set(err, r, "zero page: no memory at 0x%llx",
                           (unsigned long long)BOOT_ZERO_PAGE)
                 : 0;
}
