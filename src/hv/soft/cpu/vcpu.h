/* vcpu.h — the state of one software-engine vCPU, and the few calls that cross rooms of hv/soft.
 *
 * Threads: a vCPU belongs to the thread that runs it.  Only `poll` is touched by others.
 *
 * Guest exceptions.  Code that runs on behalf of a guest instruction raises an exception with
 * vcpu_raise(), which does not return: it leaves through `unwind` (_longjmp) to the run loop, which
 * delivers the event.  An instruction therefore checks and computes everything that can fail before
 * it changes architectural state; `rip` is still that of the instruction when it raises.  No
 * cleanup attributes in frames that can be left this way.
 *
 * Who owns which part: the comments below name the room that writes each group.
 */
#pragma once

#include <setjmp.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hv/cpu_state.h"
#include "hv/hv_debug.h"
#include "hv/soft/cpu/stats.h"
#include "mem/addr.h"

struct mem_map;
struct vcpu;

/* Exception vectors: SDM volume 3, table 6-1. */
enum exc_vector {
    EXC_DE = 0,
    EXC_DB = 1,
    EXC_NMI = 2,
    EXC_BP = 3,
    EXC_OF = 4,
    EXC_BR = 5,
    EXC_UD = 6,
    EXC_NM = 7,
    EXC_DF = 8,
    EXC_TS = 10,
    EXC_NP = 11,
    EXC_SS = 12,
    EXC_GP = 13,
    EXC_PF = 14,
    EXC_MF = 16,
    EXC_AC = 17,
    EXC_MC = 18,
    EXC_XM = 19,
    /* Nothing of the guest's: to the run loop, which stops for the debugger, or has the instruction
     * run again by itself because it is going to access watched memory. */
    EXC_DEBUG_BREAK = 254,
    EXC_DEBUG_RERUN = 255,
};

/* RFLAGS bits: SDM volume 1, figure 3-8. */
#define FLAG_CF     0x000001u
#define FLAG_1      0x000002u
#define FLAG_PF     0x000004u
#define FLAG_AF     0x000010u
#define FLAG_ZF     0x000040u
#define FLAG_SF     0x000080u
#define FLAG_TF     0x000100u
#define FLAG_IF     0x000200u
#define FLAG_DF     0x000400u
#define FLAG_OF     0x000800u
#define FLAG_IOPL   0x003000u
#define FLAG_NT     0x004000u
#define FLAG_RF     0x010000u
#define FLAG_VM     0x020000u
#define FLAG_AC     0x040000u
#define FLAG_VIF    0x080000u
#define FLAG_VIP    0x100000u
#define FLAG_ID     0x200000u
#define FLAGS_ARITH (FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF)

/* Bits of `poll`: why the run loop must look up.  Any thread sets, the owner clears. */
#define POLL_IRQ    0x01u /* the local APIC may have an interrupt to deliver */
#define POLL_NMI    0x02u
#define POLL_INIT   0x04u
#define POLL_SIPI   0x08u
#define POLL_KICK   0x10u
#define POLL_SMC    0x20u /* another thread wrote to a page with decoded code */
#define POLL_STOP   0x40u /* the run loop shall return: triple fault, broken */
#define POLL_UNHALT 0x80u /* another vCPU asked to end the HLT of this one, or else its next */

/* Execution mode, derived from CR0, EFER, CS and RFLAGS.VM by vcpu_update_mode(). */
enum cpu_mode { MODE_REAL, MODE_PROT16, MODE_PROT32, MODE_COMPAT16, MODE_COMPAT32, MODE_LONG64 };

/* Soft TLB (mmu/).  Tag compare as in the design: entry matches when page == la & ~0xfff.  An
 * unusable entry holds a tag that no address selecting its slot can have.  `host` is the page's
 * host address. */
/* Physical address width of every VM of this engine (CPUID 8000_0008H, EAX 7:0). */
#define CPU_PHYS_BITS 46

#define TLB_SLOTS 4096u
struct tlb_entry {
    uint64_t page;
    uint64_t host;
};

enum tlb_access { TLB_READ, TLB_WRITE, TLB_EXEC, TLB_ACCESS_COUNT };
enum tlb_priv { TLB_SUPERVISOR, TLB_USER, TLB_PRIV_COUNT };

struct tlb_set {
    struct tlb_entry slot[TLB_ACCESS_COUNT][TLB_SLOTS];
};

