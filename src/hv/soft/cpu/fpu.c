/* fpu.c — x87 and SSE state: reset, and the checks before use. */
#include "hv/soft/cpu/fpu.h"

#include <string.h>

#include "base/bits.h"
#include "x86/cr.h"

static void set_header(struct vcpu *v)
{
    store_le64(v->xsave + FPU_XSTATE_BV, XCR0_X87 | XCR0_SSE);
    store_le64(v->xsave + FPU_XCOMP_BV, 0);
}

void fpu_reset(struct vcpu *v)
{
    memset(v->xsave, 0, sizeof(v->xsave));
    store_le16(v->xsave + FPU_FCW, 0x40);
    v->xsave[FPU_FTW] = 0xff;
    store_le32(v->xsave + FPU_MXCSR, 0x1f80);
    store_le32(v->xsave + FPU_MXCSR_MASK, FPU_MXCSR_VALID);
    set_header(v);
}

void fpu_set_top(struct vcpu *v, unsigned top)
{
    uint16_t fsw = load_le16(v->xsave + FPU_FSW);
    unsigned up = (top - (fsw >> 11)) & 7, i;
    uint8_t st[8 * 16];

    memcpy(st, v->xsave + FPU_ST0, sizeof(st));
    for (i = 0; i < 8; i++) {
        memcpy(v->xsave + FPU_ST0 + (size_t)16 * i, st + (size_t)16 * ((i + up) & 7), 16);
    }
    store_le16(v->xsave + FPU_FSW, (uint16_t)((fsw & ~0x3800u) | (top & 7) << 11));
}

void fpu_enter_mmx(struct vcpu *v)
{
    fpu_set_top(v, 0);
    v->xsave[FPU_FTW] = 0xff;
}

void fpu_fninit(struct vcpu *v)
{
    fpu_set_top(v, 0);
    store_le16(v->xsave + FPU_FCW, 0x37f);
    memset(v->xsave + FPU_FSW, 0, FPU_MXCSR - FPU_FSW);
    set_header(v);
}

void fpu_check_x87(struct vcpu *v)
{
    if (v->cr0 & (CR0_EM | CR0_TS)) {
        vcpu_raise(v, EXC_NM);
    }
}

void fpu_check_mmx(struct vcpu *v)
{
    if (v->cr0 & CR0_EM) {
        vcpu_raise(v, EXC_UD);
    }
    if (v->cr0 & CR0_TS) {
        vcpu_raise(v, EXC_NM);
    }
}

void fpu_check_sse(struct vcpu *v)
{
    if ((v->cr0 & CR0_EM) || !(v->cr4 & CR4_OSFXSR)) {
        vcpu_raise(v, EXC_UD);
    }
    if (v->cr0 & CR0_TS) {
        vcpu_raise(v, EXC_NM);
    }
}

void fpu_check_avx(struct vcpu *v, uint64_t need)
{
    if (!(v->cr4 & CR4_OSXSAVE) || (v->xcr0 & need) != need) {
        vcpu_raise(v, EXC_UD);
    }
    if (v->cr0 & CR0_TS) {
        vcpu_raise(v, EXC_NM);
    }
}

void fpu_check_wait(struct vcpu *v)
{
    if ((v->cr0 & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS)) {
        vcpu_raise(v, EXC_NM);
    }
}

bool fpu_is_pending(const struct vcpu *v)
{
    uint16_t masks = load_le16(v->xsave + FPU_FCW);
    uint16_t flags = load_le16(v->xsave + FPU_FSW);

    return (flags & ~masks & 0x3f) != 0;
}

/* --- vector registers --- */

void fpu_vec_get(const struct vcpu *v, unsigned reg, uint8_t ret_bytes[FPU_VEC_LEN])
{
    if (reg >= 16) {
        memcpy(ret_bytes, v->xsave + FPU_HI_ZMM + (size_t)64 * (reg & 15), 64);
        return;
    }
    memcpy(ret_bytes, v->xsave + FPU_XMM0 + (size_t)16 * reg, 16);
    memcpy(ret_bytes + 16, v->xsave + FPU_YMM_HI + (size_t)16 * reg, 16);
    memcpy(ret_bytes + 32, v->xsave + FPU_ZMM_HI + (size_t)32 * reg, 32);
}

void fpu_vec_set(struct vcpu *v, unsigned reg, const uint8_t bytes[FPU_VEC_LEN])
{
    if (reg >= 16) {
        memcpy(v->xsave + FPU_HI_ZMM + (size_t)64 * (reg & 15), bytes, 64);
        return;
    }
    memcpy(v->xsave + FPU_XMM0 + (size_t)16 * reg, bytes, 16);
    memcpy(v->xsave + FPU_YMM_HI + (size_t)16 * reg, bytes + 16, 16);
    memcpy(v->xsave + FPU_ZMM_HI + (size_t)32 * reg, bytes + 32, 32);
}

uint64_t fpu_mask_get(const struct vcpu *v, unsigned reg)
{
    return load_le64(v->xsave + FPU_OPMASK + (size_t)8 * (reg & 7));
}

void fpu_mask_set(struct vcpu *v, unsigned reg, uint64_t value)
{
    store_le64(v->xsave + FPU_OPMASK + (size_t)8 * (reg & 7), value);
}
