/* sys_far.c — far JMP, CALL and RET.
 *
 * Targets are code segments of the same privilege, and for RET also of less.  Call gates, task
 * gates and TSSs raise #GP with their selector: Linux uses none of them.
 */
#include "hv/soft/mmu/mmu.h"
#include "hv/soft/ref/sys.h"

struct far_pointer {
    uint64_t offset;
    uint16_t selector;
};

static struct far_pointer target_of(struct vcpu *v, const struct insn *insn)
{
    struct far_pointer p = {.offset = (uint64_t)insn->imm, .selector = insn->imm2};
    unsigned size = insn->opsize;
    uint8_t bytes[10];

    if (insn->operand[0].kind == INSN_MEM) {
        uint64_t la = ref_ea(v, insn, size + 2, false);

        mmu_read(v, la, bytes, size + 2);
        p.offset = 0;
        __builtin_memcpy(&p.offset, bytes, size);
        __builtin_memcpy(&p.selector, bytes + size, 2);
    }
    if (size == 2) {
        p.offset &= 0xffff;
    } else if (size == 4) {
        p.offset &= UINT32_MAX;
    }
    return p;
}

/* CS for a jump or call: privilege does not change. */
static struct sys_target transfer_target(struct vcpu *v, struct far_pointer p)
{
    struct sys_target target = {.rip = p.offset};
    uint64_t descriptor;
    uint32_t attr;
    bool bad;

    if (v->mode == MODE_REAL) {
        target.cs = v->seg[SEG_CS];
        target.cs.selector = p.selector;
        target.cs.base = (uint64_t)p.selector << 4;
        sys_check_rip(v, &target);
        return target;
    }
    if (!(p.selector & 0xfffc)) {
        sys_gp(v, 0);
    }
    if (!sys_descriptor(v, p.selector, &descriptor)) {
        sys_gp(v, SYS_SELECTOR(p.selector));
    }
    target.cs = segment_unpack(p.selector, descriptor);
    attr = target.cs.attr;
    bad = !segment_is_code(attr) ||
          ((v->efer & EFER_LMA) && (attr & SEG_ATTR_L) && (attr & SEG_ATTR_DB));
    if (attr & SEG_TYPE_CONFORMING) {
        bad |= segment_dpl(attr) > v->cpl;
    } else {
        bad |= (p.selector & 3u) > v->cpl || segment_dpl(attr) != v->cpl;
    }
    if (bad) {
        sys_gp(v, SYS_SELECTOR(p.selector));
    }
    if (!(attr & SEG_ATTR_P)) {
        vcpu_raise_error(v, EXC_NP, SYS_SELECTOR(p.selector));
    }
    sys_check_rip(v, &target);
    sys_set_accessed(v, p.selector, &target.cs);
    return target;
}

static void enter(struct vcpu *v, const struct sys_target *target)
{
    if (v->mode == MODE_REAL) {
        v->seg[SEG_CS] = target->cs;
        v->rip = target->rip;
    } else {
        sys_enter(v, target, v->cpl);
    }
}

enum ref_result sys_jmp_far(struct vcpu *v, const struct insn *insn)
{
    struct sys_target target = transfer_target(v, target_of(v, insn));

    enter(v, &target);
    return REF_JUMP;
}

enum ref_result sys_call_far(struct vcpu *v, const struct insn *insn)
{
    struct sys_target target = transfer_target(v, target_of(v, insn));
    uint64_t next_rip = v->rip + insn->len;
    unsigned size = insn->opsize;

    sys_stack_room(v, 2 * size);
    ref_push(v, v->seg[SEG_CS].selector, size);
    ref_push(v, next_rip, size);
    enter(v, &target);
    return REF_JUMP;
}

static void return_real(struct vcpu *v, uint64_t rip, uint16_t selector, uint64_t bytes)
{
    struct sys_target target = transfer_target(v, (struct far_pointer){rip, selector});

    sys_stack_drop(v, bytes);
    enter(v, &target);
}

/* RETF, with the bytes that the callee drops. */
enum ref_result sys_retf(struct vcpu *v, const struct insn *insn)
{
    unsigned size = insn->opsize;
    uint64_t extra = insn->operand_count ? (uint16_t)insn->imm : 0;
    struct sys_target target = {.rip = sys_stack_peek(v, 0, size)};
    uint16_t selector = (uint16_t)sys_stack_peek(v, size, size);
    unsigned cpl = selector & 3;
    struct cpu_segment ss;
    uint64_t rsp;

    if (v->mode == MODE_REAL) {
        return_real(v, target.rip, selector, 2 * size + extra);
        return REF_JUMP;
    }
    sys_return_code(v, selector, &target);
    sys_check_rip(v, &target);
    if (cpl == v->cpl) {
        sys_stack_drop(v, 2 * size + extra);
        sys_enter(v, &target, cpl);
        return REF_JUMP;
    }
    rsp = sys_stack_peek(v, 2 * size + extra, size);
    ss = sys_return_stack(v, (uint16_t)sys_stack_peek(v, 3 * size + extra, size), cpl, &target.cs);
    v->seg[SEG_SS] = ss;
    sys_enter(v, &target, cpl);
    v->gpr[GPR_RSP] = v->mode == MODE_LONG64 ? rsp : (uint32_t)rsp;
    sys_stack_drop(v, extra);
    sys_drop_segments(v);
    return REF_JUMP;
}
