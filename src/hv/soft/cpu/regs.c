/* regs.c — control registers, the execution mode derived from them, and reset. */
#include "hv/soft/cpu/regs.h"

#include <string.h>

#include "hv/soft/cpu/cpuid.h"
#include "hv/soft/cpu/fpu.h"
#include "x86/cr.h"

#define CR0_WRITABLE                                                                           \
    (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | \
     CR0_PG)
#define PHYS_MASK ((UINT64_C(1) << CPU_PHYS_BITS) - 1)

static enum cpu_mode mode_of(const struct vcpu *v)
{
    uint32_t cs = v->seg[SEG_CS].attr;

    if (!(v->cr0 & CR0_PE)) {
        return MODE_REAL;
    }
    if (v->efer & EFER_LMA) {
        if (cs & SEG_ATTR_L) {
            return MODE_LONG64;
        }
        return cs & SEG_ATTR_DB ? MODE_COMPAT32 : MODE_COMPAT16;
    }
    return cs & SEG_ATTR_DB ? MODE_PROT32 : MODE_PROT16;
}

void vcpu_set_cpl(struct vcpu *v, unsigned cpl)
{
    v->cpl = (uint8_t)cpl;
    v->tlb_now = &v->tlb[cpl == 3 ? TLB_USER : TLB_SUPERVISOR];
}

void vcpu_update_mode(struct vcpu *v)
{
    v->mode = (uint8_t)mode_of(v);
    vcpu_set_cpl(v, v->mode == MODE_REAL ? 0 : v->cpl);
}

static _Noreturn void refuse(struct vcpu *v)
{
    vcpu_raise_error(v, EXC_GP, 0);
}

/* SDM volume 3, 4.1.2 and 10.8.5: switching paging on with LME enters IA-32e mode. */
static void check_paging_switch(struct vcpu *v, uint64_t cr0)
{
    if (cr0 & CR0_PG) {
        if ((v->efer & EFER_LME) && (!(v->cr4 & CR4_PAE) || (v->seg[SEG_CS].attr & SEG_ATTR_L))) {
            refuse(v);
        }
    } else if (v->mode == MODE_LONG64) {
        refuse(v);
    }
}

unsigned vcpu_write_cr0(struct vcpu *v, uint64_t value)
{
    uint64_t changed;

    if ((value >> 32) || ((value & CR0_PG) && !(value & CR0_PE)) ||
        ((value & CR0_NW) && !(value & CR0_CD))) {
        refuse(v);
    }
    value = (value & CR0_WRITABLE) | CR0_ET;
    changed = value ^ v->cr0;
    if (changed & CR0_PG) {
        check_paging_switch(v, value);
        if ((value & CR0_PG) && (v->efer & EFER_LME)) {
            v->efer |= EFER_LMA;
        } else {
            v->efer &= ~EFER_LMA;
        }
    }
    v->cr0 = value;
    vcpu_update_mode(v);
    return changed & (CR0_PG | CR0_WP | CR0_PE) ? REGS_FLUSH_ALL : 0;
}

unsigned vcpu_write_cr3(struct vcpu *v, uint64_t value)
{
    if ((v->efer & EFER_LMA) && (value & ~PHYS_MASK)) {
        refuse(v);
    }
    v->cr3 = v->efer & EFER_LMA ? value : (uint32_t)value;
    return REGS_FLUSH_LOCAL;
}

unsigned vcpu_write_cr4(struct vcpu *v, uint64_t value)
{
    uint64_t changed = value ^ v->cr4;

    if ((value & ~cpuid_cr4_allowed(v->cpuid)) || ((v->efer & EFER_LMA) && !(value & CR4_PAE))) {
        refuse(v);
    }
    v->cr4 = value;
    return changed & (CR4_PAE | CR4_PSE | CR4_PGE | CR4_SMEP | CR4_SMAP) ? REGS_FLUSH_ALL : 0;
}

