/* segments.h — segment descriptors: taking them apart and loading hidden parts. */
#pragma once

#include "hv/soft/cpu/vcpu.h"

/* Types of system descriptors: SDM volume 3, table 3-2. */
enum desc_type {
    DESC_TSS16_FREE = 1,
    DESC_LDT = 2,
    DESC_TSS16_BUSY = 3,
    DESC_CALL16 = 4,
    DESC_TASK_GATE = 5,
    DESC_INT16 = 6,
    DESC_TRAP16 = 7,
    DESC_TSS_FREE = 9,
    DESC_TSS_BUSY = 11,
    DESC_CALL = 12,
    DESC_INT = 14,
    DESC_TRAP = 15,
};

/* Bits of `attr` of code and data segments. */
#define SEG_TYPE_ACCESSED   0x1u
#define SEG_TYPE_WRITABLE   0x2u /* data */
#define SEG_TYPE_READABLE   0x2u /* code */
#define SEG_TYPE_CONFORMING 0x4u /* code */
#define SEG_TYPE_DOWN       0x4u /* data: expands down */
#define SEG_TYPE_CODE       0x8u

/* The segment that an 8-byte descriptor describes. */
struct cpu_segment segment_unpack(uint16_t selector, uint64_t descriptor);
/* The descriptor of a segment: limit and attributes back in place (for tests and boot code). */
uint64_t segment_pack(const struct cpu_segment *segment);

static inline unsigned segment_dpl(uint32_t attr)
{
    return (attr & SEG_ATTR_DPL) >> 5;
}

static inline bool segment_is_code(uint32_t attr)
{
    return (attr & SEG_ATTR_S) && (attr & SEG_TYPE_CODE);
}

static inline bool segment_is_data(uint32_t attr)
{
    return (attr & SEG_ATTR_S) && !(attr & SEG_TYPE_CODE);
}

/* A null selector in a data segment register: unusable, base 0. */
struct cpu_segment segment_null(uint16_t selector);
/* Real-mode load: base follows the selector, the rest of the hidden part stays. */
void segment_load_real(struct vcpu *v, enum cpu_seg seg, uint16_t selector);
