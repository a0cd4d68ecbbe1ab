/* watch.c — memory that the debugger watches.
 *
 * Theory of operation.  A watched page is never in the read and write tables of the TLB, so every
 * access to it comes by slow.c, which knows address and length.  The CPU is to stop behind the
 * instruction, but blocks end elsewhere; so the access, which has changed nothing yet, is given up,
 * and the run loop has this one instruction run again by itself, during which accesses to watched
 * memory are noted.  While an event is being delivered they are noted as well.
 *
 * Frames here are left by longjmp. */
#include "base/bits.h"
#include "hv/soft/mmu/mmu_int.h"

#define PAGE_MASK UINT64_C(0xfff)

static bool is_watch(const struct hv_break *b, enum tlb_access access)
{
    switch (b->kind) {
    case HV_BREAK_SOFT:
    case HV_BREAK_HARD: return false;
    case HV_WATCH_WRITE: return access == TLB_WRITE;
    case HV_WATCH_READ: return access == TLB_READ;
    case HV_WATCH_ACCESS: return access != TLB_EXEC;
    }
    return false;
}

static bool overlap(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len)
{
    return b - a < a_len || a - b < b_len;
}

bool mmu_page_is_watched(const struct vcpu *v, uint64_t la)
{
    for (unsigned i = 0; i < v->debug->count; i++) {
        const struct hv_break *b = &v->debug->list[i];

        if ((is_watch(b, TLB_READ) || is_watch(b, TLB_WRITE)) &&
            overlap(b->la, b->len, la & ~PAGE_MASK, PAGE_MASK + 1)) {
            return true;
        }
    }
    return false;
}

void mmu_watch_changed(struct vcpu *v, const struct hv_break *b)
{
    if (is_watch(b, TLB_READ) || is_watch(b, TLB_WRITE)) {
        mmu_flush_all(v);
    }
}

void mmu_watch(struct vcpu *v, uint64_t la, size_t len, enum tlb_access access)
{
    for (unsigned i = 0; i < v->debug->count && !v->has_watched; i++) {
        const struct hv_break *b = &v->debug->list[i];

        if (is_watch(b, access) && overlap(b->la, b->len, la, len)) {
            if (v->may_rerun) {
                vcpu_raise(v, EXC_DEBUG_RERUN);
            }
            v->has_watched = true;
            v->watched = *b;
        }
    }
}
