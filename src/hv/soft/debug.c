/* debug.c — a vCPU under a debugger: breakpoints, watched memory, single steps.
 *
 * Breakpoints are a matter of cache/breaks.c, watched memory of mmu/watch.c; both arrive here as
 * exceptions that are not the guest's.  A step is an instruction that the interpreter runs by
 * itself; what it raises is delivered as ever, and then the step has ended before the handler.
 *
 * No cleanup attributes here: frames are left by _longjmp. */
#include <stdatomic.h>

#include "hv/soft/cache/code.h"
#include "hv/soft/mmu/mmu.h"
#include "hv/soft/soft_int.h"

/* Debuggers take all away at each stop and put all back, one by one: only what is different when
 * the guest goes on is worth work. */
int soft_debug_set(struct hv_vm *hv, const struct hv_debug *debug)
{
    soft_vm_of(hv)->debug_next = *debug;
    return 0;
}

static bool has(const struct hv_debug *debug, const struct hv_break *b)
{
    for (unsigned i = 0; i < debug->count; i++) {
        const struct hv_break *at = &debug->list[i];

        if (at->kind == b->kind && at->la == b->la && at->len == b->len) {
            return true;
        }
    }
    return false;
}

/* Those of `a` that are not in `b` came or went. */
static void note_changes(struct soft_vm *vm, const struct hv_debug *a, const struct hv_debug *b)
{
    for (unsigned i = 0; i < a->count; i++) {
        if (has(b, &a->list[i])) {
            continue;
        }
        for (unsigned j = 0; j < vm->vcpu_count; j++) {
            if (vm->vcpu[j]) {
                code_break_changed(&vm->vcpu[j]->cpu, &a->list[i]);
                mmu_watch_changed(&vm->vcpu[j]->cpu, &a->list[i]);
            }
        }
    }
}

int soft_debug_arm(struct hv_vm *hv, uint32_t step)
{
    struct soft_vm *vm = soft_vm_of(hv);

    note_changes(vm, &vm->debug, &vm->debug_next);
    note_changes(vm, &vm->debug_next, &vm->debug);
    vm->debug = vm->debug_next;
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        if (vm->vcpu[i]) {
            vm->vcpu[i]->cpu.debug = vm->debug.count ? &vm->debug : NULL;
            vm->vcpu[i]->is_stepping = step >> i & 1;
        }
    }
    return 0;
}

void soft_debug_disarm(struct hv_vm *hv)
{
    struct soft_vm *vm = soft_vm_of(hv);

    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        if (vm->vcpu[i]) {
            vm->vcpu[i]->is_stepping = false;
        }
    }
}

struct hv_stop soft_vcpu_stop(const struct hv_vcpu *hv)
{
    return ((const struct soft_vcpu *)(const void *)hv)->stop; /* hv is its first member */
}

static void stop(struct soft_vcpu *s, enum hv_stop_why why)
{
    s->stop = (struct hv_stop){.why = why};
}

/* Behind an instruction or a delivery. */
static void take_watched(struct soft_vcpu *s)
{
    struct vcpu *v = &s->cpu;

    if (v->has_watched) {
        v->has_watched = false;
        s->stop = (struct hv_stop){.why = HV_STOP_WATCH, .at = v->watched};
    }
}

static void stop_at_break(struct soft_vcpu *s)
{
    struct vcpu *v = &s->cpu;
    uint64_t la = v->mode == MODE_LONG64 ? v->rip : (uint32_t)(v->seg[SEG_CS].base + v->rip);

    stop(s, HV_STOP_BREAK);
    s->stop.at = (struct hv_break){.kind = HV_BREAK_SOFT, .la = la};
    for (unsigned i = 0; i < s->vm->debug.count; i++) {
        const struct hv_break *b = &s->vm->debug.list[i];

        if (b->la == la && b->kind == HV_BREAK_HARD) {
            s->stop.at = *b;
        }
    }
}

/* The instruction at rip alone; if it faults, it has accessed nothing. */
static void run_one(struct soft_vcpu *s)
{
    s->cpu.has_watched = false;
    code_step_traced(&s->cpu);
    take_watched(s);
}

bool soft_debug_caught(struct soft_vcpu *s)
{
    switch (s->cpu.exc.vector) {
    case EXC_DEBUG_BREAK: stop_at_break(s); return true;
    case EXC_DEBUG_RERUN: run_one(s); return true;
    default:
        s->cpu.has_watched &= s->cpu.exc.vector == EXC_DB; /* a trap comes behind the instruction */
        return false;
    }
}

void soft_debug_delivered(struct soft_vcpu *s)
{
    if (s->is_stepping) {
        stop(s, HV_STOP_STEP);
    }
    take_watched(s);
}

bool soft_debug_step(struct soft_vcpu *s)
{
    if (s->cpu.halted || s->cpu.wait_for_sipi || !s->is_stepping) {
        return false;
    }
    run_one(s);
    if (s->stop.why == HV_STOP_NONE) {
        stop(s, HV_STOP_STEP);
    }
    return true;
}
