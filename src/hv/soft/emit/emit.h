/* emit.h — the second tier: host code for blocks that run often.
 *
 * Theory of operation.  The guest is the host's own instruction set.  A translated block holds the
 * guest's instructions encoded anew, with
 *
 *     guest rax rcx rdx rbx rbp rsi rdi r8 r9 r12 r13    in the host registers of the same name
 *     guest rsp                                          in r15
 *     guest r10 r11 r14 r15                              in v->gpr
 *     struct vcpu                                        in r14
 *     scratch                                            r10, r11
 *     the host's stack                                   rsp
 *
 * and with the soft TLB's comparison before each access.  Arithmetic flags are in EFLAGS while they
 * are needed and no comparison destroys them, else in v->aflags; at the end of a block always
 * there.
 *
 * Whatever is not the common case is left to the interpreter: an access that misses the TLB, an
 * instruction without a lowering, system instructions.  For that, the ops of the instruction are
 * run on the state in struct vcpu (emit_run()); so there is one implementation of everything that
 * can fault, and faults are as precise as the interpreter's.  Only arithmetic flags that a later
 * instruction of the same block overwrites before anything reads them may be out of date in the
 * frame of an exception.
 *
 * From block to block translated code uses the interpreter's own links and lookup table
 * (ref/op.h), under the same generations; so nothing has to be unlinked when blocks die.
 *
 * Emitted code touches guest RAM behind a TLB comparison, struct vcpu, blocks and links, and the
 * host's stack, nothing else.  It is written through one view of the memory and executed through
 * another.  Owner: the vCPU.
 */
#pragma once

#include "hv/soft/ref/op.h"

/* Memory that lives as long as the blocks (cache/). */
typedef void *(*emit_alloc_fn)(void *owner, size_t size);

/* v->emit; 0 or negative errno. */
int emit_init(struct vcpu *v);
void emit_fini(struct vcpu *v);
/* Forget all code: no block that refers to it is left. */
void emit_clear(struct vcpu *v);
bool emit_is_full(const struct vcpu *v);
/* Bytes of code, stubs included. */
size_t emit_code_bytes(const struct vcpu *v);

/* The `code` of a block that has none of its own: goes on in the interpreter. */
const void *emit_interpreter(const struct vcpu *v);
/* Make code for a block of 64-bit mode: sets b->code and b->body.  False if it is not worth it or
 * there is no memory; the block stays as it is. */
bool emit_block(struct vcpu *v, struct block *b, emit_alloc_fn alloc, void *alloc_owner);
/* Run from v->block, which has code and is counted, until a block is to be looked up (NULL) or
 * interpreted from an op on. */
const struct op *emit_enter(struct vcpu *v);
