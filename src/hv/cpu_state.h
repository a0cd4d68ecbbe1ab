/* cpu_state.h — the architectural state of one x86-64 vCPU, in a form that belongs to no backend.
 *
 * A state read from one backend can be set on another.  Plain data: no pointers, no ownership.
 */
#pragma once

#include <stdint.h>

/* Order of gpr[]: the encoding order of the Intel SDM, volume 2, table 3-1. */
enum cpu_gpr {
    GPR_RAX,
    GPR_RCX,
    GPR_RDX,
    GPR_RBX,
    GPR_RSP,
    GPR_RBP,
    GPR_RSI,
    GPR_RDI,
    GPR_R8,
    GPR_R9,
    GPR_R10,
    GPR_R11,
    GPR_R12,
    GPR_R13,
    GPR_R14,
    GPR_R15,
    GPR_COUNT
};

/* Order of seg[]: the encoding order of the Sreg field (SDM volume 2, table B-8), then TR and LDTR.
 */
enum cpu_seg { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS, SEG_TR, SEG_LDTR, SEG_COUNT };

/* A segment register with its hidden part.  `attr` has the layout of bits 8..23 of the descriptor's
 * second word, moved down to bit 0 (SDM volume 3, 3.4.5): type 0-3, S 4, DPL 5-6, P 7, AVL 12, L
 * 13, D/B 14, G 15; bit 16 set = unusable (null selector). `limit` is in bytes, already scaled by
 * G. */
struct cpu_segment {
    uint64_t base;
    uint32_t limit;
    uint32_t attr;
    uint16_t selector;
};

#define SEG_ATTR_TYPE     0x000fu
#define SEG_ATTR_S        0x0010u
#define SEG_ATTR_DPL      0x0060u
#define SEG_ATTR_P        0x0080u
#define SEG_ATTR_AVL      0x1000u
#define SEG_ATTR_L        0x2000u
#define SEG_ATTR_DB       0x4000u
#define SEG_ATTR_G        0x8000u
#define SEG_ATTR_UNUSABLE 0x10000u

/* GDTR or IDTR. */
struct cpu_table {
    uint64_t base;
    uint16_t limit;
};

enum cpu_run_state {
    CPU_RUNNABLE,
    CPU_HALTED,        /* HLT: waits for an interrupt */
    CPU_WAIT_FOR_SIPI, /* after INIT, or an AP at power-on */
};

/* An event that was being delivered, or is due before the next instruction. */
struct cpu_events {
    uint8_t interrupt_shadow; /* bit 0: STI, bit 1: MOV SS / POP SS */
    uint8_t nmi_blocked;
    uint8_t nmi_pending;
    uint8_t exception_pending; /* vector, error code below */
    uint8_t exception_vector;
    uint8_t exception_has_error;
    uint32_t exception_error;
    /* Taken from the local APIC or the NMI input but not yet begun: KVM's; the software engine
     * finishes a delivery before it lets go. */
    uint8_t nmi_injected;
    uint8_t interrupt_pending; /* vector below */
    uint8_t interrupt_vector;
};

struct cpu_msr {
    uint32_t index;
    uint64_t value;
};

#define CPU_XSAVE_BYTES 4096
#define CPU_LAPIC_BYTES 1024
#define CPU_MSR_MAX     128

struct cpu_state {
    uint64_t gpr[GPR_COUNT];
    uint64_t rip;
    uint64_t rflags;
    struct cpu_segment seg[SEG_COUNT];
    struct cpu_table gdt;
    struct cpu_table idt;
    uint64_t cr0, cr2, cr3, cr4, cr8;
    uint64_t efer;
    uint64_t apic_base;
    uint64_t xcr0;
    uint64_t dr[8]; /* 4 and 5 unused */
    enum cpu_run_state run_state;
    struct cpu_events events;
    /* Standard (not compacted) XSAVE format, SDM volume 1, 13.4; offsets as the host's CPUID leaf
     * 0DH. */
    uint8_t xsave[CPU_XSAVE_BYTES] __attribute__((aligned(64)));
    /* Local APIC registers at their xAPIC offsets (SDM volume 3, table 11-1), first 1 KiB. */
    uint8_t lapic[CPU_LAPIC_BYTES];
    /* Every other MSR that the guest can change, in no order. */
    unsigned msr_count;
    struct cpu_msr msr[CPU_MSR_MAX];
};
