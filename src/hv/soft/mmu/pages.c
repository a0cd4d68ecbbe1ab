/* pages.c — guest RAM as the MMU sees it: where it is, and bringing it in by the chunk.
 *
 * Guest RAM is populated 2 MiB at a time, when the first page of a chunk is translated.  Every
 * first access passes through a TLB fill, so the guest hardly ever causes a host page fault of its
 * own; one by one they cost some twenty times more.
 */
#include "base/bits.h"
#include "hv/soft/mmu/mmu_int.h"

uint8_t *mmu_ram(const struct vcpu *v, uint64_t gpa, uint64_t len)
{
    for (unsigned i = 0; i < v->mmu.ram_count; i++) {
        uint64_t offset = gpa - v->mmu.ram[i].gpa;

        if (gpa >= v->mmu.ram[i].gpa && range_within(offset, len, v->mmu.ram[i].len)) {
            const struct mem_range *slots = v->mmu.ram[i].slots;

            /* within a page, and so within a slot */
            return !slots || mem_slot_is_there(slots, offset / slots->slot_bytes)
                       ? v->mmu.ram[i].host + offset
                       : NULL;
        }
    }
    return NULL;
}

uint8_t *mmu_memory(const struct vcpu *v, uint64_t gpa, uint64_t len, bool *ret_is_fixed)
{
    uint8_t *host = mmu_ram(v, gpa, len);

    *ret_is_fixed = false;
    for (unsigned i = 0; !host && i < v->mmu.extra_end; i++) {
        uint64_t offset = gpa - v->mmu.extra[i].gpa;

        if (gpa >= v->mmu.extra[i].gpa && range_within(offset, len, v->mmu.extra[i].len)) {
            *ret_is_fixed = v->mmu.extra[i].is_fixed;
            host = v->mmu.extra[i].host + offset;
        }
    }
    return host;
}

void mmu_extra_changed(struct vcpu *v, unsigned index)
{
    const struct mem_range *r = mem_extra_at(v->mem, index);

    _Static_assert(MMU_EXTRA_MAX == MEM_EXTRA_MAX, "one for each");
    v->mmu.extra[index].gpa = r->gpa.v;
    v->mmu.extra[index].len = r->len;
    v->mmu.extra[index].host = r->host;
    v->mmu.extra[index].is_fixed = r->is_read_only;
    if (v->mmu.extra_end <= index) {
        v->mmu.extra_end = index + 1;
    }
    mmu_flush_all(v);
}

uint64_t mmu_ram_gpa(const struct vcpu *v, const uint8_t *host)
{
    for (unsigned i = 0; i < v->mmu.ram_count; i++) {
        uintptr_t offset = (uintptr_t)host - (uintptr_t)v->mmu.ram[i].host;

        if (offset < v->mmu.ram[i].len) {
            return v->mmu.ram[i].gpa + offset;
        }
    }
    for (unsigned i = 0; i < v->mmu.extra_end; i++) {
        uintptr_t offset = (uintptr_t)host - (uintptr_t)v->mmu.extra[i].host;

        if (offset < v->mmu.extra[i].len) {
            return v->mmu.extra[i].gpa + offset;
        }
    }
    return 0;
}

void mmu_populate(struct vcpu *v, uint64_t gpa)
{
    uint64_t chunk = gpa / MMU_CHUNK_BYTES;
    uint64_t start = chunk * MMU_CHUNK_BYTES;
    uint64_t end = start + MMU_CHUNK_BYTES;

    if (chunk >= MMU_CHUNK_MAX || (v->mmu.populated[chunk / 64] & BIT(chunk % 64))) {
        return;
    }
    v->mmu.populated[chunk / 64] |= BIT(chunk % 64);
    for (unsigned i = 0; i < v->mmu.ram_count; i++) {
        uint64_t first = v->mmu.ram[i].gpa;
        uint64_t last = first + v->mmu.ram[i].len;
        uint64_t from = start > first ? start : first;
        uint64_t to = end < last ? end : last;

        if (from < to) {
            mem_populate(v->mem, GPA(from), to - from);
        }
    }
}
