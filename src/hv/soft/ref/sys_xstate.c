/* sys_xstate.c — the XSAVE family: XSAVE, XSAVEOPT, XSAVEC, XRSTOR (SDM volume 1, chapter 13).
 *
 * v->xsave holds everything at offsets of its own; areas in guest memory have those of CPUID.  What
 * is in use is found by looking: a part is not if it is in its initial state.  XSAVEOPT leaves out
 * such parts, but not those that did not change since the last XRSTOR, which it need not.
 */
#include <string.h>

#include "base/bits.h"
#include "hv/soft/cpu/cpuid.h"
#include "hv/soft/cpu/fpu.h"
#include "hv/soft/cpu/xstate.h"
#include "hv/soft/mmu/mmu.h"
#include "hv/soft/ref/sys.h"

#define HEADER_LEN    64u
#define BASE_LEN      (FPU_LEGACY_LEN + HEADER_LEN)
#define XCOMP_COMPACT (UINT64_C(1) << 63)
#define MXCSR_RESET   0x1f80u
#define AREA_MAX      4096u

static uint64_t requested(struct vcpu *v)
{
    return v->xcr0 & ((v->gpr[GPR_RDX] << 32) | (uint32_t)v->gpr[GPR_RAX]);
}

static void need_xsave(struct vcpu *v)
{
    if (!(v->cr4 & CR4_OSXSAVE)) {
        vcpu_raise(v, EXC_UD);
    }
    if (v->cr0 & CR0_TS) {
        vcpu_raise(v, EXC_NM);
    }
}

static bool is_wide(const struct insn *insn)
{
    return (insn->rex & 8) != 0;
}

/* --- what is in use --- */

static bool is_zero(const uint8_t *bytes, size_t size)
{
    uint64_t any = 0;

    for (size_t i = 0; i < size; i += 8) {
        any |= load_le64(bytes + i);
    }
    return any == 0;
}

static bool is_x87_initial(const struct vcpu *v)
{
    return load_le16(v->xsave + FPU_FCW) == 0x37f && load_le16(v->xsave + FPU_FSW) == 0 &&
           load_le32(v->xsave + FPU_FTW) == 0 && is_zero(v->xsave + FPU_FIP, 16) &&
           is_zero(v->xsave + FPU_ST0, 8 * 16);
}

uint64_t sys_xstate_in_use(const struct vcpu *v)
{
    uint64_t mask = is_x87_initial(v) ? 0 : XCR0_X87;

    mask |= is_zero(v->xsave + FPU_XMM0, 16 * 16) ? 0 : XCR0_SSE;
    for (unsigned i = XSTATE_FIRST; i < XSTATE_COUNT; i++) {
        if (v->xcr0 >> i & 1 && !is_zero(v->xsave + xstate_parts[i].at, xstate_parts[i].size)) {
            mask |= UINT64_C(1) << i;
        }
    }
    return mask;
}

/* Bytes of a part that the mode reaches: half of the registers, or none, outside 64-bit mode. */
static unsigned reach(const struct vcpu *v, unsigned part)
{
    unsigned size = xstate_parts[part].size;

    if (v->mode == MODE_LONG64 || part == 5) {
        return size;
    }
    return part == 7 ? 0 : size / 2;
}

static unsigned xmm_reach(const struct vcpu *v)
{
    return 16 * (v->mode == MODE_LONG64 ? 16 : 8);
}

/* Offset of a part in an area; compact: for the parts in `format`. */
static uint32_t part_offset(const struct vcpu *v, uint64_t format, unsigned part)
{
    const struct xstate_layout *x = cpuid_xstate(v->cpuid);

    return format & XCOMP_COMPACT ? xstate_compact_offset(x, format, part) : x->offset[part];
}

static uint32_t area_size(const struct vcpu *v, uint64_t format, uint64_t parts)
{
    const struct xstate_layout *x = cpuid_xstate(v->cpuid);

    return format & XCOMP_COMPACT ? xstate_compact_size(x, format & ~XCOMP_COMPACT)
                                  : xstate_standard_size(x, parts);
}

/* --- saving --- */

static void save_x87(struct vcpu *v, uint64_t la, bool wide)
{
    uint8_t head[FPU_MXCSR];

    memcpy(head, v->xsave, sizeof(head));
    if (!wide) {
        sys_narrow_pointers(head);
    }
    mmu_write(v, la, head, sizeof(head));
    mmu_write(v, la + FPU_ST0, v->xsave + FPU_ST0, FPU_XMM0 - FPU_ST0);
}

static void save_parts(struct vcpu *v, uint64_t la, uint64_t parts, uint64_t format)
{
    for (unsigned i = XSTATE_FIRST; i < XSTATE_COUNT; i++) {
        if (parts >> i & 1 && reach(v, i)) {
            mmu_write(v, la + part_offset(v, format, i), v->xsave + xstate_parts[i].at,
                      reach(v, i));
        }
    }
}

static enum ref_result save(struct vcpu *v, const struct insn *insn, uint64_t parts, uint64_t mxcsr,
                            uint64_t format)
{
    uint64_t la = sys_aligned_ea(v, insn, BASE_LEN, 64, true);

    mmu_check_write(v, la, area_size(v, format, parts));
    if (parts & XCR0_X87) {
        save_x87(v, la, is_wide(insn));
    }
    if (mxcsr) {
        mmu_write(v, la + FPU_MXCSR, v->xsave + FPU_MXCSR, 8);
    }
    if (parts & XCR0_SSE) {
        mmu_write(v, la + FPU_XMM0, v->xsave + FPU_XMM0, xmm_reach(v));
    }
    save_parts(v, la, parts, format);
    return REF_NEXT;
}