/* The page around the stack pointer: a copy of an entry of the write table, one per privilege, for
 * translated code (emit/window.c fills it, mmu/ drops it).  An access of up to (8 << i) bytes is
 * within if address + neg_page < limit[i]; its host address is address + delta.  No window: limits
 * of 0. */
#define STACK_WINDOW_LIMITS 8u
struct stack_window {
    uint64_t neg_page;
    uint64_t delta;
    uint64_t limit[STACK_WINDOW_LIMITS];
};
#define GROUP_MAX 8u /* groups of accesses in a block (emit/group.c) */

/* What mmu/ remembers about the tables; nobody else looks inside.  One bit per slot: which slots
 * hold a translation that a CR3 write drops (local), keeps (global), and which came out of a large
 * page. A set bit may be stale, an unset one is not; the sums have one bit per word. */
#define TLB_WORDS (TLB_SLOTS / 64)
struct tlb_marks {
    uint64_t local_sum, global_sum;
    uint64_t local[TLB_WORDS], global[TLB_WORDS], large[TLB_WORDS];
};

#define MMU_RAM_MAX     4u
#define MMU_EXTRA_MAX   32u
#define MMU_CHUNK_BYTES (UINT64_C(2) << 20)
#define MMU_CHUNK_MAX   65536u /* chunks that are populated ahead: the first 128 GiB */
#define MMU_HUGE_MAX    8u
#define MMU_FILTER_LOG2 12
#define MMU_EXEC_MAX    16u

struct mmu_state {
    struct tlb_marks marks[TLB_PRIV_COUNT][TLB_ACCESS_COUNT];
    /* 1 GiB regions with splinters in the tables; more than fit: count > MMU_HUGE_MAX */
    uint64_t huge[MMU_HUGE_MAX];
    unsigned huge_count;
    /* hashed 2 MiB regions with splinters; a set bit may be stale */
    uint64_t large_filter[(1u << MMU_FILTER_LOG2) / 64];
    /* what fetches have found since it was last dropped: by table, anything that is not global; 2
     * MiB regions in large pages (count > MMU_EXEC_MAX: anywhere) */
    bool exec_local[TLB_PRIV_COUNT];
    uint64_t exec_large[MMU_EXEC_MAX];
    unsigned exec_large_count;
    unsigned ram_count;
    struct {
        uint64_t gpa, len;
        uint8_t *host;
        const struct mem_range *slots; /* NULL: all of it is always there */
    } ram[MMU_RAM_MAX];
    unsigned extra_end; /* none is in use from this one on */
    struct {
        uint64_t gpa, len;
        uint8_t *host;
        bool is_fixed;
    } extra[MMU_EXTRA_MAX]; /* as in mem */
    uint64_t populated[MMU_CHUNK_MAX / 64];
};

/* What a vCPU asks of the world around it; filled by hv/soft/engine.c and never NULL.  `owner` is
 * vcpu->platform_owner.  All are called on the vCPU's thread. */
struct vcpu_platform {
    void (*pio)(struct vcpu *v, uint16_t port, void *data, unsigned len, bool is_write);
    void (*mmio)(struct vcpu *v, gpa_t gpa, void *data, unsigned len, bool is_write);
    /* MSRs that belong to the interrupt controller and clocks (intc/): true if handled. *fault is
     * set when the access must raise #GP(0). */
    bool (*rdmsr)(struct vcpu *v, uint32_t index, uint64_t *ret_value, bool *fault);
    bool (*wrmsr)(struct vcpu *v, uint32_t index, uint64_t value, bool *fault);
    /* CR8 = task priority, 0 to 15. */
    uint64_t (*cr8_get)(struct vcpu *v);
    void (*cr8_set)(struct vcpu *v, uint64_t value);
    /* Highest deliverable interrupt: vector 16 to 255, acknowledged (IRR -> ISR); -1 if none. */
    int (*irq_take)(struct vcpu *v);
    /* Is one deliverable?  Does not change anything. */
    bool (*irq_pending)(struct vcpu *v);
    /* For the other vCPUs: this one wrote [gpa, gpa+len), within a page that holds decoded code;
     * with len 0, it has just begun to decode code from that page. */
    void (*code_event)(struct vcpu *v, gpa_t gpa, uint64_t len);
    /* End the HLT of the vCPU with this APIC ID, or its next one. */
    void (*unhalt)(struct vcpu *v, uint32_t apic_id);
    /* Guest time stamp counter, offset included. */
    uint64_t (*tsc)(struct vcpu *v);
    /* Sleep until poll != 0 or a timer of this vCPU is due (then POLL_IRQ gets set).  HLT. */
    void (*wait)(struct vcpu *v);
};

