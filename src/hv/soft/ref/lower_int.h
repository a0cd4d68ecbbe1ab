/* lower_int.h — what the op_*.c files of this room share: emitting ops, picking handlers.
 *
 * Each op_<kind>.c holds handlers and the function that picks one for an instruction.
 */
#pragma once

#include "hv/soft/ref/lower.h"
#include "hv/soft/ref/ref.h"

/* Next op, zeroed, with pc and len of the instruction. */
struct op *lower_emit(struct lower *lw, op_fn fn);
/* A copy of `insn` that lives with the block. */
const struct insn *lower_keep(struct lower *lw, const struct insn *insn);
/* Offset into struct vcpu of a register operand. */
uint8_t lower_reg(const struct insn_operand *operand);

/* An address resolved into fields of an op. */
struct lower_ea {
    bool is_full; /* needs op_la_full, else op_la_base */
    int64_t disp;
    uint8_t base, index, seg, shape;
};

/* Resolve the memory operand; emits an op in front if the form needs it.  With `only_base`, the
 * result is never full. `len`: bytes accessed. */
struct lower_ea lower_mem(struct lower *lw, const struct insn *insn, unsigned len, bool only_base);
void lower_set_ea(struct op *op, const struct lower_ea *ea);

/* The address of a bit test whose index is in a register (op_bits.c). */
struct lower_ea lower_bt_ea(struct lower *lw, const struct insn *insn, unsigned size);

/* log2 of 1 2 4 8; 0 for no size. */
static inline unsigned lower_log2(unsigned size)
{
    return size ? (unsigned)__builtin_ctz(size) : 0;
}

/* 0, 1, 2 for 2, 4, 8: for tables of operations that have no form for bytes. */
static inline unsigned lower_wide(unsigned size)
{
    return size == 8 ? 2 : size == 4;
}

/* Run `fn` of this type as an op that returns to the loop: everything that is not worth a handler
 * of its own.  v->rip is at the instruction. */
typedef enum ref_result (*ref_insn_fn)(struct vcpu *v, const struct insn *insn);
void lower_call(struct lower *lw, const struct insn *insn, ref_insn_fn fn);

/* Emit `insn` if the file has a handler for it: false if it is none of its operations or forms. */
bool lower_alu(struct lower *lw, const struct insn *insn);
bool lower_mov(struct lower *lw, const struct insn *insn);
bool lower_shift(struct lower *lw, const struct insn *insn);
bool lower_bits(struct lower *lw, const struct insn *insn);
bool lower_bmi(struct lower *lw, const struct insn *insn);
bool lower_muldiv(struct lower *lw, const struct insn *insn);
bool lower_stack(struct lower *lw, const struct insn *insn);
bool lower_branch(struct lower *lw, const struct insn *insn);
/* Make one op of the last one, if it compares registers, and a near JCC: true if it did. */
bool lower_fuse(struct lower *lw, unsigned cond);
/* The handler of a compare or test of registers or with an immediate; size as log2 (op_alu.c). */
op_fn alu_compare_handler(bool is_test, unsigned size, bool is_imm);
bool lower_atomic(struct lower *lw, const struct insn *insn);
bool lower_string(struct lower *lw, const struct insn *insn);
bool lower_rare(struct lower *lw, const struct insn *insn);
bool lower_native(struct lower *lw, const struct insn *insn);
/* All of class AVX (native_avx.c). */
void lower_avx(struct lower *lw, const struct insn *insn);

/* Operand `index`, register, memory or immediate, by struct insn: for the rare ones (ea.c). */
uint64_t ref_operand_read(struct vcpu *v, const struct insn *insn, unsigned index);
void ref_operand_write(struct vcpu *v, const struct insn *insn, unsigned index, uint64_t value);