/* XSAVEC: 13.10 */
static enum ref_result save_compact(struct vcpu *v, const struct insn *insn)
{
    uint64_t asked = requested(v), parts = asked & sys_xstate_in_use(v);
    uint64_t la = ref_ea(v, insn, BASE_LEN, true);

    if (load_le32(v->xsave + FPU_MXCSR) != MXCSR_RESET) {
        parts |= asked & XCR0_SSE;
    }
    (void)save(v, insn, parts, parts & XCR0_SSE, asked | XCOMP_COMPACT);
    mmu_write64(v, la + FPU_XSTATE_BV, parts);
    mmu_write64(v, la + FPU_XCOMP_BV, asked | XCOMP_COMPACT);
    return REF_NEXT;
}

/* XSAVE, XSAVEOPT: 13.7, 13.9 */
static enum ref_result save_standard(struct vcpu *v, const struct insn *insn)
{
    uint64_t asked = requested(v), in_use = sys_xstate_in_use(v), old;
    uint64_t la = ref_ea(v, insn, BASE_LEN, true);

    (void)save(v, insn, insn->op == INSN_XSAVEOPT ? asked & in_use : asked,
               asked & (XCR0_SSE | XCR0_AVX), 0);
    old = mmu_read64(v, la + FPU_XSTATE_BV);
    mmu_write64(v, la + FPU_XSTATE_BV, (old & ~asked) | (asked & in_use));
    return REF_NEXT;
}

enum ref_result sys_xsave(struct vcpu *v, const struct insn *insn)
{
    need_xsave(v);
    return insn->op == INSN_XSAVEC ? save_compact(v, insn) : save_standard(v, insn);
}

/* --- restoring --- */

/* 13.8: what makes XRSTOR fault. */
static void check_header(struct vcpu *v, const uint8_t *area)
{
    uint64_t in_use = load_le64(area + FPU_XSTATE_BV);
    uint64_t format = load_le64(area + FPU_XCOMP_BV);
    bool bad;

    if (format & XCOMP_COMPACT) {
        bad = !(v->features & CPU_HAS(XSAVEC)) || (format & ~XCOMP_COMPACT & ~v->xcr0) ||
              (in_use & ~format) || !is_zero(area + FPU_XCOMP_BV + 8, HEADER_LEN - 16);
    } else {
        bad = format != 0 || (in_use & ~v->xcr0) || !is_zero(area + FPU_XCOMP_BV + 8, 8);
    }
    if (bad) {
        sys_gp(v, 0);
    }
}

static void restore_x87(struct vcpu *v, uint8_t *area, bool is_initial, bool wide)
{
    if (is_initial) {
        fpu_fninit(v);
        memset(v->xsave + FPU_ST0, 0, FPU_XMM0 - FPU_ST0);
        return;
    }
    if (!wide) {
        sys_narrow_pointers(area);
    }
    memcpy(v->xsave, area, FPU_MXCSR);
    memcpy(v->xsave + FPU_ST0, area + FPU_ST0, FPU_XMM0 - FPU_ST0);
    sys_settle_x87(v);
}

static void restore_part(struct vcpu *v, const uint8_t *from, unsigned part, bool is_initial)
{
    uint8_t *to = v->xsave + xstate_parts[part].at;

    if (is_initial) {
        memset(to, 0, reach(v, part));
    } else {
        memcpy(to, from, reach(v, part));
    }
}

/* Where MXCSR comes from: the standard format always has one for SSE and AVX, the compact one only
 * with SSE in use. */
static uint32_t new_mxcsr(struct vcpu *v, const uint8_t *area, uint64_t asked, uint64_t in_use,
                          bool is_compact)
{
    uint32_t value = load_le32(v->xsave + FPU_MXCSR);

    if (is_compact ? asked & in_use & XCR0_SSE : asked & (XCR0_SSE | XCR0_AVX)) {
        value = load_le32(area + FPU_MXCSR);
        sys_need_mxcsr(v, value);
    } else if (is_compact && asked & XCR0_SSE) {
        value = MXCSR_RESET;
    }
    return value;
}

enum ref_result sys_xrstor(struct vcpu *v, const struct insn *insn)
{
    uint8_t area[AREA_MAX];
    uint64_t asked = requested(v), in_use, format, la;
    uint32_t mxcsr;

    need_xsave(v);
    la = sys_aligned_ea(v, insn, BASE_LEN, 64, false);
    mmu_read(v, la, area, BASE_LEN);
    check_header(v, area);
    in_use = load_le64(area + FPU_XSTATE_BV);
    format = load_le64(area + FPU_XCOMP_BV);
    mxcsr = new_mxcsr(v, area, asked, in_use, format & XCOMP_COMPACT);
    for (unsigned i = XSTATE_FIRST; i < XSTATE_COUNT; i++) {
        if (asked & in_use & UINT64_C(1) << i && reach(v, i)) {
            uint32_t at = part_offset(v, format, i);

            mmu_read(v, la + at, area + xstate_parts[i].at, reach(v, i));
        }
    }
    store_le32(v->xsave + FPU_MXCSR, mxcsr);
    if (asked & XCR0_X87) {
        restore_x87(v, area, !(in_use & XCR0_X87), is_wide(insn));
    }
    if (asked & XCR0_SSE) {
        if (in_use & XCR0_SSE) {
            memcpy(v->xsave + FPU_XMM0, area + FPU_XMM0, xmm_reach(v));
        } else {
            memset(v->xsave + FPU_XMM0, 0, xmm_reach(v));
        }
    }
    for (unsigned i = XSTATE_FIRST; i < XSTATE_COUNT; i++) {
        if (asked >> i & 1) {
            restore_part(v, area + xstate_parts[i].at, i, !(in_use >> i & 1));
        }
    }
    return REF_NEXT;
}
