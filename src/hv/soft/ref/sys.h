/* sys.h — what the files of the system instructions share.
 *
 * Frames here may be left by longjmp (vcpu_raise); they hold no resources.  Each instruction reads
 * and checks everything before it changes anything.
 */
#pragma once

#include "hv/soft/cpu/regs.h"
#include "hv/soft/cpu/segments.h"
#include "hv/soft/ref/ref.h"
#include "x86/cr.h"

typedef enum ref_result (*sys_fn)(struct vcpu *v, const struct insn *insn);

/* The instructions, by file. */
#define SYS_DECLARE(name) enum ref_result name(struct vcpu *v, const struct insn *insn);
/* sys_call.c */
SYS_DECLARE(sys_syscall)
SYS_DECLARE(sys_sysret)
SYS_DECLARE(sys_sysenter)
SYS_DECLARE(sys_sysexit)
SYS_DECLARE(sys_swapgs)
SYS_DECLARE(sys_int)
SYS_DECLARE(sys_vmcall)
/* sys_flags.c */
SYS_DECLARE(sys_pushf)
SYS_DECLARE(sys_popf)
SYS_DECLARE(sys_cli)
SYS_DECLARE(sys_sti)
SYS_DECLARE(sys_ac)
SYS_DECLARE(sys_hlt)
/* sys_iret.c */
SYS_DECLARE(sys_iret)
/* sys_far.c */
SYS_DECLARE(sys_jmp_far)
SYS_DECLARE(sys_call_far)
SYS_DECLARE(sys_retf)
/* segload.c */
SYS_DECLARE(sys_push_sreg)
SYS_DECLARE(sys_pop_sreg)
SYS_DECLARE(sys_mov_to_sreg)
SYS_DECLARE(sys_mov_from_sreg)
SYS_DECLARE(sys_load_far_pointer)
/* sys_cr.c */
SYS_DECLARE(sys_mov_to_cr)
SYS_DECLARE(sys_mov_from_cr)
SYS_DECLARE(sys_mov_to_dr)
SYS_DECLARE(sys_mov_from_dr)
SYS_DECLARE(sys_clts)
SYS_DECLARE(sys_lmsw)
SYS_DECLARE(sys_smsw)
SYS_DECLARE(sys_xgetbv)
SYS_DECLARE(sys_xsetbv)
/* sys_desc.c */
SYS_DECLARE(sys_load_table)
SYS_DECLARE(sys_store_table)
SYS_DECLARE(sys_lldt)
SYS_DECLARE(sys_ltr)
SYS_DECLARE(sys_store_selector)
SYS_DECLARE(sys_lar_lsl)
SYS_DECLARE(sys_verr_verw)
SYS_DECLARE(sys_arpl)
/* sys_tlb.c */
SYS_DECLARE(sys_invlpg)
SYS_DECLARE(sys_cache_flush)
/* sys_msr.c */
SYS_DECLARE(sys_rdmsr)
SYS_DECLARE(sys_wrmsr)
SYS_DECLARE(sys_rdtsc)
SYS_DECLARE(sys_rdpmc)
SYS_DECLARE(sys_cpuid)
SYS_DECLARE(sys_fsgsbase)
SYS_DECLARE(sys_rdpid)
/* sys_io.c */
SYS_DECLARE(sys_in)
SYS_DECLARE(sys_out)
/* sys_xstate.c */
SYS_DECLARE(sys_xsave)
SYS_DECLARE(sys_xrstor)
#undef SYS_DECLARE

/* #GP(0) unless at CPL 0. */
static inline void sys_need_cpl0(struct vcpu *v)
{
    if (v->cpl != 0) {
        vcpu_raise_error(v, EXC_GP, 0);
    }
}

_Noreturn static inline void sys_gp(struct vcpu *v, uint32_t error)
{
    vcpu_raise_error(v, EXC_GP, error);
}

/* Register or memory operand; writes of 4 bytes clear the upper half of a register.  sys_table.c */
uint64_t sys_operand_read(struct vcpu *v, const struct insn *insn, unsigned index);
void sys_operand_write(struct vcpu *v, const struct insn *insn, unsigned index, uint64_t value);

