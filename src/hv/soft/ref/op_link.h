/* op_link.h — how a handler goes to the next block: the ends of op_branch.c and op_fuse.c. */
#pragma once

#include "hv/soft/ref/op.h"

/* The links behind an op: they are written when they are resolved, the ops around them are not. */
static inline struct block_link *links_of(const struct op *op)
{
    return (struct block_link *)(uintptr_t)(op + 1);
}

#define ENTER_BLOCK(v, b)                   \
    do {                                    \
        const struct block *b_ = (b);       \
        (v)->block = b_;                    \
        (v)->stats.insns += b_->insn_count; \
        (v)->stats.runs++;                  \
        OP_GO((v), b_->op);                 \
    } while (0)

#define FOLLOW(v, link_, gen_)                            \
    do {                                                  \
        struct block_link *l_ = (link_);                  \
        if (LIKELY(l_->gen == (gen_) && !vcpu_poll(v))) { \
            ENTER_BLOCK((v), l_->to);                     \
        }                                                 \
        (v)->rip = l_->rip;                               \
        (v)->link = l_;                                   \
        return NULL;                                      \
    } while (0)

#define JUMP_TO(v, target)                                                       \
    do {                                                                         \
        uint64_t t_ = (target);                                                  \
        const struct block_slot *s_ = &(v)->lookup[BLOCK_SLOT_OF(t_)];           \
        if (LIKELY(s_->rip == t_ && s_->tag == (v)->rip_tag && !vcpu_poll(v))) { \
            ENTER_BLOCK((v), s_->to);                                            \
        }                                                                        \
        (v)->rip = t_;                                                           \
        (v)->link = NULL;                                                        \
        return NULL;                                                             \
    } while (0)
