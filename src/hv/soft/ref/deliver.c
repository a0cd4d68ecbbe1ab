/* deliver.c — exceptions and interrupts into the guest: gates, stacks, frames, double faults.
 *
 * Theory of operation.  deliver_once() carries one event through the interrupt table of the current
 * mode.  It reads and checks everything first: gate, code segment, new stack, and room for the
 * frame; then it writes the frame and switches.  A check that fails raises as any instruction does.
 * deliver() catches that, combines the two events as SDM volume 3, table 6-5 says, and tries again,
 * until something is delivered or the CPU shuts down (triple fault).
 *
 * Task gates and virtual-8086 mode do not exist here.  The frames between _setjmp and a raise hold
 * no resources.
 */
#include <string.h>

#include "hv/soft/mmu/mmu.h"
#include "hv/soft/ref/sys.h"

#define ERROR_IDT 2u /* the index is one of the IDT */
#define DR7_GD    UINT64_C(0x2000)

struct event {
    uint8_t vector;
    bool has_error;
    bool is_soft;     /* INT n: the gate's DPL counts */
    bool is_external; /* error codes of faults on the way have EXT set */
    uint32_t error;
    uint64_t rip; /* return address */
};

static uint32_t ext_of(const struct event *e)
{
    return e->is_external ? 1 : 0;
}

static uint32_t idt_error(const struct event *e)
{
    return (uint32_t)e->vector * 8 + ERROR_IDT + ext_of(e);
}

/* Fault-class exceptions push RF = 1 (SDM volume 3, 18.3.1.1). */
static uint64_t flags_image(const struct vcpu *v, const struct event *e)
{
    static const uint32_t faults = 1u << EXC_DE | 1u << EXC_BR | 1u << EXC_UD | 1u << EXC_NM |
                                   1u << EXC_TS | 1u << EXC_NP | 1u << EXC_SS | 1u << EXC_GP |
                                   1u << EXC_PF | 1u << EXC_MF | 1u << EXC_AC | 1u << EXC_XM;
    bool is_fault = e->is_external && e->vector < 32 && (faults >> e->vector & 1);

    return vcpu_rflags(v) | (is_fault ? FLAG_RF : 0);
}

static void clear_flags(struct vcpu *v, bool is_trap_gate)
{
    uint64_t gone = FLAG_TF | FLAG_NT | FLAG_RF | FLAG_VM | (is_trap_gate ? 0 : FLAG_IF);

    vcpu_set_rflags(v, vcpu_rflags(v) & ~gone);
}

/* --- the gate and its code segment, 32- and 64-bit --- */

struct gate {
    uint64_t offset;
    uint16_t selector;
    unsigned type;
    unsigned ist;
};

static struct gate read_gate(struct vcpu *v, const struct event *e)
{
    bool is_long = (v->efer & EFER_LMA) != 0;
    unsigned size = is_long ? 16 : 8;
    uint64_t la = v->idt.base + (uint64_t)e->vector * size;
    uint64_t low;
    struct gate gate;

    if ((uint32_t)e->vector * size + size - 1 > v->idt.limit) {
        sys_gp(v, idt_error(e));
    }
    low = mmu_sys_read(v, la, 8);
    gate.offset = (low & 0xffff) | (low >> 32 & 0xffff0000);
    gate.selector = (uint16_t)(low >> 16);
    gate.type = (unsigned)(low >> 40) & 0x1f; /* the S bit must be 0 */
    gate.ist = (unsigned)(low >> 32) & 7;
    if (is_long) {
        gate.offset |= mmu_sys_read(v, la + 8, 8) << 32;
    }
    if (gate.type != DESC_INT && gate.type != DESC_TRAP &&
        (is_long || (gate.type != DESC_INT16 && gate.type != DESC_TRAP16))) {
        sys_gp(v, idt_error(e));
    }
    if (e->is_soft && (low >> 45 & 3) < v->cpl) {
        sys_gp(v, idt_error(e));
    }
    if (!(low >> 47 & 1)) {
        vcpu_raise_error(v, EXC_NP, idt_error(e));
    }
    if (gate.type == DESC_INT16 || gate.type == DESC_TRAP16) {
        gate.offset &= 0xffff;
    }
    return gate;
}

