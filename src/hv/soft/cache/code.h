/* code.h — the decoded-block cache of one vCPU, and the loop that runs blocks.
 *
 * Contract with the engine's run loop (all on the vCPU's thread):
 *
 *     for (;;) {
 *         if (_setjmp(v->unwind)) { deliver v->exc with ref_deliver_exception() under a second
 *                                   _setjmp; continue; }
 *         serve v->poll (clear the bits first), hand POLL_SMC pages to code_cache_external_write();
 *         deliver an NMI or interrupt if one is deliverable: the shadow is over whenever code_run()
 *         has returned, so only IF, NMI blocking and priority decide;
 *         if (halted and nothing woke it) wait, else code_run(v);
 *     }
 *
 * code_run() executes until, at an instruction boundary,
 *   - v->poll != 0 (looked at before the first instruction and at every block end), or
 *   - v->halted, v->triple_fault or v->broken is set, or
 *   - RFLAGS.IF is set and v->irq_held, which the caller sets when it clears POLL_IRQ while
 *     interrupts are disabled, or NMIs became unblocked: it must look for a pending event again.
 * It never returns inside an interrupt shadow: after STI or MOV SS it executes the next instruction
 * first, whatever poll says.  A guest exception leaves it through v->unwind with v->rip at the
 * faulting instruction (traps: at the next one) and v->shadow cleared.
 * Single-stepping (RFLAGS.TF) happens inside: #DB is raised after each instruction.
 *
 * Owner: the vCPU; nothing here may be touched by other threads.
 */
#pragma once

#include <stdint.h>

#include "hv/soft/cpu/vcpu.h"

/* Allocate v->code, v->lookup and v->native.  0 or -ENOMEM.  After mmu_init(). */
int code_cache_init(struct vcpu *v);
void code_cache_fini(struct vcpu *v);

void code_run(struct vcpu *v);

/* Execute exactly one instruction (one iteration of a repeated string instruction if TF is set),
 * without looking at poll.  Raises like code_run(); does not raise the single-step trap. */
void code_step(struct vcpu *v);

/* The same for the debugger: raises the single-step trap, too, if the guest has set TF. */
void code_step_traced(struct vcpu *v);

/* A breakpoint of v->debug has come or gone: blocks that contain it are forgotten.  While the vCPU
 * does not run. */
void code_break_changed(struct vcpu *v, const struct hv_break *b);

/* Another thread (a device, another vCPU) wrote [gpa, gpa+len), which may touch decoded pages: drop
 * the blocks made from those bytes.  Called by the owner when it serves POLL_SMC. */
void code_cache_external_write(struct vcpu *v, gpa_t gpa, uint64_t len);

/* Another vCPU has begun to decode code from this page: from now on, writes to it must be told. */
void code_cache_page_shared(struct vcpu *v, gpa_t page);

/* Forget every block: the whole state or memory was replaced. */
void code_cache_clear(struct vcpu *v);

/* Are translations to be compared with the interpreter (EC1_SOFT_LOCKSTEP)?  That is for VMs of one
 * vCPU: memory is rolled back in between. */
bool code_lockstep_is_wanted(void);

/* What is in use now. */
struct code_usage {
    uint64_t block_bytes; /* decoded blocks */
    uint64_t code_bytes;  /* translated code */
};
void code_cache_usage(const struct vcpu *v, struct code_usage *ret_usage);
