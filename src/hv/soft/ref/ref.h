/* ref.h — what the parts of the reference interpreter offer each other.
 *
 * Every instruction has one implementation.  A system instruction is a function of this type: it
 * runs with v->rip at the instruction, raises or completes; on return, the caller sets rip to the
 * next instruction unless the function changed it and returned REF_JUMP.
 */
#pragma once

#include "hv/soft/cpu/vcpu.h"
#include "hv/soft/isa/insn.h"

enum ref_result {
    REF_NEXT, /* go on with the next instruction, unless translations of code have changed */
    REF_JUMP, /* v->rip is set; the block ends */
    REF_END,  /* next instruction, but the block ends: mode, tables or IF may have changed */
};

/* INSN_CLASS_SYSTEM and the far and privileged rest: sys_*.c.  One entry, switch on insn->op. */
enum ref_result ref_system(struct vcpu *v, const struct insn *insn);
/* INSN_CLASS_FPSTATE: sys_xsave.c. */
enum ref_result ref_fpstate(struct vcpu *v, const struct insn *insn);

/* Linear address of the memory operand: address-size wrap, segment base, and the canonical or limit
 * check for `len` bytes (#GP(0), or #SS(0) for SS).  ea.c. */
uint64_t ref_ea(struct vcpu *v, const struct insn *insn, unsigned len, bool is_write);
/* The offset alone (LEA). */
uint64_t ref_offset(const struct vcpu *v, const struct insn *insn);
/* Linear address of `offset` in segment `seg`, checked likewise. */
uint64_t ref_linear(struct vcpu *v, enum cpu_seg seg, uint64_t offset, unsigned len, bool is_write);
/* Push or pop at the current stack size (`size` bytes per slot); raises #SS / #PF before rsp
 * changes. */
void ref_push(struct vcpu *v, uint64_t value, unsigned size);
uint64_t ref_pop(struct vcpu *v, unsigned size);

/* Deliver v->exc, an external interrupt or an NMI through the IDT: deliver.c.  May itself raise,
 * which becomes a double fault in the run loop (ref_deliver_exception handles the classification).
 * Sets v->triple_fault when nothing can be delivered any more. */
void ref_deliver_exception(struct vcpu *v);
void ref_deliver_interrupt(struct vcpu *v, uint8_t vector);
void ref_deliver_nmi(struct vcpu *v);
/* INT n, INT3, INTO, INT1 as instructions; next_rip is the return address. */
void ref_int(struct vcpu *v, uint8_t vector, uint64_t next_rip);

/* Segment register load with all checks (MOV Sreg, POP Sreg, LxS, IRET, far transfers): segload.c.
 */
void ref_load_segment(struct vcpu *v, enum cpu_seg seg, uint16_t selector);