bool vcpu_write_efer(struct vcpu *v, uint64_t value, unsigned *ret_effects)
{
    uint64_t changed = value ^ v->efer;

    if (value & ~cpuid_efer_allowed(v->cpuid)) {
        return false;
    }
    if ((changed & EFER_LME) && (v->cr0 & CR0_PG)) {
        return false;
    }
    v->efer = (value & ~EFER_LMA) | (v->efer & EFER_LMA);
    *ret_effects = changed & EFER_NXE ? REGS_FLUSH_ALL : 0;
    return true;
}

bool vcpu_write_xcr0(struct vcpu *v, uint64_t value)
{
    const uint64_t avx512 = XCR0_OPMASK | XCR0_ZMM_HI | XCR0_HI_ZMM;

    /* SDM volume 1, 13.3: x87 always, AVX with SSE, AVX-512 whole and with AVX, nothing that is not
     * exposed */
    if (!(value & XCR0_X87) || (value & ~cpuid_xcr0_allowed(v->cpuid))) {
        return false;
    }
    if (((value & XCR0_AVX) && !(value & XCR0_SSE)) ||
        ((value & avx512) && (value & XCR0_AVX512_ALL) != XCR0_AVX512_ALL)) {
        return false;
    }
    v->xcr0 = value;
    return true;
}

/* --- reset --- */

static void reset_segments(struct vcpu *v)
{
    for (unsigned i = 0; i < SEG_COUNT; i++) {
        v->seg[i] = (struct cpu_segment){.limit = 0xffff, .attr = 0x93};
    }
    v->seg[SEG_CS] =
        (struct cpu_segment){.base = 0xffff0000, .limit = 0xffff, .attr = 0x9b, .selector = 0xf000};
    v->seg[SEG_TR].attr = 0x8b;
    v->seg[SEG_LDTR].attr = 0x82;
    v->gdt = (struct cpu_table){.limit = 0xffff};
    v->idt = (struct cpu_table){.limit = 0xffff};
}

static void reset_power_on(struct vcpu *v)
{
    fpu_reset(v);
    v->pat = UINT64_C(0x0007040600070406);
    v->xcr0 = XCR0_X87;
    v->misc_enable = 1; /* fast strings */
    v->tsc_aux = v->star = v->lstar = v->cstar = v->sfmask = v->kernel_gs_base = 0;
    memset(v->sysenter, 0, sizeof(v->sysenter));
    /* as firmware leaves them: all memory write-back, the legacy video window uncached */
    v->mtrr_def = 0xc06;
    for (unsigned i = 0; i < 11; i++) {
        v->mtrr_fixed[i] = i == 2 ? 0 : UINT64_C(0x0606060606060606);
    }
    memset(v->mtrr_var, 0, sizeof(v->mtrr_var));
    v->cr0 = CR0_CD | CR0_NW;
}

void vcpu_reset(struct vcpu *v, bool is_init)
{
    uint32_t fms[4] = {0};

    if (!is_init) {
        reset_power_on(v);
    }
    if (v->cpuid) {
        cpuid_query(v, 1, 0, fms);
    }
    memset(v->gpr, 0, sizeof(v->gpr));
    v->gpr[GPR_RDX] = fms[0];
    v->rip = 0xfff0;
    vcpu_set_rflags(v, FLAG_1);
    v->cr0 = (v->cr0 & (CR0_CD | CR0_NW)) | CR0_ET;
    v->cr2 = v->cr3 = v->cr4 = v->efer = 0;
    memset(v->dr, 0, sizeof(v->dr));
    v->dr[6] = 0xffff0ff0;
    v->dr[7] = 0x400;
    v->shadow = 0;
    v->halted = 0;
    v->nmi_blocked = false;
    reset_segments(v);
    v->cpl = 0;
    vcpu_update_mode(v);
}

void vcpu_start_at(struct vcpu *v, uint8_t sipi_vector)
{
    v->seg[SEG_CS].selector = (uint16_t)(sipi_vector << 8);
    v->seg[SEG_CS].base = (uint64_t)sipi_vector << 12;
    v->rip = 0;
    v->wait_for_sipi = false;
    v->halted = 0;
}
