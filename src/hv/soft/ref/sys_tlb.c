/* sys_tlb.c — INVLPG, and the cache flushes, which have nothing to do here. */
#include "hv/soft/mmu/mmu.h"
#include "hv/soft/ref/sys.h"

enum ref_result sys_invlpg(struct vcpu *v, const struct insn *insn)
{
    uint64_t la = ref_offset(v, insn);

    sys_need_cpl0(v);
    la += v->mode != MODE_LONG64 || insn->seg >= SEG_FS ? v->seg[insn->seg].base : 0;
    if (v->mode != MODE_LONG64) {
        la = (uint32_t)la;
    }
    if (v->mode != MODE_LONG64 || vcpu_is_canonical(la)) { /* else it has no effect */
        mmu_flush_page(v, la);
    }
    return REF_NEXT;
}

/* INVD, WBINVD: memory is always coherent. */
enum ref_result sys_cache_flush(struct vcpu *v, const struct insn *insn)
{
    (void)insn;
    sys_need_cpl0(v);
    return REF_NEXT;
}
