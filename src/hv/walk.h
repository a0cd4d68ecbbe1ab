/* walk.h — guest page tables as a debugger reads them: what is mapped where, whoever may access it.
 */
#pragma once

#include <stdint.h>

#include "mem/addr.h"

struct cpu_state;
struct mem_map;

/* The registers that say how a CPU translates. */
struct walk_root {
    uint64_t cr0, cr3, cr4, efer;
};

struct walk_root walk_root_of(const struct cpu_state *cpu);

/* The guest physical address of a linear one.  Permissions do not count, nothing is changed.
 * -EFAULT: not mapped. */
int walk_linear(const struct mem_map *mem, const struct walk_root *root, uint64_t la,
                gpa_t *ret_gpa);
