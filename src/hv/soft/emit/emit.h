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
 *     a stack of calls, below 4 GiB                      rsp
 *
 * and with the soft TLB's comparison before each access.  Arithmetic flags are in EFLAGS while they
 * are needed and no comparison destroys them, else in v->aflags.
 *
 * Whatever is not the common case is left to the interpreter: an access that misses the TLB, an
 * instruction without a lowering, system instructions.  For that, the ops of the instruction are
 * run on the state in struct vcpu; so there is one implementation of everything that can fault,
 * and faults are as precise as the interpreter's.  Only arithmetic flags that are overwritten
 * before anything reads them may be out of date in the frame of an exception or interrupt.
 *
 * From block to block.  Direct branches are jumps that lead to code of their own at first, which
 * leaves and says which one it was (struct emit_site); emit_link() then patches the jump.  When a
 * block dies, emit_unlink() leads the jumps to it back to where they left.  A block belongs to one
 * linear address on one physical page at one privilege (mode_key), and page_id names the latter
 * three.  It is entered
 *
 *     near      from its own page: that page is mapped, for code of it runs.  Nothing is tested.
 *     back      the same backwards, or by a branch to itself: polls, so that each loop does.
 *     far       from another page: v->xtlb must hold page_id, that is, this page has been fetched
 *               from here since the translations last changed; polls.
 *     indirect  with T1 = target, by way of v->indirect, a table indexed by its low bits: the
 *               target must be this block's address; then as far.  There is a table for each
 *               privilege; code of one never runs at the other.
 *
 * A block that lies on two pages tests the second one, too, whatever way it is entered.
 *
 * So links and tables outlive changes of address spaces; they only clear the xTLB.
 *
 * Calls and returns.  A call pushes the return address in the guest and calls on the host, so that
 * the host predicts returns: it leaves a pair on the stack, the guest's address and the host's
 * place behind the call, which goes on to the block there.  A return compares its target with the
 * pair on top, and returns on the host if that is it; else it forgets all pairs and goes by the
 * table.  Pairs never hold anything up: whatever leaves for the run loop, or changes the privilege,
 * forgets them, so one that matches belongs to a call since which no translation of code has
 * changed.  The stack cannot overflow: polls compare rsp with a word whose upper half is v->poll
 * and whose lower half is the limit.  C code runs on the thread's own stack.
 *
 * Flags from block to block.  Which flags a block reads before it writes them is known to the block
 * only, so the branch to it does not save them.  It states (emit_site.is_saved) whether they are in
 * EFLAGS or in v->aflags, and enters where that is expected; indirect branches always have them in
 * v->aflags.  A block that reads no flags has one set of entries, whose tests destroy EFLAGS.  The
 * body of one that does expects them in EFLAGS, or in v->aflags if it would save them first thing
 * (enum flags_in), and has entries that keep, save or fetch them.  Whatever leaves to C leaves them
 * in v->aflags, unless they are dead.
 *
 * Emitted code touches guest RAM behind a TLB comparison, struct vcpu, blocks and links, and its
 * stack, nothing else.  It is written through one view of the memory and executed through
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
/* Is code verified before it runs (verify.h)? */
bool emit_is_verified(const struct vcpu *v);
/* Bytes of code, stubs included. */
size_t emit_code_bytes(const struct vcpu *v);

/* Make code for a block of 64-bit mode: sets b->code, b->look.  False if it is not worth it or
 * there is no memory; the block stays as it is. */
bool emit_block(struct vcpu *v, struct block *b, emit_alloc_fn alloc, void *alloc_owner);
/* Run b, which has code, until a block is to be looked up (NULL; v->rip is set, v->site or
 * v->has_missed may say how it was left) or interpreted from an op on. */
const struct op *emit_enter(struct vcpu *v, const struct block *b);

/* The same from v->rip, if indirect branches have been there; else nothing happens. */
const struct op *emit_continue(struct vcpu *v);

/* Translated code was left for b, as v->site or v->has_missed say: if b has code, go there directly
 * next time. */
void emit_arrive(struct vcpu *v, struct block *b);
/* Translated code was left by a branch: are arithmetic flags as after it?  Else they may be dead.
 */
bool emit_flags_are_left(const struct vcpu *v);
/* b is about to die: nothing leads to its code afterwards. */
void emit_unlink(struct vcpu *v, struct block *b);
/* Take an entry out of the table of indirect branches. */
void emit_forget_slot(struct vcpu *v, enum tlb_priv priv, unsigned slot);
/* An indirect branch left for v->rip, which is not canonical: v->rip and rsp are those of the
 * branch again. */
void emit_undo_branch(struct vcpu *v);
