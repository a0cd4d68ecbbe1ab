/* cpuid.c — the CPUID model: leaves computed once from the host's, looked up linearly in order.
 *
 * Theory of operation.  Each leaf is built by a function that takes the host's registers and keeps
 * what the engine carries out.  Bit numbers are those of the SDM, volume 2, CPUID, and of AMD's
 * APM, volume 3, appendix E.  What is not listed reads as zero, as an absent leaf does within the
 * range; beyond the range the answer is that of the highest basic leaf on Intel and zero on AMD.
 *
 * Mitigations.  The engine separates guest user and kernel memory in software and carries out the
 * guest's indirect branches through its own dispatch, so the guest's mitigations for Meltdown, MDS,
 * L1TF, retbleed and the like would cost time and protect nothing: the bits that say "not affected"
 * are set.
 */
#include "hv/soft/cpu/cpuid.h"

#include <cpuid.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "hv/cpuid.h"
#include "hv/soft/cpu/fpu.h"
#include "hv/soft/cpu/xstate.h"
#include "x86/cr.h"
#include "x86/feature.h"

#define HV_BASE  0x40000000u
#define EXT_BASE 0x80000000u

struct cpuid_model {
    struct hv_cpuid_vm vm;
    bool is_amd;
    uint32_t max_basic, max_extended;
    struct xstate_layout xstate;
    uint64_t shown; /* cpuid_features() */
    struct hv_cpuid table;
};

enum { EAX, EBX, ECX, EDX };

/* Leaf 1: SSE3 PCLMUL SSSE3 FMA CX16 SSE4.1 SSE4.2 MOVBE POPCNT AES XSAVE AVX F16C RDRAND */
#define F1_ECX                                                                              \
    (BIT(0) | BIT(1) | BIT(9) | BIT(12) | BIT(13) | BIT(19) | BIT(20) | BIT(22) | BIT(23) | \
     BIT(25) | BIT(26) | BIT(28) | BIT(29) | BIT(30))
/* always: x2APIC, TSC deadline, hypervisor */
#define F1_ECX_OWN (BIT(21) | BIT(24) | BIT(31))
/* FPU DE PSE TSC MSR PAE CX8 APIC SEP MTRR PGE CMOV PAT PSE36 CLFSH MMX FXSR SSE SSE2 */
#define F1_EDX                                                                                   \
    (BIT(0) | BIT(2) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(8) | BIT(9) | BIT(11) | BIT(12) | \
     BIT(13) | BIT(15) | BIT(16) | BIT(17) | BIT(19) | BIT(23) | BIT(24) | BIT(25) | BIT(26))
/* Leaf 7: FSGSBASE BMI1 AVX2 BMI2 ERMS AVX512F AVX512DQ RDSEED ADX AVX512IFMA CLFLUSHOPT CLWB
 * AVX512CD SHA AVX512BW AVX512VL */
#define F7_EBX                                                                            \
    (BIT(0) | BIT(3) | BIT(5) | BIT(8) | BIT(9) | BIT(16) | BIT(17) | BIT(18) | BIT(19) | \
     BIT(21) | BIT(23) | BIT(24) | BIT(28) | BIT(29) | BIT(30) | BIT(31))
/* AVX512VBMI AVX512VBMI2 GFNI VAES VPCLMULQDQ AVX512VNNI AVX512BITALG AVX512VPOPCNTDQ RDPID */
#define F7_ECX (BIT(1) | BIT(6) | BIT(8) | BIT(9) | BIT(10) | BIT(11) | BIT(12) | BIT(14) | BIT(22))
/* FSRM */
#define F7_EDX BIT(4)
/* Subleaf 1: AVX512_BF16 */
#define F71_EAX BIT(5)
/* Leaf 0DH, subleaf 1: XSAVEOPT XSAVEC XGETBV1 */
#define FD1_EAX (BIT(0) | BIT(1) | BIT(2))
/* Intel: SPEC_CTRL and ARCH_CAPABILITIES exist */
#define F7_EDX_OWN_INTEL (BIT(26) | BIT(29))
/* 8000_0001: LAHF ABM 3DNOWPREFETCH; SYSCALL NX PDPE1GB RDTSCP LM */
#define FE1_ECX            (BIT(0) | BIT(5) | BIT(8))
#define FE1_EDX            (BIT(11) | BIT(20) | BIT(26) | BIT(27) | BIT(29))
#define FE1_ECX_CMP_LEGACY BIT(1)
#define FE1_EDX_MMXEXT     BIT(22)
/* bits of EDX that AMD repeats from leaf 1 */
#define FE1_EDX_AMD_COMMON UINT64_C(0x0183f3ff)
/* 8000_0008 EBX: SSB_NO, BTC_NO */
#define FE8_EBX_AMD (BIT(26) | BIT(29))
/* 8000_0021: LFENCE serialises, null selectors clear the base, automatic IBRS, SRSO_NO; TSA_SQ_NO
 * and TSA_L1_NO */
