/* xstate.c — sizes and offsets of XSAVE areas. */
#include "hv/soft/cpu/xstate.h"

#include "hv/soft/cpu/fpu.h"

#define LEGACY_AND_HEADER 576u

const struct xstate_part xstate_parts[XSTATE_COUNT] = {
    [2] = {FPU_YMM_HI, 256},
    [5] = {FPU_OPMASK, 64},
    [6] = {FPU_ZMM_HI, 512},
    [7] = {FPU_HI_ZMM, 1024},
};

uint32_t xstate_standard_size(const struct xstate_layout *x, uint64_t mask)
{
    uint32_t size = LEGACY_AND_HEADER;

    for (unsigned i = XSTATE_FIRST; i < XSTATE_COUNT; i++) {
        if (mask >> i & 1 && x->offset[i] + xstate_parts[i].size > size) {
            size = x->offset[i] + xstate_parts[i].size;
        }
    }
    return size;
}

uint32_t xstate_compact_offset(const struct xstate_layout *x, uint64_t mask, unsigned number)
{
    uint32_t at = LEGACY_AND_HEADER;

    for (unsigned i = XSTATE_FIRST; i <= number && i < XSTATE_COUNT; i++) {
        if (mask >> i & 1 && x->aligned >> i & 1) {
            at = (at + 63) & ~63u;
        }
        if (i < number && mask >> i & 1) {
            at += xstate_parts[i].size;
        }
    }
    return at;
}

uint32_t xstate_compact_size(const struct xstate_layout *x, uint64_t mask)
{
    return xstate_compact_offset(x, mask, XSTATE_COUNT);
}
