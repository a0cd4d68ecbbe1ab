/* sys_iret.c — IRET in real, protected and long mode (SDM volume 2, IRET).
 *
 * Returns to virtual-8086 mode and to a previous task (NT) do not exist here: #GP(0).
 */
#include "hv/soft/mmu/mmu.h"
#include "hv/soft/ref/sys.h"

/* RF is not kept: it would suppress an instruction breakpoint, which the engine does not have. */
#define FLAGS_IRET (FLAGS_ARITH | FLAG_TF | FLAG_DF | FLAG_NT | FLAG_AC | FLAG_ID)

uint64_t sys_flags_mask(const struct vcpu *v, unsigned size)
{
    uint64_t mask = FLAGS_IRET;

    if (v->cpl == 0) {
        mask |= FLAG_IOPL | FLAG_VIF | FLAG_VIP;
    }
    if (v->cpl <= (vcpu_rflags(v) & FLAG_IOPL) >> 12) {
        mask |= FLAG_IF;
    }
    return size == 2 ? mask & 0xffff : mask;
}

static void set_flags(struct vcpu *v, uint64_t value, uint64_t mask)
{
    uint64_t old = vcpu_rflags(v);

    vcpu_set_rflags(v, (old & ~mask & ~(uint64_t)FLAG_RF) | (value & mask) | FLAG_1);
    if ((old ^ value) & mask & FLAG_AC) {
        mmu_ac_changed(v);
    }
}

static void iret_real(struct vcpu *v, unsigned size)
{
    uint64_t rip = sys_stack_peek(v, 0, size);
    uint16_t selector = (uint16_t)sys_stack_peek(v, size, size);
    uint64_t flags = sys_stack_peek(v, 2 * size, size);

    if (rip > v->seg[SEG_CS].limit) {
        sys_gp(v, 0);
    }
    sys_stack_drop(v, 3 * size);
    set_flags(v, flags, sys_flags_mask(v, size));
    segment_load_real(v, SEG_CS, selector);
    v->rip = rip;
}

static void iret_protected(struct vcpu *v, unsigned size)
{
    struct sys_target target = {.rip = sys_stack_peek(v, 0, size)};
    uint16_t selector = (uint16_t)sys_stack_peek(v, size, size);
    uint64_t flags = sys_stack_peek(v, 2 * size, size);
    uint64_t mask = sys_flags_mask(v, size);
    bool is_from_64 = v->mode == MODE_LONG64;
    unsigned cpl = selector & 3;
    unsigned old_cpl = v->cpl;
    struct cpu_segment ss = v->seg[SEG_SS];
    uint64_t rsp = 0;

    if ((vcpu_rflags(v) & FLAG_NT) ||
        (!(v->efer & EFER_LMA) && (flags & FLAG_VM) && v->cpl == 0 && size == 4)) {
        sys_gp(v, 0);
    }
    sys_return_code(v, selector, &target);
    sys_check_rip(v, &target);
    if (is_from_64 || cpl != v->cpl) {
        rsp = sys_stack_peek(v, 3 * size, size);
        ss = sys_return_stack(v, (uint16_t)sys_stack_peek(v, 4 * size, size), cpl, &target.cs);
    } else {
        sys_stack_drop(v, 3 * size);
    }
    v->seg[SEG_SS] = ss;
    sys_enter(v, &target, cpl);
    if (is_from_64 || cpl != old_cpl) {
        v->gpr[GPR_RSP] = rsp;
    }
    set_flags(v, flags, mask);
    if (cpl != old_cpl) {
        sys_drop_segments(v);
    }
}

enum ref_result sys_iret(struct vcpu *v, const struct insn *insn)
{
    v->nmi_blocked = false; /* even if the instruction faults: SDM volume 3, 6.7.1 */
    if (v->mode == MODE_REAL) {
        iret_real(v, insn->opsize);
    } else {
        iret_protected(v, insn->opsize);
    }
    return REF_JUMP;
}
