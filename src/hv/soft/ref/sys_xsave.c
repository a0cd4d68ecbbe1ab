/* sys_xsave.c — saving and loading x87 and SSE state: FXSAVE, FNSAVE and kin, MXCSR.  The XSAVE
 * family is sys_xstate.c.
 *
 * v->xsave holds the state in FXSAVE's 64-bit format, so these are copies with checks and no native
 * execution.  Instruction and data pointers are what the guest loaded, or 0: the engine does not
 * track them.
 */
#include <string.h>

#include "base/bits.h"
#include "hv/soft/cpu/fpu.h"
#include "hv/soft/mmu/mmu.h"
#include "hv/soft/ref/sys.h"

uint64_t sys_aligned_ea(struct vcpu *v, const struct insn *insn, unsigned len, unsigned align,
                        bool is_write)
{
    uint64_t la = ref_ea(v, insn, len, is_write);

    if (la & (align - 1)) {
        sys_gp(v, 0);
    }
    return la;
}

static bool is_wide(const struct insn *insn)
{
    return (insn->rex & 8) != 0;
}

/* Bytes of the legacy area that the mode uses: 16 vector registers in 64-bit mode, else 8. */
static unsigned legacy_len(const struct vcpu *v)
{
    return FPU_XMM0 + 16 * (v->mode == MODE_LONG64 ? 16 : 8);
}

/* Pointers in the 32-bit format: 32 bits of offset, selector 0. */
void sys_narrow_pointers(uint8_t *area)
{
    memset(area + FPU_FIP + 4, 0, 4);
    memset(area + FPU_FDP + 4, 0, 4);
}

void sys_need_mxcsr(struct vcpu *v, uint32_t value)
{
    if (value & ~FPU_MXCSR_VALID) {
        sys_gp(v, 0);
    }
}

/* ES and B follow from flags and masks. */
static uint16_t summarise(uint16_t fsw, uint16_t fcw)
{
    return (uint16_t)(fsw & ~fcw & 0x3f ? fsw | 0x8080 : fsw & ~0x8080);
}

/* What loading x87 state makes of its control and status words: reserved bits of the one are fixed,
 * ES and B of the other follow. */
void sys_settle_x87(struct vcpu *v)
{
    uint16_t fcw = (load_le16(v->xsave + FPU_FCW) & 0x1f3fu) | 0x40;

    store_le16(v->xsave + FPU_FCW, fcw);
    store_le16(v->xsave + FPU_FSW, summarise(load_le16(v->xsave + FPU_FSW), fcw));
    v->xsave[FPU_FTW + 1] = 0;
}

static enum ref_result fxsave(struct vcpu *v, const struct insn *insn)
{
    unsigned len = legacy_len(v);
    uint8_t area[FPU_LEGACY_LEN];
    uint64_t la;

    fpu_check_x87(v);
    la = sys_aligned_ea(v, insn, FPU_LEGACY_LEN, 16, true);
    mmu_check_write(v, la, FPU_LEGACY_LEN);
    memcpy(area, v->xsave, len);
    if (!is_wide(insn)) {
        sys_narrow_pointers(area);
    }
    mmu_write(v, la, area, len);
    return REF_NEXT;
}

static enum ref_result fxrstor(struct vcpu *v, const struct insn *insn)
{
    unsigned len = v->cr4 & CR4_OSFXSR ? legacy_len(v) : FPU_XMM0;
    uint8_t area[FPU_LEGACY_LEN];
    uint64_t la;

    fpu_check_x87(v);
    la = sys_aligned_ea(v, insn, FPU_LEGACY_LEN, 16, false);
    mmu_read(v, la, area, sizeof(area));
    sys_need_mxcsr(v, load_le32(area + FPU_MXCSR));
    if (!is_wide(insn)) {
        sys_narrow_pointers(area);
    }
    store_le32(area + FPU_MXCSR_MASK, FPU_MXCSR_VALID);
    memcpy(v->xsave, area, len);
    sys_settle_x87(v);
    return REF_NEXT;
}

/* --- MXCSR --- */

static void check_mxcsr_access(struct vcpu *v, const struct insn *insn)
{
    if (insn->encoding == INSN_LEGACY) {
        fpu_check_sse(v);
    } else {
        fpu_check_avx(v, XCR0_AVX_ALL);
    }
}

static enum ref_result ldmxcsr(struct vcpu *v, const struct insn *insn)
{
    uint32_t value;

    check_mxcsr_access(v, insn);
    value = mmu_read32(v, ref_ea(v, insn, 4, false));
    sys_need_mxcsr(v, value);
    store_le32(v->xsave + FPU_MXCSR, value);
    return REF_NEXT;
}

static enum ref_result stmxcsr(struct vcpu *v, const struct insn *insn)
{
    check_mxcsr_access(v, insn);
    mmu_write32(v, ref_ea(v, insn, 4, true), load_le32(v->xsave + FPU_MXCSR));
    return REF_NEXT;
}

/* --- the x87 environment (SDM volume 1, 8.1.10) --- */

static uint16_t full_tag(const uint8_t *st)
{
    uint64_t mantissa = load_le64(st);
    uint16_t exponent = load_le16(st + 8) & 0x7fff;

    if (exponent == 0 && mantissa == 0) {
        return 1;
    }
    return exponent == 0x7fff || exponent == 0 || !(mantissa >> 63) ? 2 : 0;
}