#define SOFT_XSAVE_BYTES CPU_XSAVE_BYTES

/* Pages that translated code may enter (emit/emit.h), by linear page number: the page_id of the
 * blocks there, 0 if unknown.  Filled by cache/ after a fetch, cleared when a fetch translation
 * goes. */
#define XTLB_SLOTS      4096u
#define XTLB_USER_SLOTS 1024u /* of them: cleared at each change of address spaces */
#define XTLB_SLOT_OF(priv, la) \
    ((la) >> 12 & (((priv) == TLB_USER ? XTLB_USER_SLOTS : XTLB_SLOTS) - 1))
/* Indirect branches of translated code: where to go, by the low bits of the target. */
#define INDIRECT_SLOTS 65536u

struct vcpu {
    /* Hot, written by ref/ on every instruction. */
    uint64_t gpr[GPR_COUNT];
    uint64_t zero;   /* always 0: the base or index of an operand that has none (ref/op.h) */
    uint64_t ea;     /* linear address that one op of an instruction hands to the next (ref/op.h) */
    uint64_t rip;    /* of the current instruction while it executes */
    uint64_t rflags; /* all but the arithmetic flags; read and write with vcpu_rflags() and
                      * vcpu_set_rflags(), or vcpu_has_flag() for a non-arithmetic one */
    uint16_t aflags; /* arithmetic flags as LAHF and SETO give them: bits 8-15 = RFLAGS bits 0-7,
                      * bit 0 = OF */
    uint32_t pause_count;        /* PAUSE instructions executed */
    uint8_t host_mxcsr_flags;    /* sticky flags that ref/native.c left in the host's MXCSR, or */
#define HOST_MXCSR_UNKNOWN 0x3fu /* anything: other code ran on this thread */
    uint8_t vec_live; /* emit/: how much vector state is in the host's registers; 0 in C */
    bool code_hit;    /* the running block was overwritten: leave it after this instruction */
    _Alignas(8) uint32_t pair_limit; /* see pair_base; together with poll, one comparison */
    _Atomic uint32_t poll;
    uint8_t cpl;
    bool irq_held; /* the run loop took POLL_IRQ while IF was 0: look again once IF is set */
    uint8_t mode;  /* enum cpu_mode */
    uint8_t
        shadow; /* bit 0: STI, bit 1: MOV SS: interrupts wait for the end of the next instruction */
    uint8_t halted;
    struct tlb_set
        *tlb_now; /* &tlb[TLB_USER] if cpl == 3, else &tlb[TLB_SUPERVISOR]; kept by mmu/ */

    /* Execution of decoded blocks: written by cache/ and ref/, see ref/op.h. */
    const struct block *block; /* the one that runs */
    struct block_link *link;   /* the link by which the last block was left, or NULL */
    struct block_slot *lookup; /* blocks by tagged rip */
    uint64_t rip_tag;          /* mode and privilege, folded into keys of `lookup` */
    uint64_t map_gen;          /* changes when translations or blocks go; one per privilege */
    uint64_t code_gen;         /* changes when blocks go */
    uint64_t map_gens[2];      /* map_gen outside and at CPL 3 */
    struct emit_site *site;    /* the branch by which translated code was left, or NULL */
    bool has_missed;           /* it was left by an indirect branch to v->rip */
    bool has_strict_flags;     /* translate so that arithmetic flags are always right in C */
    uint64_t host_rsp;         /* emit/: the thread's stack while translated code runs */
    uint64_t pair_base;   /* emit/: top of the stack that translated code runs on, below 4 GiB */
    uint32_t branch_site; /* emit/: the last indirect branch that may have to be undone */

    struct cpu_segment seg[SEG_COUNT];
    struct cpu_table gdt, idt;
    uint64_t cr0, cr2, cr3, cr4, efer, xcr0;
    uint64_t dr[8];
    uint64_t star, lstar, cstar, sfmask, kernel_gs_base, tsc_aux, pat, misc_enable, sysenter[3];
    uint64_t mtrr_def, mtrr_fixed[11], mtrr_var[16];
    uint64_t tsc_offset; /* guest's TSC - host's, kept by intc/ */
    bool has_host_tsc;   /* else the offset means nothing */
    bool nmi_blocked;
    bool trap_due; /* single-stepping: #DB follows the running instruction */
    bool wait_for_sipi;
    uint8_t sipi_vector;

