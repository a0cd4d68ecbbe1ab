/* mptable.h — the MultiProcessor tables (Intel specification 1.4), for kernels without ACPI. */
#pragma once

#include "base/err.h"

struct mem_map;

/* Write them to BOOT_MPTABLE.  -ENOSPC: more than 32 CPUs. */
int mptable_write(unsigned vcpu_count, struct mem_map *mem, struct err *err);
