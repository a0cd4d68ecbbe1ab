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
