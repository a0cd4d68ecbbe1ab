/* kaslr.h — a kernel's move to another linear address, as its own decompressor would do it.
 *
 * Its physical address stays: programs in the guest do not see that one, and the kernel itself
 * randomizes where it maps physical memory once it is told that it was moved.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "boot/kernel.h"

struct mem_map;

/* Move what kernel_load() has put into memory.  1: it is at one of the places that it can be at,
 * which `random` chose; 0: it cannot be moved (no CONFIG_RANDOMIZE_BASE), or nobody knows how. */
int kaslr_move(const struct kernel *kernel, uint64_t random, struct mem_map *mem, struct err *err);
