/* msrs.c — the model-specific registers that Linux touches, with values of a plain machine.
 *
 * Unknown registers raise #GP(0); kernels probe for them.  Memory types are stored and have no
 * effect: RAM is always write-back, devices are always uncached.
 */
#include "hv/soft/cpu/msrs.h"

#include "base/bits.h"
#include "hv/soft/cpu/cpuid.h"
#include "hv/soft/cpu/regs.h"
#include "x86/msr.h"

#define MTRR_VAR_COUNT 8
#define MTRR_CAP       (MTRR_VAR_COUNT | 0x100 | 0x400) /* fixed ranges, write-combining */
#define PHYS_MASK      ((UINT64_C(1) << CPU_PHYS_BITS) - 1)

/* ARCH_CAPABILITIES: RDCL_NO IBRS_ALL SKIP_L1DFL_VMENTRY SSB_NO MDS_NO PSCHANGE_MC_NO TAA_NO
 * SBDR_SSDP_NO FBSDP_NO PSDP_NO BHI_NO PBRSB_NO GDS_NO RFDS_NO ITS_NO (SDM volume 4, table 2-2) */
#define ARCH_CAPS                                                                                 \
    (BIT(0) | BIT(1) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(8) | BIT(13) | BIT(14) | BIT(15) | \
     BIT(20) | BIT(24) | BIT(26) | BIT(27) | BIT(62))

/* Registers that are plain storage: number, place, bits that may be set (others: #GP). */
static uint64_t *plain(struct vcpu *v, uint32_t index, uint64_t *ret_mask)
{
    *ret_mask = UINT64_MAX;
    switch (index) {
    case MSR_STAR: return &v->star;
    case MSR_SYSENTER_CS: return &v->sysenter[0];
    case MSR_SFMASK: *ret_mask = UINT32_MAX; return &v->sfmask;
    case MSR_TSC_AUX: *ret_mask = UINT32_MAX; return &v->tsc_aux;
    case MSR_MISC_ENABLE: return &v->misc_enable;
    default: return NULL;
    }
}

/* Registers that hold linear addresses, checked to be canonical. */
static uint64_t *address(struct vcpu *v, uint32_t index)
{
    switch (index) {
    case MSR_LSTAR: return &v->lstar;
    case MSR_CSTAR: return &v->cstar;
    case MSR_FS_BASE: return &v->seg[SEG_FS].base;
    case MSR_GS_BASE: return &v->seg[SEG_GS].base;
    case MSR_KERNEL_GS_BASE: return &v->kernel_gs_base;
    case MSR_SYSENTER_ESP: return &v->sysenter[1];
    case MSR_SYSENTER_EIP: return &v->sysenter[2];
    default: return NULL;
    }
}

static bool is_memory_type(uint64_t type, bool is_pat)
{
    return type <= 7 && (BIT(type) & (is_pat ? 0xf3 : 0x73)) != 0;
}

static bool are_memory_types(uint64_t value, bool is_pat)
{
    for (unsigned i = 0; i < 8; i++, value >>= 8) {
        if (!is_memory_type(value & 0xff, is_pat)) {
            return false;
        }
    }
    return true;
}

/* Place of a fixed-range MTRR, in the order of SDM volume 3, table 12-9. */
static uint64_t *mtrr_fixed(struct vcpu *v, uint32_t index)
{
    if (index == MSR_MTRR_FIX64K_00000) {
        return &v->mtrr_fixed[0];
    }
    if (index == MSR_MTRR_FIX16K_80000 || index == MSR_MTRR_FIX16K_A0000) {
        return &v->mtrr_fixed[1 + index - MSR_MTRR_FIX16K_80000];
    }
    if (index >= MSR_MTRR_FIX4K_C0000 && index < MSR_MTRR_FIX4K_C0000 + 8) {
        return &v->mtrr_fixed[3 + index - MSR_MTRR_FIX4K_C0000];
    }
    return NULL;
}

static uint64_t *mtrr_var(struct vcpu *v, uint32_t index)
{
    uint32_t at = index - MSR_MTRR_PHYS_BASE0;

    return at < 2 * MTRR_VAR_COUNT ? &v->mtrr_var[at] : NULL;
}

static bool write_mtrr_var(uint64_t *place, uint32_t index, uint64_t value)
{
    bool is_mask = index & 1;
    uint64_t allowed = (PHYS_MASK & ~UINT64_C(0xfff)) | (is_mask ? 0x800 : 0xff);

    if ((value & ~allowed) || (!is_mask && !is_memory_type(value & 0xff, false))) {
        return false;
    }
    *place = value;
    return true;
}

