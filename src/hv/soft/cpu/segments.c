/* segments.c — segment descriptors (SDM volume 3, 3.4.5). */
#include "hv/soft/cpu/segments.h"

struct cpu_segment segment_unpack(uint16_t selector, uint64_t descriptor)
{
    uint32_t low = (uint32_t)descriptor;
    uint32_t high = (uint32_t)(descriptor >> 32);
    uint32_t limit = (low & 0xffff) | (high & 0xf0000);
    uint32_t attr = (high >> 8) & 0xf0ff;

    if (attr & SEG_ATTR_G) {
        limit = limit << 12 | 0xfff;
    }
    return (struct cpu_segment){
        .base = (low >> 16) | ((high & 0xff) << 16) | (high & 0xff000000),
        .limit = limit,
        .attr = attr,
        .selector = selector,
    };
}

uint64_t segment_pack(const struct cpu_segment *segment)
{
    uint32_t limit = segment->attr & SEG_ATTR_G ? segment->limit >> 12 : segment->limit;
    uint32_t base = (uint32_t)segment->base;
    uint32_t low = (limit & 0xffff) | base << 16;
    uint32_t high = (base >> 16 & 0xff) | (segment->attr & 0xf0ff) << 8 | (limit & 0xf0000) |
                    (base & 0xff000000);

    return (uint64_t)high << 32 | low;
}

struct cpu_segment segment_null(uint16_t selector)
{
    return (struct cpu_segment){.attr = SEG_ATTR_UNUSABLE, .selector = selector};
}

void segment_load_real(struct vcpu *v, enum cpu_seg seg, uint16_t selector)
{
    v->seg[seg].selector = selector;
    v->seg[seg].base = (uint64_t)selector << 4;
    v->seg[seg].attr &= ~SEG_ATTR_UNUSABLE;
}
