/* segload.c — reading descriptors and loading segment registers, with all checks (SDM volume 2,
 * MOV; volume 3, 5.6 to 5.9). */
#include "hv/soft/mmu/mmu.h"
#include "hv/soft/ref/sys.h"

#define SELECTOR_TI 4u

static unsigned rpl(uint16_t selector)
{
    return selector & 3;
}

static bool is_null(uint16_t selector)
{
    return !(selector & 0xfffc);
}

/* --- descriptors --- */

uint64_t sys_descriptor_la(const struct vcpu *v, uint16_t selector)
{
    uint64_t base = selector & SELECTOR_TI ? v->seg[SEG_LDTR].base : v->gdt.base;

    return base + (selector & 0xfff8u);
}

/* Do `len` bytes at the selector lie within its table? */
static bool is_in_table(const struct vcpu *v, uint16_t selector, unsigned len)
{
    uint32_t limit = v->gdt.limit;

    if (selector & SELECTOR_TI) {
        if (v->seg[SEG_LDTR].attr & SEG_ATTR_UNUSABLE) {
            return false;
        }
        limit = v->seg[SEG_LDTR].limit;
    }
    return (selector & 0xfff8u) + len - 1 <= limit;
}

bool sys_descriptor(struct vcpu *v, uint16_t selector, uint64_t *ret_descriptor)
{
    if (!is_in_table(v, selector, 8)) {
        return false;
    }
    *ret_descriptor = mmu_sys_read(v, sys_descriptor_la(v, selector), 8);
    return true;
}

bool sys_descriptor_high(struct vcpu *v, uint16_t selector, uint64_t *ret_high)
{
    if (!is_in_table(v, selector, 16)) {
        return false;
    }
    *ret_high = mmu_sys_read(v, sys_descriptor_la(v, selector) + 8, 8);
    return true;
}

void sys_set_accessed(struct vcpu *v, uint16_t selector, struct cpu_segment *segment)
{
    uint64_t la = sys_descriptor_la(v, selector) + 5;

    if (!(segment->attr & SEG_TYPE_ACCESSED)) {
        mmu_sys_write(v, la, mmu_sys_read(v, la, 1) | SEG_TYPE_ACCESSED, 1);
        segment->attr |= SEG_TYPE_ACCESSED;
    }
}

static struct cpu_segment fetch(struct vcpu *v, uint16_t selector)
{
    uint64_t descriptor;

    if (!sys_descriptor(v, selector, &descriptor)) {
        sys_gp(v, SYS_SELECTOR(selector));
    }
    return segment_unpack(selector, descriptor);
}

/* --- data segments and the stack --- */

static bool is_writable_data(uint32_t attr)
{
    return segment_is_data(attr) && (attr & SEG_TYPE_WRITABLE);
}

static void need_present(struct vcpu *v, const struct cpu_segment *s, enum exc_vector vector)
{
    if (!(s->attr & SEG_ATTR_P)) {
        vcpu_raise_error(v, vector, SYS_SELECTOR(s->selector));
    }
}

/* A stack for privilege `cpl`; the selector is not null. */
static struct cpu_segment checked_stack(struct vcpu *v, uint16_t selector, unsigned cpl)
{
    struct cpu_segment s = fetch(v, selector);

    if (rpl(selector) != cpl || !is_writable_data(s.attr) || segment_dpl(s.attr) != cpl) {
        sys_gp(v, SYS_SELECTOR(selector));
    }
    need_present(v, &s, EXC_SS);
    sys_set_accessed(v, selector, &s);
    return s;
}

static struct cpu_segment checked_data(struct vcpu *v, uint16_t selector)
{
    struct cpu_segment s = fetch(v, selector);
    bool is_code = segment_is_code(s.attr);

    if (!(s.attr & SEG_ATTR_S) || (is_code && !(s.attr & SEG_TYPE_READABLE))) {
        sys_gp(v, SYS_SELECTOR(selector));
    }
    if (!(is_code && (s.attr & SEG_TYPE_CONFORMING)) &&
        (rpl(selector) > segment_dpl(s.attr) || v->cpl > segment_dpl(s.attr))) {
        sys_gp(v, SYS_SELECTOR(selector));
    }
    need_present(v, &s, EXC_NP);
    sys_set_accessed(v, selector, &s);
    return s;
}

