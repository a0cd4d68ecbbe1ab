/* zeropage.h — Linux's boot_params: the page in which a boot loader says what it has done. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "boot/bzimage.h"

struct mem_map;

struct zeropage {
    const struct bzimage *setup;
    uint64_t initrd; /* physical; 0 without one */
    uint64_t initrd_len;
    uint64_t cmdline;   /* physical, NUL-terminated */
    uint64_t rsdp;      /* physical */
    bool is_randomized; /* the kernel is not at the linear address it was linked for */
};

/* Write the page to BOOT_ZERO_PAGE, with the memory map of `mem`. */
int zeropage_write(const struct zeropage *zp, struct mem_map *mem, struct err *err);
