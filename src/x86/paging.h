/* paging.h — page table entries and page-fault error codes: SDM volume 3, chapter 4. */
#pragma once

#include <stdint.h>

/* Entries of all formats: tables 4-4 to 4-6 and 4-8 to 4-20. */
#define PTE_P      UINT64_C(0x001)
#define PTE_RW     UINT64_C(0x002)
#define PTE_US     UINT64_C(0x004)
#define PTE_PWT    UINT64_C(0x008)
#define PTE_PCD    UINT64_C(0x010)
#define PTE_A      UINT64_C(0x020)
#define PTE_D      UINT64_C(0x040)
#define PTE_PS     UINT64_C(0x080) /* in a directory entry: it maps a large page */
#define PTE_G      UINT64_C(0x100)
#define PTE_XD     (UINT64_C(1) << 63)
#define PTE_ADDR   UINT64_C(0x000ffffffffff000)
#define PTE_ADDR32 UINT64_C(0xfffff000)

/* Page-fault error code: figure 4-12. */
#define PFEC_P    0x01u
#define PFEC_W    0x02u
#define PFEC_U    0x04u
#define PFEC_RSVD 0x08u
#define PFEC_I    0x10u
