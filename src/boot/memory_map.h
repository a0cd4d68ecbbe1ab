/* memory_map.h — what a kernel is told of its memory at boot. */
#pragma once

#include <stdint.h>

#include "x86/bootparam.h"

#define MEMORY_MAP_MAX BP_E820_MAX

struct mem_map;

struct memory_entry {
    uint64_t start;
    uint64_t len;
    uint32_t type; /* x86/e820.h */
};

/* Ascending is not promised.  Returns how many there are. */
unsigned memory_map_make(const struct mem_map *mem, struct memory_entry out[MEMORY_MAP_MAX]);
