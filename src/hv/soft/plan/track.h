/* track.h — what is known of the registers along straight code, and which memory it touches.
 *
 * Theory of operation.  A register's value is a root, an unknown number that was there at some
 * point, plus a constant.  PUSH, POP, LEA, ADD with a constant and copies keep the root; whatever
 * else writes a register gives it a new one.  Two accesses whose addresses have the same roots are
 * a known distance apart, however the registers moved in between: so one check can cover both.
 *
 * Nothing here knows of the host or of paging.  Linear addresses wrap at 64 bits, and so do the
 * distances.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "hv/cpu_state.h"
#include "hv/soft/isa/insn.h"

struct track_value {
    uint16_t root;
    int64_t offset;
};

struct track {
    struct track_value reg[GPR_COUNT];
    uint16_t last_root;
};

#define TRACK_NO_ROOT 0u

/* seg base + base + index * scale, each of them unknown, but for `offset`. */
struct track_address {
    uint8_t seg; /* SEG_FS, SEG_GS, or 0 */
    uint8_t scale;
    uint16_t base, index; /* roots or TRACK_NO_ROOT */
    int64_t offset;
};

struct track_access {
    struct track_address at;
    uint8_t len;
    bool is_write; /* or both */
};
#define TRACK_ACCESS_MAX 2u

/* Nothing is known: each register is its own root. */
void track_init(struct track *k);
/* The instruction ran. */
void track_step(struct track *k, const struct insn *insn);
/* May it change translations or privileges, so that a check before it says nothing behind it? */
bool track_is_barrier(const struct insn *insn);
/* Address of the memory operand (64-bit mode); false if it is not of this form. */
bool track_operand(const struct track *k, const struct insn *insn, struct track_address *ret_at);
/* A register + disp. */
struct track_address track_register(const struct track *k, unsigned reg, int64_t disp);
/* The plain accesses of an instruction, those to the stack included; returns how many. */
unsigned track_accesses(const struct track *k, const struct insn *insn,
                        struct track_access out[static TRACK_ACCESS_MAX]);

/* A known distance apart? */
static inline bool track_is_near(const struct track_address *a, const struct track_address *b)
{
    return a->seg == b->seg && a->scale == b->scale && a->base == b->base && a->index == b->index;
}
