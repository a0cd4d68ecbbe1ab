/* pvh.c — PVH, Xen's boot protocol for 32-bit protected mode. */
#include "boot/pvh.h"

#include <string.h>

#include "base/bits.h"
#include "boot/layout.h"
#include "boot/memory_map.h"
#include "mem/map.h"

#define PVH_MAGIC   0x336ec578u
#define PVH_VERSION 1 /* the first with a memory map */

struct start_info {
    uint32_t magic;
    uint32_t version;
    uint32_t flags;
    uint32_t module_count;
    uint64_t modules;
    uint64_t cmdline;
    uint64_t rsdp; /* 0: the kernel looks for it where a PC has it */
    uint64_t memory_map;
    uint32_t memory_count;
    uint32_t reserved;
};

struct module {
    uint64_t address;
    uint64_t len;
    uint64_t cmdline;
    uint64_t reserved;
};

struct memory {
    uint64_t address;
    uint64_t len;
    uint32_t type;
    uint32_t reserved;
};

_Static_assert(sizeof(struct start_info) == 56, "start info of version 1");
_Static_assert(BOOT_PVH_INFO + sizeof(struct start_info) <= BOOT_PVH_MODULES, "no overlap");
_Static_assert(sizeof(struct module) == 32, "module list entry");
_Static_assert(sizeof(struct memory) == 24, "memory map entry");
_Static_assert(BOOT_PVH_MEMORY + MEMORY_MAP_MAX * sizeof(struct memory) <= BOOT_STACK,
               "no overlap");

static int put(struct mem_map *mem, uint64_t at, const void *data, size_t len, struct err *err)
{
    int r = mem_write(mem, GPA(at), data, len);

    return r < 0 ? err_set(err, r, "PVH start info: no memory at 0x%llx", (unsigned long long)at)
                 : 0;
}

int pvh_write(const struct pvh *pvh, struct mem_map *mem, struct err *err)
{
    struct memory_entry map[MEMORY_MAP_MAX];
    struct memory memory[MEMORY_MAP_MAX] = {0};
    unsigned count = memory_map_make(mem, map);
    const struct module initrd = {.address = pvh->initrd, .len = pvh->initrd_len};
    const struct start_info info = {.magic = PVH_MAGIC,
                                    .version = PVH_VERSION,
                                    .module_count = pvh->initrd_len ? 1 : 0,
                                    .modules = pvh->initrd_len ? BOOT_PVH_MODULES : 0,
                                    .cmdline = pvh->cmdline,
                                    .memory_map = BOOT_PVH_MEMORY,
                                    .memory_count = count};
    int r;

    for (unsigned i = 0; i < count; i++) {
        memory[i] =
            (struct memory){.address = map[i].start, .len = map[i].len, .type = map[i].type};
    }
    if ((r = put(mem, BOOT_PVH_INFO, &info, sizeof(info), err)) < 0 ||
        (r = put(mem, BOOT_PVH_MODULES, &initrd, sizeof(initrd), err)) < 0) {
        return r;
    }
    return put(mem, BOOT_PVH_MEMORY, memory, count * sizeof(*memory), err);
}