#define FE21_EAX (BIT(2) | BIT(6) | BIT(8) | BIT(29))
#define FE21_ECX (BIT(1) | BIT(2))
/* KVM: PIO needs no delay, clock source 2, clock source stable; with several vCPUs, waiters for a
 * spinlock can sleep (PV_UNHALT) */
#define KVM_FEATURES     (BIT(1) | BIT(3) | BIT(24))
#define KVM_FEATURES_SMP BIT(7)

#define EFER_AIBRSE (UINT64_C(1) << 21)

/* The table has more room than this file fills. */
static void add(struct cpuid_model *m, uint32_t leaf, int subleaf, const uint32_t regs[4])
{
    (void)hv_cpuid_add(&m->table, leaf, subleaf, regs);
}

static void host(uint32_t leaf, uint32_t subleaf, uint32_t regs[4])
{
    memset(regs, 0, 4 * sizeof(regs[0]));
    (void)__get_cpuid_count(leaf, subleaf, &regs[EAX], &regs[EBX], &regs[ECX], &regs[EDX]);
}

/* --- extensions, as sets --- */

static const struct {
    uint32_t leaf;
    uint8_t subleaf, reg, bit;
} features[CPU_FEATURE_COUNT] = {
#define X(name, leaf, subleaf, reg, bit) {leaf, subleaf, reg, bit},
    CPU_FEATURE_LIST(X)
#undef X
};

static uint64_t host_xcr0(void)
{
    uint32_t r[4], low, high;

    host(1, 0, r);
    if (!(r[ECX] & BIT(27))) { /* OSXSAVE */
        return XCR0_X87 | XCR0_SSE;
    }
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low | (uint64_t)high << 32;
}

static void build_vendor(struct cpuid_model *m)
{
    uint32_t r[4];

    host(0, 0, r);
    m->is_amd = r[EBX] == 0x68747541 || r[EBX] == 0x6f677948; /* "Auth", "Hygo" */
    m->max_basic = m->is_amd ? 0x0d : 0x16;
    r[EAX] = m->max_basic;
    add(m, 0, -1, r);
}

static void build_features7(struct cpuid_model *m)
{
    uint32_t r[4], max;

    host(7, 0, r);
    max = r[EAX] < 1 ? r[EAX] : 1;
    r[EAX] = max;
    r[EBX] &= (uint32_t)F7_EBX;
    r[ECX] &= (uint32_t)F7_ECX;
    r[EDX] &= (uint32_t)F7_EDX;
    if (!m->is_amd) {
        r[EDX] |= (uint32_t)F7_EDX_OWN_INTEL;
    }
    add(m, 7, 0, r);
    if (max == 1) {
        host(7, 1, r);
        add(m, 7, 1, (uint32_t[4]){r[EAX] & (uint32_t)F71_EAX});
    }
}

static void build_features(struct cpuid_model *m)
{
    uint32_t r[4];

    host(1, 0, r);
    r[EBX] = 0;
    r[ECX] = (r[ECX] & (uint32_t)F1_ECX) | (uint32_t)F1_ECX_OWN;
    r[EDX] &= (uint32_t)F1_EDX;
    add(m, 1, -1, r);

    build_features7(m);
}

static uint64_t find_features(struct cpuid_model *m)
{
    uint64_t set = 0;

    for (unsigned i = 0; i < CPU_FEATURE_COUNT; i++) {
        const struct hv_cpuid_entry *l =
            hv_cpuid_find(&m->table, features[i].leaf, features[i].subleaf);

        if (l && l->regs[features[i].reg] >> features[i].bit & 1) {
            set |= UINT64_C(1) << i;
        }
    }
    return set;
}

/* What needs XCR0 goes if the host's own kernel does not have it, AVX-512 also if one of its five
 * parts is missing that x86-64-v4 has together. */
