/* apic.h — local and I/O APIC facts: SDM volume 3, chapter 11; Intel 82093AA I/O APIC data sheet.
 */
#pragma once

#define APIC_DEFAULT_BASE 0xfee00000u
#define APIC_MMIO_BYTES   0x1000u
#define IOAPIC_BASE       0xfec00000u
#define IOAPIC_MMIO_BYTES 0x1000u

/* IA32_APIC_BASE: 11.4.4, 11.12.1. */
#define APIC_BASE_BSP    0x100u
#define APIC_BASE_X2APIC 0x400u
#define APIC_BASE_ENABLE 0x800u

/* Register offsets: table 11-1.  The x2APIC MSR is 0x800 + offset / 16: table 11-6. */
enum apic_reg {
    APIC_ID = 0x020,
    APIC_VERSION = 0x030,
    APIC_TPR = 0x080,
    APIC_APR = 0x090,
    APIC_PPR = 0x0a0,
    APIC_EOI = 0x0b0,
    APIC_RRD = 0x0c0,
    APIC_LDR = 0x0d0,
    APIC_DFR = 0x0e0,
    APIC_SVR = 0x0f0,
    APIC_ISR = 0x100, /* 8 registers each */
    APIC_TMR = 0x180,
    APIC_IRR = 0x200,
    APIC_ESR = 0x280,
    APIC_ICR_LOW = 0x300,
    APIC_ICR_HIGH = 0x310,
    APIC_LVT_TIMER = 0x320,
    APIC_LVT_THERMAL = 0x330,
    APIC_LVT_PMC = 0x340,
    APIC_LVT_LINT0 = 0x350,
    APIC_LVT_LINT1 = 0x360,
    APIC_LVT_ERROR = 0x370,
    APIC_TIMER_INITIAL = 0x380,
    APIC_TIMER_CURRENT = 0x390,
    APIC_TIMER_DIVIDE = 0x3e0,
    APIC_SELF_IPI = 0x3f0, /* x2APIC only */
};

#define APIC_SVR_ENABLE      0x100u
#define APIC_LVT_PENDING     0x01000u
#define APIC_LVT_MASKED      0x10000u
#define APIC_LVT_TIMER_MODE  0x60000u /* figure 11-8 */
#define APIC_TIMER_ONE_SHOT  0x00000u
#define APIC_TIMER_PERIODIC  0x20000u
#define APIC_TIMER_DEADLINE  0x40000u
#define APIC_ESR_SEND_VECTOR 0x20u /* figure 11-9 */
#define APIC_ESR_RECV_VECTOR 0x40u
#define APIC_ESR_REGISTER    0x80u

/* Delivery modes: bits 8-10 of ICR, LVT, redirection entries and MSI data (11.6.1). */
enum apic_delivery {
    APIC_FIXED = 0,
    APIC_LOWEST = 1,
    APIC_SMI = 2,
    APIC_NMI = 4,
    APIC_INIT = 5,
    APIC_SIPI = 6,
    APIC_EXTINT = 7,
};

/* ICR: figure 11-12.  Redirection entries and MSI data share the low half's layout. */
#define APIC_VECTOR_MASK     0x000ffu
#define APIC_DELIVERY_SHIFT  8
#define APIC_DELIVERY_MASK   0x00700u
#define APIC_DEST_LOGICAL    0x00800u
#define APIC_ICR_BUSY        0x01000u
#define APIC_ASSERT          0x04000u
#define APIC_LEVEL_TRIGGERED 0x08000u
#define APIC_SHORTHAND_MASK  0xc0000u
#define APIC_SHORTHAND_NONE  0x00000u
#define APIC_SHORTHAND_SELF  0x40000u
#define APIC_SHORTHAND_ALL   0x80000u
#define APIC_SHORTHAND_OTHER 0xc0000u

/* I/O APIC: index and data window, registers. */
#define IOAPIC_REG_SELECT  0x00u
#define IOAPIC_REG_WINDOW  0x10u
#define IOAPIC_ID          0x00u
#define IOAPIC_VERSION     0x01u
#define IOAPIC_ARBITRATION 0x02u
#define IOAPIC_REDIR       0x10u /* two words per pin */
#define IOAPIC_BUSY        0x01000u
#define IOAPIC_POLARITY    0x02000u
#define IOAPIC_REMOTE_IRR  0x04000u
#define IOAPIC_LEVEL       0x08000u
#define IOAPIC_MASKED      0x10000u