/* A null stack segment: 64-bit mode below CPL 3 only.  Its DPL still tells the privilege. */
static struct cpu_segment null_stack(uint16_t selector, unsigned cpl)
{
    struct cpu_segment s = segment_null(selector);

    s.attr |= cpl << 5;
    return s;
}

void ref_load_segment(struct vcpu *v, enum cpu_seg seg, uint16_t selector)
{
    if (v->mode == MODE_REAL) {
        segment_load_real(v, seg, selector);
    } else if (seg == SEG_SS) {
        if (!is_null(selector)) {
            v->seg[SEG_SS] = checked_stack(v, selector, v->cpl);
        } else if (v->mode == MODE_LONG64 && v->cpl < 3 && rpl(selector) == v->cpl) {
            v->seg[SEG_SS] = null_stack(selector, v->cpl);
        } else {
            sys_gp(v, 0);
        }
    } else if (is_null(selector)) {
        v->seg[seg] = segment_null(selector);
    } else {
        v->seg[seg] = checked_data(v, selector);
    }
}

/* --- code segments --- */

void sys_check_rip(struct vcpu *v, const struct sys_target *target)
{
    bool is_64 = (v->efer & EFER_LMA) && (target->cs.attr & SEG_ATTR_L);

    if (is_64 ? !vcpu_is_canonical(target->rip) : target->rip > target->cs.limit) {
        sys_gp(v, 0);
    }
}

void sys_enter(struct vcpu *v, const struct sys_target *target, unsigned cpl)
{
    v->seg[SEG_CS] = target->cs;
    v->seg[SEG_CS].selector = (uint16_t)((target->cs.selector & 0xfffc) | cpl);
    v->rip = target->rip;
    v->cpl = (uint8_t)cpl;
    vcpu_update_mode(v);
}

/* L and D together are reserved (SDM volume 3, 5.2.1). */
static bool is_odd_code(const struct vcpu *v, uint32_t attr)
{
    return (v->efer & EFER_LMA) && (attr & SEG_ATTR_L) && (attr & SEG_ATTR_DB);
}

void sys_return_code(struct vcpu *v, uint16_t selector, struct sys_target *ret_target)
{
    struct cpu_segment s;
    bool bad;

    if (is_null(selector)) {
        sys_gp(v, 0);
    }
    s = fetch(v, selector);
    bad = !segment_is_code(s.attr) || rpl(selector) < v->cpl || is_odd_code(v, s.attr);
    if (s.attr & SEG_TYPE_CONFORMING) {
        bad |= segment_dpl(s.attr) > rpl(selector);
    } else {
        bad |= segment_dpl(s.attr) != rpl(selector);
    }
    if (bad) {
        sys_gp(v, SYS_SELECTOR(selector));
    }
    need_present(v, &s, EXC_NP);
    sys_set_accessed(v, selector, &s);
    ret_target->cs = s;
}

struct cpu_segment sys_return_stack(struct vcpu *v, uint16_t selector, unsigned cpl,
                                    const struct cpu_segment *cs)
{
    if (is_null(selector)) {
        if (!(v->efer & EFER_LMA) || !(cs->attr & SEG_ATTR_L) || cpl == 3 || rpl(selector) != cpl) {
            sys_gp(v, 0);
        }
        return null_stack(selector, cpl);
    }
    return checked_stack(v, selector, cpl);
}

void sys_drop_segments(struct vcpu *v)
{
    static const enum cpu_seg list[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};

    for (unsigned i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
        struct cpu_segment *s = &v->seg[list[i]];
        bool is_conforming = segment_is_code(s->attr) && (s->attr & SEG_TYPE_CONFORMING);

        /* null ones stay as they are: FS and GS carry bases set by MSR */
        if (!is_null(s->selector) && !is_conforming && segment_dpl(s->attr) < v->cpl) {
            s->selector = 0;
            s->attr = SEG_ATTR_UNUSABLE;
        }
    }
}

