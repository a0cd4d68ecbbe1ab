/* hv.c — hand each call to the backend that made the object. */
#include "hv/hv.h"

#include <string.h>

int hv_vm_new(const struct hv_ops *ops, const struct hv_config *config, struct hv_vm **ret_vm,
              struct err *err)
{
    return ops->vm_new(config, ret_vm, err);
}

void hv_vm_free(struct hv_vm *vm)
{
    if (vm) {
        vm->ops->vm_free(vm);
    }
}

int hv_vcpu_new(struct hv_vm *vm, unsigned index, struct hv_vcpu **ret_vcpu, struct err *err)
{
    return vm->ops->vcpu_new(vm, index, ret_vcpu, err);
}

void hv_vcpu_free(struct hv_vcpu *vcpu)
{
    if (vcpu) {
        vcpu->ops->vcpu_free(vcpu);
    }
}

int hv_vcpu_run(struct hv_vcpu *vcpu, enum hv_exit *ret_exit)
{
    return vcpu->ops->vcpu_run(vcpu, ret_exit);
}

void hv_vcpu_kick(struct hv_vcpu *vcpu)
{
    vcpu->ops->vcpu_kick(vcpu);
}

int hv_vcpu_get(struct hv_vcpu *vcpu, struct cpu_state *ret_state)
{
    return vcpu->ops->vcpu_get(vcpu, ret_state);
}

int hv_vcpu_set(struct hv_vcpu *vcpu, const struct cpu_state *state)
{
    return vcpu->ops->vcpu_set(vcpu, state);
}

void hv_vcpu_paused(struct hv_vcpu *vcpu)
{
    vcpu->ops->vcpu_paused(vcpu);
}

const struct hv_cpuid *hv_vm_cpuid(const struct hv_vm *vm)
{
    return vm->ops->vm_cpuid(vm);
}

int hv_vm_get(struct hv_vm *vm, struct vm_state *ret_state)
{
    return vm->ops->vm_get(vm, ret_state);
}

int hv_vm_set(struct hv_vm *vm, const struct vm_state *state, struct err *err)
{
    return vm->ops->vm_set(vm, state, err);
}

void hv_vm_go(struct hv_vm *vm)
{
    vm->ops->vm_go(vm);
}

int hv_slot_changed(struct hv_vm *vm, unsigned index, uint64_t slot)
{
    return vm->ops->slot_changed(vm, index, slot);
}

int hv_extra_changed(struct hv_vm *vm, unsigned index)
{
    return vm->ops->extra_changed(vm, index);
}

int hv_dirty_sync(struct hv_vm *vm)
{
    return vm->ops->dirty_sync(vm);
}

void hv_dirty_restart(struct hv_vm *vm)
{
    vm->ops->dirty_restart(vm);
}

const char *hv_vcpu_why(const struct hv_vcpu *vcpu)
{
    return vcpu->ops->vcpu_why(vcpu);
}

size_t hv_vcpu_counters(const struct hv_vcpu *vcpu, struct hv_counter *ret_counters)
{
    return vcpu->ops->vcpu_counters(vcpu, ret_counters);
}

int hv_debug_set(struct hv_vm *vm, const struct hv_debug *debug)
{
    return vm->ops->debug_set(vm, debug);
}

int hv_debug_arm(struct hv_vm *vm, uint32_t step)
{
    return vm->ops->debug_arm(vm, step);
}

void hv_debug_disarm(struct hv_vm *vm)
{
    vm->ops->debug_disarm(vm);
}

struct hv_stop hv_vcpu_stop(const struct hv_vcpu *vcpu)
{
    return vcpu->ops->vcpu_stop(vcpu);
}

int hv_vcpu_set_regs(struct hv_vcpu *vcpu, const struct cpu_state *state)
{
    return vcpu->ops->vcpu_set_regs(vcpu, state);
}

int hv_irq_set(struct hv_vm *vm, unsigned line, bool level)
{
    return vm->ops->irq_set(vm, line, level);
}

int hv_irq_pulse(struct hv_vm *vm, unsigned line)
{
    return vm->ops->irq_pulse(vm, line);
}

int hv_msi(struct hv_vm *vm, uint64_t address, uint32_t data)
{
    return vm->ops->msi(vm, address, data);
}

int hv_doorbell_add(struct hv_vm *vm, const struct hv_doorbell *bell)
{
    return vm->ops->doorbell_add(vm, bell);
}

int hv_doorbell_remove(struct hv_vm *vm, const struct hv_doorbell *bell)
{
    return vm->ops->doorbell_remove(vm, bell);
}

void cpu_state_reset(struct cpu_state *state)
{
    memset(state, 0, sizeof(*state));
    state->rip = 0xfff0;
    state->rflags = 0x2;
    state->gpr[GPR_RDX] = 0x600;
    state->cr0 = 0x60000010;
    state->dr[6] = 0xffff0ff0;
    state->dr[7] = 0x400;
    state->xcr0 = 1;
    state->apic_base = 0xfee00800;
    for (unsigned i = SEG_ES; i <= SEG_GS; i++) {
        state->seg[i] = (struct cpu_segment){
            .limit = 0xffff, .attr = SEG_ATTR_P | SEG_ATTR_S | 3 /* data, read/write, accessed */};
    }
    state->seg[SEG_CS] = (struct cpu_segment){.base = 0xffff0000,
                                              .selector = 0xf000,
                                              .limit = 0xffff,
                                              .attr = SEG_ATTR_P | SEG_ATTR_S | 0xb};
    state->seg[SEG_TR] = (struct cpu_segment){.limit = 0xffff, .attr = SEG_ATTR_P | 0xb};
    state->seg[SEG_LDTR] = (struct cpu_segment){.limit = 0xffff, .attr = SEG_ATTR_P | 0x2};
    state->gdt.limit = 0xffff;
    state->idt.limit = 0xffff;
    state->xsave[0] = 0x7f; /* FCW 037FH after FNINIT */
    state->xsave[1] = 0x03;
    state->xsave[24] = 0x80; /* MXCSR 1F80H */
    state->xsave[25] = 0x1f;
    state->xsave[512] = 0x3; /* XSTATE_BV: x87 and SSE */
}
