/* audit.c — for tests: does every way past the walker lead into guest memory?
 *
 * What the guest reaches without a walk are the entries of the soft TLB and the windows of the
 * stack.  Each entry that an address could match must name a whole page of the guest's memory, one
 * for writing none that is read only. */
#include <stdio.h>

#include "base/bits.h"
#include "hv/soft/mmu/mmu_int.h"

static bool lies_in(uint64_t host, const uint8_t *base, uint64_t len)
{
    return host >= (uintptr_t)base && range_within(host - (uintptr_t)base, GUEST_PAGE_SIZE, len);
}

static bool is_guest_page(const struct vcpu *v, uint64_t host, bool is_write)
{
    const struct mmu_state *m = &v->mmu;

    for (unsigned i = 0; i < m->ram_count; i++) {
        if (lies_in(host, m->ram[i].host, m->ram[i].len)) {
            return true; /* unplugged slots, too: this vCPU may not have been told yet */
        }
    }
    for (unsigned i = 0; i < m->extra_end; i++) {
        if (lies_in(host, m->extra[i].host, m->extra[i].len)) {
            return !is_write || !m->extra[i].is_fixed;
        }
    }
    return false;
}

static bool is_sound(const struct vcpu *v, const struct tlb_entry *e, unsigned slot, bool is_write)
{
    if (e->page % GUEST_PAGE_SIZE == 0 && MMU_SLOT(e->page) != slot) {
        return true; /* no address matches */
    }
    return e->page % GUEST_PAGE_SIZE == 0 && e->host % GUEST_PAGE_SIZE == 0 &&
           is_guest_page(v, e->host, is_write);
}

static bool audit_window(const struct vcpu *v, unsigned priv, char why[static MMU_AUDIT_WHY])
{
    const struct stack_window *w = &v->window[priv];
    uint64_t host = w->delta - w->neg_page;
    bool is_good = true;

    for (unsigned i = 0; i < STACK_WINDOW_LIMITS; i++) {
        is_good &=
            w->limit[i] == 0 || (w->limit[i] <= GUEST_PAGE_SIZE - (8u << i) + 1 &&
                                 host % GUEST_PAGE_SIZE == 0 && is_guest_page(v, host, true));
    }
    if (!is_good) {
        (void)snprintf(why, MMU_AUDIT_WHY, "the stack window of privilege %u leads to %p", priv,
                       (void *)(uintptr_t)host);
    }
    return is_good;
}

bool mmu_audit(const struct vcpu *v, char why[static MMU_AUDIT_WHY])
{
    for (unsigned priv = 0; priv < TLB_PRIV_COUNT; priv++) {
        if (!audit_window(v, priv, why)) {
            return false;
        }
        for (unsigned i = 0; i < TLB_ACCESS_COUNT * TLB_SLOTS; i++) {
            unsigned access = i / TLB_SLOTS, slot = i % TLB_SLOTS;
            const struct tlb_entry *e = &v->tlb[priv].slot[access][slot];

            if (!is_sound(v, e, slot, access == TLB_WRITE)) {
                (void)snprintf(why, MMU_AUDIT_WHY,
                               "the TLB entry for 0x%llx (privilege %u, access %u) leads to %p",
                               (unsigned long long)e->page, priv, access,
                               (void *)(uintptr_t)e->host);
                return false;
            }
        }
    }
    return true;
}