    /* Of translated code. */
    struct stack_window window[TLB_PRIV_COUNT];
    uint64_t group_host[GROUP_MAX]; /* of the running block: host addresses that were checked */

    /* Vector and x87 state, standard XSAVE layout.  ref/native.c loads what an instruction needs;
     * translated code keeps vector registers in the host's (vec_live) and puts them here before
     * any C code runs. */
    uint8_t xsave[SOFT_XSAVE_BYTES] __attribute__((aligned(64)));

    /* Where vcpu_raise() goes: set by the run loop before each stretch of execution. */
    jmp_buf unwind;
    /* The event being raised, read by the run loop. */
    struct {
        uint8_t vector;
        bool has_error;
        bool is_soft; /* INT n, INT3, INTO: return address is the next instruction */
        uint32_t error;
        uint64_t cr2; /* #PF: written to cr2 on delivery */
    } exc;

    struct mem_map *mem;
    const struct vcpu_platform *platform;
    void *platform_owner;            /* struct soft_vcpu of engine.c */
    struct lapic *lapic;             /* intc/ */
    struct code_cache *code;         /* cache/: decoded blocks */
    struct native_cache *native;     /* ref/native.c: stubs */
    struct emit_cache *emit;         /* emit/: translated code; NULL: interpret only */
    const struct cpuid_model *cpuid; /* cpu/cpuid.c, shared by the VM */
    uint64_t features;               /* CPU_HAS() of what it shows; set by cache/ */
    unsigned index;
    char why[256]; /* cause of HV_EXIT_BROKEN */
    bool broken;
    bool triple_fault;
    size_t code_limit;     /* bytes of decoded blocks before all are forgotten; 0: the least */
    bool is_lockstep;      /* cache/lockstep.c compares translations with the interpreter, */
    bool announces_stores; /* which is at it: see code_store_coming() */
    bool count_runs;       /* stats of each block's run, too; before the first block is decoded */
    /* Of the debugger: where to stop (NULL: nowhere); may the instruction that runs be run again?
     * then an access to watched memory does that; else it is noted here. */
    const struct hv_debug *debug;
    bool may_rerun;
    bool has_watched;
    struct hv_break watched;
    struct vcpu_stats stats;

    struct mmu_state mmu; /* mmu/ */
    struct tlb_set tlb[TLB_PRIV_COUNT];
    uint32_t xtlb[TLB_PRIV_COUNT][XTLB_SLOTS];
    const void *indirect[TLB_PRIV_COUNT][INDIRECT_SLOTS];
};

/* Raise an exception at the current instruction.  cpu/exceptions.c. */
_Noreturn void vcpu_raise(struct vcpu *v, enum exc_vector vector);
_Noreturn void vcpu_raise_error(struct vcpu *v, enum exc_vector vector, uint32_t error);
_Noreturn void vcpu_raise_pf(struct vcpu *v, uint64_t la, uint32_t error);
/* The trap of single-stepping.  v->rip is that of the next instruction. */
_Noreturn void vcpu_raise_step(struct vcpu *v);

/* Recompute `mode`, `cpl`-dependent pointers after a change of CR0, EFER, CS, SS.  cpu/regs.c. */
void vcpu_update_mode(struct vcpu *v);

/* The architectural RFLAGS, arithmetic flags included, whatever form ref/ keeps them in. */
static inline uint64_t vcpu_rflags(const struct vcpu *v)
{
    uint64_t arith = (v->aflags >> 8 & 0xd5u) | (v->aflags & 1u) << 11;

    return v->rflags | FLAG_1 | arith;
}

static inline void vcpu_set_rflags(struct vcpu *v, uint64_t rflags)
{
    v->rflags = (rflags & ~(uint64_t)FLAGS_ARITH) | FLAG_1;
    v->aflags = (uint16_t)((rflags & 0xd5u) << 8 | (rflags >> 11 & 1u));
}

/* One bit of RFLAGS that is not arithmetic: IF, DF, TF, AC ... */
static inline bool vcpu_has_flag(const struct vcpu *v, uint32_t flag)
{
    return (v->rflags & flag) != 0;
}

static inline uint32_t vcpu_poll(const struct vcpu *v)
{
    return atomic_load_explicit(&v->poll, memory_order_relaxed);
}

static inline bool vcpu_is_long64(const struct vcpu *v)
{
    return v->mode == MODE_LONG64;
}
