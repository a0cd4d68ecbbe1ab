/* stats.h — what a vCPU of the software engine counts about itself, for `ec1 run --engine-stats`.
 *
 * To count something new: a line in one of the two lists, and `v->stats.name++` where it happens.
 * Written by the vCPU's own thread only.
 */
#pragma once

#include <stdint.h>

/* Always counted, for none of it is frequent. */
#define VCPU_STATS_LIST(X)                         \
    X(insns_decoded, "instructions decoded")       \
    X(blocks_decoded, "blocks decoded")            \
    X(insns_translated, "instructions translated") \
    X(blocks_translated, "blocks translated")      \
    X(links, "links between translated blocks")    \
    X(unlinked, "exits: branches not linked yet")  \
    X(indirect_misses, "exits: indirect branches") \
    X(cache_clears, "block cache clears")          \
    X(cache_sweeps, "block cache sweeps")          \
    X(blocks_swept, "blocks forgotten by sweeps")  \
    X(tlb_misses, "TLB misses")                    \
    X(page_walks, "page walks")                    \
    X(tlb_flushes, "TLB flushes")                  \
    X(exceptions, "exits: exceptions")             \
    X(interrupts, "exits: interrupts")             \
    X(mmio, "exits: device memory")                \
    X(pio, "exits: ports")                         \
    X(halts, "exits: halts")                       \
    X(smc_invalidations, "blocks dropped by code writes")

/* Counted at each block, and therefore only if v->count_runs, which is fixed before the first block
 * is decoded: translated code has no room for it otherwise. */
#define VCPU_RUN_STATS_LIST(X)   \
    X(insns, "instructions run") \
    X(runs, "blocks run")        \
    X(runs_translated, "blocks run, translated")

/* Only in lockstep (cache/lockstep.c). */
#define VCPU_LOCKSTEP_STATS_LIST(X)                    \
    X(lockstep_compared, "lockstep: runs compared")    \
    X(lockstep_skipped, "lockstep: runs not compared") \
    X(lockstep_repeated, "lockstep: runs repeated")

struct vcpu_stats {
#define X(name, text) uint64_t name;
    VCPU_STATS_LIST(X)
    VCPU_RUN_STATS_LIST(X)
    VCPU_LOCKSTEP_STATS_LIST(X)
#undef X
};