/* Registers with one fixed answer; writes are taken and forgotten where the second column says. */
static bool fixed(const struct vcpu *v, uint32_t index, uint64_t *ret_value, bool *ret_writable)
{
    bool is_amd = cpuid_is_amd(v->cpuid);

    *ret_value = 0;
    *ret_writable = true;
    switch (index) {
    case MSR_UCODE_REV: *ret_value = is_amd ? 0x01000065 : UINT64_C(0x100000000); return true;
    case MSR_UCODE_WRITE:
    case MSR_DEBUGCTL:
    case MSR_MCG_STATUS: return true;
    case MSR_MTRR_CAP: *ret_value = MTRR_CAP; break;
    case MSR_MCG_CAP: break;
    case MSR_PLATFORM_ID:
    case MSR_PLATFORM_INFO:
        if (is_amd) {
            return false;
        }
        break;
    case MSR_FEATURE_CONTROL:
        if (is_amd) {
            return false;
        }
        *ret_value = 1; /* locked, nothing enabled */
        break;
    case MSR_ARCH_CAPABILITIES:
        if (is_amd) {
            return false;
        }
        *ret_value = ARCH_CAPS;
        break;
    case MSR_SPEC_CTRL:
    case MSR_PRED_CMD:
    case MSR_FLUSH_CMD: return !is_amd;
    case MSR_AMD_SYSCFG:
    case MSR_AMD_OSVW_LENGTH:
    case MSR_AMD_OSVW_STATUS: return is_amd;
    case MSR_AMD_NB_CFG: *ret_value = BIT(46); return is_amd; /* extended configuration space */
    case MSR_AMD_HWCR: *ret_value = BIT(24); return is_amd;   /* the TSC runs at P0's rate */
    case MSR_AMD_DE_CFG: *ret_value = BIT(1); return is_amd;  /* LFENCE serialises */
    default: return false;
    }
    *ret_writable = false;
    return true;
}

bool msr_read(struct vcpu *v, uint32_t index, uint64_t *ret_value)
{
    uint64_t mask;
    const uint64_t *place;
    bool fault = false;
    bool writable;

    if (v->platform->rdmsr(v, index, ret_value, &fault)) {
        return !fault;
    }
    place = plain(v, index, &mask);
    place = place ? place : address(v, index);
    place = place ? place : mtrr_fixed(v, index);
    place = place ? place : mtrr_var(v, index);
    if (place) {
        *ret_value = *place;
        return true;
    }
    switch (index) {
    case MSR_EFER: *ret_value = v->efer; return true;
    case MSR_PAT: *ret_value = v->pat; return true;
    case MSR_MTRR_DEF_TYPE: *ret_value = v->mtrr_def; return true;
    default: break;
    }
    if (!fixed(v, index, ret_value, &writable)) {
        return false;
    }
    *ret_value = cpuid_template_msr(v->cpuid, index, *ret_value);
    return true;
}

static bool write_typed(struct vcpu *v, uint32_t index, uint64_t value)
{
    uint64_t *place = mtrr_fixed(v, index);

    if (place) {
        if (are_memory_types(value, false)) {
            *place = value;
            return true;
        }
        return false;
    }
    place = mtrr_var(v, index);
    if (place) {
        return write_mtrr_var(place, index, value);
    }
    if (index == MSR_PAT && are_memory_types(value, true)) {
        v->pat = value;
        return true;
    }
    if (index == MSR_MTRR_DEF_TYPE && !(value & ~UINT64_C(0xcff)) &&
        is_memory_type(value & 0xff, false)) {
        v->mtrr_def = value;
        return true;
    }
    return false;
}

bool msr_write(struct vcpu *v, uint32_t index, uint64_t value, unsigned *ret_effects)
{
    uint64_t mask;
    uint64_t ignored;
    uint64_t *place;
    bool fault = false;
    bool writable;

    *ret_effects = 0;
    if (v->platform->wrmsr(v, index, value, &fault)) {
        return !fault;
    }
    place = plain(v, index, &mask);
    if (place) {
        if (!(value & ~mask)) {
            *place = value;
        }
        return !(value & ~mask);
    }
    place = address(v, index);
    if (place) {
        if (vcpu_is_canonical(value)) {
            *place = value;
        }
        return vcpu_is_canonical(value);
    }
    if (index == MSR_EFER) {
        return vcpu_write_efer(v, value, ret_effects);
    }
    return write_typed(v, index, value) || (fixed(v, index, &ignored, &writable) && writable);
}

unsigned msr_state_list(const uint32_t **ret_list)
{
    static const uint32_t list[] = {
        MSR_TSC, MSR_STAR, MSR_LSTAR, MSR_CSTAR, MSR_SFMASK, MSR_KERNEL_GS_BASE, MSR_TSC_AUX,
        MSR_SYSENTER_CS, MSR_SYSENTER_ESP, MSR_SYSENTER_EIP, MSR_PAT, MSR_MISC_ENABLE,
        MSR_MTRR_DEF_TYPE, MSR_MTRR_FIX64K_00000, MSR_MTRR_FIX16K_80000, MSR_MTRR_FIX16K_A0000,
        /* eight fixed ranges of 4 KiB, eight pairs of variable ones */
        0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f, 0x200, 0x201, 0x202, 0x203, 0x204,
        0x205, 0x206, 0x207, 0x208, 0x209, 0x20a, 0x20b, 0x20c, 0x20d, 0x20e, 0x20f,
        MSR_TSC_DEADLINE, MSR_KVM_WALL_CLOCK_NEW, MSR_KVM_SYSTEM_TIME_NEW};

    _Static_assert(ARRAY_LEN(list) <= CPU_MSR_MAX, "fits into struct cpu_state");
    *ret_list = list;
    return ARRAY_LEN(list);
}
