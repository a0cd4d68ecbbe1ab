/* lower.h — from decoded instructions to ops (op.h).
 *
 * ref_lower() appends the ops of one instruction.  cache/decode.c drives it, provides memory, and
 * closes the block with ref_lower_end() unless is_closed.
 */
#pragma once

#include "hv/soft/ref/op.h"

#define LOWER_OPS_MAX 8 /* per instruction, links included */

struct lower {
    const struct vcpu *v;
    uint64_t block_rip;
    uint64_t rip;      /* of the instruction */
    uint64_t next_rip; /* of the one after it */
    struct op *op;     /* where ops go: room for LOWER_OPS_MAX per instruction */
    unsigned count;
    bool is_end;         /* no further instruction in this block */
    bool is_closed;      /* it ended with a branch or a fault: nothing runs after the last op */
    bool has_links;      /* the last two ops are links */
    bool is_single;      /* the block must not be linked to others */
    uint64_t page_first; /* rip of the first byte of the block's page, */
    uint64_t page_last;  /* and of its last byte, for links that stay within */
    /* Memory that lives as long as the block, or NULL; not zeroed, aligned to 8. */
    void *(*alloc)(void *owner, size_t size);
    void *alloc_owner;
    bool is_out_of_memory;
};

/* Append `insn` at lw->rip; sets next_rip, is_end and is_closed. */
void ref_lower(struct lower *lw, const struct insn *insn);
/* An instruction that cannot be decoded: raises `vector` when executed. */
void ref_lower_fault(struct lower *lw, enum exc_vector vector);
/* Does an op with this handler only raise? */
bool ref_is_fault(op_fn fn);
/* The block ends here without a branch: go on at lw->next_rip. */
void ref_lower_end(struct lower *lw);