static struct sys_target read_target(struct vcpu *v, const struct gate *gate, uint32_t ext)
{
    struct sys_target target = {.rip = gate->offset};
    uint32_t error = SYS_SELECTOR(gate->selector) | ext;
    bool is_long = (v->efer & EFER_LMA) != 0;
    uint64_t descriptor;
    uint32_t attr;

    if (!(gate->selector & 0xfffc)) {
        sys_gp(v, ext);
    }
    if (!sys_descriptor(v, gate->selector, &descriptor)) {
        sys_gp(v, error);
    }
    target.cs = segment_unpack(gate->selector, descriptor);
    attr = target.cs.attr;
    if (!segment_is_code(attr) || segment_dpl(attr) > v->cpl ||
        (is_long && (attr & (SEG_ATTR_L | SEG_ATTR_DB)) != SEG_ATTR_L)) {
        sys_gp(v, error);
    }
    if (!(attr & SEG_ATTR_P)) {
        vcpu_raise_error(v, EXC_NP, error);
    }
    if (is_long ? !vcpu_is_canonical(target.rip) : target.rip > target.cs.limit) {
        sys_gp(v, ext);
    }
    sys_set_accessed(v, gate->selector, &target.cs);
    return target;
}

/* Privilege of the handler. */
static unsigned target_cpl(const struct vcpu *v, const struct sys_target *target)
{
    return target->cs.attr & SEG_TYPE_CONFORMING ? v->cpl : segment_dpl(target->cs.attr);
}

/* --- writing the frame --- */

static void check_frame(struct vcpu *v, unsigned cpl, uint64_t la, unsigned len)
{
    if (cpl == 3) {
        mmu_check_write(v, la, len);
    } else {
        mmu_sys_check_write(v, la, len);
    }
}

static void write_frame(struct vcpu *v, unsigned cpl, uint64_t la, uint64_t value, unsigned size)
{
    if (cpl == 3) {
        mmu_write(v, la, &value, size);
    } else {
        mmu_sys_write(v, la, value, size);
    }
}

/* --- 64-bit --- */

/* A stack pointer out of the TSS: SDM volume 3, figure 8-11. */
static uint64_t tss_stack(struct vcpu *v, unsigned offset, uint32_t ext)
{
    const struct cpu_segment *tr = &v->seg[SEG_TR];

    if (offset + 7 > tr->limit) {
        vcpu_raise_error(v, EXC_TS, SYS_SELECTOR(tr->selector) | ext);
    }
    return mmu_sys_read(v, tr->base + offset, 8);
}

static void deliver_long(struct vcpu *v, const struct event *e)
{
    uint32_t ext = ext_of(e);
    struct gate gate = read_gate(v, e);
    struct sys_target target = read_target(v, &gate, ext);
    unsigned cpl = target_cpl(v, &target);
    uint64_t frame[6] = {e->error,          e->rip,          v->seg[SEG_CS].selector,
                         flags_image(v, e), v->gpr[GPR_RSP], v->seg[SEG_SS].selector};
    unsigned first = e->has_error ? 0 : 1;
    unsigned len = (6 - first) * 8;
    uint64_t rsp = v->gpr[GPR_RSP];

    if (gate.ist) {
        rsp = tss_stack(v, 36 + (gate.ist - 1) * 8, ext);
    } else if (cpl != v->cpl) {
        rsp = tss_stack(v, 4 + cpl * 8, ext);
    }
    rsp = (rsp & ~UINT64_C(15)) - len;
    if (!vcpu_is_canonical(rsp) || !vcpu_is_canonical(rsp + len - 1)) {
        vcpu_raise_error(v, EXC_SS, ext);
    }
    check_frame(v, cpl, rsp, len);
    for (unsigned i = first; i < 6; i++) {
        write_frame(v, cpl, rsp + (i - first) * 8, frame[i], 8);
    }
    if (cpl != v->cpl) {
        v->seg[SEG_SS] = segment_null((uint16_t)cpl);
        v->seg[SEG_SS].attr |= cpl << 5;
    }
    v->gpr[GPR_RSP] = rsp;
    sys_enter(v, &target, cpl);
    clear_flags(v, gate.type & 1);
}

/* --- 32-bit protected mode --- */

struct stack {
    struct cpu_segment ss;
    uint64_t sp, mask;
};