static void drop_features(struct cpuid_model *m, uint64_t gone)
{
    for (unsigned i = 0; i < CPU_FEATURE_COUNT; i++) {
        struct hv_cpuid_entry *l = hv_cpuid_find(&m->table, features[i].leaf, features[i].subleaf);

        if (l && gone >> i & 1) {
            l->regs[features[i].reg] &= ~(1u << features[i].bit);
        }
    }
}

static void check_features(struct cpuid_model *m)
{
    uint64_t xcr0 = host_xcr0(), shown;

    shown = find_features(m);
    m->xstate.mask = XCR0_X87 | XCR0_SSE;
    if (!(shown & CPU_HAS(XSAVE)) || !(shown & CPU_HAS(AVX)) ||
        (xcr0 & XCR0_AVX_ALL) != XCR0_AVX_ALL) {
        drop_features(m, CPU_NEEDS_AVX);
    } else if ((xcr0 & XCR0_AVX512_ALL) != XCR0_AVX512_ALL || (shown & CPU_AVX512) != CPU_AVX512) {
        drop_features(m, CPU_NEEDS_AVX512);
        m->xstate.mask |= XCR0_AVX_ALL;
    } else {
        m->xstate.mask |= XCR0_AVX512_ALL;
    }
}

static void find_layout(struct xstate_layout *x)
{
    uint32_t r[4];

    for (unsigned i = XSTATE_FIRST; i < XSTATE_COUNT; i++) {
        if (xstate_parts[i].size) {
            host(0xd, i, r);
            x->offset[i] = r[EBX];
            x->aligned |= (uint64_t)(r[ECX] >> 1 & 1) << i;
        }
    }
}

/* Leaf 0DH; sizes that follow XCR0 are put in when it is asked for. */
static void build_xsave(struct cpuid_model *m)
{
    uint32_t r[4];

    for (unsigned i = XSTATE_FIRST; i < XSTATE_COUNT; i++) {
        if (m->xstate.mask >> i & 1) {
            add(m, 0xd, (int)i,
                (uint32_t[4]){xstate_parts[i].size, m->xstate.offset[i],
                              (uint32_t)(m->xstate.aligned >> i & 1) << 1});
        }
    }
    add(m, 0xd, 0,
        (uint32_t[4]){(uint32_t)m->xstate.mask, 0,
                      xstate_standard_size(&m->xstate, m->xstate.mask)});
    host(0xd, 1, r);
    add(m, 0xd, 1, (uint32_t[4]){r[EAX] & (uint32_t)FD1_EAX});
}

/* Intel's caches; hv/cpuid.h says who shares them. */
static void build_caches(struct cpuid_model *m)
{
    uint32_t r[4];

    if (m->is_amd) {
        return;
    }
    host(2, 0, r);
    add(m, 2, -1, r);
    for (int i = 0; i < 4; i++) {
        host(4, (uint32_t)i, r);
        if (!(r[EAX] & 31)) {
            break;
        }
        add(m, 4, i, r);
    }
}

static void build_topology(struct cpuid_model *m)
{
    add(m, 6, -1, (uint32_t[4]){4});  /* ARAT: the APIC timer never stops */
    add(m, 0xb, 0, (uint32_t[4]){0}); /* is shaped */
}

static void build_clocks(struct cpuid_model *m, uint32_t tsc_khz)
{
    if (!m->is_amd) {
        /* the "crystal" is what drives the APIC timer */
        add(m, 0x15, -1, (uint32_t[4]){CPUID_APIC_KHZ, tsc_khz, CPUID_APIC_KHZ * 1000, 0});
        add(m, 0x16, -1, (uint32_t[4]){tsc_khz / 1000, tsc_khz / 1000, 100, 0});
    }
}

static void build_hypervisor(struct cpuid_model *m, uint32_t tsc_khz)
{
    uint32_t r[4] = {HV_BASE + 0x10};

    memcpy(&r[EBX], "KVMKVMKVM\0\0\0", 12);
    add(m, HV_BASE, -1, r);
    add(m, HV_BASE + 1, -1,
        (uint32_t[4]){(uint32_t)(KVM_FEATURES | (m->vm.vcpu_count > 1 ? KVM_FEATURES_SMP : 0))});
    add(m, HV_BASE + 0x10, -1, (uint32_t[4]){tsc_khz, CPUID_APIC_KHZ});
}

