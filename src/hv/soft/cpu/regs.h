/* regs.h — control registers: the checks of a write, and what follows from it.
 *
 * The writers raise #GP(0) before any change.  They return what the caller must do to the MMU,
 * which this room cannot reach.
 */
#pragma once

#include "hv/soft/cpu/vcpu.h"

#define REGS_FLUSH_LOCAL 0x1u /* mmu_flush_non_global() */
#define REGS_FLUSH_ALL   0x2u /* mmu_mode_changed() */

unsigned vcpu_write_cr0(struct vcpu *v, uint64_t value);
unsigned vcpu_write_cr3(struct vcpu *v, uint64_t value);
unsigned vcpu_write_cr4(struct vcpu *v, uint64_t value);
/* false: the value is refused (#GP); nothing has changed. */
bool vcpu_write_efer(struct vcpu *v, uint64_t value, unsigned *ret_effects);
/* XSETBV; false: refused. */
bool vcpu_write_xcr0(struct vcpu *v, uint64_t value);

/* Change the privilege level, and with it the tables of mmu/. */
void vcpu_set_cpl(struct vcpu *v, unsigned cpl);

/* 48-bit linear addresses: bits 63 to 47 are equal. */
static inline bool vcpu_is_canonical(uint64_t la)
{
    return (uint64_t)((int64_t)(la << 16) >> 16) == la;
}

/* State of SDM volume 3, table 10-1 after power-on or INIT.  INIT keeps what the table says it
 * keeps: x87 and vector state, MTRRs, most MSRs. */
void vcpu_reset(struct vcpu *v, bool is_init);
/* SIPI: run the real-mode code at vector * 4 KiB. */
void vcpu_start_at(struct vcpu *v, uint8_t sipi_vector);