/* The stack for inner privilege `cpl`: SDM volume 3, 6.12.1. */
static struct stack inner_stack(struct vcpu *v, unsigned cpl, uint32_t ext)
{
    const struct cpu_segment *tr = &v->seg[SEG_TR];
    bool is_32 = (tr->attr & 0xd) == DESC_TSS_FREE;
    unsigned offset = is_32 ? 4 + cpl * 8 : 2 + cpl * 4;
    unsigned size = is_32 ? 4 : 2;
    struct stack stack = {0};
    uint64_t descriptor;
    uint16_t selector;

    if (offset + size + 1 > tr->limit) {
        vcpu_raise_error(v, EXC_TS, SYS_SELECTOR(tr->selector) | ext);
    }
    stack.sp = mmu_sys_read(v, tr->base + offset, size);
    selector = (uint16_t)mmu_sys_read(v, tr->base + offset + size, 2);
    if (!(selector & 0xfffc)) {
        vcpu_raise_error(v, EXC_TS, ext);
    }
    if (!sys_descriptor(v, selector, &descriptor)) {
        vcpu_raise_error(v, EXC_TS, SYS_SELECTOR(selector) | ext);
    }
    stack.ss = segment_unpack(selector, descriptor);
    if ((selector & 3u) != cpl || segment_dpl(stack.ss.attr) != cpl ||
        !segment_is_data(stack.ss.attr) || !(stack.ss.attr & SEG_TYPE_WRITABLE)) {
        vcpu_raise_error(v, EXC_TS, SYS_SELECTOR(selector) | ext);
    }
    if (!(stack.ss.attr & SEG_ATTR_P)) {
        vcpu_raise_error(v, EXC_SS, SYS_SELECTOR(selector) | ext);
    }
    return stack;
}

/* Does [offset, offset + len) lie within the stack segment? */
static bool is_in_stack(const struct cpu_segment *ss, uint64_t offset, unsigned len)
{
    uint64_t last = offset + len - 1;
    uint64_t top = ss->attr & SEG_ATTR_DB ? UINT32_MAX : UINT16_MAX;

    if (ss->attr & SEG_TYPE_DOWN) {
        return offset > ss->limit && last <= top;
    }
    return last <= ss->limit;
}

static void deliver_protected(struct vcpu *v, const struct event *e)
{
    uint32_t ext = ext_of(e);
    struct gate gate = read_gate(v, e);
    struct sys_target target = read_target(v, &gate, ext);
    unsigned cpl = target_cpl(v, &target);
    bool is_inner = cpl != v->cpl;
    unsigned size = gate.type & 8 ? 4 : 2;
    struct stack stack = {.ss = v->seg[SEG_SS], .sp = v->gpr[GPR_RSP]};
    uint64_t frame[6] = {e->error,          e->rip,          v->seg[SEG_CS].selector,
                         flags_image(v, e), v->gpr[GPR_RSP], v->seg[SEG_SS].selector};
    unsigned first = e->has_error ? 0 : 1;
    unsigned count = (is_inner ? 6 : 4) - first;
    uint64_t la;

    if (is_inner) {
        stack = inner_stack(v, cpl, ext);
    }
    stack.mask = stack.ss.attr & SEG_ATTR_DB ? UINT32_MAX : UINT16_MAX;
    stack.sp = (stack.sp - count * size) & stack.mask;
    if (!is_in_stack(&stack.ss, stack.sp, count * size)) {
        vcpu_raise_error(v, EXC_SS, (is_inner ? SYS_SELECTOR(stack.ss.selector) : 0) | ext);
    }
    la = (uint32_t)(stack.ss.base + stack.sp);
    check_frame(v, cpl, la, count * size);
    for (unsigned i = 0; i < count; i++) {
        write_frame(v, cpl, la + i * size, frame[first + i], size);
    }
    v->seg[SEG_SS] = stack.ss;
    v->gpr[GPR_RSP] =
        stack.mask == UINT16_MAX ? (v->gpr[GPR_RSP] & ~stack.mask) | stack.sp : stack.sp;
    sys_enter(v, &target, cpl);
    clear_flags(v, gate.type & 1);
}

/* --- real mode --- */