static void build_extended(struct cpuid_model *m)
{
    uint32_t r[4];
    uint32_t common;

    m->max_extended = EXT_BASE + (m->is_amd ? 0x21 : 8);
    host(EXT_BASE, 0, r);
    r[EAX] = m->max_extended;
    add(m, EXT_BASE, -1, r);

    host(1, 0, r);
    common = m->is_amd ? r[EDX] & (uint32_t)(F1_EDX & FE1_EDX_AMD_COMMON) : 0;
    host(EXT_BASE + 1, 0, r);
    r[ECX] &= (uint32_t)FE1_ECX;
    r[EDX] = (r[EDX] & (uint32_t)FE1_EDX) | (uint32_t)BIT(26); /* 1 GiB pages are ours */
    if (m->is_amd) {
        host(EXT_BASE + 1, 0, r);
        r[EDX] = (r[EDX] & (uint32_t)(FE1_EDX | FE1_EDX_MMXEXT)) | (uint32_t)BIT(26) | common;
        r[ECX] &= (uint32_t)FE1_ECX;
        if (m->vm.vcpu_count > 1) {
            r[ECX] |= (uint32_t)FE1_ECX_CMP_LEGACY;
        }
    }
    add(m, EXT_BASE + 1, -1, r);
    for (uint32_t i = 2; i <= 6; i++) { /* brand string, caches of AMD and level 2 of Intel */
        host(EXT_BASE + i, 0, r);
        add(m, EXT_BASE + i, -1, r);
    }
    add(m, EXT_BASE + 7, -1, (uint32_t[4]){[EDX] = (uint32_t)BIT(8)}); /* invariant TSC */
}

static void build_extended_amd(struct cpuid_model *m)
{
    uint32_t r[4] = {CPU_PHYS_BITS | 48 << 8};

    if (m->is_amd) {
        r[EBX] = (uint32_t)FE8_EBX_AMD;
    }
    add(m, EXT_BASE + 8, -1, r);
    if (m->is_amd) {
        add(m, EXT_BASE + 0x21, -1,
            (uint32_t[4]){[EAX] = (uint32_t)FE21_EAX, [ECX] = (uint32_t)FE21_ECX});
    }
}

/* What a template may have broken: no feature beyond what the engine has, none without its part of
 * XCR0, and the leaf of XCR0 says what is allowed. */
static void settle(struct cpuid_model *m, uint64_t supported)
{
    struct hv_cpuid_entry *l = hv_cpuid_find(&m->table, 0xd, 0);
    uint64_t wanted = l ? l->regs[EAX] : 0;
    uint64_t shown;

    drop_features(m, ~supported);
    shown = find_features(m);
    if ((wanted & XCR0_AVX512_ALL) != XCR0_AVX512_ALL || (shown & CPU_AVX512) != CPU_AVX512) {
        m->xstate.mask &= ~(uint64_t)(XCR0_AVX512_ALL & ~XCR0_AVX_ALL);
        drop_features(m, CPU_NEEDS_AVX512);
    }
    if ((wanted & XCR0_AVX_ALL) != XCR0_AVX_ALL || !(shown & CPU_HAS(AVX)) ||
        !(shown & CPU_HAS(XSAVE))) {
        m->xstate.mask = XCR0_X87 | XCR0_SSE;
        drop_features(m, CPU_NEEDS_AVX);
    }
    if (l) {
        l->regs[EAX] = (uint32_t)m->xstate.mask;
        l->regs[ECX] = xstate_standard_size(&m->xstate, m->xstate.mask);
    }
    m->shown = find_features(m);
}

static void build(struct cpuid_model *m, uint32_t tsc_khz)
{
    build_vendor(m);
    build_features(m);
    build_caches(m);
    build_topology(m);
    build_clocks(m, tsc_khz);
    build_hypervisor(m, tsc_khz);
    build_extended(m);
    build_extended_amd(m);
    check_features(m);
    find_layout(&m->xstate);
    if (find_features(m) & CPU_HAS(XSAVE)) {
        build_xsave(m);
    }
}

int cpuid_model_new(const struct hv_cpuid_vm *vm, uint32_t tsc_khz, struct cpuid_model **ret_model,
                    struct err *err)
{
    struct cpuid_model *m = calloc(1, sizeof(*m));
    uint64_t supported;
    int r;

    if (!m) {
        return err_set(err, -ENOMEM, "CPUID model: out of memory");
    }
    m->vm = *vm;
    build(m, tsc_khz);
    supported = find_features(m);
    r = hv_cpuid_shape(&m->table, &m->vm, err);
    if (r < 0) {
        free(m);
        return r;
    }
    settle(m, supported);
    *ret_model = m;
    return 0;
}

void cpuid_model_free(struct cpuid_model *model)
{
    free(model);
}

