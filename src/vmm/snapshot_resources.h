/* snapshot_resources.h — what a microVM was configured with, in a snapshot. */
#pragma once

#include "vmm/microvm.h"

struct state;

/* Both ways; when loading, *res is empty before. */
void snapshot_resources_fields(struct microvm_resources *res, bool *has_pci, struct state *s);