struct cpu_segment sys_flat_code(uint16_t selector, unsigned dpl, bool is_64)
{
    uint32_t attr = SEG_ATTR_G | SEG_ATTR_P | SEG_ATTR_S | SEG_TYPE_CODE | SEG_TYPE_READABLE |
                    SEG_TYPE_ACCESSED | dpl << 5;

    return (struct cpu_segment){
        .limit = UINT32_MAX,
        .attr = attr | (is_64 ? SEG_ATTR_L : SEG_ATTR_DB),
        .selector = (uint16_t)((selector & 0xfffc) | dpl),
    };
}

struct cpu_segment sys_flat_stack(uint16_t selector, unsigned dpl)
{
    return (struct cpu_segment){
        .limit = UINT32_MAX,
        .attr = SEG_ATTR_G | SEG_ATTR_DB | SEG_ATTR_P | SEG_ATTR_S | SEG_TYPE_WRITABLE |
                SEG_TYPE_ACCESSED | dpl << 5,
        .selector = (uint16_t)((selector & 0xfffc) | dpl),
    };
}

/* --- instructions --- */

static enum ref_result after_load(struct vcpu *v, enum cpu_seg seg)
{
    if (seg == SEG_SS) {
        v->shadow |= 2; /* no interrupt before the next instruction has loaded rsp */
        return REF_END;
    }
    return v->mode == MODE_LONG64 ? REF_NEXT : REF_END;
}

enum ref_result sys_mov_to_sreg(struct vcpu *v, const struct insn *insn)
{
    enum cpu_seg seg = (enum cpu_seg)insn->operand[0].reg;
    uint16_t selector;

    if (seg == SEG_CS || seg > SEG_GS) {
        vcpu_raise(v, EXC_UD);
    }
    selector = (uint16_t)sys_operand_read(v, insn, 1);
    ref_load_segment(v, seg, selector);
    return after_load(v, seg);
}

enum ref_result sys_mov_from_sreg(struct vcpu *v, const struct insn *insn)
{
    if (insn->operand[1].reg > SEG_GS) {
        vcpu_raise(v, EXC_UD);
    }
    sys_operand_write(v, insn, 0, v->seg[insn->operand[1].reg].selector);
    return REF_NEXT;
}

enum ref_result sys_push_sreg(struct vcpu *v, const struct insn *insn)
{
    ref_push(v, v->seg[insn->operand[0].reg].selector, insn->opsize);
    return REF_NEXT;
}

enum ref_result sys_pop_sreg(struct vcpu *v, const struct insn *insn)
{
    enum cpu_seg seg = (enum cpu_seg)insn->operand[0].reg;
    uint64_t old_rsp = v->gpr[GPR_RSP];
    uint16_t selector = (uint16_t)ref_pop(v, insn->opsize);
    uint64_t new_rsp = v->gpr[GPR_RSP];

    v->gpr[GPR_RSP] = old_rsp; /* unchanged if the load faults */
    ref_load_segment(v, seg, selector);
    v->gpr[GPR_RSP] = new_rsp;
    return after_load(v, seg);
}

static enum cpu_seg far_pointer_seg(uint16_t op)
{
    switch (op) {
    case INSN_LES: return SEG_ES;
    case INSN_LSS: return SEG_SS;
    case INSN_LFS: return SEG_FS;
    case INSN_LGS: return SEG_GS;
    default: return SEG_DS;
    }
}

/* LDS LES LSS LFS LGS */
enum ref_result sys_load_far_pointer(struct vcpu *v, const struct insn *insn)
{
    enum cpu_seg seg = far_pointer_seg(insn->op);
    unsigned size = insn->opsize;
    uint64_t la = ref_ea(v, insn, size + 2, false);
    uint8_t bytes[10];
    uint64_t offset = 0;
    uint16_t selector;

    mmu_read(v, la, bytes, size + 2);
    __builtin_memcpy(&offset, bytes, size);
    __builtin_memcpy(&selector, bytes + size, 2);
    ref_load_segment(v, seg, selector);
    sys_operand_write(v, insn, 0, offset);
    return after_load(v, seg);
}