const struct hv_cpuid *cpuid_table(const struct cpuid_model *model)
{
    return &model->table;
}

/* A leaf beyond the range: Intel repeats its highest basic leaf. */
static bool is_out_of_range(const struct cpuid_model *m, uint32_t leaf)
{
    if (leaf >= EXT_BASE) {
        return leaf > m->max_extended;
    }
    if (leaf >= HV_BASE && leaf < HV_BASE + 0x100) {
        return false;
    }
    return leaf > m->max_basic;
}

void cpuid_query(const struct vcpu *v, uint32_t leaf, uint32_t subleaf, uint32_t ret_regs[4])
{
    const struct cpuid_model *m = v->cpuid;
    const struct hv_cpuid_entry *l;

    if (!m->is_amd && is_out_of_range(m, leaf)) {
        leaf = m->max_basic;
    }
    l = hv_cpuid_find_const(&m->table, leaf, subleaf);
    memset(ret_regs, 0, 4 * sizeof(ret_regs[0]));
    if (l) {
        memcpy(ret_regs, l->regs, sizeof(l->regs));
    }
    if (l || leaf == 0xb) {
        hv_cpuid_patch_id(&m->vm, v->index, leaf, ret_regs);
    }
    if (leaf == 1) {
        ret_regs[ECX] |= v->cr4 & CR4_OSXSAVE ? (uint32_t)BIT(27) : 0;
    } else if (leaf == 0xd && subleaf == 0) {
        ret_regs[EBX] = l ? xstate_standard_size(&m->xstate, v->xcr0) : 0;
    } else if (leaf == 0xd && subleaf >= XSTATE_FIRST && subleaf < XSTATE_COUNT &&
               !(m->xstate.mask >> subleaf & 1)) {
        memset(ret_regs, 0, 4 * sizeof(ret_regs[0])); /* a template took the part away */
    } else if (leaf == 0xd && subleaf == 1 && ret_regs[EAX] & (uint32_t)BIT(1)) {
        ret_regs[EBX] = xstate_compact_size(&m->xstate, v->xcr0);
    } else if (leaf == 0xb) {
        ret_regs[ECX] |= subleaf & 0xff;
    }
}

/* Those of the host, without what its kernel does not let programs use. */
static uint64_t host_features(void)
{
    uint64_t set = 0, xcr0 = host_xcr0();
    uint32_t r[4];

    for (unsigned i = 0; i < CPU_FEATURE_COUNT; i++) {
        host(features[i].leaf, features[i].subleaf, r);
        if (r[features[i].reg] >> features[i].bit & 1) {
            set |= UINT64_C(1) << i;
        }
    }
    if ((xcr0 & XCR0_AVX_ALL) != XCR0_AVX_ALL) {
        set &= ~CPU_NEEDS_AVX;
    }
    if ((xcr0 & XCR0_AVX512_ALL) != XCR0_AVX512_ALL || (set & CPU_AVX512) != CPU_AVX512) {
        set &= ~CPU_NEEDS_AVX512;
    }
    return set;
}

uint64_t cpuid_features(const struct cpuid_model *model)
{
    return model ? model->shown : host_features();
}

uint64_t cpuid_template_msr(const struct cpuid_model *model, uint32_t index, uint64_t value)
{
    const struct cpu_template *template = model->vm.template;

    for (size_t i = 0; template && i < template->msr_count; i++) {
        if (template->msrs[i].index == index) {
            value = (value & ~template->msrs[i].mask) | template->msrs[i].value;
        }
    }
    return value;
}

bool cpuid_is_amd(const struct cpuid_model *model)
{
    return model->is_amd;
}

uint64_t cpuid_cr4_allowed(const struct cpuid_model *model)
{
    uint64_t shown = cpuid_features(model);

    return (shown & CPU_HAS(XSAVE) ? CR4_OSXSAVE : 0) |
           (shown & CPU_HAS(FSGSBASE) ? CR4_FSGSBASE : 0) | CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE |
           CR4_MCE | CR4_PGE | CR4_PCE | CR4_OSFXSR | CR4_OSXMMEXCPT;
}

uint64_t cpuid_efer_allowed(const struct cpuid_model *model)
{
    return EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE | (model->is_amd ? EFER_AIBRSE : 0);
}

uint64_t cpuid_xcr0_allowed(const struct cpuid_model *model)
{
    return model->xstate.mask;
}

const struct xstate_layout *cpuid_xstate(const struct cpuid_model *model)
{
    return &model->xstate;
}
