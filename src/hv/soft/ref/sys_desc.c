/* sys_desc.c — descriptor tables: LGDT and kin, LLDT, LTR, LAR, LSL, VERR, VERW, ARPL. */
#include "hv/soft/mmu/mmu.h"
#include "hv/soft/ref/sys.h"

/* LGDT, LIDT */
enum ref_result sys_load_table(struct vcpu *v, const struct insn *insn)
{
    unsigned size = v->mode == MODE_LONG64 ? 10 : 6;
    uint64_t la = ref_ea(v, insn, size, false);
    struct cpu_table table = {0};
    uint8_t bytes[10];

    sys_need_cpl0(v);
    mmu_read(v, la, bytes, size);
    __builtin_memcpy(&table.limit, bytes, 2);
    __builtin_memcpy(&table.base, bytes + 2, size - 2);
    if (v->mode != MODE_LONG64 && insn->opsize == 2) {
        table.base &= 0xffffff;
    }
    if (!vcpu_is_canonical(table.base)) {
        sys_gp(v, 0);
    }
    *(insn->op == INSN_LGDT ? &v->gdt : &v->idt) = table;
    return REF_NEXT;
}

/* SGDT, SIDT */
enum ref_result sys_store_table(struct vcpu *v, const struct insn *insn)
{
    unsigned size = v->mode == MODE_LONG64 ? 10 : 6;
    uint64_t la = ref_ea(v, insn, size, true);
    const struct cpu_table *table = insn->op == INSN_SGDT ? &v->gdt : &v->idt;
    uint8_t bytes[10];

    __builtin_memcpy(bytes, &table->limit, 2);
    __builtin_memcpy(bytes + 2, &table->base, size - 2);
    mmu_write(v, la, bytes, size);
    return REF_NEXT;
}

static void need_protected(struct vcpu *v)
{
    if (v->mode == MODE_REAL) {
        vcpu_raise(v, EXC_UD);
    }
}

/* LDT or TSS descriptor for LLDT and LTR, present and of one of two types. */
static struct cpu_segment system_segment(struct vcpu *v, uint16_t selector, unsigned type,
                                         unsigned type2)
{
    bool is_long = (v->efer & EFER_LMA) != 0;
    struct cpu_segment s;
    uint64_t low;
    uint64_t high = 0;
    unsigned got;

    if ((selector & 4) || !sys_descriptor(v, selector, &low) ||
        (is_long && !sys_descriptor_high(v, selector, &high))) {
        sys_gp(v, SYS_SELECTOR(selector));
    }
    s = segment_unpack(selector, low);
    got = s.attr & (SEG_ATTR_TYPE | SEG_ATTR_S);
    if (got != type && got != type2) {
        sys_gp(v, SYS_SELECTOR(selector));
    }
    if (!(s.attr & SEG_ATTR_P)) {
        vcpu_raise_error(v, EXC_NP, SYS_SELECTOR(selector));
    }
    s.base |= high << 32;
    if (!vcpu_is_canonical(s.base) && is_long) {
        sys_gp(v, SYS_SELECTOR(selector));
    }
    return s;
}

enum ref_result sys_lldt(struct vcpu *v, const struct insn *insn)
{
    uint16_t selector;

    need_protected(v);
    sys_need_cpl0(v);
    selector = (uint16_t)sys_operand_read(v, insn, 0);
    v->seg[SEG_LDTR] = selector & 0xfffc ? system_segment(v, selector, DESC_LDT, DESC_LDT)
                                         : segment_null(selector);
    return REF_NEXT;
}

enum ref_result sys_ltr(struct vcpu *v, const struct insn *insn)
{
    bool is_long = (v->efer & EFER_LMA) != 0;
    struct cpu_segment s;
    uint16_t selector;
    uint64_t la;

    need_protected(v);
    sys_need_cpl0(v);
    selector = (uint16_t)sys_operand_read(v, insn, 0);
    if (!(selector & 0xfffc)) {
        sys_gp(v, 0);
    }
    s = system_segment(v, selector, DESC_TSS_FREE, is_long ? DESC_TSS_FREE : DESC_TSS16_FREE);
    la = sys_descriptor_la(v, selector) + 5;
    mmu_sys_write(v, la, mmu_sys_read(v, la, 1) | 2, 1); /* busy */
    s.attr |= 2;
    v->seg[SEG_TR] = s;
    return REF_NEXT;
}

