/* feature.h — extensions of the instruction set that CPUID shows one by one.
 *
 * X(name, leaf, subleaf, register, bit); register 0 to 3: EAX EBX ECX EDX.  SDM volume 2, CPUID;
 * 8000_0001H: AMD's APM volume 3, appendix E.  Only what instructions can be told apart by is here.
 */
#pragma once

#include <stdint.h>

#define CPU_FEATURE_LIST(X)         \
    X(PCLMUL, 1, 0, 2, 1)           \
    X(FMA, 1, 0, 2, 12)             \
    X(MOVBE, 1, 0, 2, 22)           \
    X(AES, 1, 0, 2, 25)             \
    X(XSAVE, 1, 0, 2, 26)           \
    X(AVX, 1, 0, 2, 28)             \
    X(F16C, 1, 0, 2, 29)            \
    X(RDRAND, 1, 0, 2, 30)          \
    X(FSGSBASE, 7, 0, 1, 0)         \
    X(BMI1, 7, 0, 1, 3)             \
    X(AVX2, 7, 0, 1, 5)             \
    X(BMI2, 7, 0, 1, 8)             \
    X(INVPCID, 7, 0, 1, 10)         \
    X(AVX512F, 7, 0, 1, 16)         \
    X(AVX512DQ, 7, 0, 1, 17)        \
    X(RDSEED, 7, 0, 1, 18)          \
    X(ADX, 7, 0, 1, 19)             \
    X(AVX512IFMA, 7, 0, 1, 21)      \
    X(CLFLUSHOPT, 7, 0, 1, 23)      \
    X(CLWB, 7, 0, 1, 24)            \
    X(AVX512CD, 7, 0, 1, 28)        \
    X(SHA, 7, 0, 1, 29)             \
    X(AVX512BW, 7, 0, 1, 30)        \
    X(AVX512VL, 7, 0, 1, 31)        \
    X(AVX512VBMI, 7, 0, 2, 1)       \
    X(AVX512VBMI2, 7, 0, 2, 6)      \
    X(GFNI, 7, 0, 2, 8)             \
    X(VAES, 7, 0, 2, 9)             \
    X(VPCLMUL, 7, 0, 2, 10)         \
    X(AVX512VNNI, 7, 0, 2, 11)      \
    X(AVX512BITALG, 7, 0, 2, 12)    \
    X(AVX512VPOPCNTDQ, 7, 0, 2, 14) \
    X(RDPID, 7, 0, 2, 22)           \
    X(AVX512BF16, 7, 1, 0, 5)       \
    X(XSAVEOPT, 0xd, 1, 0, 0)       \
    X(XSAVEC, 0xd, 1, 0, 1)         \
    X(XGETBV1, 0xd, 1, 0, 2)        \
    X(LZCNT, 0x80000001, 0, 2, 5)

enum cpu_feature {
#define X(name, leaf, subleaf, reg, bit) CPU_FEATURE_##name,
    CPU_FEATURE_LIST(X)
#undef X
        CPU_FEATURE_COUNT
};

_Static_assert(CPU_FEATURE_COUNT <= 64, "a set fits a word");

/* A set with this one in it; sets are joined with |. */
#define CPU_HAS(name) (UINT64_C(1) << CPU_FEATURE_##name)
#define CPU_HAS_ALL   UINT64_MAX

/* Useless without XCR0's bits for YMM, and for opmasks and ZMM. */
#define CPU_NEEDS_AVX                                                              \
    (CPU_HAS(AVX) | CPU_HAS(AVX2) | CPU_HAS(FMA) | CPU_HAS(F16C) | CPU_HAS(VAES) | \
     CPU_HAS(VPCLMUL) | CPU_NEEDS_AVX512)
#define CPU_NEEDS_AVX512                                                             \
    (CPU_AVX512 | CPU_HAS(AVX512IFMA) | CPU_HAS(AVX512VBMI) | CPU_HAS(AVX512VBMI2) | \
     CPU_HAS(AVX512VNNI) | CPU_HAS(AVX512BITALG) | CPU_HAS(AVX512VPOPCNTDQ) | CPU_HAS(AVX512BF16))
/* Come together, as in x86-64-v4. */
#define CPU_AVX512                                                                  \
    (CPU_HAS(AVX512F) | CPU_HAS(AVX512BW) | CPU_HAS(AVX512CD) | CPU_HAS(AVX512DQ) | \
     CPU_HAS(AVX512VL))