static uint16_t full_tags(const uint8_t *image)
{
    unsigned top = load_le16(image + FPU_FSW) >> 11 & 7;
    uint16_t tags = 0;

    for (unsigned i = 0; i < 8; i++) {
        const uint8_t *st = image + FPU_ST0 + 16 * ((i - top) & 7);
        uint16_t tag = image[FPU_FTW] >> i & 1 ? full_tag(st) : 3;

        tags |= (uint16_t)(tag << (2 * i));
    }
    return tags;
}

static void put_field(uint8_t *out, unsigned index, unsigned width, uint32_t value)
{
    if (width == 4) {
        store_le32(out + index * 4, value);
    } else {
        store_le16(out + index * 2, (uint16_t)value);
    }
}

/* Environment with fields of `width` bytes: 14 or 28 bytes. */
static void put_env(const struct vcpu *v, uint8_t *out, unsigned width)
{
    uint32_t high = width == 4 ? 0xffff0000 : 0;
    const uint8_t *image = v->xsave;

    put_field(out, 0, width, load_le16(image + FPU_FCW) | high);
    put_field(out, 1, width, load_le16(image + FPU_FSW) | high);
    put_field(out, 2, width, full_tags(image) | high);
    put_field(out, 3, width, load_le32(image + FPU_FIP));
    put_field(out, 4, width, width == 4 ? (load_le16(image + FPU_FOP) & 0x7ffu) << 16 : 0);
    put_field(out, 5, width, load_le32(image + FPU_FDP));
    put_field(out, 6, width, high);
}

static void take_env(struct vcpu *v, const uint8_t *in, unsigned width)
{
    uint16_t tags = load_le16(in + 2 * width);
    uint8_t abridged = 0;

    for (unsigned i = 0; i < 8; i++) {
        abridged |= (uint8_t)(((tags >> (2 * i)) & 3) != 3) << i;
    }
    store_le16(v->xsave + FPU_FCW, load_le16(in));
    store_le16(v->xsave + FPU_FSW, load_le16(in + width));
    store_le16(v->xsave + FPU_FTW, abridged);
    sys_settle_x87(v);
    memset(v->xsave + FPU_FOP, 0, FPU_MXCSR - FPU_FOP);
    store_le32(v->xsave + FPU_FIP, width == 4 ? load_le32(in + 12) : load_le16(in + 6));
    store_le32(v->xsave + FPU_FDP, width == 4 ? load_le32(in + 20) : load_le16(in + 10));
}

/* FNSTENV, FNSAVE */
static enum ref_result store_env(struct vcpu *v, const struct insn *insn)
{
    unsigned len = insn->operand[0].size;
    unsigned width = len == 14 || len == 94 ? 2 : 4;
    uint8_t bytes[108];
    uint64_t la;

    fpu_check_x87(v);
    la = ref_ea(v, insn, len, true);
    mmu_check_write(v, la, len);
    put_env(v, bytes, width);
    for (unsigned i = 0; insn->op == INSN_FNSAVE && i < 8; i++) {
        memcpy(bytes + 7 * width + 10 * i, v->xsave + FPU_ST0 + 16 * i, 10);
    }
    mmu_write(v, la, bytes, len);
    if (insn->op == INSN_FNSAVE) {
        fpu_fninit(v);
    } else { /* masks all exceptions */
        uint16_t fcw = load_le16(v->xsave + FPU_FCW) | 0x3f;

        store_le16(v->xsave + FPU_FCW, fcw);
        store_le16(v->xsave + FPU_FSW, summarise(load_le16(v->xsave + FPU_FSW), fcw));
    }
    return REF_NEXT;
}

/* FLDENV, FRSTOR */
static enum ref_result load_env(struct vcpu *v, const struct insn *insn)
{
    unsigned len = insn->operand[0].size;
    unsigned width = len == 14 || len == 94 ? 2 : 4;
    uint8_t bytes[108];

    fpu_check_x87(v);
    if (fpu_is_pending(v)) {
        vcpu_raise(v, EXC_MF);
    }
    mmu_read(v, ref_ea(v, insn, len, false), bytes, len);
    if (insn->op == INSN_FLDENV) { /* the registers stay, the image is in stack order */
        fpu_set_top(v, load_le16(bytes + width) >> 11);
    }
    take_env(v, bytes, width);
    for (unsigned i = 0; insn->op == INSN_FRSTOR && i < 8; i++) {
        memset(v->xsave + FPU_ST0 + 16 * i, 0, 16);
        memcpy(v->xsave + FPU_ST0 + 16 * i, bytes + 7 * width + 10 * i, 10);
    }
    return REF_NEXT;
}

enum ref_result ref_fpstate(struct vcpu *v, const struct insn *insn)
{
    switch (insn->op) {
    case INSN_FXSAVE: return fxsave(v, insn);
    case INSN_FXRSTOR: return fxrstor(v, insn);
    case INSN_LDMXCSR:
    case INSN_VLDMXCSR: return ldmxcsr(v, insn);
    case INSN_STMXCSR:
    case INSN_VSTMXCSR: return stmxcsr(v, insn);
    case INSN_XSAVE:
    case INSN_XSAVEOPT:
    case INSN_XSAVEC: return sys_xsave(v, insn);
    case INSN_XRSTOR: return sys_xrstor(v, insn);
    case INSN_FNSTENV:
    case INSN_FNSAVE: return store_env(v, insn);
    case INSN_FLDENV:
    case INSN_FRSTOR: return load_env(v, insn);
    default: vcpu_raise(v, EXC_UD); /* XSAVES, XRSTORS: there is no IA32_XSS */
    }
}
