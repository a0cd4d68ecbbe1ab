/* msr.h — numbers of model-specific registers: SDM volume 4, table 2-2; AMD APM volume 2,
 * appendix A. */
#pragma once

#define MSR_TSC                0x00000010u
#define MSR_PLATFORM_ID        0x00000017u
#define MSR_APIC_BASE          0x0000001bu
#define MSR_FEATURE_CONTROL    0x0000003au
#define MSR_TSC_ADJUST         0x0000003bu
#define MSR_SPEC_CTRL          0x00000048u
#define MSR_PRED_CMD           0x00000049u
#define MSR_UCODE_WRITE        0x00000079u
#define MSR_UCODE_REV          0x0000008bu
#define MSR_PMC0               0x000000c1u /* 8 of them */
#define MSR_PLATFORM_INFO      0x000000ceu
#define MSR_UMWAIT_CONTROL     0x000000e1u
#define MSR_MTRR_CAP           0x000000feu
#define MSR_ARCH_CAPABILITIES  0x0000010au
#define MSR_FLUSH_CMD          0x0000010bu
#define MSR_TSX_CTRL           0x00000122u
#define MSR_MISC_FEATURES      0x00000140u
#define MSR_SYSENTER_CS        0x00000174u
#define MSR_SYSENTER_ESP       0x00000175u
#define MSR_SYSENTER_EIP       0x00000176u
#define MSR_MCG_CAP            0x00000179u
#define MSR_MCG_STATUS         0x0000017au
#define MSR_MCG_CTL            0x0000017bu
#define MSR_PERFEVTSEL0        0x00000186u /* 8 of them */
#define MSR_MISC_ENABLE        0x000001a0u
#define MSR_XFD                0x000001c4u
#define MSR_XFD_ERR            0x000001c5u
#define MSR_DEBUGCTL           0x000001d9u
#define MSR_MTRR_PHYS_BASE0    0x00000200u /* base, mask, base, mask ... 8 pairs */
#define MSR_MTRR_FIX64K_00000  0x00000250u
#define MSR_MTRR_FIX16K_80000  0x00000258u
#define MSR_MTRR_FIX16K_A0000  0x00000259u
#define MSR_MTRR_FIX4K_C0000   0x00000268u /* to 0x26f */
#define MSR_PAT                0x00000277u
#define MSR_MTRR_DEF_TYPE      0x000002ffu
#define MSR_FIXED_CTR0         0x00000309u /* 3 of them */
#define MSR_FIXED_CTR_CTRL     0x0000038du
#define MSR_GLOBAL_CTRL        0x0000038fu
#define MSR_MC0_CTL            0x00000400u
#define MSR_TSC_DEADLINE       0x000006e0u
#define MSR_XSS                0x00000da0u
#define MSR_X2APIC_FIRST       0x00000800u /* SDM volume 3, table 11-6 */
#define MSR_X2APIC_LAST        0x0000083fu
#define MSR_EFER               0xc0000080u
#define MSR_STAR               0xc0000081u
#define MSR_LSTAR              0xc0000082u
#define MSR_CSTAR              0xc0000083u
#define MSR_SFMASK             0xc0000084u
#define MSR_FS_BASE            0xc0000100u
#define MSR_GS_BASE            0xc0000101u
#define MSR_KERNEL_GS_BASE     0xc0000102u
#define MSR_TSC_AUX            0xc0000103u
#define MSR_AMD_SYSCFG         0xc0010010u
#define MSR_AMD_HWCR           0xc0010015u
#define MSR_AMD_NB_CFG         0xc001001fu
#define MSR_AMD_PATCH_LEVEL    0x0000008bu
#define MSR_AMD_VM_CR          0xc0010114u
#define MSR_AMD_VIRT_SPEC_CTRL 0xc001011fu
#define MSR_AMD_OSVW_LENGTH    0xc0010140u
#define MSR_AMD_OSVW_STATUS    0xc0010141u
#define MSR_AMD_PERF_CTL0      0xc0010200u /* control, counter, ... 6 pairs */
#define MSR_AMD_LS_CFG         0xc0011020u
#define MSR_AMD_DE_CFG         0xc0011029u

/* Paravirtual clock of KVM guests: Linux, Documentation/virt/kvm/x86/msr.rst. */
#define MSR_KVM_WALL_CLOCK      0x00000011u /* the old pair */
#define MSR_KVM_SYSTEM_TIME     0x00000012u
#define MSR_KVM_WALL_CLOCK_NEW  0x4b564d00u
#define MSR_KVM_SYSTEM_TIME_NEW 0x4b564d01u
#define MSR_KVM_ASYNC_PF_EN     0x4b564d02u
#define MSR_KVM_STEAL_TIME      0x4b564d03u
#define MSR_KVM_PV_EOI_EN       0x4b564d04u
#define MSR_KVM_POLL_CONTROL    0x4b564d05u
#define MSR_KVM_ASYNC_PF_INT    0x4b564d06u
