/* op.h — decoded instructions in the form that runs: ops, blocks of them, links between blocks.
 *
 * Theory of operation.  A guest instruction becomes one to three ops.  An op is a handler and
 * operands that are resolved as far as they can be: registers as byte offsets into struct vcpu,
 * immediates extended, displacements with RIP folded in.  Handlers are specialised by operation,
 * size and operand kinds.  A simple handler goes straight to the next one (a tail call); one that
 * calls other code returns the next op to the loop in cache/run.c.  NULL leaves the block with
 * v->rip set.
 *
 * v->rip is not kept up to date within a block.  A handler that may raise calls op_sync() first, or
 * sits behind a soft TLB miss whose slow half does.
 *
 * Memory operands: [base + disp] or [base + index * scale + disp + segment base] in 64-bit mode.
 * What is not of this form (32-bit addresses, other modes) gets an op in front that leaves the
 * checked linear address in v->ea, which the main op then names as its base.
 *
 * Flags: each handler that defines arithmetic flags runs the host's own instruction and keeps
 * what LAHF and SETO give in v->aflags, so that undefined flags equal the host's.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "hv/soft/cpu/vcpu.h"
#include "hv/soft/isa/insn.h"
#include "hv/soft/mmu/mmu.h"

struct op;
typedef const struct op *(*op_fn)(struct vcpu *v, const struct op *op);

struct op {
    op_fn fn;
    uint64_t imm; /* immediate, constant, or pointer to a struct insn */
    int64_t disp;
    uint8_t dst, src;    /* operands: offsets into struct vcpu */
    uint8_t base, index; /* of the address: likewise; v->zero where there is none */
    uint8_t seg;         /* offset / 8 of the segment base to add */
    uint8_t shape;       /* bits 0-1: log2 of the scale; OP_STACK_SEG */
    uint8_t pc;          /* of the instruction, relative to the block */
    uint8_t len;         /* of the instruction */
};

#define OP_SHAPE_SCALE 0x03u
#define OP_STACK_SEG   0x80u /* address faults are #SS, not #GP */

/* Where a block goes when it ends: follows the last op in memory. */
struct block_link {
    const struct block *to; /* valid while gen is the vCPU's map_gen or, if near, code_gen */
    uint64_t gen;
    uint64_t rip;
    bool is_near; /* the op compares gen with code_gen */
};

/* Of block.look: behind its end, and other blocks in the same translation. */
enum { LOOK_TAKEN, LOOK_NOT_TAKEN, LOOK_PARTS, LOOK_COUNT };

enum { LOCKSTEP_UNKNOWN, LOCKSTEP_NO, LOCKSTEP_YES };

struct block {
    uint64_t rip;
    uint32_t mode_key; /* see below */
    uint16_t byte_count;
    uint8_t insn_count;
    bool is_dead;           /* its bytes were written: it only waits to be forgotten */
    bool is_crossing;       /* one instruction on two pages */
    uint32_t parts;         /* cache/sweep.c: memory that goes with it */
    const uint8_t *host;    /* the first byte, */
    const uint8_t *host2;   /* and the second page of a crossing one */
    gpa_t gpa, gpa2;        /* the same in the guest */
    const uint8_t *bytes;   /* those it was made from, if it may be translated */
    struct emit_code *code; /* emit/: translated, or NULL */
    op_fn first;            /* the handler that op[0] had before the tiers */
    uint32_t page_id;       /* names its page by address, memory and mode: see v->xtlb */
    uint32_t page_id2;      /* the same of the second page of a crossing one */
    uint16_t op_count;
    uint8_t heat;     /* runs until it is translated */
    uint8_t entered;  /* bits of enum emit_entry: how it has been reached */
    bool has_links;   /* the last two ops are links */
    uint8_t lockstep; /* cache/lockstep.c: may it be compared? */
    bool is_part;     /* of another block's translation, too, which refers to it */
    /* Offsets in its page of bytes that are not its own, on which the translation depends. */
    struct {
        uint16_t first, end;
    } look[LOOK_COUNT];
    struct block *hash_next;
    struct block *page_next[2]; /* lists of the code pages of gpa and gpa2 */
    struct op op[];
};

