/* xstate.h — the parts of the XSAVE area beyond FXSAVE's (SDM volume 1, 13.4): where v->xsave has
 * them, and where guests see them.
 *
 * v->xsave has fixed offsets (fpu.h).  Guests get those of the host's CPUID leaf 0DH, so that their
 * images mean the same on the host's own CPU; struct cpu_state follows them, too.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define XSTATE_FIRST 2 /* AVX */
#define XSTATE_COUNT 8 /* up to ZMM16 to 31 */

/* In the order of their bits in XCR0. */
struct xstate_part {
    uint16_t at;   /* in v->xsave */
    uint16_t size; /* 0: there is no such part */
};
extern const struct xstate_part xstate_parts[XSTATE_COUNT];

/* What a guest may use: computed with its CPUID. */
struct xstate_layout {
    uint64_t mask;                 /* all bits that XCR0 may have */
    uint32_t offset[XSTATE_COUNT]; /* in the standard format */
    uint64_t aligned;              /* parts that begin at multiples of 64 in the compact format */
};

/* Bytes of an area for the parts in `mask`, the 576 of the legacy part and the header included. */
uint32_t xstate_standard_size(const struct xstate_layout *x, uint64_t mask);
uint32_t xstate_compact_size(const struct xstate_layout *x, uint64_t mask);
/* Offset of part `number` in a compact area for `mask`. */
uint32_t xstate_compact_offset(const struct xstate_layout *x, uint64_t mask, unsigned number);