/* Read `size` bytes at rsp + offset, rsp unchanged; raises like a pop. */
uint64_t sys_stack_peek(struct vcpu *v, uint64_t offset, unsigned size);
/* Make sure that `bytes` can be pushed. */
void sys_stack_room(struct vcpu *v, unsigned bytes);
/* rsp += bytes, at the stack's width. */
void sys_stack_drop(struct vcpu *v, uint64_t bytes);

/* Apply what regs.h's writers ask for. */
void sys_apply(struct vcpu *v, unsigned effects);

/* --- descriptors: segload.c --- */

#define SYS_SELECTOR(sel) ((uint32_t)(sel)&0xfffcu) /* as error codes have it */

/* Read the 8-byte descriptor; false if the selector is outside its table. */
bool sys_descriptor(struct vcpu *v, uint16_t selector, uint64_t *ret_descriptor);
/* Where it is, for writing it back. */
uint64_t sys_descriptor_la(const struct vcpu *v, uint16_t selector);
/* Upper half of a 16-byte system descriptor in long mode. */
bool sys_descriptor_high(struct vcpu *v, uint16_t selector, uint64_t *ret_high);
/* Set the accessed bit in memory if it is not yet. */
void sys_set_accessed(struct vcpu *v, uint16_t selector, struct cpu_segment *segment);

/* A checked target of a far transfer: nothing is loaded yet. */
struct sys_target {
    struct cpu_segment cs;
    uint64_t rip;
};
/* Does rip lie in cs?  #GP(0) if not. */
void sys_check_rip(struct vcpu *v, const struct sys_target *target);
/* Take it: CS, rip, privilege, mode. */
void sys_enter(struct vcpu *v, const struct sys_target *target, unsigned cpl);
/* CS for a return to `selector` (RETF, IRET): privilege of the new code is selector's RPL. */
void sys_return_code(struct vcpu *v, uint16_t selector, struct sys_target *ret_target);
/* SS for a return to privilege `cpl` under code `cs`. */
struct cpu_segment sys_return_stack(struct vcpu *v, uint16_t selector, unsigned cpl,
                                    const struct cpu_segment *cs);
/* After a return to less privilege: DS, ES, FS, GS that it may not have become null. */
void sys_drop_segments(struct vcpu *v);

/* CS and SS as SYSCALL and friends load them: flat, whatever the table says. */
struct cpu_segment sys_flat_code(uint16_t selector, unsigned dpl, bool is_64);
struct cpu_segment sys_flat_stack(uint16_t selector, unsigned dpl);

/* Flags that POPF or IRET may set with operand size `size` at this CPL: SDM volume 2, POPF. */
uint64_t sys_flags_mask(const struct vcpu *v, unsigned size);

/* INT1 through its gate, without the privilege check that INT n has: deliver.c. */
void sys_icebp(struct vcpu *v, uint64_t next_rip);

/* --- x87 and SSE areas: sys_xsave.c --- */

/* Address of an area of `len` bytes; #GP(0) if misaligned. */
uint64_t sys_aligned_ea(struct vcpu *v, const struct insn *insn, unsigned len, unsigned align,
                        bool is_write);
/* #GP(0) for reserved bits. */
void sys_need_mxcsr(struct vcpu *v, uint32_t value);
void sys_narrow_pointers(uint8_t *area);
void sys_settle_x87(struct vcpu *v);
/* Which parts are not in their initial state, as bits of XCR0: sys_xstate.c. */
uint64_t sys_xstate_in_use(const struct vcpu *v);

/* --- port I/O: sys_io.c --- */

/* May the current code access [port, port+len)?  #GP(0) if not (IOPL and the TSS bitmap). */
void sys_io_check(struct vcpu *v, uint16_t port, unsigned len);
uint32_t sys_io_in(struct vcpu *v, uint16_t port, unsigned len);
void sys_io_out(struct vcpu *v, uint16_t port, uint32_t value, unsigned len);