/* One entry of v->lookup: block by rip, valid if tag is the vCPU's rip_tag. */
struct block_slot {
    uint64_t rip, tag;
    const struct block *to;
    uint64_t unused;
};

/* How translated code enters a block: emit/emit.h. */
enum emit_entry { ENTRY_NEAR, ENTRY_BACK, ENTRY_FAR, ENTRY_INDIRECT, ENTRY_COUNT };

/* Bits of mode_key, beside enum cpu_mode. */
#define MODE_KEY_USER   0x08u
#define MODE_KEY_SINGLE 0x10u

#define BLOCK_SLOTS       8192u
#define BLOCK_SLOT_OF(pc) (((pc) ^ (pc) >> 13) & (BLOCK_SLOTS - 1))

static inline uint32_t block_mode_key(const struct vcpu *v)
{
    return v->mode | (v->cpl == 3 ? MODE_KEY_USER : 0);
}

/* v->map_gen and v->rip_tag for the present mode and privilege. */
static inline void block_new_tag(struct vcpu *v)
{
    v->map_gen = v->map_gens[v->cpl == 3];
    v->rip_tag = v->map_gen << 8 | block_mode_key(v);
}

#define LIKELY(x)   __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define OP_COLD     __attribute__((noinline, cold))

#define OP_HANDLER(name)                                                 \
    static const struct op *name(struct vcpu *v __attribute__((unused)), \
                                 const struct op *op __attribute__((unused)))

/* Tail calls need a compiler that makes them: room.mk defines OP_THREADED for optimised builds.
 * Elsewhere each handler returns to the loop, which is slower and the same otherwise. */
#ifdef OP_THREADED
#ifdef __clang__
#define OP_TAIL __attribute__((musttail))
#else
#define OP_TAIL
#endif
#define OP_GO(v, op) OP_TAIL return (op)->fn((v), (op))
#else
#define OP_TAIL
#define OP_GO(v, op) return (op)
#endif
#define OP_NEXT(v, op)                     \
    do {                                   \
        const struct op *next_ = (op) + 1; \
        OP_GO((v), next_);                 \
    } while (0)

/* --- registers by offset --- */

typedef uint8_t reg8_t;
typedef uint16_t __attribute__((may_alias)) reg16_t;
typedef uint32_t __attribute__((may_alias)) reg32_t;
typedef uint64_t __attribute__((may_alias)) reg64_t;

#define OP_FIELD(v, off, type) (*(type *)(void *)((char *)(v) + (off)))
#define R8(v, off)             OP_FIELD(v, off, reg8_t)
#define R16(v, off)            OP_FIELD(v, off, reg16_t)
#define R32(v, off)            OP_FIELD(v, off, reg32_t)
#define R64(v, off)            OP_FIELD(v, off, reg64_t)
/* Writes with the architecture's rule: 32 bits clear the upper half, fewer leave it. */
#define SET8(v, off, x)  (R8(v, off) = (uint8_t)(x))
#define SET16(v, off, x) (R16(v, off) = (uint16_t)(x))
#define SET32(v, off, x) (R64(v, off) = (uint32_t)(x))
#define SET64(v, off, x) (R64(v, off) = (uint64_t)(x))

#define OP_ZERO ((uint8_t)offsetof(struct vcpu, zero))
#define OP_EA   ((uint8_t)offsetof(struct vcpu, ea))

/* --- addresses --- */

static inline uint64_t op_la_base(struct vcpu *v, const struct op *op)
{
    return OP_FIELD(v, op->base, const reg64_t) + (uint64_t)op->disp;
}

static inline uint64_t op_la_full(struct vcpu *v, const struct op *op)
{
    return op_la_base(v, op) +
           (OP_FIELD(v, op->index, const reg64_t) << (op->shape & OP_SHAPE_SCALE)) +
           OP_FIELD(v, (unsigned)op->seg * 8u, const reg64_t);
}

