/* fpu.h — x87 and SSE state in v->xsave: reset values, and when an instruction may use it.
 *
 * The image is the standard XSAVE format (SDM volume 1, 13.4); its first 512 bytes are what FXSAVE
 * stores (volume 1, table 10-2).  The header's XSTATE_BV is kept at "everything in use".
 */
#pragma once

#include "hv/soft/cpu/vcpu.h"

#define XCR0_X87 UINT64_C(1)
#define XCR0_SSE UINT64_C(2)
#define XCR0_AVX UINT64_C(4)
/* opmasks, upper halves of ZMM0 to 15, ZMM16 to 31 */
#define XCR0_OPMASK UINT64_C(0x20)
#define XCR0_ZMM_HI UINT64_C(0x40)
#define XCR0_HI_ZMM UINT64_C(0x80)
/* what VEX and EVEX instructions need */
#define XCR0_AVX_ALL    (XCR0_SSE | XCR0_AVX)
#define XCR0_AVX512_ALL (XCR0_AVX_ALL | XCR0_OPMASK | XCR0_ZMM_HI | XCR0_HI_ZMM)

/* Offsets in the image. */
#define FPU_FCW        0
#define FPU_FSW        2
#define FPU_FTW        4 /* one bit per register: 1 = not empty */
#define FPU_FOP        6
#define FPU_FIP        8
#define FPU_FDP        16
#define FPU_MXCSR      24
#define FPU_MXCSR_MASK 28
#define FPU_ST0        32 /* 16 bytes each */
#define FPU_XMM0       160
#define FPU_LEGACY_LEN 512
#define FPU_XSTATE_BV  512
#define FPU_XCOMP_BV   520
/* Behind the header: upper halves of YMM0 to 15, opmasks of 8 bytes, upper halves of ZMM0 to 15,
 * ZMM16 to 31.  These offsets are the engine's own; xstate.h has those that guests see. */
#define FPU_YMM_HI      576
#define FPU_OPMASK      832
#define FPU_ZMM_HI      896
#define FPU_HI_ZMM      1408
#define FPU_IMAGE_LEN   2432
#define FPU_MXCSR_VALID 0xffffu /* bits that LDMXCSR accepts */

/* Power-on state: FCW 0x40, all registers 0 and tagged zero (SDM volume 3, table 10-1). */
void fpu_reset(struct vcpu *v);
/* What FNINIT leaves: registers keep their contents. */
void fpu_fninit(struct vcpu *v);

/* Make `top` the top of the x87 stack.  The physical registers stay; the image has them in the
 * order of the stack. */
void fpu_set_top(struct vcpu *v, unsigned top);
/* What every MMX instruction but EMMS does first: top 0, all registers valid. */
void fpu_enter_mmx(struct vcpu *v);

/* Raise what an instruction of the kind raises in this state of CR0 and CR4 (SDM volume 3, 2.5 and
 * 13.1): #UD or #NM. */
void fpu_check_x87(struct vcpu *v);
void fpu_check_mmx(struct vcpu *v);
void fpu_check_sse(struct vcpu *v);
/* VEX and EVEX: `need` are the bits of XCR0 (XCR0_AVX_ALL, XCR0_AVX512_ALL). */
void fpu_check_avx(struct vcpu *v, uint64_t need);
/* FWAIT: #NM when both MP and TS are set. */
void fpu_check_wait(struct vcpu *v);
/* A vector register, 0 to 31, as 64 bytes; a write sets all of it. */
#define FPU_VEC_LEN 64
void fpu_vec_get(const struct vcpu *v, unsigned reg, uint8_t ret_bytes[FPU_VEC_LEN]);
void fpu_vec_set(struct vcpu *v, unsigned reg, const uint8_t bytes[FPU_VEC_LEN]);
uint64_t fpu_mask_get(const struct vcpu *v, unsigned reg);
void fpu_mask_set(struct vcpu *v, unsigned reg, uint64_t value);
/* The image's x87 status has an unmasked exception pending: a waiting instruction raises #MF. */
bool fpu_is_pending(const struct vcpu *v);
