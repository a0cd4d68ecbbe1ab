/* native_int.h — what native.c and native_avx.c share: sites, memory operands, floating point. */
#pragma once

#include "base/bits.h"
#include "hv/soft/cpu/fpu.h"
#include "hv/soft/ref/lower_int.h"
#include "hv/soft/ref/native_stub.h"

/* What a handler needs to know; lives with the block. */
struct native_site {
    native_fn fn;
    uint8_t size;     /* of the memory operand; 0: none */
    uint8_t align;    /* misaligned: #GP(0) */
    uint8_t low_bits; /* of the address that must be 0 to run on guest RAM itself */
    bool is_store;
    bool is_mmx;
    bool is_float;   /* uses MXCSR */
    bool is_waiting; /* raises a pending x87 exception */
    bool is_control; /* does not touch the x87 instruction pointer */
    uint16_t fop;
    uint8_t undo_gpr;  /* offset of a general register that is written */
    uint8_t undo_xmm;  /* number of a vector register that is written */
    uint8_t undo_mask; /* number of a mask that is written; class AVX, which has `insn`, too */
    const struct insn *insn;
};

struct native_mem {
    uint64_t la;
    uint8_t bounce[64] __attribute__((aligned(64)));
};

static inline const struct native_site *site_of(const struct op *op)
{
    return (const struct native_site *)(uintptr_t)op->imm;
}

/* Guest RAM itself if it is at hand, else NULL. */
static inline void *native_mem_fast(struct vcpu *v, const struct op *op,
                                    const struct native_site *s, enum tlb_access access)
{
    uint64_t la = op_la_full(v, op);
    void *p = mmu_hit(v, access, la, s->size);

    return LIKELY(!(la & s->low_bits)) ? p : NULL;
}

/* The checks of the operand at m->la, and where to run: guest RAM, or m->bounce, filled. */
void *native_mem_slow(struct vcpu *v, const struct op *op, const struct native_site *s,
                      struct native_mem *m);

/* After the instruction ran on p. */
static inline const struct op *native_mem_end(struct vcpu *v, const struct op *op,
                                              const struct native_site *s,
                                              const struct native_mem *m, const void *p)
{
    if (UNLIKELY(s->is_store && p == m->bounce)) {
        mmu_write(v, m->la, m->bounce, s->size);
        return op_after_write(v, op);
    }
    return op + 1;
}

/* Run s->fn on p; raises #XM after taking its result back. */
void native_run_float(struct vcpu *v, const struct op *op, const struct native_site *s, void *p);

/* MASKMOVQ, MASKMOVDQU, VMASKMOVDQU */
enum ref_result native_mask_move(struct vcpu *v, const struct insn *insn);