static inline bool op_is_canonical(uint64_t la)
{
    return (uint64_t)((int64_t)(la << 16) >> 16) == la;
}

/* --- leaving --- */

static inline uint64_t op_rip(const struct vcpu *v, const struct op *op)
{
    return v->block->rip + op->pc;
}

static inline void op_sync(struct vcpu *v, const struct op *op)
{
    v->rip = op_rip(v, op);
}

static inline uint64_t op_next_rip(const struct vcpu *v, const struct op *op)
{
    uint64_t rip = op_rip(v, op) + op->len;

    return v->mode == MODE_LONG64 ? rip : (uint32_t)rip;
}

/* After an instruction that may have written code: the next op, or out if this block died. */
static inline const struct op *op_after_write(struct vcpu *v, const struct op *op)
{
    if (UNLIKELY(v->code_hit)) {
        v->rip = op_next_rip(v, op);
        return NULL;
    }
    return op + 1;
}

/* Accesses that missed the TLB or need a check: ea.c.  They set v->rip, check the address, and
 * raise or complete. */
uint64_t op_load_slow(struct vcpu *v, const struct op *op, uint64_t la, unsigned len);
void op_store_slow(struct vcpu *v, const struct op *op, uint64_t la, uint64_t value, unsigned len);
/* Canonical check (#GP or #SS) and write permission, before a read-modify-write. */
void op_check_write(struct vcpu *v, const struct op *op, uint64_t la, unsigned len);
void op_check_canonical(struct vcpu *v, const struct op *op, uint64_t la, unsigned len);

/* --- flags --- */

/* Bits of aflags: AH after LAHF in the upper byte, OF in bit 0. */
#define AF_OF 0x0001u
#define AF_CF 0x0100u
#define AF_PF 0x0400u
#define AF_AF 0x1000u
#define AF_ZF 0x4000u
#define AF_SF 0x8000u

/* After the instruction in an asm: flags into AX. Before it: AX into flags (clobbers AL). */
#define ASM_FLAGS_OUT "lahf; seto %%al"
#define ASM_FLAGS_IN  "addb $0x7f, %%al; sahf; "

/* Condition codes 0 to 15 (SDM volume 1, appendix B) of aflags `f`. */
#define COND_0(f)  ((f)&AF_OF)
#define COND_1(f)  (!((f)&AF_OF))
#define COND_2(f)  ((f)&AF_CF)
#define COND_3(f)  (!((f)&AF_CF))
#define COND_4(f)  ((f)&AF_ZF)
#define COND_5(f)  (!((f)&AF_ZF))
#define COND_6(f)  ((f) & (AF_ZF | AF_CF))
#define COND_7(f)  (!((f) & (AF_ZF | AF_CF)))
#define COND_8(f)  ((f)&AF_SF)
#define COND_9(f)  (!((f)&AF_SF))
#define COND_10(f) ((f)&AF_PF)
#define COND_11(f) (!((f)&AF_PF))
#define COND_12(f) (((f) >> 15 ^ (f)) & 1u)
#define COND_13(f) (!COND_12(f))
#define COND_14(f) (((f)&AF_ZF) || COND_12(f))
#define COND_15(f) (!COND_14(f))

/* Apply X(cc) to all of them. */
#define COND_ALL(X) \
    X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)

static inline bool op_cond(uint16_t f, unsigned cond)
{
    bool r = false;

    switch (cond >> 1) {
    case 0: r = f & AF_OF; break;
    case 1: r = f & AF_CF; break;
    case 2: r = f & AF_ZF; break;
    case 3: r = f & (AF_ZF | AF_CF); break;
    case 4: r = f & AF_SF; break;
    case 5: r = f & AF_PF; break;
    case 6: r = COND_12(f); break;
    case 7: r = COND_14(f); break;
    }
    return r != (cond & 1);
}