/* SLDT, STR */
enum ref_result sys_store_selector(struct vcpu *v, const struct insn *insn)
{
    need_protected(v);
    sys_operand_write(v, insn, 0, v->seg[insn->op == INSN_SLDT ? SEG_LDTR : SEG_TR].selector);
    return REF_NEXT;
}

/* --- questions about selectors: they answer in ZF and never fault on the selector --- */

static void set_zf(struct vcpu *v, bool value)
{
    uint64_t flags = vcpu_rflags(v) & ~(uint64_t)FLAG_ZF;

    vcpu_set_rflags(v, value ? flags | FLAG_ZF : flags);
}

static bool is_conforming_code(uint32_t attr)
{
    return segment_is_code(attr) && (attr & SEG_TYPE_CONFORMING);
}

/* The descriptor, if the selector names one that this privilege may see. */
static bool visible(struct vcpu *v, uint16_t selector, struct cpu_segment *ret_segment)
{
    uint64_t descriptor;
    unsigned dpl;

    if (!(selector & 0xfffc) || !sys_descriptor(v, selector, &descriptor)) {
        return false;
    }
    *ret_segment = segment_unpack(selector, descriptor);
    dpl = segment_dpl(ret_segment->attr);
    return is_conforming_code(ret_segment->attr) || (v->cpl <= dpl && (selector & 3u) <= dpl);
}

/* System types that LAR and LSL accept: SDM volume 2, tables "Segment and Gate Types" of both. */
static bool is_type_allowed(const struct vcpu *v, uint32_t attr, bool is_lar)
{
    uint32_t types;

    if (attr & SEG_ATTR_S) {
        return true;
    }
    if (v->efer & EFER_LMA) {
        types = is_lar ? 1u << 2 | 1u << 9 | 1u << 11 | 1u << 12 : 1u << 2 | 1u << 9 | 1u << 11;
    } else {
        types = is_lar ? 0x1a3e : 1u << 1 | 1u << 2 | 1u << 3 | 1u << 9 | 1u << 11;
    }
    return (types >> (attr & SEG_ATTR_TYPE)) & 1;
}

enum ref_result sys_lar_lsl(struct vcpu *v, const struct insn *insn)
{
    bool is_lar = insn->op == INSN_LAR;
    struct cpu_segment s;
    uint16_t selector;
    bool ok;

    need_protected(v);
    selector = (uint16_t)sys_operand_read(v, insn, 1);
    ok = visible(v, selector, &s) && is_type_allowed(v, s.attr, is_lar);
    if (ok && is_lar) {
        uint64_t descriptor;

        ok = sys_descriptor(v, selector, &descriptor);
        if (ok) {
            sys_operand_write(v, insn, 0, (descriptor >> 32) & 0xf0ff00);
        }
    } else if (ok) {
        sys_operand_write(v, insn, 0, s.limit);
    }
    set_zf(v, ok);
    return REF_NEXT;
}

enum ref_result sys_verr_verw(struct vcpu *v, const struct insn *insn)
{
    struct cpu_segment s;
    uint16_t selector;
    bool ok;

    need_protected(v);
    selector = (uint16_t)sys_operand_read(v, insn, 0);
    ok = visible(v, selector, &s) && (s.attr & SEG_ATTR_S);
    if (insn->op == INSN_VERR) {
        ok = ok && (!segment_is_code(s.attr) || (s.attr & SEG_TYPE_READABLE));
    } else {
        ok = ok && segment_is_data(s.attr) && (s.attr & SEG_TYPE_WRITABLE);
    }
    set_zf(v, ok);
    return REF_NEXT;
}

/* ARPL: raise the RPL of the first operand to that of the second. */
enum ref_result sys_arpl(struct vcpu *v, const struct insn *insn)
{
    uint16_t dst;
    uint16_t src;

    need_protected(v);
    dst = (uint16_t)sys_operand_read(v, insn, 0);
    src = (uint16_t)sys_operand_read(v, insn, 1);
    if ((dst & 3) < (src & 3)) {
        sys_operand_write(v, insn, 0, (dst & ~3u) | (src & 3u));
        set_zf(v, true);
    } else {
        set_zf(v, false);
    }
    return REF_NEXT;
}