static void deliver_real(struct vcpu *v, const struct event *e)
{
    uint32_t entry;

    if ((uint32_t)e->vector * 4 + 3 > v->idt.limit) {
        sys_gp(v, idt_error(e));
    }
    entry = (uint32_t)mmu_sys_read(v, v->idt.base + (uint64_t)e->vector * 4, 4);
    sys_stack_room(v, 6);
    ref_push(v, vcpu_rflags(v) & 0xffff, 2);
    ref_push(v, v->seg[SEG_CS].selector, 2);
    ref_push(v, e->rip, 2);
    vcpu_set_rflags(v, vcpu_rflags(v) & ~(uint64_t)(FLAG_IF | FLAG_TF | FLAG_AC));
    segment_load_real(v, SEG_CS, (uint16_t)(entry >> 16));
    v->rip = entry & 0xffff;
}

static void deliver_once(struct vcpu *v, const struct event *e)
{
    if (v->mode == MODE_REAL) {
        deliver_real(v, e);
    } else if (v->efer & EFER_LMA) {
        deliver_long(v, e);
    } else {
        deliver_protected(v, e);
    }
    v->shadow = 0;
    v->halted = 0;
    v->trap_due = false; /* INT n leaves TF behind, and its trap */
}

/* --- an event on top of an event --- */

enum severity { BENIGN, CONTRIBUTORY, PAGE_FAULT, DOUBLE_FAULT };

static enum severity severity_of(const struct event *e)
{
    static const uint32_t contributory =
        1u << EXC_DE | 1u << EXC_TS | 1u << EXC_NP | 1u << EXC_SS | 1u << EXC_GP;

    if (e->is_soft || e->vector >= 32) {
        return BENIGN;
    }
    if (e->vector == EXC_DF) {
        return DOUBLE_FAULT;
    }
    if (e->vector == EXC_PF) {
        return PAGE_FAULT;
    }
    return contributory >> e->vector & 1 ? CONTRIBUTORY : BENIGN;
}

/* The exception in v->exc as an event; #PF shows its address in CR2 from now on. */
static struct event event_of_exception(struct vcpu *v)
{
    if (v->exc.vector == EXC_PF) {
        v->cr2 = v->exc.cr2;
    } else if (v->exc.vector == EXC_DB) {
        v->dr[7] &= ~DR7_GD;
    }
    return (struct event){
        .vector = v->exc.vector,
        .has_error = v->exc.has_error && v->mode != MODE_REAL,
        .is_soft = v->exc.is_soft,
        .is_external = !v->exc.is_soft,
        .error = v->exc.error,
        .rip = v->rip,
    };
}

/* `e` could not be delivered because of v->exc: what comes next.  false: shutdown. */
static bool combine(struct vcpu *v, struct event *e)
{
    enum severity first = severity_of(e);
    struct event next = event_of_exception(v);
    enum severity second = severity_of(&next);

    if (second == BENIGN || first == BENIGN || (first == CONTRIBUTORY && second == PAGE_FAULT)) {
        *e = next;
        return true;
    }
    if (first == DOUBLE_FAULT) {
        return false;
    }
    *e = (struct event){
        .vector = EXC_DF, .has_error = v->mode != MODE_REAL, .is_external = true, .rip = v->rip};
    return true;
}

static void deliver(struct vcpu *v, struct event e)
{
    jmp_buf outer;

    memcpy(&outer, &v->unwind, sizeof(outer));
    while (_setjmp(v->unwind) != 0) {
        if (!combine(v, &e)) {
            v->triple_fault = true;
            break;
        }
    }
    if (!v->triple_fault) {
        deliver_once(v, &e);
    }
    memcpy(&v->unwind, &outer, sizeof(outer));
}

void ref_deliver_exception(struct vcpu *v)
{
    deliver(v, event_of_exception(v));
}

void ref_deliver_interrupt(struct vcpu *v, uint8_t vector)
{
    deliver(v, (struct event){.vector = vector, .is_external = true, .rip = v->rip});
}

void ref_deliver_nmi(struct vcpu *v)
{
    v->stats.interrupts++;
    v->nmi_blocked = true;
    deliver(v, (struct event){.vector = EXC_NMI, .is_external = true, .rip = v->rip});
}

void ref_int(struct vcpu *v, uint8_t vector, uint64_t next_rip)
{
    struct event e = {.vector = vector, .is_soft = true, .rip = next_rip};

    deliver_once(v, &e);
}

void sys_icebp(struct vcpu *v, uint64_t next_rip)
{
    struct event e = {.vector = EXC_DB, .is_external = true, .rip = next_rip};

    deliver_once(v, &e);
}
